/*
 * check_units: the numbers that a wrk user types and reads, at every boundary.
 *
 * Each case is a row, and a failure names its row.  A refused text must not change the value.
 */
#include "xchg-bench/units.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <math.h>
#include <inttypes.h>
#include <string.h>

#define UNTOUCHED UINT64_C(0x5555555555555555)

struct number_case {
  const char *text;
  int result;
  uint64_t value;
};

static const struct number_case counts[] = {
    {"0", 0, 0},
    {"1", 0, 1},
    {"64", 0, 64},
    {"1k", 0, 1000},
    {"1K", 0, 1000},
    {"1.5k", 0, 1500},
    {"0.001k", 0, 1},
    {"2M", 0, 2000000},
    {"1G", 0, 1000000000},
    {"18446744073709551615", 0, UINT64_MAX},
    {"18446744073709551616", -1, 0},
    {"1.5", -1, 0},
    {"0.0001k", -1, 0},
    {"99999999999999999k", -1, 0},
    {"123456789012345678k", -1, 0},
    {"", -1, 0},
    {"k", -1, 0},
    {".5k", -1, 0},
    {"1.k", -1, 0},
    {"1..5k", -1, 0},
    {"1.2.3k", -1, 0},
    {"-1", -1, 0},
    {"+1", -1, 0},
    {" 1", -1, 0},
    {"1 ", -1, 0},
    {"1 k", -1, 0},
    {"1kk", -1, 0},
    {"1T", -1, 0},
    {"0x10", -1, 0},
    {"1e3", -1, 0},
    {"inf", -1, 0},
    {"nan", -1, 0},
};

static const struct number_case sizes[] = {
    {"64", 0, 64},       {"1k", 0, 1000},      {"1KiB", 0, 1024},
    {"64KiB", 0, 65536}, {"1MiB", 0, 1048576}, {"1GiB", 0, 1 << 30},
    {"1KB", -1, 0},      {"", -1, 0},          {"1.5KiB", -1, 0},
};

static const struct number_case times[] = {
    {"0", 0, 0},
    {"2", 0, 2 * NS_PER_S},
    {"2s", 0, 2 * NS_PER_S},
    {"0.5", 0, 500 * NS_PER_MS},
    {"1.5s", 0, 1500 * NS_PER_MS},
    {"500us", 0, 500 * NS_PER_US},
    {"500ms", 0, 500 * NS_PER_MS},
    {"2m", 0, 120 * NS_PER_S},
    {"1h", 0, 3600 * NS_PER_S},
    {"1m30s", 0, 90 * NS_PER_S},
    {"1h2m3s4ms5us", 0, 3723 * NS_PER_S + 4 * NS_PER_MS + 5 * NS_PER_US},
    {"1h500ms", 0, 3600 * NS_PER_S + 500 * NS_PER_MS},
    {"1.5m0.5s", 0, 90 * NS_PER_S + 500 * NS_PER_MS},
    {"2m90s", 0, 210 * NS_PER_S},
    {"1m30", -1, 0},
    {"30s1m", -1, 0},
    {"1m1m", -1, 0},
    {"1m-30s", -1, 0},
    {"1m 30s", -1, 0},
    {"1m30s.", -1, 0},
    {"1m30sx", -1, 0},
    {"1sm", -1, 0},
    {"8000h", 0, UINT64_C(28800000) * NS_PER_S},
    {"9000h", -1, 0},
    {"99999999999999999h", -1, 0},
    {"2S", -1, 0},
    {"2d", -1, 0},
    {"s", -1, 0},
    {"", -1, 0},
    {"-1s", -1, 0},
    {"1s ", -1, 0},
    {"1ss", -1, 0},
    {"1ns", -1, 0},
};

static void check_rows(const struct number_case *rows, size_t count,
                       int (*parse)(const char *text, uint64_t *value)) {
  for (size_t i = 0; i < count; i++) {
    uint64_t value = UNTOUCHED;
    int result = parse(rows[i].text, &value);
    ck_assert_msg(result == rows[i].result, "'%s' gives %d", rows[i].text, result);
    uint64_t wanted = rows[i].result == 0 ? rows[i].value : UNTOUCHED;
    ck_assert_msg(value == wanted, "'%s' is %" PRIu64, rows[i].text, value);
  }
}

START_TEST(counts_are_whole_and_go_by_thousands) {
  check_rows(counts, count_of(counts), units_parse_count);
}
END_TEST

START_TEST(sizes_know_both_kinds_of_kilo) { check_rows(sizes, count_of(sizes), units_parse_size); }
END_TEST

START_TEST(times_are_seconds_without_a_unit) {
  check_rows(times, count_of(times), units_parse_time);
}
END_TEST

START_TEST(numbers_may_have_a_fraction) {
  double value = -1;
  ck_assert_int_eq(units_parse_number("0.25", &value), 0);
  ck_assert_double_eq_tol(value, 0.25, 1e-12);
  ck_assert_int_eq(units_parse_number("1.25M", &value), 0);
  ck_assert_double_eq_tol(value, 1250000, 1e-6);
  ck_assert_int_eq(units_parse_number("1.25X", &value), -1);
  ck_assert_double_eq_tol(value, 1250000, 1e-6);
}
END_TEST

START_TEST(values_are_written_as_wrk_does) {
  char text[UNITS_TEXT_MAX];
  ck_assert_str_eq(units_format_time(0, text), "0.00us");
  ck_assert_str_eq(units_format_time(NAN, text), "-");
  ck_assert_str_eq(units_format_count(NAN, text), "-");
  ck_assert_str_eq(units_format_bytes(NAN, text), "-");
  ck_assert_str_eq(units_format_fixed(NAN, 2, text), "-");
  ck_assert_str_eq(units_format_fixed(1.239, 2, text), "1.24");
  ck_assert(isnan(units_divide(5, 0)));
  ck_assert_double_eq(units_divide(5, 2), 2.5);
  ck_assert_str_eq(units_format_time(635910, text), "635.91us");
  ck_assert_str_eq(units_format_time(12.92e6, text), "12.92ms");
  ck_assert_str_eq(units_format_time(1.5e9, text), "1.50s");
  ck_assert_str_eq(units_format_time(90e9, text), "1.50m");
  ck_assert_str_eq(units_format_count(999, text), "999.00");
  ck_assert_str_eq(units_format_count(56200, text), "56.20k");
  ck_assert_str_eq(units_format_count(1.5e9, text), "1.50G");
  ck_assert_str_eq(units_format_bytes(1023, text), "1023.00B");
  ck_assert_str_eq(units_format_bytes(1024, text), "1.00KB");
  ck_assert_str_eq(units_format_bytes(606.33 * 1048576, text), "606.33MB");
}
END_TEST

START_TEST(durations_are_written_as_typed) {
  static const char *const texts[] = {"10s", "1m", "500ms", "3h", "20us", "90s"};
  for (size_t i = 0; i < count_of(texts); i++) {
    char text[UNITS_TEXT_MAX];
    uint64_t time_ns;
    ck_assert_int_eq(units_parse_time(texts[i], &time_ns), 0);
    ck_assert_str_eq(units_format_duration(time_ns, text), texts[i]);
  }
  char text[UNITS_TEXT_MAX];
  ck_assert_str_eq(units_format_duration(0, text), "0s");
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {counts_are_whole_and_go_by_thousands, 1}, {sizes_know_both_kinds_of_kilo, 1},
      {times_are_seconds_without_a_unit, 1},     {numbers_may_have_a_fraction, 1},
      {values_are_written_as_wrk_does, 1},       {durations_are_written_as_typed, 1},
  };
  return run_suite("units", tests, count_of(tests));
}
