/*
 * metrics_out: a bounded buffer to which metrics are written.
 *
 * It counts the bytes that the whole text needs, and keeps those that fit.  Numbers look the same
 * in every locale.
 */
#ifndef CORE_METRICS_OUT_H
#define CORE_METRICS_OUT_H

#include "core/base.h"

#include <string.h>

struct metrics_out {
  char *buffer; /* borrows */
  size_t size;
  size_t needed; /* bytes so far, those that did not fit included */
};

/** Begin an empty text in the ${size} bytes at ${buffer}. */
static inline void metrics_out_init(struct metrics_out *out, char *buffer, size_t size) {
  out->buffer = buffer;
  out->size = size;
  out->needed = 0;
}

/** Append ${size} bytes, or a text. */
static inline void metrics_out_bytes(struct metrics_out *out, const char *bytes, size_t size) {
  if (out->needed < out->size) {
    memcpy(out->buffer + out->needed, bytes, min_u64(size, out->size - out->needed));
  }
  out->needed += size;
}
static inline void metrics_out_text(struct metrics_out *out, const char *text) {
  metrics_out_bytes(out, text, strlen(text));
}

/** Append ${value} in decimal, with at least ${width} digits. */
static inline void metrics_out_digits(struct metrics_out *out, uint64_t value, unsigned width) {
  char digits[20];
  size_t at = sizeof(digits);
  while (value > 0 || sizeof(digits) - at < width) {
    digits[--at] = (char)('0' + value % 10);
    value /= 10;
  }
  metrics_out_bytes(out, digits + at, sizeof(digits) - at);
}
static inline void metrics_out_u64(struct metrics_out *out, uint64_t value) {
  metrics_out_digits(out, value, 1);
}

/**
 * Append ${text} in quotes, as JSON and both forms of Prometheus read it.  Other bytes than
 * printable ASCII, and backslashes, become \xNN, as in the log; that needs an escaped backslash.
 */
static inline void metrics_out_quoted(struct metrics_out *out, const char *text) {
  static const char hex[] = "0123456789abcdef";
  metrics_out_bytes(out, "\"", 1);
  for (; *text != 0; text++) {
    uint8_t byte = (uint8_t)*text;
    if (byte == '"') {
      metrics_out_bytes(out, "\\\"", 2);
    } else if (byte < 0x20 || byte > 0x7e || byte == '\\') {
      const char escaped[] = {'\\', '\\', 'x', hex[byte >> 4], hex[byte & 15]};
      metrics_out_bytes(out, escaped, sizeof(escaped));
    } else {
      metrics_out_bytes(out, text, 1);
    }
  }
  metrics_out_bytes(out, "\"", 1);
}

#endif
