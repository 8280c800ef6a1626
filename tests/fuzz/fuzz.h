/*
 * fuzz: what the targets share.  A target is a function of an input, which aborts where a property
 * of the code does not hold.
 *
 * Each target serves twice.  libFuzzer brings its own main and calls the function with inputs that
 * it makes (`make fuzz`).  In every other build replay.c calls it with each file of the corpus and
 * with mutations of them.  The first bytes of an input are choices and the rest is data, so that a
 * mutation of either stays meaningful.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "core/base.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/** Try the ${size} bytes at ${data}. Return: 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** Abort unless ${holds}. */
static inline void fuzz_holds(bool holds, const char *property) {
  if (!holds) {
    fprintf(stderr, "broken: %s\n", property);
    abort();
  }
}

/* The rest of an input. */
struct fuzz_input {
  const uint8_t *at;
  size_t left;
};

/** The next byte, 0 after the end. */
static inline uint8_t fuzz_byte(struct fuzz_input *input) {
  if (input->left == 0) {
    return 0;
  }
  input->left--;
  return *input->at++;
}

/** A number from two bytes. */
static inline uint16_t fuzz_u16(struct fuzz_input *input) {
  uint8_t high = fuzz_byte(input);
  return (uint16_t)(high << 8 | fuzz_byte(input));
}

/** Take the next ${size} bytes, or as many as there are; ${*taken} is their number. */
static inline const uint8_t *fuzz_bytes(struct fuzz_input *input, size_t size, size_t *taken) {
  const uint8_t *bytes = input->at;
  *taken = size < input->left ? size : input->left;
  input->at += *taken;
  input->left -= *taken;
  return bytes;
}

/** A new string of the ${size} bytes at ${data}, up to the first NUL; to be freed. */
static inline char *fuzz_text(const uint8_t *data, size_t size) {
  char *text = malloc(size + 1);
  fuzz_holds(text != NULL, "memory is available");
  if (size > 0) {
    memcpy(text, data, size);
  }
  text[size] = 0;
  return text;
}

/** Is every byte of ${text} printable ASCII or ${also}? */
static inline bool fuzz_printable(const char *text, char also) {
  for (; *text != 0; text++) {
    if ((*text < 0x20 || *text >= 0x7f) && *text != also) {
      return false;
    }
  }
  return true;
}

#endif
