/*
 * work: see work.h.  The options are compared in the form in which a report has them, so that a key
 * is enough to compare one.
 */
#include "work.h"

#include "report_options.h"

#include <stdlib.h>
#include <string.h>

/* The options that change what an exchange costs, and those that the parts of a load divide. */
static const char *const keys[] = {
    "exchange", "frame",     "greeting", "reply", "messages", "max_message", "size",
    "pipeline", "reconnect", "proxy",    "ramp",  "warmup_s", "timeout_s",
};
static const char *const divided[] = {
    "threads", "connections", "idle",       "rate",   "ramp_from",
    "ramp_to", "ramp_s",      "step_rates", "step_s",
};

/* Parse the options of a report as it would have them. Return: the member, or NULL. */
static const struct json *take(struct json_document *document, const struct options *options) {
  char *text = NULL;
  size_t size;
  struct json_fault fault;
  FILE *out = open_memstream(&text, &size);
  if (out == NULL) {
    return NULL;
  }
  struct json_writer writer = {.out = out};
  json_open(&writer, NULL, '{');
  report_options_write(&writer, options);
  json_close(&writer, '}');
  fclose(out);
  const int parsed = json_parse(document, text, size, &fault);
  free(text);
  return parsed == -1 ? NULL : json_member(document->root, "options");
}

/* Write a value, or the values of a list, as a user reads it. A list of options holds no list. */
/* NOLINTNEXTLINE(misc-no-recursion): so it is two deep */
static void print(FILE *out, const struct json *json) {
  switch (json->kind) {
    case JSON_STRING:
      fputs(json->text, out);
      break;
    case JSON_NUMBER:
      fprintf(out, "%.12g", json->number);
      break;
    case JSON_ARRAY:
      for (const struct json *item = json->first; item != NULL; item = item->next) {
        print(out, item);
        fputs(item->next != NULL ? "," : "", out);
      }
      break;
    default:
      fputs(json->kind == JSON_TRUE ? "on" : json->kind == JSON_FALSE ? "off" : "unlimited", out);
  }
}

/* Return: the text of ${json}, which the caller frees; NULL = no memory. */
static char *text_of(const struct json *json) {
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  if (out == NULL) {
    return NULL;
  }
  print(out, json);
  fclose(out);
  return text;
}

/* Append key and values to ${text} if they differ. Return: whether they do. */
static bool add_difference(const struct json *a, const struct json *b, const char *key, char *text,
                           size_t size) {
  char *left = text_of(json_member(a, key)), *right = text_of(json_member(b, key));
  const bool differs = left != NULL && right != NULL && strcmp(left, right) != 0;
  const size_t used = strlen(text);
  if (differs) {
    snprintf(text + used, size - used, "%s%s %.64s and %.64s", used > 0 ? ", " : "", key, left,
             right);
  }
  free(left);
  free(right);
  return differs;
}

bool work_difference(const struct options *a, const struct options *b, enum work_of of, char *text,
                     size_t size) {
  struct json_document left = {.root = NULL}, right = {.root = NULL};
  const struct json *of_a = take(&left, a), *of_b = take(&right, b);
  bool differs = false;
  text[0] = 0;
  for (size_t i = 0; i < count_of(keys) && of_a != NULL && of_b != NULL; i++) {
    differs = add_difference(of_a, of_b, keys[i], text, size) || differs;
  }
  for (size_t i = 0; i < count_of(divided) && of == WORK_OF_LOAD && of_a != NULL && of_b != NULL;
       i++) {
    differs = add_difference(of_a, of_b, divided[i], text, size) || differs;
  }
  if (of_a != NULL) {
    json_document_fini(&left);
  }
  if (of_b != NULL) {
    json_document_fini(&right);
  }
  return differs;
}
