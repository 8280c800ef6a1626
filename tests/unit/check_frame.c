/*
 * check_frame: single messages under every frame, against the end of readable memory; heads and
 * tails; valid frames. Whole sessions are in check_frame_session.
 */
#include "tests/fixtures/frame_fixture.h"

/* One call with no byte scanned before. */
static enum frame_result cut_once(const struct xchg_frame *frame, size_t max, const void *data,
                                  size_t size, struct frame_parsed *parsed) {
  size_t scanned = 0;
  enum frame_result result = cut_on(frame, max, at_guard(data, size), size, &scanned, parsed);
  ck_assert(result == FRAME_MORE || scanned == 0);
  ck_assert_uint_le(scanned, size);
  return result;
}

static void expect_message(const struct xchg_frame *frame, size_t max, const void *data,
                           size_t size, struct frame_parsed want) {
  struct frame_parsed parsed;
  ck_assert_int_eq(cut_once(frame, max, data, size, &parsed), FRAME_MESSAGE);
  ck_assert_uint_eq(parsed.head, want.head);
  ck_assert_uint_eq(parsed.size, want.size);
  ck_assert_uint_eq(parsed.tail, want.tail);
}

static void expect(const struct xchg_frame *frame, size_t max, const void *data, size_t size,
                   enum frame_result want) {
  struct frame_parsed parsed;
  ck_assert_int_eq(cut_once(frame, max, data, size, &parsed), want);
}

static void expect_last(const struct xchg_frame *frame, size_t max, const void *data, size_t size,
                        enum frame_result want) {
  expect(frame, max, data, size, FRAME_MORE);
  struct frame_parsed parsed;
  ck_assert_int_eq(frame_parse_last(frame, max, at_guard(data, size), size, &parsed), want);
  if (want == FRAME_MESSAGE) {
    ck_assert_uint_eq(parsed.head, 0);
    ck_assert_uint_eq(parsed.size, size);
    ck_assert_uint_eq(parsed.tail, 0);
  }
}

/* ---- one message ---- */

START_TEST(nul_bounds) {
  expect_message(&nul, 5, "\0", 1, (struct frame_parsed){.tail = 1});
  expect_message(&nul, 5, "hello\0", 6, (struct frame_parsed){.size = 5, .tail = 1});
  expect_message(&nul, 5, "he\0lo\0x", 7, (struct frame_parsed){.size = 2, .tail = 1});
  expect(&nul, 5, "hello", 5, FRAME_MORE);
  expect(&nul, 5, "hello!", 6, FRAME_TOO_LONG);
  expect(&nul, 5, "hello!\0", 7, FRAME_TOO_LONG);
  expect(&nul, SIZE_MAX, "hello", 5, FRAME_MORE);
  expect_last(&nul, 5, "h", 1, FRAME_MESSAGE);
  expect_last(&nul, 5, "hello", 5, FRAME_MESSAGE);
  expect_last(&nul, 5, "\r\n", 2, FRAME_MESSAGE);
}
END_TEST

START_TEST(line_bounds) {
  expect_message(&line, 3, "\n", 1, (struct frame_parsed){.tail = 1});
  expect_message(&line, 3, "\r\n", 2, (struct frame_parsed){.tail = 2});
  expect_message(&line, 3, "\r\r\n", 3, (struct frame_parsed){.size = 1, .tail = 2});
  expect_message(&line, 3, "a\0b\n", 4, (struct frame_parsed){.size = 3, .tail = 1});
  expect_message(&line, 3, "abc\n", 4, (struct frame_parsed){.size = 3, .tail = 1});
  expect_message(&line, 3, "abc\r\n", 5, (struct frame_parsed){.size = 3, .tail = 2});
  expect_message(&line, 3, "ab\r\nc\n", 6, (struct frame_parsed){.size = 2, .tail = 2});
  expect_message(&line, 3, "a\rb\n", 4, (struct frame_parsed){.size = 3, .tail = 1});
  expect(&line, 3, "abc", 3, FRAME_MORE);
  expect(&line, 3, "abc\r", 4, FRAME_MORE);
  expect(&line, 3, "abcd", 4, FRAME_TOO_LONG);
  expect(&line, 3, "abcd\n", 5, FRAME_TOO_LONG);
  expect(&line, 3, "abcd\r\n", 6, FRAME_TOO_LONG);
  expect(&line, 3, "abc\rx", 5, FRAME_TOO_LONG);
  expect(&line, 3, "abc\r\r\n", 6, FRAME_TOO_LONG);
  expect(&line, SIZE_MAX, "abc\r", 4, FRAME_MORE);
  expect_last(&line, 3, "abc", 3, FRAME_MESSAGE);
  expect_last(&line, 3, "ab\r", 3, FRAME_MESSAGE);
  expect_last(&line, 4, "abc\r", 4, FRAME_MESSAGE);
  expect_last(&line, 3, "abc\r", 4, FRAME_TOO_LONG);
}
END_TEST

START_TEST(u16_bounds) {
  expect_message(&u16, 3, "\0\0", 2, (struct frame_parsed){.head = 2});
  expect_message(&u16, 3, "\0\3abcd", 6, (struct frame_parsed){.head = 2, .size = 3});
  expect(&u16, 3, "\0", 1, FRAME_MORE);
  expect(&u16, 3, "\0\3", 2, FRAME_MORE);
  expect(&u16, 3, "\0\3ab", 4, FRAME_MORE);
  expect(&u16, 3, "\xff", 1, FRAME_MORE);
  expect(&u16, 3, "\0\4", 2, FRAME_TOO_LONG);
  expect(&u16, 65534, "\xff\xff", 2, FRAME_TOO_LONG);
  expect(&u16, SIZE_MAX, "\xff\xff", 2, FRAME_MORE);
  expect(&u16, 0x102, "\x01\x02", 2, FRAME_MORE); /* big-endian: 0x0201 would be too long */
  expect(&u16, 0x101, "\x01\x02", 2, FRAME_TOO_LONG);
  expect_last(&u16, 3, "\0", 1, FRAME_TRUNCATED);
  expect_last(&u16, 3, "\0\3ab", 4, FRAME_TRUNCATED);
}
END_TEST

START_TEST(u32_bounds) {
  expect_message(&u32, 3, "\0\0\0\0", 4, (struct frame_parsed){.head = 4});
  expect_message(&u32, 3, "\0\0\0\3abc", 7, (struct frame_parsed){.head = 4, .size = 3});
  expect(&u32, 3, "\xff\xff\xff", 3, FRAME_MORE);
  expect(&u32, 3, "\0\0\0\4", 4, FRAME_TOO_LONG);
  expect(&u32, 1 << 30, "\xff\xff\xff\xff", 4, FRAME_TOO_LONG);
  expect(&u32, SIZE_MAX, "\xff\xff\xff\xff\xff", 5, FRAME_MORE);
  expect(&u32, 0x01020304, "\1\2\3\4", 4, FRAME_MORE);
  expect(&u32, 0x01020303, "\1\2\3\4", 4, FRAME_TOO_LONG);
  expect_last(&u32, 3, "\0\0\0", 3, FRAME_TRUNCATED);
}
END_TEST

START_TEST(fixed_bounds) {
  const struct xchg_frame huge = {.kind = XCHG_FRAME_FIXED, .size = SIZE_MAX};
  expect_message(&fixed3, 3, "a\0\n", 3, (struct frame_parsed){.size = 3});
  expect_message(&fixed3, 9, "abcdef", 6, (struct frame_parsed){.size = 3});
  expect(&fixed3, 3, "ab", 2, FRAME_MORE);
  expect(&fixed3, 2, "a", 1, FRAME_TOO_LONG);
  expect(&huge, SIZE_MAX, "a", 1, FRAME_MORE);
  expect(&huge, 1 << 30, "a", 1, FRAME_TOO_LONG);
  expect_last(&fixed3, 3, "ab", 2, FRAME_TRUNCATED);
}
END_TEST

START_TEST(raw_bounds) {
  expect_message(&raw, 3, "a", 1, (struct frame_parsed){.size = 1});
  expect_message(&raw, 3, "abc", 3, (struct frame_parsed){.size = 3});
  expect_message(&raw, 3, "abcd", 4, (struct frame_parsed){.size = 3});
  expect_message(&raw, SIZE_MAX, "ab\0d", 4, (struct frame_parsed){.size = 4});
  struct frame_parsed parsed;
  ck_assert_int_eq(frame_parse_last(&raw, 3, at_guard("ab", 2), 2, &parsed), FRAME_MESSAGE);
  ck_assert_uint_eq(parsed.size, 2);
}
END_TEST

/* A prefix of every size, in both orders. */
static struct xchg_frame prefix_of(int i) {
  static const size_t sizes[] = {1, 2, 4, 8};
  return (struct xchg_frame){
      .kind = XCHG_FRAME_PREFIX, .size = sizes[i / 2], .little_endian = i % 2 == 1};
}

/* Write ${length} as ${frame} has it, in the simplest way. */
static void put_length(const struct xchg_frame *frame, uint64_t length, uint8_t *bytes) {
  for (size_t i = 0; i < frame->size; i++) {
    size_t at = frame->little_endian ? i : frame->size - 1 - i;
    bytes[at] = (uint8_t)(length % 256);
    length /= 256;
  }
  ck_assert_uint_eq(length, 0);
}

/* The largest length that ${frame} can announce. */
static uint64_t length_max(const struct xchg_frame *frame) {
  return UINT64_MAX >> (64 - 8 * frame->size);
}

START_TEST(prefix_complete) {
  const struct xchg_frame frame = prefix_of(_i);
  const size_t lengths[] = {0, 1, 2, 127, 128, 255, 256, 257, 4000};
  uint8_t bytes[8 + 4000 + 1];
  memset(bytes, 0xee, sizeof(bytes));
  for (size_t i = 0; i < count_of(lengths) && lengths[i] <= length_max(&frame); i++) {
    size_t whole = frame.size + lengths[i];
    put_length(&frame, lengths[i], bytes);
    for (size_t size = 1; size < whole; size++) {
      expect(&frame, lengths[i], bytes, size, FRAME_MORE);
    }
    struct frame_parsed want = {.head = frame.size, .size = lengths[i]};
    expect_message(&frame, lengths[i], bytes, whole, want);
    expect_message(&frame, SIZE_MAX, bytes, whole + 1,
                   want); /* the byte after it belongs to the next message */
    if (whole > 1) {
      expect_last(&frame, lengths[i], bytes, whole - 1, FRAME_TRUNCATED);
    }
  }
}
END_TEST

/* A length over the limit is refused with its last byte. The largest length does not overflow. */
START_TEST(prefix_over_the_limit) {
  const struct xchg_frame frame = prefix_of(_i);
  uint64_t all = length_max(&frame);
  const uint64_t lengths[] = {1, 128, 255, all / 2, all / 2 + 1, all - 7, all - 1, all};
  uint8_t bytes[16];
  memset(bytes, 0, sizeof(bytes));
  for (size_t i = 0; i < count_of(lengths); i++) {
    put_length(&frame, lengths[i], bytes);
    for (size_t size = 1; size < frame.size; size++) {
      expect(&frame, 0, bytes, size, FRAME_MORE);
    }
    expect(&frame, 0, bytes, frame.size, FRAME_TOO_LONG);
    expect(&frame, lengths[i] - 1, bytes, frame.size, FRAME_TOO_LONG);
    expect(&frame, lengths[i] - 1, bytes, sizeof(bytes), FRAME_TOO_LONG);
    expect(&frame, lengths[i], bytes, frame.size, FRAME_MORE);
    if (lengths[i] > sizeof(bytes)) {
      expect(&frame, SIZE_MAX, bytes, sizeof(bytes), FRAME_MORE);
      expect_last(&frame, SIZE_MAX, bytes, sizeof(bytes), FRAME_TRUNCATED);
    }
  }
}
END_TEST

/* Every byte can be the delimiter, and all others are data then. */
START_TEST(any_delimiter) {
  const size_t sizes[] = {1, 2, 254, 255};
  for (int delimiter = 0; delimiter < 256; delimiter++) {
    const struct xchg_frame frame = {.kind = XCHG_FRAME_DELIMITER, .delimiter = (uint8_t)delimiter};
    uint8_t bytes[257];
    for (int i = 0; i < 257; i++) {
      bytes[i] = (uint8_t)(i < 255 ? delimiter + 1 + i : delimiter);
    }
    for (size_t i = 0; i < count_of(sizes); i++) {
      expect(&frame, 255, bytes, sizes[i], FRAME_MORE);
      expect(&frame, sizes[i] - 1, bytes, sizes[i], FRAME_TOO_LONG);
    }
    expect_last(&frame, 255, bytes, 255, FRAME_MESSAGE);
    expect_message(&frame, 255, bytes, 256, (struct frame_parsed){.size = 255, .tail = 1});
    expect_message(&frame, 255, bytes, 257, (struct frame_parsed){.size = 255, .tail = 1});
    expect_message(&frame, 0, bytes + 255, 2, (struct frame_parsed){.tail = 1});
    size_t size = 0;
    ck_assert_mem_eq(frame_tail(&frame, &size), bytes + 255, 1);
    ck_assert_uint_eq(size, 1);
  }
}
END_TEST

/* ---- heads and tails ---- */

START_TEST(frames_without_heads) {
  uint8_t head[FRAME_HEAD_MAX];
  const struct xchg_frame *without[] = {&raw, &nul, &line, &fixed3};
  for (size_t i = 0; i < count_of(without); i++) {
    ck_assert_uint_eq(frame_head(without[i], SIZE_MAX, head), 0);
  }
}
END_TEST

/* A head is what the parser reads, in every size and byte order, up to the largest length. */
START_TEST(heads_of_all_sizes) {
  const struct xchg_frame frame = prefix_of(_i);
  uint64_t all = length_max(&frame);
  const uint64_t lengths[] = {0, 1, 0x7f, 0x80, 0xff, all / 3, all / 2, all / 2 + 1, all - 1, all};
  for (size_t i = 0; i < count_of(lengths); i++) {
    uint8_t head[FRAME_HEAD_MAX + 1], want[FRAME_HEAD_MAX + 1];
    memset(head, 0xee, sizeof(head));
    memset(want, 0xee, sizeof(want));
    put_length(&frame, lengths[i], want);
    ck_assert_uint_eq(frame_head(&frame, lengths[i], head), frame.size);
    ck_assert_mem_eq(head, want, sizeof(head)); /* and no byte after it */
  }
}
END_TEST

/* ---- valid frames ---- */

static size_t never_called(struct xchg_conn *conn, const void *data, size_t size) {
  (void)conn;
  (void)data;
  return size;
}

START_TEST(valid_frames) {
  for (size_t size = 0; size < 20; size++) {
    for (int cuts = 0; cuts < 2; cuts++) {
      struct xchg_frame frame = {.size = size, .parse = cuts == 1 ? never_called : NULL};
      const enum xchg_frame_kind bare[] = {XCHG_FRAME_RAW, XCHG_FRAME_DELIMITER, XCHG_FRAME_LINE};
      for (size_t i = 0; i < count_of(bare); i++) {
        frame.kind = bare[i];
        ck_assert(frame_valid(&frame, 10) == (size == 0 && cuts == 0));
      }
      frame.kind = XCHG_FRAME_FIXED;
      ck_assert(frame_valid(&frame, 10) == (size >= 1 && size <= 10 && cuts == 0));
      frame.kind = XCHG_FRAME_PREFIX;
      bool power = size == 1 || size == 2 || size == 4 || size == 8;
      ck_assert(frame_valid(&frame, 10) == (power && cuts == 0));
      frame.kind = XCHG_FRAME_CUSTOM;
      ck_assert(frame_valid(&frame, 10) == (size == 0 && cuts == 1));
      frame.kind = (enum xchg_frame_kind)(XCHG_FRAME_CUSTOM + 1);
      ck_assert(!frame_valid(&frame, 10));
    }
  }
}
END_TEST

START_TEST(frames_that_announce_their_size) {
  const struct xchg_frame custom = {.kind = XCHG_FRAME_CUSTOM, .parse = never_called};
  ck_assert(frame_declares(&u8) && frame_declares(&fixed3) && frame_declares(&custom));
  ck_assert(!frame_declares(&raw) && !frame_declares(&line) && !frame_declares(&semicolon));
}
END_TEST

START_TEST(tails_of_all_frames) {
  size_t size = 9;
  ck_assert_mem_eq(frame_tail(&nul, &size), "\0", 1);
  ck_assert_uint_eq(size, 1);
  ck_assert_mem_eq(frame_tail(&line, &size), "\n", 1);
  ck_assert_uint_eq(size, 1);
  const struct xchg_frame *without[] = {&raw, &u16, &u32, &fixed3};
  for (size_t i = 0; i < count_of(without); i++) {
    ck_assert_ptr_nonnull(frame_tail(without[i], &size));
    ck_assert_uint_eq(size, 0);
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {nul_bounds, 1},         {line_bounds, 1},
      {u16_bounds, 1},         {u32_bounds, 1},
      {fixed_bounds, 1},       {raw_bounds, 1},
      {prefix_complete, 8},    {prefix_over_the_limit, 8},
      {any_delimiter, 1},      {frames_without_heads, 1},
      {heads_of_all_sizes, 8}, {tails_of_all_frames, 1},
      {valid_frames, 1},       {frames_that_announce_their_size, 1},
  };
  return run_suite_fixture("frame", tests, count_of(tests), setup, NULL);
}
