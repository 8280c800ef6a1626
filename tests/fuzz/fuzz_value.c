/*
 * fuzz_value: a value that was parsed can be written and parsed again with the same result.  A
 * value that is refused leaves nothing allocated.
 *
 * Values are written as --explain and the logs print them: sizes and times by core/parse, addresses
 * by core/addr.  Texts are written as escapes only.
 *
 * Input: the variable, the text.
 */
#include "core/parse.h"
#include "core/config.h"
#include "core/config_vars.h"
#include "tests/fuzz/fuzz.h"

#include <arpa/inet.h>
#include <inttypes.h>

static void print_text(FILE *out, const struct config_text *text) {
  fputs("text:", out);
  for (size_t i = 0; i < text->size; i++) {
    fprintf(out, "\\x%02x", text->bytes[i]);
  }
}

static void print_frame(FILE *out, const struct xchg_frame *frame) {
  static const char *const names[] = {
      [XCHG_FRAME_RAW] = "raw", [XCHG_FRAME_DELIMITER] = "nul", [XCHG_FRAME_LINE] = "line"};
  if (frame->kind == XCHG_FRAME_PREFIX) {
    fprintf(out, "u%zu", 8 * frame->size);
  } else if (frame->kind == XCHG_FRAME_FIXED) {
    fprintf(out, "fixed:%zu", frame->size);
  } else {
    fputs(names[frame->kind], out);
  }
}

static void print_listen(FILE *out, const struct addr_listen *list, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    const struct addr_listen *listen = &list[i];
    char text[256];
    addr_format_listen(listen, text, sizeof(text));
    fprintf(out, "%s%s", i == 0 ? "" : ",", listen->any ? strrchr(text, ':') : text);
    if (listen->mode != -1) {
      fprintf(out, ";mode=%04o", (unsigned)listen->mode);
    }
  }
}

static void print_blocks(FILE *out, const struct config_blocks *blocks) {
  for (size_t i = 0; i < blocks->count; i++) {
    char host[INET6_ADDRSTRLEN];
    const struct addr_block *block = &blocks->blocks[i];
    inet_ntop(block->family == ADDR_IPV4 ? AF_INET : AF_INET6, block->bytes, host, sizeof(host));
    fprintf(out, "%s%s/%u", i == 0 ? "" : ",", host, block->bits);
  }
}

static void print_user(FILE *out, const struct config_user *user) {
  fuzz_holds(user->set || user->name[0] == 0, "no user has no name");
  fuzz_holds(strlen(user->name) <= CONFIG_USER_MAX, "a name fits");
  if (user->name[0] != 0) {
    fputs(user->name, out);
  } else if (user->set) {
    fprintf(out, "%" PRIu32 ":%" PRIu32, user->uid, user->gid);
  }
}

static void print_upgrade(FILE *out, const struct config *config) {
  if (config->upgrade == UPGRADE_SOCKET) {
    print_listen(out, &config->upgrade_at, 1);
  } else {
    fputs(config->upgrade == UPGRADE_ON ? "on" : "off", out);
  }
}

static void print_number(FILE *out, const struct config_var_def *def, uint64_t value) {
  char text[PARSE_TEXT_MAX];
  fuzz_holds(config_allows(def, value), "a stored number is within its range");
  switch (def->kind) {
    case KIND_SIZE:
      fputs(parse_format_size(value, text), out);
      break;
    case KIND_TIME:
      fputs(parse_format_time(value, text), out);
      break;
    case KIND_SWITCH:
      fputs(value == 1 ? "on" : "off", out);
      break;
    case KIND_ENUM:
      fputs(def->names[value], out);
      break;
    default:
      fprintf(out, "%" PRIu64, value);
  }
}

/* The value of ${row} in ${config} as text; to be freed. */
static char *print(const struct config *config, const struct config_var_def *def) {
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  fuzz_holds(out != NULL, "memory is available");
  const void *member = (const char *)config + def->offset;
  switch (def->kind) {
    case KIND_GREETING:
      if (config->has_greeting) {
        print_text(out, &config->greeting);
      } else {
        fputs("none", out);
      }
      break;
    case KIND_REPLY:
      if (config->reply == REPLY_TEXT) {
        print_text(out, &config->reply_text);
      } else {
        fputs(config->reply == REPLY_ECHO ? "echo" : "none", out);
      }
      break;
    case KIND_FRAME:
      print_frame(out, &config->frame);
      break;
    case KIND_LISTEN:
      print_listen(out, config->listen, config->listen_count);
      break;
    case KIND_ADMIN:
      print_listen(out, config->admin, config->admin_count);
      break;
    case KIND_BLOCKS:
      print_blocks(out, member);
      break;
    case KIND_USER:
      print_user(out, member);
      break;
    case KIND_UPGRADE:
      print_upgrade(out, config);
      break;
    case KIND_PATH:
      fputs(config->handler != NULL ? config->handler : "", out);
      break;
    default:
      print_number(out, def, config_number(config, def));
  }
  fclose(out);
  return text;
}

/* A refused value names its invalid part, and stores nothing that would have to be freed. */
static void check_refused(const struct config *config, const char *text,
                          const struct config_span *bad) {
  fuzz_holds(config->greeting.bytes == NULL && config->reply_text.bytes == NULL &&
                 config->handler == NULL && config->allow.blocks == NULL &&
                 config->deny.blocks == NULL,
             "nothing to free is stored");
  fuzz_holds(bad->text == NULL || (bad->text >= text && bad->size <= strlen(text) &&
                                   bad->text + bad->size <= text + strlen(text)),
             "the item to blame is one of the value's");
}

static void check_wanted(const struct config_var_def *def) {
  char wanted[CONFIG_EXPECTED_MAX];
  fuzz_holds(*config_expected(def, wanted) != 0, "the allowed values can be described");
}

/* The number that ${text} means, digits and a unit (longer units first); -1 if it is no number. */
static __int128 slow_number(const char *text, enum config_kind kind) {
  static const struct {
    const char *name;
    enum config_kind kind;
    uint64_t factor;
  } units[] = {{"GiB", KIND_SIZE, UINT64_C(1) << 30},
               {"MiB", KIND_SIZE, UINT64_C(1) << 20},
               {"KiB", KIND_SIZE, UINT64_C(1) << 10},
               {"ms", KIND_TIME, NS_PER_MS},
               {"us", KIND_TIME, NS_PER_US},
               {"s", KIND_TIME, NS_PER_S},
               {"m", KIND_TIME, 60 * NS_PER_S},
               {"", KIND_SIZE, 1},
               {"", KIND_INTEGER, 1}};
  size_t digits = strspn(text, "0123456789");
  __int128 number = 0;
  while (digits > 1 && *text == '0') {
    text++;
    digits--;
  }
  for (size_t i = 0; i < digits && i < 21; i++) {
    number = number * 10 + (text[i] - '0');
  }
  if (strcmp(text, "0") == 0) {
    return 0;
  }
  for (size_t i = 0; i < count_of(units) && digits > 0 && digits < 22; i++) {
    if (units[i].kind == kind && strcmp(text + digits, units[i].name) == 0) {
      return number * units[i].factor;
    }
  }
  return -1;
}

/* A number is accepted exactly if it is valid and within its range. */
static void check_number(const struct config *config, const struct config_var_def *def,
                         const char *text, bool taken) {
  if (def->kind != KIND_INTEGER && def->kind != KIND_SIZE && def->kind != KIND_TIME) {
    return;
  }
  __int128 want = slow_number(text, def->kind);
  bool padded_zero = def->kind == KIND_TIME && want == 0 && strspn(text, "0") == strlen(text);
  bool allowed = want >= def->min && want <= def->max && !(padded_zero && strlen(text) > 1);
  fuzz_holds(taken == allowed, "exactly the numbers within the range are accepted");
  fuzz_holds(!taken || config_number(config, def) == (uint64_t)want,
             "a number has the value of its text");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct config config, again;
  struct fuzz_input input = {data, size};
  const struct config_var_def *def = &config_var_defs[fuzz_byte(&input) % VAR_COUNT];
  struct config_span bad;
  char *text = fuzz_text(input.at, input.left);
  memset(&config, 0, sizeof(config));
  memset(&again, 0, sizeof(again));
  enum config_result result = config_set(&config, def, text, &bad);
  fuzz_holds(result != CONFIG_NO_MEMORY, "memory is available");
  check_number(&config, def, text, result == CONFIG_OK);
  if (result == CONFIG_BAD) {
    check_refused(&config, text, &bad);
    check_wanted(def);
  } else {
    char *printed = print(&config, def);
    fuzz_holds(config_set(&again, def, printed, &bad) == CONFIG_OK,
               "the written value can be parsed");
    char *reprinted = print(&again, def);
    fuzz_holds(strcmp(printed, reprinted) == 0, "the value comes back");
    free(printed);
    free(reprinted);
  }
  config_fini(&config);
  config_fini(&again);
  free(text);
  return 0;
}
