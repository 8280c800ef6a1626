/*
 * any: unknown values, for programs that are analysed and never run.
 *
 * A read of a volatile object may return anything, so the analyser follows all values at once.
 * No function here branches, because each branch would double the states to follow.
 */
#ifndef TESTS_EVA_ANY_H
#define TESTS_EVA_ANY_H

#include <stddef.h>
#include <stdint.h>

/** Any byte. */
static inline uint8_t any_byte(void) {
  static volatile uint8_t byte;
  return byte;
}

/** Any byte except the end of a text. */
static inline char any_char(void) { return (char)(any_byte() % 255 + 1); }

/** Any number. */
static inline uint64_t any_u64(void) {
  static volatile uint64_t number;
  return number;
}

/** Any letter. */
static inline char any_letter(void) { return (char)('a' + any_byte() % 26); }

/** Set the ${size} bytes at ${data} to any values. */
static inline void any_bytes(uint8_t *data, size_t size) {
  for (size_t i = 0; i < size; i++) {
    data[i] = any_byte();
  }
}

/** Set ${text} to any text of ${size} characters. */
static inline void any_text(char *text, size_t size) {
  for (size_t i = 0; i < size; i++) {
    text[i] = any_char();
  }
  text[size] = 0;
}

#endif
