/* check_log: the format of lines. Descriptors are in check_log_writer. */
#include "tests/fixtures/log_fixture.h"
#include "tests/unit/json_line.h"

#include <errno.h>
#include <stdio.h>

static void some_fields(void) {
  struct log_line line;
  log_begin(&line, &logger, LOG_INFO, "listening");
  log_str(&line, "addr", "127.0.0.1:7000");
  log_u64(&line, "n", UINT64_MAX);
  log_u64(&line, "zero", 0);
  log_str(&line, "empty", "");
  log_str(&line, "spaced", "a b");
  log_str(&line, "equal", "a=b");
  log_bytes(&line, "raw", "q\"\\\n\0\xff", 6);
  log_end(&line);
}

START_TEST(logfmt_lines) {
  start(ends[1], LOG_LOGFMT);
  some_fields();
  take(ends[0]);
  const char *rest = expect(
      text, LOG_LOGFMT,
      " level=info msg=listening addr=127.0.0.1:7000 n=18446744073709551615 zero=0 empty=\"\""
      " spaced=\"a b\" equal=\"a=b\" raw=\"q\\\"\\\\\\x0a\\x00\\xff\"\n");
  ck_assert_str_eq(rest, "");
}
END_TEST

START_TEST(json_lines) {
  start(ends[1], LOG_JSON);
  some_fields();
  take(ends[0]);
  const char *rest = expect(
      text, LOG_JSON,
      "\",\"level\":\"info\",\"msg\":\"listening\",\"addr\":\"127.0.0.1:7000\","
      "\"n\":18446744073709551615,\"zero\":0,\"empty\":\"\",\"spaced\":\"a b\",\"equal\":\"a=b\","
      "\"raw\":\"q\\\"\\\\\\u000a\\u0000\\u00ff\"}\n");
  ck_assert_str_eq(rest, "");
  ck_assert_ptr_nonnull(json_line(text));
}
END_TEST

START_TEST(the_level_can_change) {
  log_to_fd(&logger, ends[1], LOG_INFO, LOG_LOGFMT);
  log_set_level(&logger, LOG_DEBUG);
  log_msg(&logger, LOG_DEBUG, "x");
  ck_assert_uint_gt(take(ends[0]), 0);
  log_set_level(&logger, LOG_WARN);
  log_msg(&logger, LOG_INFO, "x");
  ck_assert_uint_eq(take(ends[0]), 0);
}
END_TEST

START_TEST(lines_below_the_level_are_not_written) {
  static const char *const words[] = {"error", "warn", "info", "debug"};
  for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
    log_to_fd(&logger, ends[1], (enum log_level)level, LOG_LOGFMT);
    for (int at = LOG_ERROR; at <= LOG_DEBUG; at++) {
      char rest[64];
      log_msg(&logger, (enum log_level)at, "x");
      size_t size = take(ends[0]);
      ck_assert((size > 0) == (at <= level));
      snprintf(rest, sizeof(rest), " level=%s msg=x\n", words[at]);
      ck_assert(size == 0 || *expect(text, LOG_LOGFMT, rest) == '\0');
    }
    struct log_line line;
    log_begin_always(&line, &logger, "stopped");
    log_end(&line);
    take(ends[0]);
    expect(text, LOG_LOGFMT, " level=info msg=stopped\n");
    log_begin(&line, &logger, LOG_DEBUG, "y"); /* fields of an unwritten line do nothing */
    log_str(&line, "k", "v");
    log_u64(&line, "n", 1);
    log_end(&line);
    ck_assert((take(ends[0]) > 0) == (level == LOG_DEBUG));
  }
}
END_TEST

START_TEST(errors_are_named) {
  start(ends[1], LOG_LOGFMT);
  errno = EDOM;
  log_errno(&logger, LOG_ERROR, "cannot bind", EADDRINUSE);
  ck_assert_int_eq(errno, EDOM);
  take(ends[0]);
  expect(text, LOG_LOGFMT, " level=error msg=\"cannot bind\" error=\"Address already in use\"\n");
}
END_TEST

/* Any bytes stay within their quotes and on their line. */
START_TEST(every_byte_is_escaped) {
  for (int format = LOG_LOGFMT; format <= LOG_JSON; format++) {
    start(ends[1], (enum log_format)format);
    for (unsigned byte = 0; byte < 256; byte++) {
      struct log_line line;
      unsigned char value[] = {'a', (unsigned char)byte, 'z'};
      char want[32], rest[128];
      log_begin(&line, &logger, LOG_INFO, "m");
      log_bytes(&line, "k", value, sizeof(value));
      log_end(&line);
      size_t size = take(ends[0]);
      const char *quote = format == LOG_JSON ? "\"" : "";
      if (byte == '"' || byte == '\\') {
        snprintf(want, sizeof(want), "\"a\\%cz\"", (int)byte);
      } else if (byte < 0x20 || byte >= 0x7f) {
        snprintf(want, sizeof(want), "\"a\\%s%02xz\"", format == LOG_JSON ? "u00" : "x", byte);
      } else {
        quote = byte == ' ' || byte == '=' ? "\"" : quote;
        snprintf(want, sizeof(want), "%sa%cz%s", quote, (int)byte, quote);
      }
      snprintf(rest, sizeof(rest),
               format == LOG_JSON ? "\",\"level\":\"info\",\"msg\":\"m\",\"k\":%s}\n"
                                  : " level=info msg=m k=%s\n",
               want);
      ck_assert_str_eq(expect(text, (enum log_format)format, rest), "");
      ck_assert_ptr_eq(strchr(text, '\n'), text + size - 1);
    }
  }
}
END_TEST

/*
 * A line that is too long is shortened at a whole character, with its quotes closed, whichever
 * field it ends in.
 */
START_TEST(long_lines_are_shortened) {
  static char value[5000];
  const char kinds[] = {'a', ' ', '"', '\n'};
  unsigned wrong = 0;
  for (int format = LOG_LOGFMT; format <= LOG_JSON; format++) {
    start(ends[1], (enum log_format)format);
    for (size_t kind = 0; kind < count_of(kinds); kind++) {
      memset(value, kinds[kind], sizeof(value));
      for (size_t size = 500; size < sizeof(value); size += size < 3900 ? 97 : 1) {
        struct log_line line;
        log_begin(&line, &logger, LOG_INFO, "m");
        log_bytes(&line, "value", value, size);
        log_u64(&line, "number", 1234567890);
        log_str(&line, "second", "x y");
        log_str(&line, "third", "");
        log_end(&line);
        size_t got = take(ends[0]);
        wrong += got == 0 || got > LOG_LINE_MAX || strchr(text, '\n') != text + got - 1;
        if (format == LOG_JSON) {
          wrong += json_line(text) != text + got;
        } else if (kinds[kind] != 'a') { /* the last quote that opened has closed */
          wrong += !isdigit(text[got - 2]) && (text[got - 2] != '"' || text[got - 3] == '\\');
        }
      }
    }
  }
  ck_assert_uint_eq(wrong, 0);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {logfmt_lines, 1},
      {json_lines, 1},
      {lines_below_the_level_are_not_written, 1},
      {the_level_can_change, 1},
      {errors_are_named, 1},
      {every_byte_is_escaped, 1},
      {long_lines_are_shortened, 1},
  };
  return run_suite_fixture("log", tests, count_of(tests), setup, teardown);
}
