/*
 * text: see text.h.
 */
#include "benchmarks/peers/text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* The byte of the escape at ${text}, or -1; ${*length}: the size of the escape. */
static int unescape_one(const char *text, size_t *length) {
  static const char names[] = "rnt0\\", bytes[] = "\r\n\t\0\\";
  const char *name = text[1] == 0 ? NULL : strchr(names, text[1]);
  *length = 2;
  if (name != NULL) {
    return (unsigned char)bytes[name - names];
  }
  if (text[1] != 'x' || !isxdigit((unsigned char)text[2]) || !isxdigit((unsigned char)text[3])) {
    return -1;
  }
  *length = 4;
  const char digits[] = {text[2], text[3], 0};
  return (int)strtol(digits, NULL, 16);
}

char *text_unescape(const char *text, size_t *size) {
  char *bytes = malloc(strlen(text) + 1);
  *size = 0;
  while (bytes != NULL && *text != 0) {
    size_t length = 1;
    int byte = *text == '\\' ? unescape_one(text, &length) : (unsigned char)*text;
    if (byte == -1) {
      free(bytes);
      return NULL;
    }
    bytes[(*size)++] = (char)byte;
    text += length;
  }
  return bytes;
}
