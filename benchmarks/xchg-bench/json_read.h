/*
 * json_read: JSON text into a tree.
 *
 * The reader accepts exactly RFC 8259: no comments, no trailing commas, no control characters,
 * broken UTF-8 or lone surrogates in strings.  An object may have a name twice; json_member finds
 * the first.  Depth, size and the number of values have limits, so that a foreign file cannot
 * exhaust the stack or the memory.  A tree owns everything that it points to, and does not change
 * after json_parse.
 */
#ifndef BENCH_JSON_READ_H
#define BENCH_JSON_READ_H

#include "core/base.h"

#include <stdbool.h>
#include <sys/types.h>

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
  const char *name;  /* of a member of an object, 0-terminated; else NULL */
  struct json *next; /* the next value of the same array or object */
  double number;
  union {
    uint64_t integer;
    const char *text;   /* JSON_STRING: decoded, size bytes and a 0 */
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
  size_t offset; /* of the byte at fault */
  const char *what;
};

/**
 * json_parse(document, text, size, fault):
 * Read ${size} bytes of ${text}, one value with optional white space around it.
 * Return: 0, and the caller must call json_document_fini; or -1 with the reason in ${fault} (also
 * "out of memory") and nothing to free.
 */
int json_parse(struct json_document *document, const char *text, size_t size,
               struct json_fault *fault);
void json_document_fini(struct json_document *document);

/**
 * json_read_file(path, text):
 * Read the file at ${path} into ${*text}, which the caller frees.
 * Return: its size; or -1 with errno, EFBIG above JSON_SIZE_MAX, and ${*text} is NULL.
 */
ssize_t json_read_file(const char *path, char **text);

/** Is ${json} a text that is not empty and has no control character, a 0 byte included? */
bool json_is_clean_text(const struct json *json);

/** Return: the first member ${name} of ${object}; NULL if it has none or is not an object. */
const struct json *json_member(const struct json *object, const char *name);

#endif
