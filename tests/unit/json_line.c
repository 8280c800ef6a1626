/*
 * json_line: see json_line.h.  As strict as the logger: printable ASCII only, and only the three
 * escapes that it writes.
 */
#include "tests/unit/json_line.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

/* Check a string in quotes. Return: what follows it, or NULL. */
static const char *json_string(const char *at) {
  if (*at++ != '"') {
    return NULL;
  }
  for (; *at != '"'; at++) {
    if ((unsigned char)*at < 0x20 || (unsigned char)*at >= 0x7f) {
      return NULL;
    }
    if (*at == '\\') {
      at++;
      if (*at == 'u') {
        for (int i = 0; i < 4; i++) {
          if (!isxdigit((unsigned char)*++at)) {
            return NULL;
          }
        }
      } else if (*at != '"' && *at != '\\') {
        return NULL;
      }
    }
  }
  return at + 1;
}

const char *json_line(const char *at) {
  char separator = '{';
  do {
    at = *at == separator ? json_string(at + 1) : NULL;
    if (at == NULL || *at++ != ':') {
      return NULL;
    }
    if (isdigit((unsigned char)*at)) {
      at += strspn(at, "0123456789");
    } else if ((at = json_string(at)) == NULL) {
      return NULL;
    }
    separator = ',';
  } while (*at != '}');
  return at[1] == '\n' ? at + 2 : NULL;
}
