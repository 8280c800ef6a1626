/*
 * parse: text to number and back.
 *
 * Pure functions: they allocate nothing, keep nothing and may run on any thread.  A parser is
 * strict, because a typing error in a variable must stop the start of a server and must not change
 * what the server does: it accepts no sign, no white space and no other spelling of a unit.
 *
 * All arithmetic is checked: a number that does not fit 64 bits is a failure and never wraps.
 * Nothing here writes a message, because only core/config knows what is allowed.
 */
#include "core/parse.h"

#include "core/ascii.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct unit {
  const char *name;
  uint64_t factor;
};

/* The largest is first, because the formatters take the first that divides. */
static const struct unit size_units[] = {
    {"GiB", UINT64_C(1) << 30}, {"MiB", UINT64_C(1) << 20}, {"KiB", UINT64_C(1) << 10}, {"", 1}};
static const struct unit time_units[] = {
    {"m", 60 * NS_PER_S}, {"s", NS_PER_S}, {"ms", NS_PER_MS}, {"us", NS_PER_US}};

static int parse_united(const char *text, const struct unit *units, size_t count, uint64_t *value);
static const char *format_united(uint64_t value, const struct unit *units, size_t count,
                                 char text[PARSE_TEXT_MAX]);
static int hex_digit(char c);
static const char *read_escape(const char *text, uint8_t *byte);

const char *parse_digits(const char *text, uint64_t *value) {
  uint64_t number = 0;
  if (*text < '0' || *text > '9') {
    return NULL;
  }
  for (; *text >= '0' && *text <= '9'; text++) {
    uint64_t digit = (uint64_t)(*text - '0');
    if (number > (UINT64_MAX - digit) / 10) {
      return NULL;
    }
    number = number * 10 + digit;
  }
  *value = number;
  return text;
}

int parse_u64(const char *text, uint64_t *value) {
  uint64_t number;
  text = parse_digits(text, &number);
  if (text == NULL || *text != 0) {
    return -1;
  }
  *value = number;
  return 0;
}

int parse_size(const char *text, uint64_t *bytes) {
  return parse_united(text, size_units, count_of(size_units), bytes);
}

int parse_time(const char *text, uint64_t *time_ns) {
  if (strcmp(text, "0") == 0) {
    *time_ns = 0;
    return 0;
  }
  return parse_united(text, time_units, count_of(time_units), time_ns);
}

int parse_switch(const char *text, bool *value) {
  bool on = ascii_equal(text, "on");
  if (!on && !ascii_equal(text, "off")) {
    return -1;
  }
  *value = on;
  return 0;
}

int parse_text(const char *text, uint8_t *bytes, size_t *size) {
  uint8_t *end = bytes;
  /* An escape is longer than its byte, so this also works in place. */
  while (*text != 0) {
    uint8_t byte = (uint8_t)*text;
    if (*text == '\\') {
      text = read_escape(text + 1, &byte);
      if (text == NULL) {
        return -1;
      }
    } else {
      text++;
    }
    *end++ = byte;
  }
  *size = (size_t)(end - bytes);
  return 0;
}

const char *parse_format_size(uint64_t bytes, char text[PARSE_TEXT_MAX]) {
  return format_united(bytes, size_units, count_of(size_units), text);
}

const char *parse_format_time(uint64_t time_ns, char text[PARSE_TEXT_MAX]) {
  /* The parser has no unit below a microsecond, so smaller parts are dropped. */
  return format_united(time_ns - time_ns % NS_PER_US, time_units, count_of(time_units), text);
}

/* Parse a number followed by one of ${units}. */
static int parse_united(const char *text, const struct unit *units, size_t count, uint64_t *value) {
  uint64_t number;
  text = parse_digits(text, &number);
  if (text == NULL) {
    return -1;
  }
  for (size_t i = 0; i < count; i++) {
    if (strcmp(text, units[i].name) != 0) {
      continue;
    }
    if (number > UINT64_MAX / units[i].factor) {
      return -1;
    }
    *value = number * units[i].factor;
    return 0;
  }
  return -1;
}

/* Write ${value} in the first of ${units} that divides it, and 0 without a unit. */
static const char *format_united(uint64_t value, const struct unit *units, size_t count,
                                 char text[PARSE_TEXT_MAX]) {
  size_t i = 0;
  while (i < count - 1 && value % units[i].factor != 0) {
    i++;
  }
  if (value == 0) {
    snprintf(text, PARSE_TEXT_MAX, "0");
  } else {
    snprintf(text, PARSE_TEXT_MAX, "%" PRIu64 "%s", value / units[i].factor, units[i].name);
  }
  return text;
}

/* The value of the hexadecimal digit ${c}, or -1. */
static int hex_digit(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  if (c >= 'a' && c <= 'f') {
    return c - 'a' + 10;
  }
  if (c >= 'A' && c <= 'F') {
    return c - 'A' + 10;
  }
  return -1;
}

/* Parse the text after a backslash. Return: the text after the escape, or NULL if it is none. */
static const char *read_escape(const char *text, uint8_t *byte) {
  static const char names[] = "nrt0\\";
  static const uint8_t values[] = {'\n', '\r', '\t', 0, '\\'};
  if (*text == 0) {
    return NULL;
  }
  if (*text == 'x') {
    int high = hex_digit(text[1]);
    int low = high == -1 ? -1 : hex_digit(text[2]);
    if (low == -1) {
      return NULL;
    }
    *byte = (uint8_t)(high * 16 + low);
    return text + 3;
  }
  const char *found = strchr(names, *text);
  if (found == NULL) {
    return NULL;
  }
  *byte = values[found - names];
  return text + 1;
}
