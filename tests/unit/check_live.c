/*
 * check_live: the line on a terminal is never wider than it, and an incomplete interval shows a
 * rate, not a count.
 */
#include "xchg-bench/live.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <string.h>

static const struct interval whole = {.at_s = 3,
                                      .seconds = 1,
                                      .exchanges = 12345,
                                      .p50_ns = 250 * NS_PER_US,
                                      .p99_ns = 2 * NS_PER_MS};
static char text[LIVE_TEXT_MAX];

START_TEST(a_wide_terminal_has_all) {
  live_format(&whole, 7, 1, 200, text);
  ck_assert_str_eq(text, "      4 s        12345 /s  p50     0.250 ms  p99     2.000 ms  errors 7");
}
END_TEST

START_TEST(the_line_is_cut_to_the_width) {
  size_t last = 0;
  for (unsigned columns = 0; columns < 200; columns++) {
    live_format(&whole, UINT64_MAX, 1, columns, text);
    const size_t size = strlen(text);
    ck_assert_msg(size == 0 || size < columns, "%zu in %u", size, columns);
    ck_assert_uint_ge(size, last); /* more room never shows less */
    last = size;
  }
  live_format(&whole, 7, 1, 40, text);
  ck_assert_str_eq(text, "      4 s        12345 /s");
}
END_TEST

START_TEST(a_partial_interval_is_scaled_and_marked) {
  struct interval partial = whole;
  partial.seconds = 0.2;
  partial.exchanges = 100;
  live_format(&partial, 0, 1, 80, text);
  ck_assert_ptr_nonnull(strstr(text, "   3.20 s"));
  ck_assert_ptr_nonnull(strstr(text, "~       500 /s"));
  partial.seconds = 0;
  live_format(&partial, 0, 1, 80, text);
  ck_assert_ptr_nonnull(strstr(text, "~         - /s"));
}
END_TEST

START_TEST(an_interval_without_an_exchange_has_no_latency) {
  struct interval empty = {.at_s = 0, .seconds = 1};
  live_format(&empty, 0, 1, 80, text);
  ck_assert_ptr_nonnull(strstr(text, "  p50         - ms  p99         - ms"));
}
END_TEST

START_TEST(what_is_no_terminal_has_80_columns) { ck_assert_uint_eq(live_columns(-1), 80); }
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {a_wide_terminal_has_all, 1},
      {the_line_is_cut_to_the_width, 1},
      {a_partial_interval_is_scaled_and_marked, 1},
      {an_interval_without_an_exchange_has_no_latency, 1},
      {what_is_no_terminal_has_80_columns, 1},
  };
  return run_suite("live", tests, count_of(tests));
}
