/*
 * any: values that nobody knows, for programs that are analysed and never run.
 *
 * What is read of a volatile object may be anything, so the analyser follows every value at once.
 * Nothing here branches: each branch would double what there is to follow.
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

/** Any byte that is not the end of a text. */
static inline char any_char(void) { return (char)(any_byte() % 255 + 1); }

/** Any number. */
static inline uint64_t any_u64(void) {
  static volatile uint64_t number;
  return number;
}

/** Any letter. */
static inline char any_letter(void) { return (char)('a' + any_byte() % 26); }

/** Let the ${size} bytes at ${data} be any. */
static inline void any_bytes(uint8_t *data, size_t size) {
  for (size_t i = 0; i < size; i++) {
    data[i] = any_byte();
  }
}

/** Let ${text} be any text of ${size} characters. */
static inline void any_text(char *text, size_t size) {
  for (size_t i = 0; i < size; i++) {
    text[i] = any_char();
  }
  text[size] = 0;
}

#endif
