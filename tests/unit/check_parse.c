/*
 * check_parse: the parsers and formatters of single values at every boundary.
 *
 * Each case is a row of a table, and a failure names its row. A refused text must not change the
 * caller's value.
 */
#include "core/parse.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define UNTOUCHED UINT64_C(0x5555555555555555)

struct number_case {
  const char *text;
  int result;
  uint64_t value;
};

static const struct number_case u64_cases[] = {
    {"0", 0, 0},
    {"1", 0, 1},
    {"9", 0, 9},
    {"10", 0, 10},
    {"007", 0, 7},
    {"4294967295", 0, UINT32_MAX},
    {"4294967296", 0, UINT64_C(1) << 32},
    {"9223372036854775807", 0, INT64_MAX},
    {"9223372036854775808", 0, UINT64_C(1) << 63},
    {"18446744073709551609", 0, UINT64_MAX - 6},
    {"18446744073709551615", 0, UINT64_MAX},
    {"18446744073709551616", -1, 0},
    {"18446744073709551620", -1, 0},
    {"184467440737095516150", -1, 0},
    {"99999999999999999999999999999999999", -1, 0},
    {"", -1, 0},
    {"-1", -1, 0},
    {"+1", -1, 0},
    {" 1", -1, 0},
    {"1 ", -1, 0},
    {"1\n", -1, 0},
    {"1.5", -1, 0},
    {"0x10", -1, 0},
    {"1e3", -1, 0},
    {"a", -1, 0},
    {"1a", -1, 0},
    {"1/", -1, 0},
    {"1:", -1, 0},
    {"\xb2", -1, 0},
};

static const struct number_case size_cases[] = {
    {"0", 0, 0},
    {"1", 0, 1},
    {"4096", 0, 4096},
    {"0KiB", 0, 0},
    {"1KiB", 0, 1024},
    {"64KiB", 0, 65536},
    {"1MiB", 0, 1048576},
    {"2GiB", 0, UINT64_C(2) << 30},
    {"18014398509481983KiB", 0, UINT64_MAX - 1023},
    {"18014398509481984KiB", -1, 0},
    {"17592186044415MiB", 0, UINT64_MAX - 1048575},
    {"17592186044416MiB", -1, 0},
    {"17179869183GiB", 0, UINT64_MAX - ((UINT64_C(1) << 30) - 1)},
    {"17179869184GiB", -1, 0},
    {"18446744073709551615", 0, UINT64_MAX},
    {"18446744073709551616", -1, 0},
    {"", -1, 0},
    {"KiB", -1, 0},
    {"1 KiB", -1, 0},
    {"1KiB ", -1, 0},
    {"1K", -1, 0},
    {"1k", -1, 0},
    {"1KB", -1, 0},
    {"1Ki", -1, 0},
    {"1kib", -1, 0},
    {"1TiB", -1, 0},
    {"1.5MiB", -1, 0},
    {"-1KiB", -1, 0},
    {"1KiBKiB", -1, 0},
    {"1s", -1, 0},
};

static const struct number_case time_cases[] = {
    {"0", 0, 0},
    {"0s", 0, 0},
    {"0us", 0, 0},
    {"1us", 0, 1000},
    {"500us", 0, 500000},
    {"1ms", 0, 1000000},
    {"250ms", 0, 250000000},
    {"30s", 0, 30 * NS_PER_S},
    {"5m", 0, 300 * NS_PER_S},
    {"18446744073709551us", 0, UINT64_C(18446744073709551000)},
    {"18446744073709552us", -1, 0},
    {"18446744073709ms", 0, UINT64_C(18446744073709000000)},
    {"18446744073710ms", -1, 0},
    {"18446744073s", 0, UINT64_C(18446744073000000000)},
    {"18446744074s", -1, 0},
    {"307445734m", 0, UINT64_C(307445734) * 60 * NS_PER_S},
    {"307445735m", -1, 0},
    {"99999999999999999999s", -1, 0},
    {"", -1, 0},
    {"00", -1, 0},
    {"1", -1, 0},
    {"30", -1, 0},
    {"s", -1, 0},
    {"1h", -1, 0},
    {"1ns", -1, 0},
    {"1S", -1, 0},
    {"1M", -1, 0},
    {"1 s", -1, 0},
    {"1s ", -1, 0},
    {" 1s", -1, 0},
    {"1sec", -1, 0},
    {"1.5s", -1, 0},
    {"-1s", -1, 0},
    {"1m30s", -1, 0},
    {"1KiB", -1, 0},
};

static void check_number(const struct number_case *c, int (*parse)(const char *, uint64_t *)) {
  uint64_t value = UNTOUCHED;
  ck_assert_msg(parse(c->text, &value) == c->result, "'%s': not %d", c->text, c->result);
  uint64_t want = c->result == 0 ? c->value : UNTOUCHED;
  ck_assert_msg(value == want, "'%s': %" PRIu64 ", not %" PRIu64, c->text, value, want);
}

START_TEST(u64) { check_number(&u64_cases[_i], parse_u64); }
END_TEST

START_TEST(size) { check_number(&size_cases[_i], parse_size); }
END_TEST

START_TEST(time) { check_number(&time_cases[_i], parse_time); }
END_TEST

START_TEST(switches_are_on_or_off) {
  static const struct {
    const char *text;
    int result;
    bool value;
  } cases[] = {
      {"on", 0, true},   {"off", 0, false},   {"ON", 0, true},    {"Off", 0, false},
      {"oN", 0, true},   {"", -1, false},     {"1", -1, false},   {"yes", -1, false},
      {"o", -1, false},  {"onn", -1, false},  {" on", -1, false}, {"on ", -1, false},
      {"of", -1, false}, {"true", -1, false},
  };
  for (size_t i = 0; i < count_of(cases); i++) {
    for (int before = 0; before < 2; before++) {
      bool value = before == 1;
      ck_assert_msg(parse_switch(cases[i].text, &value) == cases[i].result, "'%s'", cases[i].text);
      ck_assert_msg(value == (cases[i].result == 0 ? cases[i].value : before == 1), "'%s'",
                    cases[i].text);
    }
  }
}
END_TEST

struct text_case {
  const char *text;
  int result;
  const char *bytes;
  size_t size;
};

static const struct text_case text_cases[] = {
    {"", 0, "", 0},
    {"a", 0, "a", 1},
    {"Message from server", 0, "Message from server", 19},
    {"\\n\\r\\t\\0\\\\", 0, "\n\r\t\0\\", 5},
    {"a\\nb", 0, "a\nb", 3},
    {"\\x00", 0, "\0", 1},
    {"\\xff\\xFF\\xfF", 0, "\xff\xff\xff", 3},
    {"\\x41BC", 0, "ABC", 3},
    {"\\x0a\\x9F", 0, "\n\x9f", 2},
    {"\\\\n", 0, "\\n", 2},
    {"\\01", 0,
     "\0"
     "1",
     2},
    {"\xc3\xa9", 0, "\xc3\xa9", 2},
    {"\n", 0, "\n", 1},
    {"\\", -1, NULL, 0},
    {"a\\", -1, NULL, 0},
    {"\\x", -1, NULL, 0},
    {"\\x4", -1, NULL, 0},
    {"\\x4g", -1, NULL, 0},
    {"\\xg4", -1, NULL, 0},
    {"\\x 4", -1, NULL, 0},
    {"\\a", -1, NULL, 0},
    {"\\N", -1, NULL, 0},
    {"\\X41", -1, NULL, 0},
    {"\\1", -1, NULL, 0},
    {"ok\\nok\\q", -1, NULL, 0},
    {"\\\\\\", -1, NULL, 0},
};

START_TEST(escapes_are_decoded) {
  const struct text_case *c = &text_cases[_i];
  /* Exactly the promised size, so that valgrind and ASan see a byte too many. */
  size_t room = strlen(c->text);
  uint8_t *bytes = malloc(room == 0 ? 1 : room);
  size_t got = 12345;
  ck_assert_msg(parse_text(c->text, bytes, &got) == c->result, "'%s'", c->text);
  if (c->result == 0) {
    ck_assert_msg(got == c->size, "'%s': %zu bytes", c->text, got);
    ck_assert_msg(memcmp(bytes, c->bytes, got) == 0, "'%s'", c->text);
  } else {
    ck_assert_msg(got == 12345, "'%s'", c->text);
  }
  free(bytes);
  char *in_place = strdup(c->text);
  ck_assert_int_eq(parse_text(in_place, (uint8_t *)in_place, &got), c->result);
  if (c->result == 0) {
    ck_assert(got == c->size && memcmp(in_place, c->bytes, got) == 0);
  }
  free(in_place);
}
END_TEST

START_TEST(format) {
  char text[PARSE_TEXT_MAX];
  ck_assert_str_eq(parse_format_size(0, text), "0");
  ck_assert_str_eq(parse_format_size(1, text), "1");
  ck_assert_str_eq(parse_format_size(1023, text), "1023");
  ck_assert_str_eq(parse_format_size(1024, text), "1KiB");
  ck_assert_str_eq(parse_format_size(1025, text), "1025");
  ck_assert_str_eq(parse_format_size(1536, text), "1536");
  ck_assert_str_eq(parse_format_size(65536, text), "64KiB");
  ck_assert_str_eq(parse_format_size(1048576, text), "1MiB");
  ck_assert_str_eq(parse_format_size(1048576 + 1024, text), "1025KiB");
  ck_assert_str_eq(parse_format_size(UINT64_C(1) << 30, text), "1GiB");
  ck_assert_str_eq(parse_format_size(UINT64_C(1) << 40, text), "1024GiB");
  ck_assert_str_eq(parse_format_size(UINT64_MAX, text), "18446744073709551615");
  ck_assert_str_eq(parse_format_time(0, text), "0");
  ck_assert_str_eq(parse_format_time(999, text), "0");
  ck_assert_str_eq(parse_format_time(1000, text), "1us");
  ck_assert_str_eq(parse_format_time(1999, text), "1us");
  ck_assert_str_eq(parse_format_time(1500000, text), "1500us");
  ck_assert_str_eq(parse_format_time(250 * NS_PER_MS, text), "250ms");
  ck_assert_str_eq(parse_format_time(30 * NS_PER_S, text), "30s");
  ck_assert_str_eq(parse_format_time(60 * NS_PER_S, text), "1m");
  ck_assert_str_eq(parse_format_time(90 * NS_PER_S, text), "90s");
  ck_assert_str_eq(parse_format_time(300 * NS_PER_S, text), "5m");
  ck_assert_str_eq(parse_format_time(UINT64_MAX, text), "18446744073709551us");
}
END_TEST

/* The parser reads a formatted value as the same value. */
START_TEST(formatted_values_are_parsed_back) {
  char text[PARSE_TEXT_MAX];
  for (unsigned shift = 0; shift < 64; shift++) {
    for (uint64_t near = 0; near < 3; near++) {
      uint64_t value = (UINT64_C(1) << shift) - 1 + near, back;
      ck_assert_int_eq(parse_size(parse_format_size(value, text), &back), 0);
      ck_assert_uint_eq(back, value);
      ck_assert_int_eq(parse_time(parse_format_time(value, text), &back), 0);
      ck_assert_uint_eq(back, value - value % NS_PER_US);
    }
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {u64, count_of(u64_cases)},
      {size, count_of(size_cases)},
      {time, count_of(time_cases)},
      {switches_are_on_or_off, 1},
      {escapes_are_decoded, count_of(text_cases)},
      {format, 1},
      {formatted_values_are_parsed_back, 1},
  };
  return run_suite("parse", tests, count_of(tests));
}
