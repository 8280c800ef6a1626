/*
 * check_crc32c: the published values, in one call and in two, and every byte of the table.
 */
#include "core/crc32c.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <string.h>

#define POLYNOMIAL UINT32_C(0x82f63b78) /* its bits in reverse order */

/* Those of RFC 3720, B.4, and of the nine digits. */
START_TEST(published_values) {
  uint8_t zeros[32] = {0}, ones[32], up[32], down[32];
  memset(ones, 0xff, sizeof(ones));
  for (uint8_t i = 0; i < 32; i++) {
    up[i] = i;
    down[i] = (uint8_t)(31 - i);
  }
  ck_assert_uint_eq(crc32c(0, zeros, 32), 0x8a9136aa);
  ck_assert_uint_eq(crc32c(0, ones, 32), 0x62a8ab43);
  ck_assert_uint_eq(crc32c(0, up, 32), 0x46dd794e);
  ck_assert_uint_eq(crc32c(0, down, 32), 0x113fdb5c);
  ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xe3069283);
  ck_assert_uint_eq(crc32c(0, "", 0), 0);
}
END_TEST

START_TEST(parts_give_the_value_of_the_whole) {
  for (size_t i = 0; i <= 9; i++) {
    ck_assert_uint_eq(crc32c(crc32c(0, "123456789", i), &"123456789"[i], 9 - i), 0xe3069283);
  }
}
END_TEST

START_TEST(each_byte_is_divided_bit_by_bit) {
  for (unsigned i = 0; i < 256; i++) {
    uint32_t crc = UINT32_MAX ^ i;
    for (int bit = 0; bit < 8; bit++) {
      crc = (crc & 1) != 0 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
    }
    uint8_t byte = (uint8_t)i;
    ck_assert_uint_eq(crc32c(0, &byte, 1), ~crc);
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {published_values, 1},
      {parts_give_the_value_of_the_whole, 1},
      {each_byte_is_divided_bit_by_bit, 1},
  };
  return run_suite("crc32c", tests, count_of(tests));
}
