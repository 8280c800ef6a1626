/*
 * check_ascii: every pair of bytes, and texts that differ in length, in case and in other bytes.
 */
#include "core/ascii.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>

static const char small[] = "abcdefghijklmnopqrstuvwxyz";
static const char capital[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

START_TEST(letters_have_a_pair_and_other_bytes_none) {
  for (int byte = 0; byte < 256; byte++) {
    bool is_small = byte >= 'a' && byte <= 'z', is_capital = byte >= 'A' && byte <= 'Z';
    char c = (char)byte;
    ck_assert_int_eq(ascii_lower(c), is_capital ? small[byte - 'A'] : c);
    ck_assert_int_eq(ascii_upper(c), is_small ? capital[byte - 'a'] : c);
    for (int other = 0; other < 256; other++) {
      bool pair =
          (is_small && other == byte - 'a' + 'A') || (is_capital && other == byte - 'A' + 'a');
      ck_assert(ascii_equal_byte(c, (char)other) == (byte == other || pair));
    }
  }
}
END_TEST

START_TEST(texts_are_equal_as_a_whole) {
  ck_assert(ascii_equal("", "") && ascii_equal("wait", "WAIT") &&
            ascii_equal("I\xdd-9", "i\xdd-9"));
  ck_assert(!ascii_equal("wait", "wai") && !ascii_equal("wai", "wait"));
  ck_assert(!ascii_equal("", "a") && !ascii_equal("a", "") && !ascii_equal("i\xfd", "i\xdd"));
}
END_TEST

START_TEST(a_text_begins_with_its_prefix) {
  ck_assert(ascii_begins("", "") && ascii_begins("a", "") && ascii_begins("TEXT:", "text:"));
  ck_assert(ascii_begins("unix:/I", "UNIX:/i"));
  ck_assert(!ascii_begins("", "a") && !ascii_begins("text", "text:") && !ascii_begins("b", "a"));
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {letters_have_a_pair_and_other_bytes_none, 1},
      {texts_are_equal_as_a_whole, 1},
      {a_text_begins_with_its_prefix, 1},
  };
  return run_suite("ascii", tests, count_of(tests));
}
