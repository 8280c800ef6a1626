/*
 * check_json_write: the output of the writer, and that the reader reads it back, in a locale with
 * a decimal comma too.
 */
#include "xchg-bench/json_write.h"

#include "xchg-bench/json_read.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Parse ${text}, which must be valid. */
static const struct json *good(struct json_document *document, const char *text) {
  struct json_fault fault;
  ck_assert_msg(json_parse(document, text, strlen(text), &fault) == 0, "%s", text);
  return document->root;
}

static char written[4096];

static FILE *begin_writing(void) {
  memset(written, 0, sizeof(written));
  FILE *out = fmemopen(written, sizeof(written), "w");
  ck_assert_ptr_nonnull(out);
  return out;
}

START_TEST(written_objects_look_as_expected) {
  FILE *out = begin_writing();
  struct json_writer writer = {.out = out};
  json_open(&writer, NULL, '{');
  json_put_u64(&writer, "big", UINT64_MAX);
  json_open(&writer, "list", '[');
  json_put_double(&writer, NULL, 0.1);
  json_open(&writer, NULL, '{');
  json_put_bool(&writer, "yes", true);
  json_put_text(&writer, "t", "a\"b");
  json_close(&writer, '}');
  json_close(&writer, ']');
  json_open(&writer, "none", '[');
  json_close(&writer, ']');
  json_put_text(&writer, "nothing", NULL);
  json_put_double(&writer, "nan", NAN);
  json_close(&writer, '}');
  fclose(out);
  ck_assert_str_eq(written,
                   "{\n  \"big\": 18446744073709551615,\n  \"list\": [\n    0.1,\n"
                   "    {\"yes\": true, \"t\": \"a\\\"b\"}\n  ],\n  \"none\": [],\n"
                   "  \"nothing\": null,\n  \"nan\": null\n}\n");
  struct json_document document;
  good(&document, written);
  json_document_fini(&document);
}
END_TEST

START_TEST(written_strings_read_back) {
  char text[256];
  for (int i = 1; i < 128; i++) {
    text[i - 1] = (char)i;
  }
  stpcpy(text + 127, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
  FILE *out = begin_writing();
  json_write_string(out, text);
  fclose(out);
  struct json_document document;
  ck_assert_str_eq(good(&document, written)->text, text);
  json_document_fini(&document);
  out = begin_writing();
  json_write_string(out,
                    "a\xff"
                    "b\xe2\x82");
  fclose(out);
  ck_assert_str_eq(good(&document, written)->text,
                   "a\xef\xbf\xbd"
                   "b\xef\xbf\xbd\xef\xbf\xbd");
  json_document_fini(&document);
}
END_TEST

static void doubles_read_back(void) {
  static const double table[] = {0,        1,    -1,     0.1,    1.0 / 3, 1e15,
                                 1e16 + 2, 1e19, 1e300,  5e-324, DBL_MAX, -2.5,
                                 123.456,  1e-7, 0x1p63, 0x1p53, 4.65};
  for (size_t i = 0; i < count_of(table); i++) {
    FILE *out = begin_writing();
    json_write_double(out, table[i]);
    fclose(out);
    struct json_document document;
    ck_assert_double_eq(good(&document, written)->number, table[i]);
    json_document_fini(&document);
  }
}

START_TEST(written_doubles_read_back) {
  doubles_read_back();
  static const double none[] = {NAN, INFINITY, -INFINITY};
  for (size_t i = 0; i < count_of(none); i++) {
    FILE *out = begin_writing();
    json_write_double(out, none[i]);
    fclose(out);
    ck_assert_str_eq(written, "null");
  }
}
END_TEST

/* Skipped where no such locale is installed. */
START_TEST(a_decimal_comma_changes_nothing) {
  if (setlocale(LC_ALL, "de_DE.UTF-8") == NULL && setlocale(LC_ALL, "fr_FR.UTF-8") == NULL) {
    printf("skipped: no locale with a decimal comma\n");
    return;
  }
  doubles_read_back();
  setlocale(LC_ALL, "C");
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {written_objects_look_as_expected, 1},
      {written_strings_read_back, 1},
      {written_doubles_read_back, 1},
      {a_decimal_comma_changes_nothing, 1},
  };
  return run_suite("json_write", tests, count_of(tests));
}
