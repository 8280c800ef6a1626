/*
 * fuzz_json_read: an accepted text is written and read again as the same tree, and written again as
 * the same text.  The offset of a fault is within the text.
 *
 * Input: the text.
 */
#include "tests/fuzz/fuzz.h"

#include "json_write.h"
#include "json_read.h"

#include <math.h>

/* Does ${text} have a string with a 0?  The writer cannot write it, nor can names contain it. */
static bool has_zero(const char *text, size_t size) {
  for (size_t i = 0; i + 5 < size; i++) {
    if (memcmp(text + i, "\\u0000", 6) == 0) {
      return true;
    }
  }
  return false;
}

struct walk {
  const struct json *open[JSON_DEPTH_MAX + 1]; /* the open arrays and objects */
  unsigned depth;
};

/*
 * The value after ${value} in the order of the text, or NULL.  ${*closed} is the number of arrays
 * and objects that end before it.
 */
static const struct json *next(struct walk *walk, const struct json *value, unsigned *closed) {
  bool nested = value->kind == JSON_ARRAY || value->kind == JSON_OBJECT;
  *closed = 0;
  if (nested && value->first != NULL) {
    fuzz_holds(walk->depth < JSON_DEPTH_MAX, "the depth has a ceiling");
    walk->open[walk->depth++] = value;
    return value->first;
  }
  *closed = nested;
  while (walk->depth > 0 && value->next == NULL) {
    value = walk->open[--walk->depth];
    ++*closed;
  }
  return walk->depth == 0 ? NULL : value->next;
}

static char bracket(const struct json *value, bool opens) {
  return value->kind == JSON_ARRAY ? (opens ? '[' : ']') : opens ? '{' : '}';
}

static void put(struct json_writer *writer, const struct json *value) {
  switch (value->kind) {
    case JSON_NULL:
      json_put_null(writer, value->name);
      break;
    case JSON_FALSE:
    case JSON_TRUE:
      json_put_bool(writer, value->name, value->kind == JSON_TRUE);
      break;
    case JSON_NUMBER:
      if (value->integral) {
        json_put_u64(writer, value->name, value->integer);
      } else {
        json_put_double(writer, value->name, value->number);
      }
      break;
    case JSON_STRING:
      json_put_text(writer, value->name, value->text);
      break;
    default:
      json_open(writer, value->name, bracket(value, true));
  }
}

/* Write ${document}. Return: the text, which the caller frees. */
static char *print(const struct json_document *document, size_t *size) {
  char *text = NULL;
  FILE *out = open_memstream(&text, size);
  fuzz_holds(out != NULL, "there is memory");
  struct json_writer writer = {.out = out};
  struct walk walk = {.depth = 0};
  const struct json *value = document->root;
  while (value != NULL) {
    unsigned closed, depth;
    put(&writer, value);
    const struct json *before = value;
    depth = walk.depth;
    value = next(&walk, value, &closed);
    for (unsigned i = 0; i < closed; i++) {
      bool empty = before->kind >= JSON_ARRAY && before->first == NULL;
      const struct json *ends = empty && i == 0 ? before : walk.open[depth - 1 - (i - empty)];
      json_close(&writer, bracket(ends, false));
    }
  }
  fclose(out);
  return text;
}

static void check_same(const struct json *a, const struct json *b) {
  bool text = a->kind == JSON_STRING, number = a->kind == JSON_NUMBER;
  fuzz_holds(a->kind == b->kind && a->size == b->size, "a value comes back");
  fuzz_holds(
      (a->name == NULL) == (b->name == NULL) && (a->name == NULL || strcmp(a->name, b->name) == 0),
      "a name comes back");
  fuzz_holds(!text || memcmp(a->text, b->text, a->size) == 0, "a text comes back");
  fuzz_holds(!number || a->number == b->number, "a number comes back");
  fuzz_holds(!number || !a->integral || a->integer == b->integer, "an integer comes back");
}

static void try_again(const struct json_document *document) {
  struct json_document again;
  struct json_fault fault;
  struct walk walks[2] = {{.depth = 0}, {.depth = 0}};
  unsigned closed[2];
  size_t size, size_again;
  char *text = print(document, &size);
  fuzz_holds(json_parse(&again, text, size, &fault) == 0, "what is written can be read");
  const struct json *a = document->root, *b = again.root;
  while (a != NULL && b != NULL) {
    check_same(a, b);
    a = next(&walks[0], a, &closed[0]);
    b = next(&walks[1], b, &closed[1]);
    fuzz_holds(closed[0] == closed[1], "the tree comes back");
  }
  fuzz_holds(a == NULL && b == NULL && document->values == again.values, "all of it comes back");
  char *text_again = print(&again, &size_again);
  fuzz_holds(size == size_again && memcmp(text, text_again, size) == 0, "the text comes back");
  free(text);
  free(text_again);
  json_document_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct json_document document;
  struct json_fault fault = {.what = NULL};
  const char *text = size == 0 ? "" : (const char *)data;
  if (json_parse(&document, text, size, &fault) == -1) {
    fuzz_holds(fault.what != NULL && fault.offset <= size, "a fault stands in the text");
    fuzz_holds(document.text == NULL && document.chunks == NULL, "nothing is left to free");
    return 0;
  }
  fuzz_holds(document.root != NULL && document.values > 0, "there is a value");
  if (!has_zero(text, size)) {
    try_again(&document);
  }
  json_document_fini(&document);
  return 0;
}
