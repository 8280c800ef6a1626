/*
 * check_timestamp: the calendar agrees with libc's at every edge and on every day to the year 2517.
 */
#include "core/timestamp.h"

#include "core/base.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DAY 86400
#define DAYS 200000 /* to the year 2517 */
#define SECONDS_MAX INT64_C(253402300799)

START_TEST(known_times_are_formatted) {
  static const struct {
    struct timespec time;
    const char *text;
  } known[] = {
      {{0, 0}, "1970-01-01T00:00:00.000Z"},
      {{0, 999999}, "1970-01-01T00:00:00.000Z"},
      {{0, 1000000}, "1970-01-01T00:00:00.001Z"},
      {{951782399, 999999999}, "2000-02-28T23:59:59.999Z"},
      {{951782400, 0}, "2000-02-29T00:00:00.000Z"},
      {{951868800, 0}, "2000-03-01T00:00:00.000Z"},
      {{4107542399, 0}, "2100-02-28T23:59:59.000Z"},
      {{4107542400, 0}, "2100-03-01T00:00:00.000Z"},
      {{1795499841, 123456789}, "2026-11-24T05:57:21.123Z"},
      {{SECONDS_MAX, 999999999}, "9999-12-31T23:59:59.999Z"},
      {{SECONDS_MAX + 1, 0}, "9999-12-31T23:59:59.999Z"},
      {{INT64_MAX, 0}, "9999-12-31T23:59:59.999Z"},
      {{-1, 999999999}, "1970-01-01T00:00:00.000Z"},
      {{INT64_MIN, 0}, "1970-01-01T00:00:00.000Z"},
  };
  for (size_t i = 0; i < count_of(known); i++) {
    char text[TIMESTAMP_TEXT_MAX];
    ck_assert_ptr_eq(timestamp_format(&known[i].time, text), text);
    ck_assert_str_eq(text, known[i].text);
  }
}
END_TEST

START_TEST(every_day_agrees_with_libc) {
  unsigned wrong = 0;
  for (time_t day = 0; day < DAYS; day++) {
    struct timespec time = {.tv_sec = day * DAY + day % DAY};
    struct tm parts;
    char text[TIMESTAMP_TEXT_MAX], want[TIMESTAMP_TEXT_MAX];
    wrong += gmtime_r(&time.tv_sec, &parts) == NULL;
    wrong += strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%S.000Z", &parts) == 0;
    wrong += strcmp(timestamp_format(&time, text), want) != 0;
  }
  ck_assert_uint_eq(wrong, 0);
}
END_TEST

START_TEST(now_is_the_current_time) {
  char before[TIMESTAMP_TEXT_MAX], now[TIMESTAMP_TEXT_MAX], after[TIMESTAMP_TEXT_MAX];
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  timestamp_format(&time, before);
  ck_assert_ptr_eq(timestamp_format_wall(now), now);
  clock_gettime(CLOCK_REALTIME, &time);
  timestamp_format(&time, after);
  ck_assert_str_le(before, now);
  ck_assert_str_le(now, after);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {known_times_are_formatted, 1},
      {every_day_agrees_with_libc, 1},
      {now_is_the_current_time, 1},
  };
  return run_suite("clock", tests, count_of(tests));
}
