/*
 * check_config_handler: the configuration when a handler decides the exchange: one from
 * XCHG_HANDLER, the program's own, or that of a server within a program.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/config_fixture.h"

#include "core/config_vars.h"

static const struct config_facts own = {.cpus = 3,
                                        .descriptors = UINT64_C(1) << 30,
                                        .somaxconn = 65535,
                                        .handler = true,
                                        .program = "chat"};
static const struct config_facts embedded = {.cpus = 3,
                                             .descriptors = UINT64_C(1) << 30,
                                             .somaxconn = 65535,
                                             .handler = true,
                                             .embedded = true,
                                             .descriptors_soft = true,
                                             .program = "xchg"};

/* The entries must make exactly one fault under these facts, and this is its line. */
#define BAD_UNDER(facts, line, ...)                           \
  do {                                                        \
    struct config config_;                                    \
    ck_assert_uint_eq(LOAD(&config_, facts, __VA_ARGS__), 1); \
    ck_assert_str_eq(said, line "\n");                        \
  } while (0)

/*
 * The five variables of the exchange: with a handler valid and invalid values are the same fault.
 */
static const struct {
  const char *entry, *shown;
} exchange_entries[] = {
    {"XCHG_EXCHANGE=echo", "XCHG_EXCHANGE='echo'"},
    {"XCHG_EXCHANGE=nonsense", "XCHG_EXCHANGE='nonsense'"},
    {"XCHG_GREETING=none", "XCHG_GREETING='none'"},
    {"XCHG_GREETING=a\\0b", "XCHG_GREETING='a\\x5c0b'"},
    {"XCHG_FRAME=line", "XCHG_FRAME='line'"},
    {"XCHG_FRAME=fixed:70000", "XCHG_FRAME='fixed:70000'"},
    {"XCHG_REPLY=echo", "XCHG_REPLY='echo'"},
    {"XCHG_REPLY=yes", "XCHG_REPLY='yes'"},
    {"XCHG_MESSAGES=1", "XCHG_MESSAGES='1'"},
    {"XCHG_MESSAGES=-1", "XCHG_MESSAGES='-1'"},
};

START_TEST(exchange_variables_are_faults) {
  struct config c;
  char line[256];
  const char *entry = exchange_entries[_i].entry, *shown = exchange_entries[_i].shown;
  ck_assert_uint_eq(LOAD(&c, &plenty, entry, "XCHG_HANDLER=/x.so"), 1);
  snprintf(line, sizeof(line),
           "xchgd: %s: must be unset: the handler of XCHG_HANDLER defines the exchange\n", shown);
  ck_assert_str_eq(said, line);
  ck_assert_uint_eq(LOAD(&c, &own, entry), 1);
  snprintf(line, sizeof(line),
           "chat: %s: must be unset: the program's handler defines the exchange\n", shown);
  ck_assert_str_eq(said, line);
  ck_assert_uint_eq(LOAD(&c, &embedded, entry), 1);
  snprintf(line, sizeof(line),
           "xchg: %s: must be unset: the program's handler defines the exchange\n", shown);
  ck_assert_str_eq(said, line);
}
END_TEST

/* All five at once are five lines and no other fault. */
START_TEST(all_five_are_five_faults) {
  struct config c;
  const char *at = said;
  ck_assert_uint_eq(LOAD(&c, &own, "XCHG_MESSAGES=1", "XCHG_REPLY=echo", "XCHG_FRAME=nul",
                         "XCHG_GREETING=hi", "XCHG_EXCHANGE=line", "XCHG_DEFER_ACCEPT=5"),
                    5);
  for (size_t i = 0; i < VAR_COUNT; i++) {
    char start[64];
    if (!config_is_exchange((enum config_var)i)) {
      continue;
    }
    snprintf(start, sizeof(start), "chat: %s='", config_var_defs[i].name);
    ck_assert_msg(strncmp(at, start, strlen(start)) == 0, "%s is not at %s", start, at);
    at = strchr(at, '\n') + 1;
  }
  ck_assert_int_eq(*at, 0);
}
END_TEST

/* No value of an exchange remains, and other variables work as usual. */
static void check_handled(const struct config *c) {
  ck_assert(!c->has_greeting && c->greeting.bytes == NULL && c->reply == REPLY_NONE);
  ck_assert(c->reply_text.bytes == NULL && c->frame.kind == XCHG_FRAME_RAW && c->messages == 0);
  ck_assert(c->max_message_bytes == 10 && c->defer_accept_s == 3 && c->workers == 7);
}

START_TEST(other_variables_work_as_usual) {
  struct config c;
  GOOD(&c, "XCHG_HANDLER=./x.so", "XCHG_MAX_MESSAGE=10", "XCHG_DEFER_ACCEPT=3", "XCHG_WORKERS=7",
       "XCHG_MODEL=fork", "XCHG_GREETING=");
  check_handled(&c);
  ck_assert_str_eq(c.handler, "./x.so");
  ck_assert_int_eq(c.model, MODEL_FORK);
  config_fini(&c);
  ck_assert_uint_eq(LOAD(&c, &own, "XCHG_MAX_MESSAGE=10", "XCHG_DEFER_ACCEPT=3", "XCHG_WORKERS=7",
                         "XCHG_MODEL=thread", "XCHG_HANDLER="),
                    0);
  check_handled(&c);
  ck_assert(c.handler == NULL && c.model == MODEL_THREAD);
  config_fini(&c);
  ck_assert_uint_eq(
      LOAD(&c, &embedded, "XCHG_MAX_MESSAGE=10", "XCHG_DEFER_ACCEPT=3", "XCHG_WORKERS=7"), 0);
  check_handled(&c);
  ck_assert(c.handler == NULL && c.model == MODEL_POOL);
  config_fini(&c);
}
END_TEST

START_TEST(faults_name_the_program) {
  BAD_UNDER(&own, "chat: XCHG_HANDLER='/x.so': must be unset: the program has its own handler",
            "XCHG_HANDLER=/x.so");
  BAD_UNDER(&own, "chat: XCHG_HANDLER='x': must be unset: the program has its own handler",
            "XCHG_HANDLER=x");
  BAD_UNDER(&embedded, "xchg: XCHG_HANDLER='/x.so': must be unset: the program has its own handler",
            "XCHG_HANDLER=/x.so");
  BAD_UNDER(&embedded,
            "xchg: XCHG_MODEL='pool': must be unset: an embedded server always uses the pool model",
            "XCHG_MODEL=pool");
  BAD_UNDER(&embedded,
            "xchg: XCHG_MODEL='?': must be unset: an embedded server always uses the pool model",
            "XCHG_MODEL=?");
  BAD_UNDER(&plenty,
            "xchgd: XCHG_HANDLER='x.so': want a path that contains a /, at most 4095 bytes",
            "XCHG_HANDLER=x.so");
}
END_TEST

/*
 * Other lines begin with the program's name as well, and do not mention a --help that it does not
 * have.
 */
START_TEST(other_faults_name_the_program) {
  BAD_UNDER(&own, "chat: XCHG_='1': unknown variable; chat --help lists all", "XCHG_=1");
  BAD_UNDER(&embedded, "xchg: XCHG_='1': unknown variable; docs/configuration.md lists all",
            "XCHG_=1");
  BAD_UNDER(&own, "chat: XCHG_PIN='?': want on or off", "XCHG_PIN=?");
  struct config_facts poor = own;
  poor.descriptors = 1;
  BAD_UNDER(&poor,
            "chat: XCHG_MAX_CONNECTIONS='': the descriptor limit (RLIMIT_NOFILE, hard) of 1 leaves "
            "no connection after a reserve of 27; want a higher limit");
  poor = embedded;
  poor.descriptors = 128;
  BAD_UNDER(&poor,
            "xchg: XCHG_MAX_CONNECTIONS='102': want an integer from 1 to 101: the descriptor limit "
            "(RLIMIT_NOFILE, soft) of 128 less a reserve of 27",
            "XCHG_MAX_CONNECTIONS=102");
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {exchange_variables_are_faults, count_of(exchange_entries)},
      {all_five_are_five_faults, 1},
      {other_variables_work_as_usual, 1},
      {faults_name_the_program, 1},
      {other_faults_name_the_program, 1},
  };
  return run_suite("config_handler", tests, count_of(tests));
}
