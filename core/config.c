/*
 * config: from an environment and a machine's facts to one struct that never changes again.
 *
 * Where a handler decides the exchange, what the five variables would set stays 0: no greeting,
 * raw, no reply.  What config_public imports is settled here too, so that a value has one meaning.
 *
 * Loading is one pass over the table (each row's text comes from the environment, else from the
 * preset or the row), then the values that only the facts can give, then the contradictions, then
 * the names that nobody knows.  It never stops at a fault: whoever corrects one should see the next
 * one now.  A value that was refused is replaced by its default so that the pass can go on, and is
 * marked: a contradiction is reported between accepted values only, never as an echo of a fault.
 *
 * Allocates the two texts, the two lists and the handler's path.
 */
#include "core/config.h"

#include "core/env_vars.h"
#include "core/config_vars.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/*
 * Descriptors beside listeners and connections.  The base: standard streams 3, the log's own 1,
 * signals 2, NOTIFY_SOCKET 1, the acceptor's epoll set and eventfd 2; the other 7 are for what the
 * starter of the process left open.  The spare ones hold clients that are accepted to be refused.
 */
#define RESERVE_BASE 16
#define RESERVE_PER_REACTOR 2 /* epoll set and eventfd */
#define RESERVE_SPARE 4

/* How much of a name or value stands in a line. */
#define SHOWN_MAX 64

/* What would end a quoted value or begin an escape. */
#define QUOTED "'\"\\"

/* Longer names are not looked up: Kubernetes makes none, we have none. */
#define NAME_MAX_SIZE 256

/* How the program is called in a fault where the facts do not say. */
#define PROGRAM "xchgd"

static const char *text_of(const struct config_check *check, enum config_var var);
static const char *program_of(const struct config_check *check);
static const char *decided_by(const struct config_check *check, enum config_var var);
static void load_var(struct config_check *check, enum config_var var);
static void check_connections(struct config_check *check);
static void check_builtin(struct config_check *check);
static void check_text(struct config_check *check, enum config_var var,
                       const struct config_text *text);
static void check_names(struct config_check *check);
static void check_name(struct config_check *check, const char *name, size_t size,
                       const char *value);
static uint32_t round_up_to_power_of_two(uint32_t value);

unsigned config_load(struct config *config, const char *const *environment,
                     const struct config_facts *facts, FILE *out) {
  struct config_check check = {
      .config = config, .environment = environment, .facts = facts, .out = out};
  memset(config, 0, sizeof *config);
  for (size_t i = 0; i < VAR_COUNT; i++)
    load_var(&check, (enum config_var)i);
  config_finalize(&check);
  check_builtin(&check);
  check_names(&check);
  return config_finish(&check);
}

unsigned config_finish(struct config_check *check) {
  if (check->faults > 0) {
    config_fini(check->config);
    errno = check->exhausted ? ENOMEM : EINVAL;
  }
  return check->faults;
}

void config_fini(struct config *config) {
  free(config->greeting.bytes);
  free(config->reply_text.bytes);
  free(config->handler);
  free(config->allow.blocks);
  free(config->deny.blocks);
  memset(config, 0, sizeof *config);
}

uint64_t config_reserve(const struct config *config, const struct config_facts *facts) {
  uint64_t listeners = facts->sockets_passed > 0 ? facts->sockets_passed : config->listen_count;
  uint64_t reactors = config->model == MODEL_POOL ? config->workers : 1;
  return RESERVE_BASE + RESERVE_SPARE + listeners + RESERVE_PER_REACTOR * reactors;
}

void config_warn(const struct config *config, const char *const *environment,
                 const struct config_facts *facts, struct log *log) {
  struct log_line line;
  char ignored[256] = "";
  size_t size = 0;
  for (size_t i = 0; i < VAR_COUNT && config->model != MODEL_POOL; i++) {
    const struct config_var_def *def = &config_var_defs[i];
    if (!def->pool_only || env_vars_find(environment, def->name) == NULL)
      continue;
    int written =
        snprintf(ignored + size, sizeof ignored - size, "%s%s", size == 0 ? "" : " ", def->name);
    assert(written > 0 && (size_t)written < sizeof ignored - size);
    size += (size_t)written;
  }
  if (size > 0) {
    log_begin(&line, log, LOG_WARN, "variables ignored outside XCHG_MODEL=pool");
    log_str(&line, "variables", ignored);
    log_end(&line);
  }
  if (facts->somaxconn != 0 && config->backlog > facts->somaxconn) {
    log_begin(&line, log, LOG_WARN,
              "XCHG_BACKLOG is above net.core.somaxconn; the kernel uses the lower value");
    log_u64(&line, "backlog", config->backlog);
    log_u64(&line, "somaxconn", facts->somaxconn);
    log_end(&line);
  }
}

bool config_is_exchange(enum config_var var) {
  return var == VAR_EXCHANGE || config_var_defs[var].by_exchange != NULL;
}

bool config_has_handler(const struct config *config, const struct config_facts *facts) {
  return facts->handler || facts->embedded || config->handler != NULL;
}

FILE *config_fault_begin(struct config_check *check) {
  fprintf(check->out, "%s: ", program_of(check));
  check->faults++;
  return check->out;
}

FILE *config_fault(struct config_check *check, enum config_var var) {
  const struct config_var_def *def = &config_var_defs[var];
  bool number = check->from != NULL && def->kind <= KIND_ENUM;
  const char *text = number ? NULL : text_of(check, var);
  config_fault_begin(check);
  fprintf(check->out, "%s=", check->from != NULL ? def->field : def->name);
  if (number) {
    const char *member = (const char *)check->from + def->public_offset;
    fprintf(check->out, "%" PRIu64 ": ", config_read_number(member, def->size));
  } else {
    fputc('\'', check->out);
    if (text != NULL)
      config_print_escaped(check->out, text, strlen(text), SHOWN_MAX, QUOTED);
    fputs("': ", check->out);
  }
  check->refused[var] = true;
  return check->out;
}

void config_fault_unwanted(struct config_check *check, enum config_var var,
                           const struct config_span *bad) {
  char wanted[CONFIG_EXPECTED_MAX];
  FILE *out = config_fault(check, var);
  fprintf(out, "want %s", config_expected(&config_var_defs[var], wanted));
  if (bad->text != NULL) {
    fputs("; not '", out);
    config_print_escaped(out, bad->text, bad->size, SHOWN_MAX, QUOTED);
    fputc('\'', out);
  }
  fputc('\n', out);
}

void config_apply(struct config_check *check, enum config_var var, const char *text) {
  const struct config_var_def *def = &config_var_defs[var];
  struct config_span bad;
  enum config_result result = config_set(check->config, def, text, &bad);
  if (result == CONFIG_BAD) {
    config_fault_unwanted(check, var, &bad);
    text = config_default(def, check->config->exchange);
    if (text == NULL)
      return;
    result = config_set(check->config, def, text, &bad);
    assert(result != CONFIG_BAD);
  }
  if (result == CONFIG_NO_MEMORY) {
    fputs("out of memory\n", config_fault(check, var));
    check->exhausted = true;
  }
}

void config_finalize(struct config_check *check) {
  struct config *config = check->config;
  assert(check->facts->cpus > 0);
  if (config->workers == 0)
    config->workers = (uint32_t)min_u64(check->facts->cpus, CONFIG_WORKERS_MAX);
  config->crowded = config->workers >= check->facts->cpus;
  config->queue = round_up_to_power_of_two(config->queue);
  check_connections(check);
}

/* The value of ${var} as text: as it was given, else the default; NULL where there is none. */
static const char *text_of(const struct config_check *check, enum config_var var) {
  const struct config_var_def *def = &config_var_defs[var];
  const char *text;
  if (check->from != NULL)
    memcpy(&text, (const char *)check->from + def->public_offset, sizeof text);
  else
    text = env_vars_find(check->environment, def->name);
  return text != NULL ? text : config_default(def, check->config->exchange);
}

/* What a line begins with. */
static const char *program_of(const struct config_check *check) {
  return check->facts->program != NULL ? check->facts->program : PROGRAM;
}

/* What decides ${var} in the environment's place, which then is at fault; NULL: nothing. */
static const char *decided_by(const struct config_check *check, enum config_var var) {
  const struct config_facts *facts = check->facts;
  bool own = facts->handler || facts->embedded;
  if (config_is_exchange(var)) {
    if (own)
      return "the program's handler defines the exchange";
    if (env_vars_find(check->environment, config_var_defs[VAR_HANDLER].name) != NULL)
      return "the handler of XCHG_HANDLER defines the exchange";
  }
  if (var == VAR_HANDLER && own)
    return "the program has its own handler";
  if (var == VAR_MODEL && facts->embedded)
    return "an embedded server always uses the pool model";
  return NULL;
}

static void load_var(struct config_check *check, enum config_var var) {
  const struct config_var_def *def = &config_var_defs[var];
  const char *decided = decided_by(check, var);
  const char *text = text_of(check, var);
  if (decided != NULL && env_vars_find(check->environment, def->name) != NULL) {
    fprintf(config_fault(check, var), "must be unset: %s\n", decided);
    text = config_default(def, check->config->exchange);
  }
  if (decided != NULL && config_is_exchange(var))
    return;
  if (text != NULL)
    config_apply(check, var, text);
}

/* The limit on connections and the descriptors must fit each other. */
static void check_connections(struct config_check *check) {
  struct config *config = check->config;
  uint64_t descriptors = check->facts->descriptors;
  bool known =
      !check->refused[VAR_LISTEN] && !check->refused[VAR_MODEL] && !check->refused[VAR_WORKERS];
  uint64_t reserve = known ? config_reserve(config, check->facts) : 0;
  uint64_t room = min_u64(sub_sat_u64(descriptors, reserve), CONFIG_CONNECTIONS_MAX);
  const char *which = check->facts->embedded ? "soft" : "hard";
  if (check->refused[VAR_MAX_CONNECTIONS])
    return;
  if (room == 0) {
    fprintf(config_fault(check, VAR_MAX_CONNECTIONS),
            "the descriptor limit (RLIMIT_NOFILE, %s) of %" PRIu64
            " leaves no connection after a reserve of %" PRIu64 "; want a higher limit\n",
            which, descriptors, reserve);
  } else if (config->max_connections > room) {
    fprintf(config_fault(check, VAR_MAX_CONNECTIONS),
            "want an integer from 1 to %" PRIu64
            ": the descriptor limit (RLIMIT_NOFILE, %s) of %" PRIu64 " less a reserve of %" PRIu64
            "\n",
            room, which, descriptors, reserve);
  } else if (config->max_connections == 0) {
    bool pool = config->model == MODEL_POOL;
    config->max_connections = pool ? room : min_u64(room, CONFIG_CONNECTIONS_OUTSIDE_POOL);
  }
}

/* The five values of the exchange, and what else must agree with them. */
static void check_builtin(struct config_check *check) {
  const struct config *config = check->config;
  const bool *refused = check->refused;
  bool framed = !refused[VAR_EXCHANGE] && !refused[VAR_FRAME];
  bool fixed = framed && config->frame.kind == XCHG_FRAME_FIXED;
  if (fixed && config->frame.size > config->max_message_bytes && !refused[VAR_MAX_MESSAGE])
    fprintf(config_fault(check, VAR_FRAME),
            "want N at most %" PRIu64 ", the value of XCHG_MAX_MESSAGE\n",
            config->max_message_bytes);
  bool greets = config->has_greeting && !refused[VAR_EXCHANGE] && !refused[VAR_GREETING];
  if (framed && greets)
    check_text(check, VAR_GREETING, &config->greeting);
  if (framed && config->reply == REPLY_TEXT && !refused[VAR_REPLY])
    check_text(check, VAR_REPLY, &config->reply_text);
  if (greets && config->defer_accept_s > 0 && !refused[VAR_DEFER_ACCEPT])
    fputs("want 0 or XCHG_GREETING=none: the client would wait for the greeting\n",
          config_fault(check, VAR_DEFER_ACCEPT));
}

/* Can the frame carry ${text}? */
static void check_text(struct config_check *check, enum config_var var,
                       const struct config_text *text) {
  const struct xchg_frame *frame = &check->config->frame;
  switch (frame->kind) {
    case XCHG_FRAME_RAW:
    case XCHG_FRAME_CUSTOM: /* a handler's, which brings its own texts */
      break;
    case XCHG_FRAME_DELIMITER:
      if (memchr(text->bytes, 0, text->size) != NULL)
        fputs("want a text without a 0 byte, which ends a message of XCHG_FRAME=nul\n",
              config_fault(check, var));
      break;
    case XCHG_FRAME_LINE:
      if (memchr(text->bytes, '\n', text->size) != NULL)
        fputs("want a text without LF, which ends a message of XCHG_FRAME=line\n",
              config_fault(check, var));
      break;
    case XCHG_FRAME_PREFIX: {
      uint64_t size_max = frame->size == 2 ? UINT16_MAX : UINT32_MAX;
      if (text->size > size_max)
        fprintf(config_fault(check, var),
                "want a text of at most %" PRIu64 " bytes under XCHG_FRAME=%s, not of %zu\n",
                size_max, frame->size == 2 ? "u16" : "u32", text->size);
      break;
    }
    case XCHG_FRAME_FIXED:
      if (text->size != frame->size)
        fprintf(config_fault(check, var),
                "want a text of exactly %zu bytes under XCHG_FRAME=fixed:%zu, not of %zu\n",
                frame->size, frame->size, text->size);
      break;
  }
}

/* Every XCHG_ name in the environment must be one of the table's. */
static void check_names(struct config_check *check) {
  for (const char *const *entry = check->environment; *entry != NULL; entry++) {
    size_t size = strcspn(*entry, "=");
    if (strncmp(*entry, "XCHG_", 5) != 0 || (*entry)[size] == 0)
      continue;
    const char *value = *entry + size + 1;
    if (*value != 0)
      check_name(check, *entry, size, value);
  }
}

/* Write a fault unless the first ${size} bytes of ${name} are a name that we know or forgive. */
static void check_name(struct config_check *check, const char *name, size_t size,
                       const char *value) {
  const char *names[VAR_COUNT];
  char copy[NAME_MAX_SIZE] = "";
  if (size < sizeof copy)
    memcpy(copy, name, size);
  for (size_t i = 0; i < VAR_COUNT; i++) {
    names[i] = config_var_defs[i].name;
    if (strcmp(copy, names[i]) == 0)
      return;
  }
  if (env_vars_is_kubernetes(copy, value))
    return;
  FILE *out = config_fault_begin(check);
  config_print_escaped(out, name, size, SHOWN_MAX, QUOTED);
  fputs("='", out);
  config_print_escaped(out, value, strlen(value), SHOWN_MAX, QUOTED);
  fputs("': unknown variable; ", out);
  const char *nearest = env_vars_nearest(copy, names, VAR_COUNT);
  if (nearest != NULL)
    fprintf(out, "did you mean %s?\n", nearest);
  else if (check->facts->embedded)
    fputs("docs/configuration.md lists all\n", out);
  else
    fprintf(out, "%s --help lists all\n", program_of(check));
}

/* ${value} is at least 1 and at most a power of two itself, so that nothing overflows. */
static uint32_t round_up_to_power_of_two(uint32_t value) {
  uint32_t power = 1;
  while (power < value)
    power *= 2;
  return power;
}
