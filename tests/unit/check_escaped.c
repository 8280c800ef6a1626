/*
 * check_escaped: what a terminal would act on is escaped, and what is text stays.
 */
#include "xchg-bench/escaped.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* What escaped_put writes; to be freed. */
static char *put(const char *text, size_t size_max) {
  char *written = NULL;
  size_t size;
  FILE *out = open_memstream(&written, &size);
  ck_assert_ptr_ne(out, NULL);
  escaped_put(out, text, size_max);
  fclose(out);
  return written;
}

static void expect(const char *text, const char *want) {
  char *written = put(text, SIZE_MAX);
  ck_assert_str_eq(written, want);
  free(written);
}

START_TEST(every_byte_alone) {
  for (int byte = 1; byte < 256; byte++) {
    char text[] = {(char)byte, 0}, want[8];
    snprintf(want, sizeof(want), byte >= 0x20 && byte < 0x7f ? "%c" : "\\x%02x", byte);
    expect(text, want);
  }
}
END_TEST

START_TEST(texts) {
  expect("", "");
  expect("report.json", "report.json");
  expect("a\nb\x1b[2J\t\x7f", "a\\x0ab\\x1b[2J\\x09\\x7f");
  expect("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
  expect("\xc2\xa0\xc3\x80", "\xc2\xa0\xc3\x80");
  expect(
      "\xc2\x80\xc2\x9b"
      "31m\xc2\x9f",
      "\\xc2\\x80\\xc2\\x9b31m\\xc2\\x9f");
  expect("\xc2", "\\xc2");
  expect("\xe2\x82x\xff", "\\xe2\\x82x\\xff");
  expect("\xed\xa0\x80", "\\xed\\xa0\\x80"); /* a surrogate */
}
END_TEST

START_TEST(a_limit_splits_no_character) {
  static const char *const wants[] = {
      "", "a", "a", "a\xc3\xa4", "a\xc3\xa4\\x1b", "a\xc3\xa4\\x1b"};
  for (size_t size = 0; size < count_of(wants); size++) {
    char *written = put("a\xc3\xa4\x1b", size);
    ck_assert_str_eq(written, wants[size]);
    free(written);
  }
}
END_TEST

START_TEST(a_line_is_escaped_up_to_its_end) {
  char *written = NULL, path[5000];
  size_t size;
  FILE *out = open_memstream(&written, &size);
  ck_assert_ptr_ne(out, NULL);
  escaped_line(out, "'%s': %d%%\n%c", "a\x1b[m", 7, '\r');
  fclose(out);
  ck_assert_str_eq(written, "'a\\x1b[m': 7%\\x0a\\x0d\n");
  free(written);
  memset(path, 'p', sizeof(path) - 1);
  path[sizeof(path) - 1] = 0;
  out = open_memstream(&written, &size);
  escaped_line(out, "%s", path);
  fclose(out);
  ck_assert_uint_eq(size, sizeof(path));
  free(written);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {every_byte_alone, 1},
      {texts, 1},
      {a_limit_splits_no_character, 1},
      {a_line_is_escaped_up_to_its_end, 1},
  };
  return run_suite("escaped", tests, count_of(tests));
}
