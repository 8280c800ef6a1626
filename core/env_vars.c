/*
 * env_vars: names and values of the environment.
 *
 * Pure functions of the array that the caller passes: they allocate nothing, keep nothing and may
 * run on any thread.
 */
#include "core/env_vars.h"

#include "core/ascii.h"

#include <assert.h>
#include <string.h>

/* A longer name has no nearest name: no known name is half as long. */
#define NEAREST_NAME_MAX 64

static size_t edit_distance(const char *a, size_t a_size, const char *b, size_t b_size);
static bool is_kubernetes_tail(const char *tail, const char *value);

const char *env_vars_find(const char *const *environment, const char *name) {
  size_t size = strlen(name);
  for (; *environment != NULL; environment++) {
    const char *entry = *environment;
    if (strncmp(entry, name, size) == 0 && entry[size] == '=') {
      return entry[size + 1] == 0 ? NULL : entry + size + 1;
    }
  }
  return NULL;
}

const char *env_vars_nearest(const char *name, const char *const *names, size_t count) {
  size_t size = strlen(name);
  if (size > NEAREST_NAME_MAX) {
    return NULL;
  }
  const char *nearest = NULL;
  size_t nearest_distance = (size + 1) / 2; /* a name is near below half of the length */
  for (size_t i = 0; i < count; i++) {
    size_t other_size = strlen(names[i]);
    assert(other_size <= NEAREST_NAME_MAX);
    size_t distance = edit_distance(name, size, names[i], other_size);
    if (distance >= nearest_distance) {
      continue;
    }
    nearest = names[i];
    nearest_distance = distance;
  }
  return nearest;
}

bool env_vars_is_kubernetes(const char *name, const char *value) {
  static const char prefix[] = "XCHG_";
  if (strncmp(name, prefix, sizeof(prefix) - 1) != 0) {
    return false;
  }
  const char *rest = name + sizeof(prefix) - 1;
  if (rest[strspn(rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] != 0) {
    return false;
  }
  if (is_kubernetes_tail(rest, value)) {
    return true;
  }
  /* The text between the prefix and any underscore may be the rest of the Service's name. */
  for (const char *p = strchr(rest, '_'); p != NULL; p = strchr(p + 1, '_')) {
    if (p > rest && is_kubernetes_tail(p + 1, value)) {
      return true;
    }
  }
  return false;
}

/*
 * The number of characters that must be inserted, removed, replaced or swapped with the next one
 * to turn ${a} into ${b}, ignoring case.  Row i of the usual table needs only the two rows before.
 */
static size_t edit_distance(const char *a, size_t a_size, const char *b, size_t b_size) {
  size_t rows[3][NEAREST_NAME_MAX + 1];
  for (size_t j = 0; j <= b_size; j++) {
    rows[0][j] = j;
  }
  for (size_t i = 1; i <= a_size; i++) {
    size_t *row = rows[i % 3];
    const size_t *above = rows[(i + 2) % 3];
    const size_t *above2 = rows[(i + 1) % 3];
    row[0] = i;
    for (size_t j = 1; j <= b_size; j++) {
      bool same = ascii_equal_byte(a[i - 1], b[j - 1]);
      size_t best = above[j - 1] + (same ? 0 : 1);
      best = min_u64(best, min_u64(above[j], row[j - 1]) + 1);
      bool swapped = i > 1 && j > 1 && ascii_equal_byte(a[i - 1], b[j - 2]) &&
                     ascii_equal_byte(a[i - 2], b[j - 1]);
      if (swapped) {
        best = min_u64(best, above2[j - 2] + 1);
      }
      row[j] = best;
    }
  }
  return rows[a_size % 3][b_size];
}

/* May ${tail} follow the Service's name in the name of a variable with ${value}? */
static bool is_kubernetes_tail(const char *tail, const char *value) {
  static const char service_port[] = "SERVICE_PORT";
  static const char *const protocols[] = {"TCP", "UDP", "SCTP"};
  static const char *const parts[] = {"", "_PROTO", "_PORT", "_ADDR"};
  static const char *const schemes[] = {"tcp://", "udp://", "sctp://"};
  if (strcmp(tail, "SERVICE_HOST") == 0) {
    return true;
  }
  if (strncmp(tail, service_port, sizeof(service_port) - 1) == 0) {
    const char *port_name = tail + sizeof(service_port) - 1;
    if (*port_name == 0 || (port_name[0] == '_' && port_name[1] != 0)) {
      return true;
    }
  }
  if (strncmp(tail, "PORT", 4) != 0) {
    return false;
  }
  tail += 4;
  if (*tail == 0) {
    for (size_t i = 0; i < count_of(schemes); i++) {
      if (strncmp(value, schemes[i], strlen(schemes[i])) == 0) {
        return true;
      }
    }
    return false;
  }
  size_t digits = *tail == '_' ? strspn(tail + 1, "0123456789") : 0;
  if (digits == 0 || tail[1 + digits] != '_') {
    return false;
  }
  tail += 1 + digits + 1;
  for (size_t i = 0; i < count_of(protocols); i++) {
    size_t size = strlen(protocols[i]);
    if (strncmp(tail, protocols[i], size) != 0) {
      continue;
    }
    for (size_t j = 0; j < count_of(parts); j++) {
      if (strcmp(tail + size, parts[j]) == 0) {
        return true;
      }
    }
  }
  return false;
}
