/*
 * parse: text to number and back.
 *
 * Pure functions: they allocate nothing, keep nothing, may run on any thread and look at the
 * process's environment only through the array that the caller hands in.  A parser is strict on
 * purpose: no sign, no white space, no unit that is nearly right.  A typing error in a variable
 * must stop the start of a server, not change what it does.
 *
 * All arithmetic is checked: whatever does not fit 64 bits is a failure, never a wrapped number.
 * Nothing here writes a message; core/config knows what was allowed.
 */
#include "core/parse.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Longer names than this have no neighbour: no known name is half as long. */
#define NEAREST_NAME_MAX 64

struct unit {
  const char *name;
  uint64_t factor;
};

/* Largest first: the formatters take the first that divides. */
static const struct unit size_units[] = {
    {"GiB", UINT64_C(1) << 30}, {"MiB", UINT64_C(1) << 20}, {"KiB", UINT64_C(1) << 10}, {"", 1}};
static const struct unit time_units[] = {
    {"m", 60 * NS_PER_S}, {"s", NS_PER_S}, {"ms", NS_PER_MS}, {"us", NS_PER_US}};

static const char *read_digits(const char *text, uint64_t *value);
static int parse_united(const char *text, const struct unit *units, size_t count, uint64_t *value);
static const char *format_united(uint64_t value, const struct unit *units, size_t count,
                                 char text[PARSE_TEXT_MAX]);
static int hex_digit(char c);
static const char *read_escape(const char *text, uint8_t *byte);
static size_t edit_distance(const char *a, size_t a_size, const char *b, size_t b_size);
static bool is_kubernetes_tail(const char *tail, const char *value);

const char *env_vars_find(const char *const *environment, const char *name) {
  size_t size = strlen(name);
  for (; *environment != NULL; environment++) {
    const char *entry = *environment;
    if (strncmp(entry, name, size) == 0 && entry[size] == '=')
      return entry[size + 1] == 0 ? NULL : entry + size + 1;
  }
  return NULL;
}

int parse_u64(const char *text, uint64_t *value) {
  uint64_t number;
  text = read_digits(text, &number);
  if (text == NULL || *text != 0)
    return -1;
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
  bool on = strcasecmp(text, "on") == 0;
  if (!on && strcasecmp(text, "off") != 0)
    return -1;
  *value = on;
  return 0;
}

int parse_text(const char *text, uint8_t *bytes, size_t *size) {
  uint8_t *end = bytes;
  /* An escape is longer than its byte: the writer never overtakes the reader, even in place. */
  while (*text != 0) {
    uint8_t byte = (uint8_t)*text;
    if (*text == '\\') {
      text = read_escape(text + 1, &byte);
      if (text == NULL)
        return -1;
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
  /* The parser knows nothing below a microsecond, so neither does its mirror. */
  return format_united(time_ns - time_ns % NS_PER_US, time_units, count_of(time_units), text);
}

const char *env_vars_nearest(const char *name, const char *const *names, size_t count) {
  size_t size = strlen(name);
  if (size > NEAREST_NAME_MAX)
    return NULL;
  const char *nearest = NULL;
  size_t nearest_distance = (size + 1) / 2; /* what is not below half of the length is no help */
  for (size_t i = 0; i < count; i++) {
    size_t other_size = strlen(names[i]);
    assert(other_size <= NEAREST_NAME_MAX);
    size_t distance = edit_distance(name, size, names[i], other_size);
    if (distance >= nearest_distance)
      continue;
    nearest = names[i];
    nearest_distance = distance;
  }
  return nearest;
}

bool env_vars_is_kubernetes(const char *name, const char *value) {
  static const char prefix[] = "XCHG_";
  if (strncmp(name, prefix, sizeof prefix - 1) != 0)
    return false;
  const char *rest = name + sizeof prefix - 1;
  if (rest[strspn(rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] != 0)
    return false;
  if (is_kubernetes_tail(rest, value))
    return true;
  /* What stands between the prefix and an underscore may be the rest of the Service's name. */
  for (const char *p = strchr(rest, '_'); p != NULL; p = strchr(p + 1, '_'))
    if (p > rest && is_kubernetes_tail(p + 1, value))
      return true;
  return false;
}

/* Read one digit at least into ${*value}; return what follows, NULL if none or at an overflow. */
static const char *read_digits(const char *text, uint64_t *value) {
  uint64_t number = 0;
  if (*text < '0' || *text > '9')
    return NULL;
  for (; *text >= '0' && *text <= '9'; text++) {
    uint64_t digit = (uint64_t)(*text - '0');
    if (number > (UINT64_MAX - digit) / 10)
      return NULL;
    number = number * 10 + digit;
  }
  *value = number;
  return text;
}

/* Read a number and one of ${units} and multiply. */
static int parse_united(const char *text, const struct unit *units, size_t count, uint64_t *value) {
  uint64_t number;
  text = read_digits(text, &number);
  if (text == NULL)
    return -1;
  for (size_t i = 0; i < count; i++) {
    if (strcmp(text, units[i].name) != 0)
      continue;
    if (number > UINT64_MAX / units[i].factor)
      return -1;
    *value = number * units[i].factor;
    return 0;
  }
  return -1;
}

/* Write ${value} in the first of ${units} that divides it; 0 needs no unit. */
static const char *format_united(uint64_t value, const struct unit *units, size_t count,
                                 char text[PARSE_TEXT_MAX]) {
  size_t i = 0;
  while (i < count - 1 && value % units[i].factor != 0)
    i++;
  if (value == 0)
    snprintf(text, PARSE_TEXT_MAX, "0");
  else
    snprintf(text, PARSE_TEXT_MAX, "%" PRIu64 "%s", value / units[i].factor, units[i].name);
  return text;
}

/* The value of a hexadecimal digit, -1 where ${c} is none. */
static int hex_digit(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

/* Read what stands behind a backslash into ${*byte}; return what follows, NULL if no escape. */
static const char *read_escape(const char *text, uint8_t *byte) {
  static const char names[] = "nrt0\\";
  static const uint8_t values[] = {'\n', '\r', '\t', 0, '\\'};
  if (*text == 0)
    return NULL;
  if (*text == 'x') {
    int high = hex_digit(text[1]);
    int low = high == -1 ? -1 : hex_digit(text[2]);
    if (low == -1)
      return NULL;
    *byte = (uint8_t)(high * 16 + low);
    return text + 3;
  }
  const char *found = strchr(names, *text);
  if (found == NULL)
    return NULL;
  *byte = values[found - names];
  return text + 1;
}

/*
 * How many characters must be put in, left out, changed or swapped with their neighbour to make
 * ${b} of ${a}, cases apart.  Row i of the usual table needs the two rows before it, no more.
 */
static size_t edit_distance(const char *a, size_t a_size, const char *b, size_t b_size) {
  size_t rows[3][NEAREST_NAME_MAX + 1];
  for (size_t j = 0; j <= b_size; j++)
    rows[0][j] = j;
  for (size_t i = 1; i <= a_size; i++) {
    size_t *row = rows[i % 3];
    const size_t *above = rows[(i + 2) % 3];
    const size_t *above2 = rows[(i + 1) % 3];
    row[0] = i;
    for (size_t j = 1; j <= b_size; j++) {
      bool same = strncasecmp(a + i - 1, b + j - 1, 1) == 0;
      size_t best = above[j - 1] + (same ? 0 : 1);
      best = min_u64(best, min_u64(above[j], row[j - 1]) + 1);
      bool swapped = i > 1 && j > 1 && strncasecmp(a + i - 1, b + j - 2, 1) == 0 &&
                     strncasecmp(a + i - 2, b + j - 1, 1) == 0;
      if (swapped)
        best = min_u64(best, above2[j - 2] + 1);
      row[j] = best;
    }
  }
  return rows[a_size % 3][b_size];
}

/* Is ${tail} what follows the Service's name, in a variable that holds ${value}? */
static bool is_kubernetes_tail(const char *tail, const char *value) {
  static const char service_port[] = "SERVICE_PORT";
  static const char *const protocols[] = {"TCP", "UDP", "SCTP"};
  static const char *const parts[] = {"", "_PROTO", "_PORT", "_ADDR"};
  static const char *const schemes[] = {"tcp://", "udp://", "sctp://"};
  if (strcmp(tail, "SERVICE_HOST") == 0)
    return true;
  if (strncmp(tail, service_port, sizeof service_port - 1) == 0) {
    const char *port_name = tail + sizeof service_port - 1;
    if (*port_name == 0 || (port_name[0] == '_' && port_name[1] != 0))
      return true;
  }
  if (strncmp(tail, "PORT", 4) != 0)
    return false;
  tail += 4;
  if (*tail == 0) {
    for (size_t i = 0; i < count_of(schemes); i++)
      if (strncmp(value, schemes[i], strlen(schemes[i])) == 0)
        return true;
    return false;
  }
  size_t digits = *tail == '_' ? strspn(tail + 1, "0123456789") : 0;
  if (digits == 0 || tail[1 + digits] != '_')
    return false;
  tail += 1 + digits + 1;
  for (size_t i = 0; i < count_of(protocols); i++) {
    size_t size = strlen(protocols[i]);
    if (strncmp(tail, protocols[i], size) != 0)
      continue;
    for (size_t j = 0; j < count_of(parts); j++)
      if (strcmp(tail + size, parts[j]) == 0)
        return true;
  }
  return false;
}
