/*
 * fuzz_config: a whole environment.  Each fault is one printable line that names a variable.
 * Without a fault the values are consistent, and --explain prints an environment with the same
 * meaning.
 *
 * Input: four bytes of facts about the machine, then NAME=VALUE lines; XCHG_ is added to a name
 * without it.
 */
#include "core/config.h"
#include "core/config_vars.h"
#include "tests/fuzz/fuzz.h"

#include "net/frame.h"

#define ENTRIES_MAX VAR_COUNT
#define TRIED_MAX 12 /* more take long and show nothing new */

struct environment {
  char *entries[ENTRIES_MAX + 1]; /* owns */
  size_t count;
};

static void forget(struct environment *environment) {
  while (environment->count > 0) {
    free(environment->entries[--environment->count]);
  }
}

/* Split ${text} into lines. */
static void read_lines(struct environment *environment, const char *text, const char *prefix,
                       size_t count_max) {
  environment->count = 0;
  while (*text != 0 && environment->count < count_max) {
    size_t size = strcspn(text, "\n");
    bool whole = strncmp(text, "XCHG_", 5) == 0;
    char **entry = &environment->entries[environment->count++];
    int made = asprintf(entry, "%s%.*s", whole ? "" : prefix, (int)size, text);
    fuzz_holds(made != -1, "memory is available");
    text += size + (text[size] != 0);
  }
  environment->entries[environment->count] = NULL;
}

/* Load; ${*said} receives the messages, to be freed. */
static unsigned load(struct config *config, const struct environment *environment,
                     const struct config_facts *facts, char **said) {
  size_t size;
  FILE *out = open_memstream(said, &size);
  fuzz_holds(out != NULL, "memory is available");
  unsigned faults = config_load(config, (const char *const *)environment->entries, facts, out);
  fclose(out);
  return faults;
}

static void check_faults(const char *said, unsigned faults) {
  unsigned lines = 0;
  fuzz_holds(fuzz_printable(said, '\n'), "a fault is printable ASCII");
  for (; *said != 0; lines++) {
    size_t size = strcspn(said, "\n");
    fuzz_holds(strncmp(said, "xchgd: XCHG_", 12) == 0, "a fault begins with the variable");
    fuzz_holds(memmem(said, size, "': ", 3) != NULL, "a fault shows the value");
    fuzz_holds(said[size] == '\n', "a fault is a line");
    said += size + 1;
  }
  fuzz_holds(lines == faults, "each fault is one line");
}

/* Can a message of the frame carry ${text}? */
static bool carries(const struct xchg_frame *frame, const struct config_text *text) {
  switch (frame->kind) {
    case XCHG_FRAME_DELIMITER:
      return memchr(text->bytes, 0, text->size) == NULL;
    case XCHG_FRAME_LINE:
      return memchr(text->bytes, '\n', text->size) == NULL;
    case XCHG_FRAME_FIXED:
      return text->size == frame->size;
    default:
      return frame->kind != XCHG_FRAME_PREFIX || text->size >> 8 * frame->size == 0;
  }
}

static void check_config(const struct config *config, const struct config_facts *facts) {
  const struct xchg_frame *frame = &config->frame;
  fuzz_holds(config->max_message_bytes > 0, "the longest message is above 0");
  fuzz_holds(frame_valid(frame, config->max_message_bytes), "the frame fits the limit");
  fuzz_holds(!config->has_greeting || carries(frame, &config->greeting), "the greeting is carried");
  fuzz_holds(config->reply != REPLY_TEXT || carries(frame, &config->reply_text),
             "the reply is carried");
  fuzz_holds(!config->has_greeting || config->defer_accept_s == 0,
             "a greeting excludes deferred accepting");
  fuzz_holds(config->workers >= 1 && config->workers <= CONFIG_WORKERS_MAX, "there are workers");
  fuzz_holds((config->queue & (config->queue - 1)) == 0 && config->queue > 0,
             "the queue is a power of two");
  fuzz_holds(config->listen_count > 0 && config->listen_count <= CONFIG_LISTEN_MAX,
             "there is an address to listen on");
  fuzz_holds(config->max_connections >= 1 &&
                 config->max_connections + config_reserve(config, facts) <= facts->descriptors,
             "the descriptors hold the connections");
}

/* Read the lines of --explain, "NAME=value (source) what", as an environment. */
static void read_explained(struct environment *again, char *explained) {
  static const char *const sources[] = {" (environment", " (default", " (limit", " (cgroup",
                                        " (set by the handler"};
  char *lines = NULL;
  size_t size;
  FILE *out = open_memstream(&lines, &size);
  fuzz_holds(out != NULL, "memory is available");
  for (char *line; (line = strsep(&explained, "\n")) != NULL && *line != 0;) {
    char *end = NULL;
    for (size_t i = 0; i < count_of(sources); i++) {
      for (char *at = line; (at = strstr(at, sources[i])) != NULL; at++) {
        end = at > end ? at : end;
      }
    }
    fuzz_holds(end != NULL, "the source of a value is shown");
    fprintf(out, "%.*s\n", (int)(end - line), line);
  }
  fclose(out);
  read_lines(again, lines, "", ENTRIES_MAX);
  free(lines);
}

static char *explain(const struct config *config, const struct environment *environment,
                     const struct config_facts *facts) {
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  fuzz_holds(out != NULL, "memory is available");
  config_explain(config, (const char *const *)environment->entries, facts, out);
  fclose(out);
  fuzz_holds(fuzz_printable(text, '\n'), "the output of --explain is printable ASCII");
  return text;
}

static bool same_text(const struct config_text *a, const struct config_text *b) {
  return a->size == b->size && (a->size == 0 || memcmp(a->bytes, b->bytes, a->size) == 0);
}

/*
 * Compare texts and numbers.  Lists and paths are printed for people, with escapes that the parser
 * does not know.
 */
static void check_same(const struct config *a, const struct config *b) {
  for (size_t i = 0; i < VAR_COUNT; i++) {
    const struct config_var_def *def = &config_var_defs[i];
    fuzz_holds(def->kind > KIND_ENUM || config_number(a, def) == config_number(b, def),
               "a number comes back");
  }
  fuzz_holds(a->has_greeting == b->has_greeting && same_text(&a->greeting, &b->greeting) &&
                 a->reply == b->reply && same_text(&a->reply_text, &b->reply_text),
             "the texts come back");
  fuzz_holds(a->frame.kind == b->frame.kind && a->frame.size == b->frame.size,
             "the frame comes back");
}

static bool is_plain(const struct environment *environment) {
  for (size_t i = 0; i < environment->count; i++) {
    if (!fuzz_printable(environment->entries[i], 'a') || strlen(environment->entries[i]) > 1000) {
      return false;
    }
  }
  return true;
}

static void try_again(const struct config *config, const struct environment *environment,
                      const struct config_facts *facts) {
  static struct config second;
  struct environment again;
  char *said, *explained = explain(config, environment, facts);
  if (is_plain(environment) && !config_has_handler(config, facts)) {
    read_explained(&again, explained);
    fuzz_holds(load(&second, &again, facts, &said) == 0, "the output of --explain can be loaded");
    check_same(config, &second);
    config_fini(&second);
    free(said);
    forget(&again);
  }
  free(explained);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct config config;
  struct fuzz_input input = {data, size};
  struct environment environment;
  char *said;
  struct config_facts facts = {.cpus = (uint32_t)fuzz_byte(&input) + 1,
                               .descriptors = (uint64_t)fuzz_u16(&input) * 16,
                               .somaxconn = 4096};
  facts.cpus_from_cgroup = fuzz_byte(&input) % 2 == 1;
  char *text = fuzz_text(input.at, input.left);
  read_lines(&environment, text, "XCHG_", TRIED_MAX);
  unsigned faults = load(&config, &environment, &facts, &said);
  check_faults(said, faults);
  if (faults == 0) {
    check_config(&config, &facts);
    try_again(&config, &environment, &facts);
    config_fini(&config);
  }
  forget(&environment);
  free(text);
  free(said);
  return 0;
}
