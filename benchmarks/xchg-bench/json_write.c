/*
 * json_write: see json_write.h.
 *
 * Near the top, each value has its own line.  Deeper arrays and objects stand on one line.  So a
 * report stays short, and diff compares it line by line.
 */
#include "json_write.h"

#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t json_utf8_size(const char *text) {
  const unsigned char *at = (const unsigned char *)text;
  if (at[0] < 0x80) {
    return 1;
  }
  size_t size = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
  if (at[0] < 0xc2 || at[0] > 0xf4) {
    return 0;
  }
  for (size_t i = 1; i < size; i++) {
    if ((at[i] & 0xc0) != 0x80) {
      return 0;
    }
  }
  /* The range of the second byte excludes overlong forms, surrogates and what is too high. */
  bool overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
  bool beyond = (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf4 && at[1] > 0x8f);
  return overlong || beyond ? 0 : size;
}

const char *json_decimal_point(void) { return localeconv()->decimal_point; }

void json_write_string(FILE *out, const char *text) {
  static const char short_escapes[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
  putc('"', out);
  for (size_t size; *text != 0; text += size) {
    size = json_utf8_size(text);
    const char *found = strchr(short_escapes, *text);
    if (size == 0) {
      fputs("\\ufffd", out);
      size = 1;
    } else if (found != NULL) {
      fprintf(out, "\\%c", letters[found - short_escapes]);
    } else if ((unsigned char)*text < 0x20) {
      fprintf(out, "\\u%04x", (unsigned)*text);
    } else {
      fwrite(text, 1, size, out);
    }
  }
  putc('"', out);
}

void json_write_double(FILE *out, double value) {
  char text[64];
  if (!isfinite(value)) {
    fputs("null", out);
    return;
  }
  if (value == floor(value) && fabs(value) < 0x1p63) {
    fprintf(out, "%" PRId64, (int64_t)value);
    return;
  }
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(text, sizeof(text), "%.*g", digits, value);
    if (strtod(text, NULL) == value) {
      break;
    }
  }
  const char *point = json_decimal_point();
  const char *found = strstr(text, point);
  if (found == NULL) {
    fputs(text, out);
  } else {
    fprintf(out, "%.*s.%s", (int)(found - text), text, found + strlen(point));
  }
}

/* Write a comma, a line break and the name before a value. */
static void begin_value(struct json_writer *writer, const char *name) {
  if (writer->follows) {
    putc(',', writer->out);
  }
  if (writer->depth > 0 && writer->depth <= JSON_LINES_DEPTH) {
    fprintf(writer->out, "\n%*s", (int)(2 * writer->depth), "");
  } else if (writer->follows) {
    putc(' ', writer->out);
  }
  if (name != NULL) {
    json_write_string(writer->out, name);
    fputs(": ", writer->out);
  }
  writer->follows = true;
}

void json_open(struct json_writer *writer, const char *name, char bracket) {
  begin_value(writer, name);
  putc(bracket, writer->out);
  writer->depth++;
  writer->follows = false;
}

void json_close(struct json_writer *writer, char bracket) {
  writer->depth--;
  if (writer->follows && writer->depth < JSON_LINES_DEPTH) {
    fprintf(writer->out, "\n%*s", (int)(2 * writer->depth), "");
  }
  putc(bracket, writer->out);
  if (writer->depth == 0) {
    putc('\n', writer->out);
  }
  writer->follows = true;
}

void json_put_u64(struct json_writer *writer, const char *name, uint64_t value) {
  begin_value(writer, name);
  fprintf(writer->out, "%" PRIu64, value);
}

void json_put_double(struct json_writer *writer, const char *name, double value) {
  begin_value(writer, name);
  json_write_double(writer->out, value);
}

void json_put_bool(struct json_writer *writer, const char *name, bool value) {
  begin_value(writer, name);
  fputs(value ? "true" : "false", writer->out);
}

void json_put_text(struct json_writer *writer, const char *name, const char *text) {
  if (text == NULL) {
    json_put_null(writer, name);
    return;
  }
  begin_value(writer, name);
  json_write_string(writer->out, text);
}

void json_put_null(struct json_writer *writer, const char *name) {
  begin_value(writer, name);
  fputs("null", writer->out);
}
