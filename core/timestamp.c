/*
 * timestamp: see timestamp.h.
 *
 * The date is computed here because gmtime_r takes a lock of libc and may read the zone files.  In
 * a forked child that lock may be held permanently.
 *
 * If a year begins on 1 March, the leap day is its last day, and division by constants yields year
 * and month (Howard Hinnant, "chrono-compatible low-level date algorithms").
 */
#include "core/timestamp.h"

#include <stdint.h>
#include <time.h>

#define SECONDS_PER_DAY 86400
#define DAYS_TO_1970 719468               /* from 0000-03-01 */
#define DAYS_PER_ERA 146097               /* 400 years */
#define SECONDS_MAX INT64_C(253402300799) /* 9999-12-31T23:59:59Z */
#define NS_PER_MILLISECOND 1000000

struct date {
  uint32_t year, month, day;
};

static struct date date_of(uint32_t days_since_1970) {
  uint32_t days = days_since_1970 + DAYS_TO_1970;
  uint32_t era = days / DAYS_PER_ERA;
  uint32_t day = days % DAYS_PER_ERA;
  uint32_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
  day -= 365 * year + year / 4 - year / 100;
  uint32_t month = (5 * day + 2) / 153; /* 0 = March */
  struct date date = {.year = era * 400 + year, .day = day - (153 * month + 2) / 5 + 1};
  date.month = month < 10 ? month + 3 : month - 9;
  date.year += month < 10 ? 0 : 1;
  return date;
}

/** Write ${value} with ${digits} digits, then ${after}. Return: the end of the text. */
static char *put(char *text, uint32_t value, int digits, char after) {
  for (int i = digits - 1; i >= 0; i--) {
    text[i] = (char)('0' + value % 10);
    value /= 10;
  }
  text[digits] = after;
  return text + digits + 1;
}

const char *timestamp_format(const struct timespec *time, char text[TIMESTAMP_TEXT_MAX]) {
  int64_t seconds = time->tv_sec;
  uint32_t ms = (uint32_t)(time->tv_nsec / NS_PER_MILLISECOND);
  if (seconds < 0) {
    seconds = 0;
    ms = 0;
  } else if (seconds > SECONDS_MAX) {
    seconds = SECONDS_MAX;
    ms = 999;
  }
  struct date date = date_of((uint32_t)(seconds / SECONDS_PER_DAY));
  uint32_t second = (uint32_t)(seconds % SECONDS_PER_DAY);
  char *at = put(text, date.year, 4, '-');
  at = put(at, date.month, 2, '-');
  at = put(at, date.day, 2, 'T');
  at = put(at, second / 3600, 2, ':');
  at = put(at, second / 60 % 60, 2, ':');
  at = put(at, second % 60, 2, '.');
  at = put(at, ms, 3, 'Z');
  *at = '\0';
  return text;
}

const char *timestamp_format_wall(char text[TIMESTAMP_TEXT_MAX]) {
  struct timespec now;
  (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail: every Linux has this clock */
  return timestamp_format(&now, text);
}
