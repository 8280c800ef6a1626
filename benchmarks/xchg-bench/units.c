/*
 * units: a decimal number and a suffix.
 *
 * The number is parsed by hand: digits and at most one point.  strtod would accept signs,
 * hexadecimal, infinities and the locale's comma.  The limit of 17 digits is more than any value
 * here needs, and a double holds them.
 */
#include "units.h"

#include "core/parse.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct unit {
  const char *name;
  double factor;
};

/* Each list ends with a NULL name. */
static const struct unit counts[] = {{"", 1},    {"k", 1e3}, {"K", 1e3},
                                     {"M", 1e6}, {"G", 1e9}, {NULL, 0}};

/* In the order in which the parts of a time follow each other. */
static const struct unit times[] = {{"h", 3600e9}, {"m", 60e9}, {"s", 1e9},
                                    {"ms", 1e6},   {"us", 1e3}, {NULL, 0}};

#define DIGITS_MAX 17

/* 2^53: above it, a double does not hold every integer. */
#define EXACT_MAX 9007199254740992.0

/* Longer times are typing errors.  The sum of two must not overflow. */
#define TIME_MAX_NS 3.2e16

static int parse_decimal(const char **text, double *value);
static int parse_with(const struct unit *units, const char *text, double *value);

int units_parse_number(const char *text, double *value) { return parse_with(counts, text, value); }

int units_parse_count(const char *text, uint64_t *value) {
  double number;
  if (parse_u64(text, value) == 0) {
    return 0; /* exact, even if large */
  }
  if (parse_with(counts, text, &number) == -1 || number > EXACT_MAX || number != floor(number)) {
    return -1;
  }
  *value = (uint64_t)number;
  return 0;
}

int units_parse_size(const char *text, uint64_t *bytes) {
  return parse_size(text, bytes) == 0 ? 0 : units_parse_count(text, bytes);
}

/* Return: the first of ${units} whose name is the ${size} bytes at ${text}, or the NULL name. */
static const struct unit *find_unit(const struct unit *units, const char *text, size_t size) {
  while (units->name != NULL &&
         (strlen(units->name) != size || memcmp(units->name, text, size) != 0)) {
    units++;
  }
  return units;
}

/* "2" is in seconds.  Else each part has its unit, and each unit is smaller than the one before. */
int units_parse_time(const char *text, uint64_t *time_ns) {
  const struct unit *units = times;
  double sum, number;
  if (parse_decimal(&text, &number) == -1) {
    return -1;
  }
  sum = *text == 0 ? number * 1e9 : 0;
  while (*text != 0) {
    const size_t size = strspn(text, "hmsu");
    units = find_unit(units, text, size);
    if (units->name == NULL) {
      return -1;
    }
    sum += number * units++->factor;
    text += size;
    if (*text != 0 && (parse_decimal(&text, &number) == -1 || *text == 0)) {
      return -1;
    }
  }
  if (sum > TIME_MAX_NS) {
    return -1;
  }
  *time_ns = (uint64_t)llround(sum);
  return 0;
}

static const char *no_value(char text[UNITS_TEXT_MAX]) { return memcpy(text, "-", 2); }

double units_divide(double value, double by) { return by > 0 ? value / by : NAN; }

const char *units_format_fixed(double value, int decimals, char text[UNITS_TEXT_MAX]) {
  if (isnan(value)) {
    return no_value(text);
  }
  snprintf(text, UNITS_TEXT_MAX, "%.*f", decimals, value);
  return text;
}

const char *units_format_time(double time_ns, char text[UNITS_TEXT_MAX]) {
  double us = time_ns / 1e3;
  if (isnan(us)) {
    return no_value(text);
  }
  if (us < 1e3) {
    snprintf(text, UNITS_TEXT_MAX, "%.2fus", us);
  } else if (us < 1e6) {
    snprintf(text, UNITS_TEXT_MAX, "%.2fms", us / 1e3);
  } else if (us < 60e6) {
    snprintf(text, UNITS_TEXT_MAX, "%.2fs", us / 1e6);
  } else {
    snprintf(text, UNITS_TEXT_MAX, "%.2fm", us / 60e6);
  }
  return text;
}

const char *units_format_count(double value, char text[UNITS_TEXT_MAX]) {
  static const char *const suffixes[] = {"", "k", "M", "G", "T"};
  size_t i = 0;
  if (isnan(value)) {
    return no_value(text);
  }
  for (; value >= 1e3 && i + 1 < count_of(suffixes); i++) {
    value /= 1e3;
  }
  snprintf(text, UNITS_TEXT_MAX, "%.2f%s", value, suffixes[i]);
  return text;
}

const char *units_format_bytes(double bytes, char text[UNITS_TEXT_MAX]) {
  static const char *const suffixes[] = {"B", "KB", "MB", "GB", "TB"};
  size_t i = 0;
  if (isnan(bytes)) {
    return no_value(text);
  }
  for (; bytes >= 1024 && i + 1 < count_of(suffixes); i++) {
    bytes /= 1024;
  }
  snprintf(text, UNITS_TEXT_MAX, "%.2f%s", bytes, suffixes[i]);
  return text;
}

const char *units_format_duration(uint64_t time_ns, char text[UNITS_TEXT_MAX]) {
  static const struct {
    const char *name;
    uint64_t ns;
  } units[] = {{"h", 3600 * NS_PER_S},
               {"m", 60 * NS_PER_S},
               {"s", NS_PER_S},
               {"ms", NS_PER_MS},
               {"us", NS_PER_US}};
  if (time_ns == 0) {
    return memcpy(text, "0s", 3);
  }
  for (size_t i = 0; i < count_of(units); i++) {
    if (time_ns % units[i].ns != 0) {
      continue;
    }
    snprintf(text, UNITS_TEXT_MAX, "%llu%s", (unsigned long long)(time_ns / units[i].ns),
             units[i].name);
    return text;
  }
  return units_format_time((double)time_ns, text);
}

/* Read a decimal number from ${*text}, and advance ${*text}. */
static int parse_decimal(const char **text, double *value) {
  const char *p = *text;
  double number = 0, scale = 1;
  unsigned digits = 0;
  bool fraction = false;
  for (; (*p >= '0' && *p <= '9') || (*p == '.' && !fraction); p++) {
    if (*p == '.') {
      fraction = true;
      if (digits == 0 || p[1] < '0' || p[1] > '9') {
        return -1;
      }
      continue;
    }
    number = number * 10 + (*p - '0');
    scale *= fraction ? 10 : 1;
    digits++;
  }
  if (digits == 0 || digits > DIGITS_MAX) {
    return -1;
  }
  *text = p;
  *value = number / scale;
  return 0;
}

static int parse_with(const struct unit *units, const char *text, double *value) {
  double number;
  if (parse_decimal(&text, &number) == -1) {
    return -1;
  }
  for (; units->name != NULL; units++) {
    if (strcmp(text, units->name) != 0) {
      continue;
    }
    *value = number * units->factor;
    return 0;
  }
  return -1;
}
