/*
 * json_write: values into JSON text.
 *
 * The writer adds commas, line breaks and escapes.  Numbers look the same in every locale, and a
 * double has enough digits to be read back exactly.
 */
#ifndef BENCH_JSON_WRITE_H
#define BENCH_JSON_WRITE_H

#include "core/base.h"

#include <stdbool.h>
#include <stdio.h>

/* Values that are nested deeper than this stand on the line of their array or object. */
#define JSON_LINES_DEPTH 2

struct json_writer {
  FILE *out; /* borrows; its error flag is left for the caller to check */
  unsigned depth;
  bool follows; /* the array or object already has a value */
};

/**
 * Open and close an array or object.  ${bracket} is one of [ ] { }.  ${name} is the name of the
 * member that is written, or NULL within an array and at the top.
 */
void json_open(struct json_writer *writer, const char *name, char bracket);
void json_close(struct json_writer *writer, char bracket);

/** Write one value.  A double that is not finite and a text that is NULL become null. */
void json_put_u64(struct json_writer *writer, const char *name, uint64_t value);
void json_put_double(struct json_writer *writer, const char *name, double value);
void json_put_bool(struct json_writer *writer, const char *name, bool value);
void json_put_text(struct json_writer *writer, const char *name, const char *text);
void json_put_null(struct json_writer *writer, const char *name);

/** Write ${text} in quotes.  Each byte that is not UTF-8 becomes U+FFFD. */
void json_write_string(FILE *out, const char *text);

/** Write ${value} with enough digits to read it back exactly, or null if it is not finite. */
void json_write_double(FILE *out, double value);

/**
 * Return: the size in bytes of the UTF-8 character at ${text}, which ends with a 0; or 0 if it is
 * not valid (overlong, a surrogate, above U+10FFFF, or cut off).
 */
size_t json_utf8_size(const char *text);

/** The decimal point of the locale, as printf and strtod use it. */
const char *json_decimal_point(void);

#endif
