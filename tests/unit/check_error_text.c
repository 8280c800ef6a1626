/*
 * check_error_text: every errno has the name and the text that glibc gives in the C locale.
 */
#include "core/error_text.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define ERRNO_MAX 4095 /* the largest that a system call can return */

START_TEST(known_numbers_are_glibcs) {
  int known = 0;
  for (int error = 1; error <= ERRNO_MAX; error++) {
    char text[ERROR_TEXT_MAX];
    const char *name = strerrorname_np(error);
    if (name == NULL) {
      ck_assert_ptr_null(error_name(error));
      continue;
    }
    ck_assert_str_eq(error_name(error), name);
    ck_assert_str_eq(error_text(error, text), strerrordesc_np(error));
    known++;
  }
  ck_assert_int_gt(known, 120);
}
END_TEST

START_TEST(other_numbers_are_shown) {
  static const int numbers[] = {INT_MIN, -1, 0, 41, 58, 134, 524, INT_MAX};
  for (size_t i = 0; i < count_of(numbers); i++) {
    char text[ERROR_TEXT_MAX], expected[64];
    snprintf(expected, sizeof(expected), "Unknown error %d", numbers[i]);
    ck_assert_str_eq(error_text(numbers[i], text), expected);
    ck_assert_ptr_null(error_name(numbers[i]));
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {{known_numbers_are_glibcs, 1}, {other_numbers_are_shown, 1}};
  return run_suite("error_text", tests, count_of(tests));
}
