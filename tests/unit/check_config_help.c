/*
 * check_config_help: what is printed about the variables, and the warnings.
 *
 * The pages are compared line by line. The warnings go through a real log into a pipe.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/config_fixture.h"
#include "tests/fixtures/log_to_fd.h"

#include "core/config_vars.h"

#include <stdlib.h>
#include <unistd.h>

static char page[65536];

static const struct config_facts usual = {.cpus = 2, .descriptors = 1024, .somaxconn = 4096};

/* Load, explain, free. The text is in ${page}. */
static void explain(const struct config_facts *facts, const char *const *entries) {
  struct config config;
  ck_assert_msg(load(&config, entries, facts) == 0, "%s", said);
  FILE *out = fmemopen(page, sizeof(page), "w");
  config_explain(&config, entries, facts, out);
  ck_assert_int_eq(fclose(out), 0);
  config_fini(&config);
}

#define EXPLAIN(facts, ...) explain(facts, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

/* Write a page with a function that needs no configuration. */
static void write_page(void (*write)(FILE *)) {
  FILE *out = fmemopen(page, sizeof(page), "w");
  write(out);
  ck_assert_int_eq(fclose(out), 0);
}

/* The page must have this line. */
static void has_line(const char *line) {
  size_t size = strlen(line);
  for (const char *at = page; (at = strstr(at, line)) != NULL; at++) {
    if ((at == page || at[-1] == '\n') && at[size] == '\n') {
      return;
    }
  }
  ck_abort_msg("no line '%s'", line); /* a page is too long for a message */
}

static size_t count_text(const char *text) {
  size_t count = 0;
  for (const char *at = page; (at = strstr(at, text)) != NULL; at++) {
    count++;
  }
  return count;
}

/* Load, write the settings, free. */
static void write_settings(const char *const *entries) {
  struct config config;
  ck_assert_msg(load(&config, entries, &usual) == 0, "%s", said);
  FILE *out = fmemopen(page, sizeof(page), "w");
  config_write_settings(&config, entries, &usual, out);
  ck_assert_int_eq(fclose(out), 0);
  config_fini(&config);
}

/* Each variable once, in the table's order, with the value and the origin that --explain shows. */
START_TEST(settings_are_json) {
  write_settings((const char *const[]){"XCHG_GREETING=a\"\\\\\xc3\x01z", "XCHG_QUEUE=3", NULL});
  ck_assert(page[0] == '{' && page[strlen(page) - 1] == '}');
  ck_assert_uint_eq(count_text("\":{\"value\":\""), VAR_COUNT);
  ck_assert_uint_eq(count_text("\"},\"XCHG_"), VAR_COUNT - 1);
  ck_assert_uint_eq(count_text("{\"XCHG_EXCHANGE\":{\"value\":\"greet\",\"from\":\"default\"},"),
                    1);
  ck_assert_uint_eq(
      count_text("\"XCHG_GREETING\":{\"value\":\"a\\u0022\\u005c\\u005c\\u00c3\\u0001z\","
                 "\"from\":\"environment\"}"),
      1);
  ck_assert_uint_eq(count_text("\"XCHG_QUEUE\":{\"value\":\"4\",\"from\":\"environment\"}"), 1);
  ck_assert_uint_eq(count_text("\"XCHG_WORKERS\":{\"value\":\"2\",\"from\":\"default\"}"), 1);
  write_settings((const char *const[]){"XCHG_HANDLER=./a.so", NULL});
  ck_assert_uint_eq(count_text("\":{\"value\":\""), VAR_COUNT - 5);
  ck_assert_uint_eq(count_text("{\"XCHG_MAX_MESSAGE\""), 1);
}
END_TEST

/* One line for each variable, in the table's order, beginning with its name. */
START_TEST(explain_has_a_line_for_each_variable) {
  EXPLAIN(&usual);
  const char *at = page;
  for (size_t i = 0; i < VAR_COUNT; i++) {
    char start[64];
    snprintf(start, sizeof(start), "%s=", config_var_defs[i].name);
    ck_assert_msg(strncmp(at, start, strlen(start)) == 0, "%s is not at %s", start, at);
    at = strchr(at, '\n');
    ck_assert_ptr_nonnull(at);
    at++;
  }
  ck_assert_int_eq(*at, 0);
  ck_assert_uint_eq(count_text("clamped"), 0);
  ck_assert_uint_eq(count_text("environment"), 0);
}
END_TEST

START_TEST(explain_names_value_and_source) {
  EXPLAIN(&usual);
  has_line(
      "XCHG_EXCHANGE=greet (default) the preset that sets the defaults of the next four variables");
  has_line(
      "XCHG_GREETING=Message from server (default) what the server sends first, framed as a "
      "message");
  has_line("XCHG_WORKERS=2 (default) number of worker threads");
  has_line("XCHG_ALLOW= (default) client addresses that may connect; empty = all");
  has_line(
      "XCHG_IDLE_TIMEOUT=60s (default) close a connection on which no byte was read or written for "
      "this long; 0 = off");
  has_line("XCHG_MAX_CONNECTIONS=999 (limit) limit on live connections");
  EXPLAIN(&usual, "XCHG_EXCHANGE=LINE", "XCHG_WORKERS=3", "XCHG_MAX_CONNECTIONS=5",
          "XCHG_GREETING=\"a\\t'\x1b", "XCHG_QUEUE=512", "XCHG_DENY=10.0.0.0/8,::1");
  has_line(
      "XCHG_EXCHANGE=line (environment) the preset that sets the defaults of the next four "
      "variables");
  has_line("XCHG_FRAME=line (default) how the byte stream is split into messages");
  has_line("XCHG_WORKERS=3 (environment) number of worker threads");
  has_line("XCHG_MAX_CONNECTIONS=5 (environment) limit on live connections");
  has_line(
      "XCHG_QUEUE=512 (environment) capacity of a worker's hand-off queue, rounded up to a power "
      "of two");
  has_line(
      "XCHG_DENY=10.0.0.0/8,::1 (environment) client addresses that may not connect; overrides "
      "XCHG_ALLOW");
  ck_assert_ptr_nonnull(strstr(page, "XCHG_GREETING=\"a\\t'\\x1b (environment) "));
}
END_TEST

START_TEST(explain_marks_clamped_values) {
  static const char queue[] = "capacity of a worker's hand-off queue, rounded up to a power of two";
  char line[256];
  struct config_facts facts = usual;
  EXPLAIN(&facts, "XCHG_QUEUE=1000", "XCHG_BACKLOG=5000");
  snprintf(line, sizeof(line), "XCHG_QUEUE=1024 (environment, clamped) %s", queue);
  has_line(line);
  has_line("XCHG_BACKLOG=4096 (environment, clamped) how many connections may wait to be accepted");
  facts.somaxconn = 128;
  EXPLAIN(&facts);
  has_line("XCHG_BACKLOG=128 (default, clamped) how many connections may wait to be accepted");
  facts.somaxconn = 0;
  EXPLAIN(&facts);
  has_line("XCHG_BACKLOG=4096 (default) how many connections may wait to be accepted");
  facts.cpus = 2000;
  facts.cpus_from_cgroup = true;
  facts.descriptors = UINT64_MAX;
  EXPLAIN(&facts);
  has_line("XCHG_WORKERS=1024 (cgroup, clamped) number of worker threads");
  has_line("XCHG_MAX_CONNECTIONS=16777216 (limit, clamped) limit on live connections");
  facts.cpus = 1;
  EXPLAIN(&facts);
  has_line("XCHG_WORKERS=1 (cgroup) number of worker threads");
  EXPLAIN(&facts, "XCHG_WORKERS=1");
  has_line("XCHG_WORKERS=1 (environment) number of worker threads");
}
END_TEST

START_TEST(explain_marks_variables_of_other_models) {
  struct config_facts facts = usual;
  facts.descriptors = 5000;
  EXPLAIN(&facts, "XCHG_MODEL=fork", "XCHG_PIN=on");
  has_line("XCHG_MAX_CONNECTIONS=1024 (default) limit on live connections");
  has_line("XCHG_PIN=on (environment, ignored outside XCHG_MODEL=pool) pin each worker to a CPU");
  ck_assert_uint_eq(count_text("ignored outside"), 8);
  facts.descriptors = 500;
  EXPLAIN(&facts, "XCHG_MODEL=thread");
  has_line("XCHG_MAX_CONNECTIONS=477 (limit, clamped) limit on live connections");
}
END_TEST

START_TEST(explain_marks_inherited_sockets) {
  struct config_facts facts = usual;
  facts.passed.data_count = 2;
  facts.passed.admin_count = 1;
  EXPLAIN(&facts);
  has_line(
      "XCHG_ADMIN= (default, replaced by 1 passed in LISTEN_FDS) addresses of the admin "
      "endpoint, which speaks HTTP; empty = none");
  has_line(
      "XCHG_LISTEN=:7000 (default, replaced by 2 passed in LISTEN_FDS) addresses to listen on; "
      "port 0 = any free port, which the log shows");
}
END_TEST

/* With a handler no line shows a greeting, which is not sent. */
START_TEST(explain_marks_variables_of_the_handler) {
  struct config_facts facts = usual;
  for (int i = 0; i < 3; i++) {
    facts.handler = i > 0;
    facts.embedded = i > 1;
    if (i == 0) {
      EXPLAIN(&facts, "XCHG_HANDLER=/lib/x.so");
    } else {
      EXPLAIN(&facts);
    }
    has_line(
        "XCHG_EXCHANGE= (set by the handler) the preset that sets the defaults of the next four "
        "variables");
    has_line(
        "XCHG_GREETING= (set by the handler) what the server sends first, framed as a message");
    ck_assert_uint_eq(count_text("= (set by the handler) "), 5);
    ck_assert_uint_eq(count_text("Message from server"), 0);
    has_line(
        "XCHG_MAX_MESSAGE=64KiB (default, unless the handler sets one) longest message, without "
        "terminator or length prefix; a longer one closes the connection");
    ck_assert_uint_eq(count_text("\nXCHG_HANDLER=/lib/x.so (environment) "), i == 0);
    ck_assert_uint_eq(count_text("\nXCHG_HANDLER= (default) "), i != 0);
  }
  EXPLAIN(&usual);
  ck_assert_uint_eq(count_text("handler sets"), 0);
  ck_assert_uint_eq(count_text("set by"), 0);
}
END_TEST

START_TEST(help_lists_every_variable) {
  write_page(config_help);
  ck_assert_ptr_eq(strstr(page, "usage: xchgd "), page);
  for (char *line = strtok(page, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    ck_assert_msg(strlen(line) <= 100, "%zu columns: %s", strlen(line), line);
  }
  write_page(config_help);
  for (size_t i = 0; i < VAR_COUNT; i++) {
    char start[64], wanted[CONFIG_EXPECTED_MAX];
    snprintf(start, sizeof(start), "\n  %s ", config_var_defs[i].name);
    ck_assert_msg(count_text(start) == 1, "%s", start);
    ck_assert(count_text(config_var_defs[i].what) > 0);
    ck_assert(count_text(config_expected(&config_var_defs[i], wanted)) > 0);
  }
  static const char *const words[] = {"-h, --help", "--version", "--check", "--explain", "\n  0 ",
                                      "\n  1 ",     "\n  64 ",   "\n  69 ", "\n  71 ",   "\n  78 "};
  for (size_t i = 0; i < count_of(words); i++) {
    ck_assert_msg(count_text(words[i]) > 0, "%s", words[i]);
  }
  ck_assert_uint_eq(count_text("default: the CPUs this process may use\n"), 1);
}
END_TEST

/* Every row of the table keeps these rules. */
START_TEST(table_rows_are_complete) {
  for (size_t i = 0; i < VAR_COUNT; i++) {
    const struct config_var_def *def = &config_var_defs[i];
    ck_assert_ptr_nonnull(def->name);
    ck_assert_msg(strlen(def->name) <= 22, "%s", def->name);
    ck_assert_msg(def->what != NULL && strchr(def->what, '\n') == NULL, "%s", def->name);
    ck_assert_msg(def->what[strlen(def->what) - 1] != '.', "%s", def->name);
    ck_assert_msg(def->more == NULL || def->more[strlen(def->more) - 1] == '.', "%s", def->name);
    int defaults =
        (def->default_text != NULL) + (def->derived != NULL) + (def->by_exchange != NULL);
    ck_assert_msg(defaults == 1, "%s has %d defaults", def->name, defaults);
    for (size_t j = 0; j < i; j++) {
      ck_assert_str_ne(def->name, config_var_defs[j].name);
    }
  }
}
END_TEST

START_TEST(markdown_has_a_row_for_each_variable) {
  write_page(config_write_markdown);
  ck_assert_ptr_eq(strstr(page, "# Configuration\n"), page);
  for (size_t i = 0; i < VAR_COUNT; i++) {
    char start[64];
    snprintf(start, sizeof(start), "\n| `%s` | ", config_var_defs[i].name);
    ck_assert_msg(count_text(start) == 1, "%s", start);
    /* Four cells: five bars in the line. */
    size_t bars = 0;
    for (const char *p = strstr(page, start) + 1; *p != '\n'; p++) {
      bars += *p == '|' ? 1 : 0;
    }
    ck_assert_msg(bars == 5, "%s: %zu", start, bars);
  }
  has_line("| `greet` | Message from server | nul | none | 1 |");
  has_line("| `discard` | none | raw | none | 0 |");
  has_line("| 78 | the configuration has a fault, or --upgrade may not change it in this way |");
  ck_assert_uint_gt(count_text("\\\\xNN"), 0);
}
END_TEST

START_TEST(man_page_has_every_variable) {
  write_page(config_write_man);
  for (size_t i = 0; i < VAR_COUNT; i++) {
    char start[64];
    snprintf(start, sizeof(start), ".TP\n.B %s\n", config_var_defs[i].name);
    ck_assert_msg(count_text(start) == 1, "%s", start);
  }
  ck_assert_uint_gt(count_text("\\exNN"), 0);
  ck_assert_uint_eq(count_text("\\x"), 0);
  for (char *line = strtok(page, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    bool macro = strcmp(line, ".TP") == 0 || strncmp(line, ".B XCHG_", 8) == 0;
    ck_assert_msg(macro || (line[0] != '.' && line[0] != '\''), "%s", line);
  }
}
END_TEST

/* Let config_warn log into a pipe. Its text is in ${page}. */
static void warn(const struct config_facts *facts, const char *const *entries) {
  struct config config;
  struct log log;
  int ends[2];
  ck_assert_msg(load(&config, entries, facts) == 0, "%s", said);
  ck_assert_int_eq(pipe(ends), 0);
  log_to_fd(&log, ends[1], LOG_DEBUG, LOG_LOGFMT);
  config_warn(&config, entries, facts, &log);
  close(ends[1]);
  size_t size = 0;
  ssize_t got;
  while ((got = read(ends[0], page + size, sizeof(page) - 1 - size)) > 0) {
    size += (size_t)got;
  }
  page[size] = 0;
  close(ends[0]);
  config_fini(&config);
}

#define WARN(facts, ...) warn(facts, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

START_TEST(warnings_are_logged) {
  struct config_facts facts = usual;
  WARN(&facts, "XCHG_WORKERS=1", "XCHG_PIN=on");
  ck_assert_str_eq(page, "");
  WARN(&facts, "XCHG_MODEL=fork");
  ck_assert_str_eq(page, "");
  WARN(&facts, "XCHG_MODEL=fork", "XCHG_PIN=", "XCHG_QUEUE=8");
  ck_assert_uint_eq(count_text("\n"), 1);
  ck_assert_uint_eq(count_text("level=warn"), 1);
  ck_assert_uint_eq(count_text("variables=XCHG_QUEUE"), 1);
  WARN(&facts, "XCHG_MODEL=iterative", "XCHG_SPIN=1ms", "XCHG_PIN=off", "XCHG_DISPATCH=least",
       "XCHG_QUEUE=8", "XCHG_WORKERS=1");
  ck_assert_uint_eq(count_text("\n"), 1);
  ck_assert_uint_eq(count_text("\"XCHG_WORKERS XCHG_QUEUE XCHG_DISPATCH XCHG_PIN XCHG_SPIN\""), 1);
  WARN(&facts, "XCHG_BACKLOG=4097");
  ck_assert_uint_eq(count_text("\n"), 1);
  ck_assert_uint_eq(count_text("level=warn"), 1);
  ck_assert_uint_eq(count_text("backlog=4097 somaxconn=4096"), 1);
  WARN(&facts, "XCHG_MAX_PER_IP=3", "XCHG_LISTEN=:1,unix:/a;proxy=v2");
  ck_assert_uint_eq(count_text("\n"), 1);
  ck_assert_uint_eq(count_text("XCHG_MAX_PER_IP does not apply to listeners with ;proxy="), 1);
  WARN(&facts, "XCHG_MAX_PER_IP=3", "XCHG_LISTEN=:1");
  ck_assert_str_eq(page, "");
  WARN(&facts, "XCHG_LISTEN=unix:/a;proxy=v2");
  ck_assert_str_eq(page, "");
  facts.somaxconn = 128;
  WARN(&facts, "XCHG_MODEL=fork", "XCHG_PIN=on");
  ck_assert_uint_eq(count_text("\n"), 2);
  ck_assert_uint_eq(count_text("backlog=4096 somaxconn=128"), 1);
  facts.somaxconn = 0;
  WARN(&facts);
  ck_assert_str_eq(page, "");
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {settings_are_json, 1},
      {explain_has_a_line_for_each_variable, 1},
      {explain_names_value_and_source, 1},
      {explain_marks_clamped_values, 1},
      {explain_marks_variables_of_other_models, 1},
      {explain_marks_inherited_sockets, 1},
      {explain_marks_variables_of_the_handler, 1},
      {help_lists_every_variable, 1},
      {table_rows_are_complete, 1},
      {markdown_has_a_row_for_each_variable, 1},
      {man_page_has_every_variable, 1},
      {warnings_are_logged, 1},
  };
  return run_suite("config_help", tests, count_of(tests));
}
