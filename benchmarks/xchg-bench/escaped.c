/* escaped: see escaped.h. */
#include "escaped.h"

#include "core/base.h"
#include "json_write.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_MAX 16 /* "\xc2\x9b" and its 0 are the longest */

/* Write the character at ${text} to ${piece}. Return: its size in ${text}. */
static size_t escape(const char *text, char piece[PIECE_MAX]) {
  const unsigned char *at = (const unsigned char *)text;
  const size_t size = json_utf8_size(text), bytes = size == 0 ? 1 : size;
  const bool is_control =
      size == 0 || at[0] < 0x20 || at[0] == 0x7f || (at[0] == 0xc2 && at[1] < 0xa0);
  if (!is_control) {
    memcpy(piece, text, bytes);
    piece[bytes] = 0;
    return bytes;
  }
  for (size_t i = 0; i < bytes; i++) {
    snprintf(piece + 4 * i, PIECE_MAX - 4 * i, "\\x%02x", at[i]);
  }
  return bytes;
}

void escaped_put(FILE *out, const char *text, size_t size_max) {
  size_t at = 0;
  while (at < size_max && text[at] != 0) {
    char piece[PIECE_MAX];
    at += escape(text + at, piece);
    if (at <= size_max) {
      fputs(piece, out);
    }
  }
}

void escaped_line(FILE *out, const char *format, ...) {
  char *line = NULL;
  va_list arguments;
  va_start(arguments, format);
  const int size = vasprintf(&line, format, arguments);
  va_end(arguments);
  if (size == -1) {
    fputs("xchg-bench: out of memory\n", out);
    return;
  }
  escaped_put(out, line, SIZE_MAX);
  fputc('\n', out);
  free(line);
}
