/* check_fields: tagged values, written and read at every size and before a guard page. */
#include "core/fields.h"

#include "tests/fixtures/guard_page.h"
#include "tests/fixtures/run_suite.h"

#include <string.h>

START_TEST(test_bytes_are_as_documented) {
  uint8_t bytes[64];
  struct fields_writer writer = {.bytes = bytes, .room = sizeof(bytes)};
  fields_put(&writer, 0x8102, "abc", 3);
  fields_put(&writer, 3, NULL, 0);
  fields_put_number(&writer, 4, UINT64_C(0x1122334455667788));
  static const uint8_t want[] = {0x02, 0x81, 3,    0,    0,    0,    'a',  'b',  'c', 3,
                                 0,    0,    0,    0,    0,    4,    0,    8,    0,   0,
                                 0,    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11};
  ck_assert(!writer.full);
  ck_assert_uint_eq(writer.size, sizeof(want));
  ck_assert_mem_eq(bytes, want, sizeof(want));
}
END_TEST

START_TEST(test_read_back) {
  uint8_t bytes[64];
  struct fields_writer writer = {.bytes = bytes, .room = sizeof(bytes)};
  fields_put(&writer, FIELD_REQUIRED | 1, "abc", 3);
  fields_put(&writer, 2, "", 0);
  fields_put_number(&writer, 3, UINT64_MAX);
  struct fields_reader reader = {bytes, writer.size};
  struct field field;
  uint64_t number;
  ck_assert_int_eq(fields_next(&reader, &field), FIELDS_NEXT);
  ck_assert_uint_eq(field.tag, FIELD_REQUIRED | 1);
  ck_assert_uint_eq(field.size, 3);
  ck_assert_mem_eq(field.value, "abc", 3);
  ck_assert_int_eq(fields_next(&reader, &field), FIELDS_NEXT);
  ck_assert_uint_eq(field.tag, 2);
  ck_assert_uint_eq(field.size, 0);
  ck_assert_int_eq(fields_next(&reader, &field), FIELDS_NEXT);
  ck_assert(field_number(&field, &number));
  ck_assert_uint_eq(number, UINT64_MAX);
  ck_assert_int_eq(fields_next(&reader, &field), FIELDS_END);
  ck_assert_int_eq(fields_next(&reader, &field), FIELDS_END);
}
END_TEST

/* A field that has no room leaves the fields before it, and none is written after it. */
START_TEST(test_no_room) {
  for (size_t room = 0; room < FIELD_HEAD + 3 + FIELD_NUMBER + FIELD_HEAD; room++) {
    uint8_t *end = guard_page_map(room);
    struct fields_writer writer = {.bytes = end - room, .room = room};
    fields_put(&writer, 1, "abc", 3);
    fields_put_number(&writer, 2, 7);
    fields_put(&writer, 3, NULL, 0);
    ck_assert(writer.full);
    size_t want = room < FIELD_HEAD + 3                  ? 0
                  : room < FIELD_HEAD + 3 + FIELD_NUMBER ? FIELD_HEAD + 3
                                                         : FIELD_HEAD + 3 + FIELD_NUMBER;
    ck_assert_uint_eq(writer.size, want);
  }
}
END_TEST

/* Every prefix of two fields ends between them, or is refused without a read after its end. */
START_TEST(test_every_prefix) {
  uint8_t bytes[64];
  struct fields_writer writer = {.bytes = bytes, .room = sizeof(bytes)};
  fields_put(&writer, 1, "abc", 3);
  size_t first = writer.size;
  fields_put_number(&writer, 2, 7);
  for (size_t size = 0; size < writer.size; size++) {
    uint8_t *end = guard_page_map(size);
    memcpy(end - size, bytes, size);
    struct fields_reader reader = {end - size, size};
    struct field field;
    enum fields_result result;
    size_t count = 0;
    while ((result = fields_next(&reader, &field)) == FIELDS_NEXT) {
      count++;
    }
    ck_assert_uint_eq(count, size < first ? 0 : 1);
    ck_assert_int_eq(result, size == 0 || size == first ? FIELDS_END : FIELDS_BAD);
  }
}
END_TEST

START_TEST(test_size_that_overflows) {
  static const uint8_t bytes[] = {1, 0, 0xff, 0xff, 0xff, 0xff, 'a'};
  struct fields_reader reader = {bytes, sizeof(bytes)};
  struct field field;
  ck_assert_int_eq(fields_next(&reader, &field), FIELDS_BAD);
}
END_TEST

START_TEST(test_numbers_of_every_size) {
  static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  for (uint32_t size = 0; size <= 9; size++) {
    struct field field = {1, size, bytes};
    uint64_t number = 0, want = 0;
    for (uint32_t i = size; i > 0; i--) {
      want = want << 8 | bytes[i - 1];
    }
    ck_assert_int_eq(field_number(&field, &number), size >= 1 && size <= 8);
    ck_assert_uint_eq(number, size >= 1 && size <= 8 ? want : 0);
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_bytes_are_as_documented, 1},
      {test_read_back, 1},
      {test_no_room, 1},
      {test_every_prefix, 1},
      {test_size_that_overflows, 1},
      {test_numbers_of_every_size, 1},
  };
  return run_suite("fields", tests, count_of(tests));
}
