/* check_log_call: lines, their levels and their lengths as the function of a log gets them. */
#include "core/log.h"

#include "tests/fixtures/run_suite.h"
#include "tests/unit/json_line.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What the function got: the last line, its level, and how many lines. */
struct taken {
  char line[LOG_LINE_MAX + 1];
  enum xchg_log_level level;
  unsigned count;
};

static struct taken taken;
static struct log logger;

static void take_line(void *user, enum xchg_log_level level, const char *line) {
  struct taken *to = user;
  ck_assert_uint_lt(strlen(line), sizeof(to->line));
  memcpy(to->line, line, strlen(line) + 1);
  to->level = level;
  to->count++;
  errno = ERANGE; /* must not change the errno of the caller */
}

static void start(enum log_level level, enum log_format format) {
  taken = (struct taken){.count = 0};
  log_init(&logger, take_line, &taken, level, format);
}

/* The last line must end with ${end}. */
static void expect_end(const char *end) {
  const char *at = strstr(taken.line, " level=");
  ck_assert_ptr_nonnull(at);
  ck_assert_str_eq(at, end);
}

/* Lines within the level arrive once with their level, others do not, and errno is unchanged. */
START_TEST(lines_below_the_level_are_not_passed) {
  enum log_level level = (enum log_level)_i;
  struct log_line line;
  start(level, LOG_LOGFMT);
  for (int at = LOG_ERROR; at <= LOG_DEBUG; at++) {
    unsigned before = taken.count;
    errno = EDOM;
    log_msg(&logger, (enum log_level)at, "x");
    ck_assert_int_eq(errno, EDOM);
    ck_assert_uint_eq(taken.count - before, at <= (int)level ? 1 : 0);
    ck_assert(at > (int)level || (int)taken.level == at);
  }
  log_begin_always(&line, &logger, "stopped");
  log_u64(&line, "n", 1);
  log_end(&line);
  ck_assert_int_eq(taken.level, LOG_INFO);
  expect_end(" level=info msg=stopped n=1");
}
END_TEST

START_TEST(json_lines) {
  struct log_line line;
  char text[sizeof(taken.line) + 1];
  start(LOG_INFO, LOG_JSON);
  log_begin(&line, &logger, LOG_INFO, "m");
  log_bytes(&line, "k", "a\n\0\"", 4);
  log_end(&line);
  ck_assert_ptr_null(strchr(taken.line, '\n'));
  snprintf(text, sizeof(text), "%s\n", taken.line);
  const char *end = json_line(text);
  ck_assert(end != NULL && *end == '\0');
}
END_TEST

/* The longest line fits with its terminating 0. */
START_TEST(the_longest_line_fits) {
  static char text[2 * LOG_LINE_MAX];
  memset(text, 'x', sizeof(text) - 1);
  start(LOG_INFO, LOG_JSON);
  log_msg(&logger, LOG_ERROR, text);
  ck_assert_uint_eq(strlen(taken.line), LOG_LINE_MAX - 1);
  ck_assert_int_eq(taken.line[LOG_LINE_MAX - 2], '}');
  start(LOG_INFO, LOG_LOGFMT);
  log_msg(&logger, LOG_ERROR, text);
  ck_assert_uint_eq(strlen(taken.line), LOG_LINE_MAX - 2);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {lines_below_the_level_are_not_passed, LOG_DEBUG + 1},
      {json_lines, 1},
      {the_longest_line_fits, 1},
  };
  return run_suite("log_call", tests, count_of(tests));
}
