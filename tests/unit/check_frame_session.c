/*
 * check_frame_session: a stream of messages is parsed alike however it is split.
 *
 * Sessions are fed one byte more at a time from every starting point.
 */
#include "tests/fixtures/frame_fixture.h"

#define CUTS_MAX 64

struct session {
  const struct xchg_frame *frame;
  size_t max;
  const char *bytes;
  size_t size;
  enum frame_result end; /* FRAME_MORE: the stream ends between messages */
  size_t count;          /* messages, including one that the end completes */
};
#define BYTES(text) text, sizeof(text) - 1

static const struct session sessions[] = {
    {&nul, 5, BYTES("one\0two\0\0\0three\0"), FRAME_MORE, 5},
    {&nul, 5, BYTES("one\0two"), FRAME_MESSAGE, 2},
    {&nul, 5, BYTES("one\0toolong\0"), FRAME_TOO_LONG, 1},
    {&line, 5, BYTES("one\ntwo\r\n\n\r\nthree\r\nfour\r\r\nfive\r\n"), FRAME_MORE, 7},
    {&line, 5, BYTES("one\ntwo\r"), FRAME_MESSAGE, 2},
    {&line, 5, BYTES("one\nthree\r"), FRAME_TOO_LONG, 1},
    {&line, 5, BYTES("one\nthree\rx\n"), FRAME_TOO_LONG, 1},
    {&line, 1, BYTES("1\n2\r\n\r\r\n\rx\n"), FRAME_TOO_LONG, 3},
    {&u16, 5, BYTES("\0\3one\0\0\0\5three\0\1\n"), FRAME_MORE, 4},
    {&u16, 5, BYTES("\0\3one\0\3tw"), FRAME_TRUNCATED, 1},
    {&u16, 5, BYTES("\0\3one\0\6"), FRAME_TOO_LONG, 1},
    {&u32, 5, BYTES("\0\0\0\3one\0\0\0\0\0\0\0\5three"), FRAME_MORE, 3},
    {&u32, 5, BYTES("\0\0\0\3one\0\0"), FRAME_TRUNCATED, 1},
    {&u32, 5, BYTES("\0\0\0\3one\x80\0\0\0xx"), FRAME_TOO_LONG, 1},
    {&u8, 5, BYTES("\3one\0\5three\1\0"), FRAME_MORE, 4},
    {&u8, 5, BYTES("\3one\xff"), FRAME_TOO_LONG, 1},
    {&le16, 300, BYTES("\3\0one\0\0\5\0three\1\0\n\0\1x"), FRAME_TRUNCATED, 4},
    {&le16, 5, BYTES("\3\0one\0\1"), FRAME_TOO_LONG, 1},
    {&u64, 5, BYTES("\0\0\0\0\0\0\0\3one\0\0\0\0\0\0\0\0"), FRAME_MORE, 2},
    {&u64, 5, BYTES("\0\0\0\0\0\0\0\3one\xff\xff\xff\xff\xff\xff\xff\xffxx"), FRAME_TOO_LONG, 1},
    {&u64, SIZE_MAX, BYTES("\0\0\0\0\0\0\0\3one\xff\xff\xff\xff\xff\xff\xff\xffxx"),
     FRAME_TRUNCATED, 1},
    {&le64, 5, BYTES("\3\0\0\0\0\0\0\0one\0\0\0\0\0\0\0\0"), FRAME_MORE, 2},
    {&le64, 5, BYTES("\3\0\0\0\0\0\0\0one\0\0\0\0\0\0\0\x80xx"), FRAME_TOO_LONG, 1},
    {&semicolon, 5, BYTES("one;t\0o\n;;thr"), FRAME_MESSAGE, 4},
    {&semicolon, 5, BYTES("one;toolong;"), FRAME_TOO_LONG, 1},
    {&last_byte, 5, BYTES("one\xfft\0o\xff\xff"), FRAME_MORE, 3},
    {&fixed3, 3, BYTES("onetwosix"), FRAME_MORE, 3},
    {&fixed3, 3, BYTES("onetwosi"), FRAME_TRUNCATED, 2},
};

struct outcome {
  struct frame_parsed cuts[CUTS_MAX];
  size_t count;
  enum frame_result end;
};

/* Feed the session: first ${first} bytes, then ${step} more at a time. */
static struct outcome feed(const struct session *s, size_t first, size_t step) {
  struct outcome out = {.end = FRAME_MORE};
  size_t begin = 0, end = first, scanned = 0;
  for (;;) {
    struct frame_parsed parsed;
    enum frame_result result = FRAME_MORE;
    if (end > begin) {
      const uint8_t *data = at_guard(s->bytes + begin, end - begin);
      result = cut_on(s->frame, s->max, data, end - begin, &scanned, &parsed);
      if (result == FRAME_MORE && end == s->size) {
        result = out.end = frame_parse_last(s->frame, s->max, data, end - begin, &parsed);
      }
    } else if (end == s->size) {
      return out;
    }
    if (result == FRAME_MESSAGE) {
      out.cuts[out.count++] = parsed;
      begin += parsed.head + parsed.size + parsed.tail;
      ck_assert_uint_le(begin, end);
    } else if (result != FRAME_MORE) {
      out.end = result;
      return out;
    } else {
      end = min_u64(end + step, s->size);
    }
  }
}

START_TEST(sessions_at_every_split) {
  const struct session *s = &sessions[_i];
  struct outcome whole = feed(s, s->size, 1);
  ck_assert_int_eq(whole.end, s->end);
  ck_assert_uint_eq(whole.count, s->count);
  for (size_t first = 0; first <= s->size; first++) {
    for (size_t step = 1; step <= s->size; step++) {
      struct outcome split = feed(s, first, step);
      ck_assert_int_eq(split.end, whole.end);
      ck_assert_uint_eq(split.count, whole.count);
      ck_assert_mem_eq(split.cuts, whole.cuts, whole.count * sizeof(whole.cuts[0]));
    }
  }
}
END_TEST

/* Scanned bytes are not read again: they may change without an effect. */
START_TEST(scanned_is_not_read_again) {
  const struct xchg_frame *frames[] = {&nul, &line};
  for (size_t i = 0; i < count_of(frames); i++) {
    uint8_t bytes[] = "abcdef";
    size_t scanned = 0;
    struct frame_parsed parsed;
    ck_assert_int_eq(cut_on(frames[i], 10, bytes, 4, &scanned, &parsed), FRAME_MORE);
    ck_assert_uint_eq(scanned, 4);
    memcpy(bytes, "\n\0\n", 3);
    ck_assert_int_eq(cut_on(frames[i], 10, bytes, 6, &scanned, &parsed), FRAME_MORE);
    ck_assert_uint_eq(scanned, 6);
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {sessions_at_every_split, count_of(sessions)},
      {scanned_is_not_read_again, 1},
  };
  return run_suite_fixture("frame_session", tests, count_of(tests), setup, NULL);
}
