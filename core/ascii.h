/*
 * ascii: compares texts without regard to the case of A to Z.
 *
 * tolower(3) and strcasecmp(3) depend on the locale of the program: in Turkish the letters I and i
 * are not a pair.  What a variable means must not depend on it.  Every other byte is compared as it
 * is.
 */
#ifndef CORE_ASCII_H
#define CORE_ASCII_H

#include <stdbool.h>
#include <stddef.h>

/** A letter of A to Z as its small or capital letter, and any other byte unchanged. */
static inline char ascii_lower(char c) {
  if (c >= 'A' && c <= 'Z') {
    c = (char)(c | 0x20);
  }
  return c;
}
static inline char ascii_upper(char c) {
  if (c >= 'a' && c <= 'z') {
    c = (char)(c & ~0x20);
  }
  return c;
}

/** Are the two bytes, or the two texts, equal apart from the case? */
static inline bool ascii_equal_byte(char a, char b) { return ascii_lower(a) == ascii_lower(b); }
static inline bool ascii_equal(const char *a, const char *b) {
  size_t i = 0;
  while (a[i] != 0 && ascii_equal_byte(a[i], b[i])) {
    i++;
  }
  return a[i] == b[i];
}

/** Does ${text} begin with ${prefix}, apart from the case? */
static inline bool ascii_begins(const char *text, const char *prefix) {
  size_t i = 0;
  while (prefix[i] != 0 && ascii_equal_byte(text[i], prefix[i])) {
    i++;
  }
  return prefix[i] == 0;
}

#endif
