/*
 * json_read: a loop over tokens, with a stack of open arrays and objects instead of recursion.
 *
 * The state is what may come next:
 *
 *   VALUE ----scalar----> AFTER --,--> VALUE (array) | NAME (object)
 *     |                    ^ |
 *     [ {                  | ] } pop; at the bottom: END
 *     v                    | v
 *   FIRST_VALUE, FIRST_NAME (as VALUE and NAME, but the closing bracket may come, too)
 *   NAME ---string :---> VALUE
 *
 * The text is copied and a 0 appended.  The 0 ends every token, so no token checks the length.
 * Strings are decoded in place, because no escape is shorter than its character.
 */
#include "json_read.h"

#include "json_write.h"

#include <assert.h>
#include <math.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_VALUES 1024

static const char out_of_memory[] = "out of memory";

enum expect { VALUE, FIRST_VALUE, NAME, FIRST_NAME, AFTER, END };

struct json_chunk {
  struct json_chunk *next; /* owns */
  struct json values[CHUNK_VALUES];
};

struct parser {
  struct json_document *document; /* borrows */
  char *at;
  enum expect expect;
  const char *name; /* of the member whose value comes next */
  const char *what; /* the fault, or NULL */
  unsigned depth;
  struct json *open[JSON_DEPTH_MAX];
  struct json **tail[JSON_DEPTH_MAX]; /* the link for the next value of open[] */
};

static void step(struct parser *parser);
static void parse_value(struct parser *parser);
static void parse_name(struct parser *parser);
static void parse_after(struct parser *parser);
static struct json *add_value(struct parser *parser, enum json_kind kind);
static void open_nested(struct parser *parser, enum json_kind kind);
static void close_nested(struct parser *parser);
static void parse_word(struct parser *parser, const char *word, enum json_kind kind);
static void parse_number(struct parser *parser);
static char *parse_string(struct parser *parser, size_t *size);
static char *parse_escape(struct parser *parser, char *to);

int json_parse(struct json_document *document, const char *text, size_t size,
               struct json_fault *fault) {
  *document = (struct json_document){.root = NULL};
  *fault = (struct json_fault){.what = "too large"};
  if (size > JSON_SIZE_MAX) {
    return -1;
  }
  document->text = malloc(size + 1);
  if (document->text == NULL) {
    fault->what = out_of_memory;
    return -1;
  }
  memcpy(document->text, text, size);
  document->text[size] = 0;
  struct parser parser = {.document = document, .at = document->text, .expect = VALUE};
  do {
    parser.at += strspn(parser.at, " \t\r\n");
    step(&parser);
  } while (parser.what == NULL && parser.expect != END);
  parser.at += parser.what == NULL ? strspn(parser.at, " \t\r\n") : 0;
  size_t offset = (size_t)(parser.at - document->text);
  if (parser.what == NULL && offset == size) {
    return 0;
  }
  fault->offset = offset;
  fault->what = parser.what == NULL ? "extra text after the value" : parser.what;
  if (offset == size && fault->what != out_of_memory) {
    fault->what = "the text ends too early";
  }
  json_document_fini(document);
  return -1;
}

void json_document_fini(struct json_document *document) {
  while (document->chunks != NULL) {
    struct json_chunk *chunk = document->chunks;
    document->chunks = chunk->next;
    free(chunk);
  }
  free(document->text);
  *document = (struct json_document){.root = NULL};
}

const struct json *json_member(const struct json *object, const char *name) {
  if (object == NULL || object->kind != JSON_OBJECT) {
    return NULL;
  }
  const struct json *member = object->first;
  while (member != NULL && strcmp(member->name, name) != 0) {
    member = member->next;
  }
  return member;
}

static void step(struct parser *parser) {
  char c = *parser->at;
  if ((parser->expect == FIRST_VALUE && c == ']') || (parser->expect == FIRST_NAME && c == '}')) {
    close_nested(parser);
  } else if (parser->expect == NAME || parser->expect == FIRST_NAME) {
    parse_name(parser);
  } else if (parser->expect == AFTER) {
    parse_after(parser);
  } else {
    parse_value(parser);
  }
}

static void parse_value(struct parser *parser) {
  struct json *value;
  switch (*parser->at) {
    case '{':
      open_nested(parser, JSON_OBJECT);
      return;
    case '[':
      open_nested(parser, JSON_ARRAY);
      return;
    case 'n':
      parse_word(parser, "null", JSON_NULL);
      break;
    case 'f':
      parse_word(parser, "false", JSON_FALSE);
      break;
    case 't':
      parse_word(parser, "true", JSON_TRUE);
      break;
    case '"':
      value = add_value(parser, JSON_STRING);
      if (value != NULL) {
        value->text = parse_string(parser, &value->size);
      }
      break;
    default:
      parse_number(parser);
  }
  parser->expect = parser->depth == 0 ? END : AFTER;
}

static void parse_name(struct parser *parser) {
  size_t size;
  if (*parser->at != '"') {
    parser->what = "expected a name in quotes";
    return;
  }
  parser->name = parse_string(parser, &size);
  if (parser->name == NULL) {
    return;
  }
  parser->at += strspn(parser->at, " \t\r\n");
  if (*parser->at != ':') {
    parser->what = "expected a colon after a name";
  } else {
    parser->at++;
  }
  parser->expect = VALUE;
}

static void parse_after(struct parser *parser) {
  bool in_object = parser->open[parser->depth - 1]->kind == JSON_OBJECT;
  if (*parser->at == (in_object ? '}' : ']')) {
    close_nested(parser);
  } else if (*parser->at == ',') {
    parser->at++;
    parser->expect = in_object ? NAME : VALUE;
  } else {
    parser->what = "expected a comma or a closing bracket after a value";
  }
}

/* Append a value of ${kind} to what is open. Return: NULL after a fault. */
static struct json *add_value(struct parser *parser, enum json_kind kind) {
  struct json_document *document = parser->document;
  size_t used = document->values % CHUNK_VALUES;
  if (document->values == JSON_VALUES_MAX) {
    parser->what = "too many values";
    return NULL;
  }
  if (used == 0) {
    struct json_chunk *chunk = malloc(sizeof(*chunk));
    if (chunk == NULL) {
      parser->what = out_of_memory;
      return NULL;
    }
    chunk->next = document->chunks;
    document->chunks = chunk;
  }
  struct json *value = &document->chunks->values[used];
  document->values++;
  *value = (struct json){.kind = kind, .name = parser->name};
  parser->name = NULL;
  if (parser->depth == 0) {
    document->root = value;
  } else {
    parser->open[parser->depth - 1]->size++;
    *parser->tail[parser->depth - 1] = value;
    parser->tail[parser->depth - 1] = &value->next;
  }
  return value;
}

static void open_nested(struct parser *parser, enum json_kind kind) {
  if (parser->depth == JSON_DEPTH_MAX) {
    parser->what = "nested too deeply";
    return;
  }
  struct json *value = add_value(parser, kind);
  if (value == NULL) {
    return;
  }
  parser->open[parser->depth] = value;
  parser->tail[parser->depth] = &value->first;
  parser->depth++;
  parser->at++;
  parser->expect = kind == JSON_OBJECT ? FIRST_NAME : FIRST_VALUE;
}

static void close_nested(struct parser *parser) {
  assert(parser->depth > 0);
  parser->at++;
  parser->depth--;
  parser->expect = parser->depth == 0 ? END : AFTER;
}

static void parse_word(struct parser *parser, const char *word, enum json_kind kind) {
  for (; *word != 0; word++, parser->at++) {
    if (*parser->at != *word) {
      parser->what = "expected a value";
      return;
    }
  }
  add_value(parser, kind);
}

/* ---- numbers ---- */

static bool skip_digits(char **at) {
  size_t digits = strspn(*at, "0123456789");
  *at += digits;
  return digits > 0;
}

/* Move ${*at} past the number, or to the first byte that cannot belong to it. */
static bool skip_number(char **at) {
  *at += **at == '-';
  if (**at == '0') {
    ++*at;
  } else if (!skip_digits(at)) {
    return false;
  }
  if (**at == '.') {
    ++*at;
    if (!skip_digits(at)) {
      return false;
    }
  }
  if (**at == 'e' || **at == 'E') {
    ++*at;
    *at += **at == '+' || **at == '-';
    return skip_digits(at);
  }
  return true;
}

/* Convert ${size} characters, at most JSON_NUMBER_MAX; strtod expects the locale's point. */
static double to_double(const char *text, size_t size) {
  char copy[JSON_NUMBER_MAX + 32];
  const char *dot = memchr(text, '.', size);
  if (dot == NULL) {
    snprintf(copy, sizeof(copy), "%.*s", (int)size, text);
  } else {
    snprintf(copy, sizeof(copy), "%.*s%s%.*s", (int)(dot - text), text, json_decimal_point(),
             (int)(text + size - dot - 1), dot + 1);
  }
  return strtod(copy, NULL);
}

/* Are the ${size} characters at ${text} digits only, and is the number below 2^64? */
static bool to_integer(const char *text, size_t size, uint64_t *integer) {
  *integer = 0;
  for (size_t i = 0; i < size; i++) {
    unsigned digit = (unsigned)(text[i] - '0');
    if (digit > 9 || __builtin_mul_overflow(*integer, UINT64_C(10), integer) ||
        __builtin_add_overflow(*integer, digit, integer)) {
      return false;
    }
  }
  return true;
}

static void parse_number(struct parser *parser) {
  char *begin = parser->at;
  if (!skip_number(&parser->at)) {
    parser->what = parser->at == begin ? "expected a value" : "a malformed number";
    return;
  }
  size_t size = (size_t)(parser->at - begin);
  double number = size <= JSON_NUMBER_MAX ? to_double(begin, size) : INFINITY;
  if (isinf(number)) {
    parser->what = "a number out of range";
    parser->at = begin;
    return;
  }
  struct json *value = add_value(parser, JSON_NUMBER);
  if (value == NULL) {
    return;
  }
  value->number = number;
  value->integral = to_integer(begin, size, &value->integer);
}

/* ---- strings ---- */

/* Decode the string that begins at the quote. Return: the string, or NULL after a fault. */
static char *parse_string(struct parser *parser, size_t *size) {
  char *begin = ++parser->at, *to = begin;
  while (*parser->at != '"') {
    if (*parser->at == '\\') {
      to = parse_escape(parser, to);
      if (to == NULL) {
        return NULL;
      }
      continue;
    }
    size_t bytes = json_utf8_size(parser->at);
    if ((unsigned char)*parser->at < 0x20 || bytes == 0) {
      parser->what = bytes == 0 ? "not UTF-8" : "a control character in a string";
      return NULL;
    }
    memmove(to, parser->at, bytes);
    parser->at += bytes;
    to += bytes;
  }
  parser->at++;
  *to = 0;
  *size = (size_t)(to - begin);
  return begin;
}

/* Read four hexadecimal digits. Return: their value, or -1. */
static int parse_hex4(struct parser *parser) {
  static const char digits[] = "0123456789abcdefABCDEF";
  int unit = 0;
  for (int i = 0; i < 4; i++, parser->at++) {
    const char *found = *parser->at == 0 ? NULL : strchr(digits, *parser->at);
    if (found == NULL) {
      return -1;
    }
    int digit = (int)(found - digits);
    unit = unit * 16 + (digit < 16 ? digit : digit - 6);
  }
  return unit;
}

/* Read the digits after \u, and a second \u for a low surrogate. Return: the character, or -1. */
static int parse_unicode(struct parser *parser) {
  int high = parse_hex4(parser);
  if (high < 0xd800 || high > 0xdfff) {
    return high;
  }
  if (high > 0xdbff || strncmp(parser->at, "\\u", 2) != 0) {
    return -1;
  }
  parser->at += 2;
  int low = parse_hex4(parser);
  if (low < 0xdc00 || low > 0xdfff) {
    return -1;
  }
  return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

/* Write ${character} in UTF-8 to ${to}. Return: the end of it. */
static char *put_utf8(char *to, int character) {
  if (character < 0x80) {
    *to++ = (char)character;
    return to;
  }
  int more = character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
  static const int leads[] = {0, 0xc0, 0xe0, 0xf0};
  *to++ = (char)(leads[more] | character >> 6 * more);
  while (more-- > 0) {
    *to++ = (char)(0x80 | (character >> 6 * more & 0x3f));
  }
  return to;
}

/* Decode the escape at the backslash into ${to}. Return: the end of it, or NULL. */
static char *parse_escape(struct parser *parser, char *to) {
  static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
  char letter = *++parser->at;
  const char *found = letter == 0 ? NULL : strchr(letters, letter);
  if (found != NULL) {
    parser->at++;
    *to++ = meanings[found - letters];
    return to;
  }
  int character = -1;
  if (letter == 'u') {
    parser->at++;
    character = parse_unicode(parser);
  }
  if (character == -1) {
    parser->what = "an unknown escape";
    return NULL;
  }
  return put_utf8(to, character);
}

bool json_is_clean_text(const struct json *json) {
  if (json == NULL || json->kind != JSON_STRING || json->size == 0) {
    return false;
  }
  for (size_t i = 0; i < json->size; i++) {
    if ((unsigned char)json->text[i] < 0x20 || json->text[i] == 0x7f) {
      return false;
    }
  }
  return true;
}

/* Read ${file} to its end. Return: the size; or -1 with errno. */
static ssize_t read_all(FILE *file, char **text) {
  size_t size = 0, room = 1 << 16;
  *text = malloc(room);
  while (*text != NULL) {
    size += fread(*text + size, 1, room - size, file);
    if (size < room) {
      break;
    }
    if (size > JSON_SIZE_MAX) {
      errno = EFBIG;
      goto fail;
    }
    char *more = realloc(*text, room *= 2);
    if (more == NULL) {
      goto fail;
    }
    *text = more;
  }
  if (*text != NULL && ferror(file) == 0) {
    return (ssize_t)size;
  }
fail:
  free(*text);
  *text = NULL;
  return -1;
}

ssize_t json_read_file(const char *path, char **text) {
  FILE *file = fopen(path, "re");
  *text = NULL;
  if (file == NULL) {
    return -1;
  }
  const ssize_t size = read_all(file, text);
  const int error = errno;
  fclose(file);
  errno = error;
  return size;
}
