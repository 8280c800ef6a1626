/*
 * json: JSON text into a tree, and a tree's parts into text.
 *
 * The reader takes what RFC 8259 allows and nothing else: no comments, no trailing commas, no
 * control characters or broken UTF-8 in strings, no lone surrogates; a member's name that comes
 * twice is allowed, and the first is found.  Depth, size and the number of values have ceilings,
 * so that a file of somebody else's cannot take the stack or all memory.  A tree owns all that it
 * points to; nothing in it changes after json_parse.
 *
 * The writer knows commas, line breaks and escapes; numbers look the same in every locale, and a
 * double comes back as it was.
 */
#ifndef BENCH_JSON_H
#define BENCH_JSON_H

#include "core/base.h"

#include <stdbool.h>
#include <stdio.h>

#define JSON_DEPTH_MAX 64
#define JSON_SIZE_MAX ((size_t)64 << 20)
#define JSON_VALUES_MAX ((size_t)8 << 20)
#define JSON_NUMBER_MAX 400 /* characters of a number */

enum json_kind {
  JSON_NULL,
  JSON_FALSE,
  JSON_TRUE,
  JSON_NUMBER,
  JSON_STRING,
  JSON_ARRAY,
  JSON_OBJECT
};

struct json {
  enum json_kind kind;
  bool integral;     /* JSON_NUMBER: digits only, and integer is exact */
  const char *name;  /* of an object's member, ends with a 0; else NULL */
  struct json *next; /* what follows in the same array or object */
  double number;
  union {
    uint64_t integer;
    const char *text;   /* JSON_STRING: decoded, ends with a 0 behind size bytes */
    struct json *first; /* JSON_ARRAY, JSON_OBJECT */
  };
  size_t size; /* bytes of a string; values of an array or object */
};

struct json_chunk;

struct json_document {
  struct json *root;         /* in the chunks */
  char *text;                /* owns: the strings, decoded in place */
  struct json_chunk *chunks; /* owns: the values */
  size_t values;
};

struct json_fault {
  size_t offset; /* of the byte that cannot be */
  const char *what;
};

/**
 * json_parse(document, text, size, fault):
 * Read ${size} bytes of ${text}, one value with white space around it, into ${document}.
 * Return: 0, and json_document_fini is due; or -1 and ${fault} says why (also: "out of memory"),
 * with nothing to free.
 */
int json_parse(struct json_document *document, const char *text, size_t size,
               struct json_fault *fault);
void json_document_fini(struct json_document *document);

/** The first member ${name} of ${object}; NULL where there is none, or it is no object, or NULL. */
const struct json *json_member(const struct json *object, const char *name);

/* ---- writing --------------------------------------------------------------------- */

/* Values nested deeper than this stand on the line of what holds them. */
#define JSON_LINES_DEPTH 2

struct json_writer {
  FILE *out; /* borrows; its errors stay in it, for the caller to look at */
  unsigned depth;
  bool follows; /* a value stands before, in the same array or object */
};

/**
 * Open and close an array or object: ${bracket} is one of [ ] { }.  ${name}: of the member that is
 * written, NULL within an array and at the top.
 */
void json_open(struct json_writer *writer, const char *name, char bracket);
void json_close(struct json_writer *writer, char bracket);

/** Write one value.  A double that is no number becomes null; so does a text that is NULL. */
void json_put_u64(struct json_writer *writer, const char *name, uint64_t value);
void json_put_double(struct json_writer *writer, const char *name, double value);
void json_put_bool(struct json_writer *writer, const char *name, bool value);
void json_put_text(struct json_writer *writer, const char *name, const char *text);
void json_put_null(struct json_writer *writer, const char *name);

/** Write ${text} in quotes; what is not UTF-8 becomes U+FFFD. */
void json_write_string(FILE *out, const char *text);

/** Write ${value} with as many digits as bring it back; null where it is not finite. */
void json_write_double(FILE *out, double value);

#endif
