/*
 * check_conn_custom: frames that a handler parses itself, and prefixes of all sizes: the messages
 * do not depend on how the bytes are split, and an announced length takes no memory.
 *
 * The frame here is "<digits>:<bytes>". Its parser announces the whole size as soon as it sees the
 * colon, and refuses a character that is no digit.
 */
#include "tests/fixtures/handler_fixture.h"

/* What the parser returned last, in each connection's state. */
struct cutter {
  size_t wanted; /* bytes that it asked for; 0 = unknown */
  uint32_t calls;
};

static size_t cut(struct xchg_conn *conn, const void *data, size_t size) {
  struct cutter *cutter = xchg_state(conn);
  const uint8_t *bytes = data;
  size_t length = 0, at = 0;
  cutter->calls++;
  require(size > 0, "the parser gets at least one byte");
  require(size >= cutter->wanted,
          "the parser is not called before the bytes that it asked for are there");
  for (; at < size && bytes[at] != ':'; at++) {
    if (bytes[at] < '0' || bytes[at] > '9') {
      return XCHG_PARSE_ERROR;
    }
    length = 10 * length + (size_t)(bytes[at] - '0');
  }
  size_t end = at == size ? 0 : at + 1 + length;
  cutter->wanted = end > size ? end : 0;
  return end;
}

static void custom_init(void) {
  fixture.handler.frame = (struct xchg_frame){.kind = XCHG_FRAME_CUSTOM, .parse = cut};
  fixture.handler.state_size = sizeof(struct cutter);
}

#define SESSION "3:one0:5:three0:1::12:a longer one"
#define SESSION_GOT "3:one|0:|5:three|0:|1::|12:a longer one|"

static void expect_session(int fd) {
  CLIENT_EXPECT(fd, SESSION);
  fixture_settle();
  ck_assert_uint_eq(fixture.got_size, sizeof(SESSION_GOT) - 1);
  ck_assert_mem_eq(fixture.got, SESSION_GOT, sizeof(SESSION_GOT) - 1);
}

/* Once in two pieces, once in pieces of one size, for every split and size. */
START_TEST(test_custom_frame_at_every_split) {
  const size_t size = sizeof(SESSION) - 1;
  for (size_t split = 0; split <= 2 * size; split++) {
    custom_init();
    int fd = start_and_connect(_i == 1);
    size_t step = split <= size ? size : split - size;
    size_t first = min_u64(split, step);
    client_send(fd, SESSION, min_u64(first, size));
    fixture_settle();
    for (size_t at = first; at < size; at += step) {
      client_send(fd, &SESSION[at], min_u64(step, size - at));
      fixture_settle();
    }
    expect_session(fd);
    close_and_expect_end(fd, XCHG_FINISHED);
    handler_fixture_reset();
  }
}
END_TEST

/* Once the length is known, the bytes of a long message cost no call of the parser. */
START_TEST(test_parser_is_called_when_the_message_is_complete) {
  custom_init();
  int fd = start_and_connect(_i == 1);
  struct cutter *cutter = xchg_state(fixture_conn());
  CLIENT_SEND(fd, "1000:");
  fixture_settle();
  uint32_t calls = cutter->calls;
  for (int i = 0; i < 999; i++) {
    CLIENT_SEND(fd, "x");
  }
  fixture_settle();
  ck_assert_uint_eq(cutter->calls, calls);
  ck_assert_uint_eq(fixture.messages, 0);
  CLIENT_SEND(fd, "x2:");
  fixture_settle();
  ck_assert_uint_eq(cutter->calls, calls + 2); /* the message, and the beginning of the next one */
  ck_assert_uint_eq(fixture.messages, 1);
  CLIENT_SEND(fd, "ab");
  fixture_settle();
  ck_assert_uint_eq(fixture.messages, 2);
  close(fd);
  fixture_until_all_closed();
}
END_TEST

START_TEST(test_parser_is_not_called_while_paused) {
  custom_init();
  acts[AT_MESSAGE] = act_pause;
  fixture_start(_i == 1);
  uint64_t id;
  int fd = client_connect_id(&id);
  struct cutter *cutter = xchg_state(fixture_conn());
  CLIENT_SEND(fd, SESSION);
  for (uint32_t n = 1; n <= 6; n++) {
    fixture_settle();
    ck_assert_uint_eq(fixture.messages, n);
    ck_assert_uint_eq(cutter->calls, n);
    post_act(id, act_resume);
  }
  expect_session(fd);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

struct bad {
  const char *bytes; /* after two good messages */
  size_t max;
  enum xchg_reason reason;
  bool ends; /* then the client ends the stream */
};

static const struct bad bads[] = {
    {"x", 20, XCHG_ERROR, false},
    {"1x:a", 20, XCHG_ERROR, false},
    {"3:aax3:bbb", 20, XCHG_FINISHED, true}, /* data is not parsed */
    {"18:", 20, XCHG_TOO_LONG, false},       /* 21 bytes are announced */
    {"17:a", 20, XCHG_TRUNCATED, true},      /* 20 bytes are announced */
    {"17:aaaaaaaaaaaaaaaaa", 20, XCHG_FINISHED, true},
    {"000000000000000000001:a", 20, XCHG_TOO_LONG, false}, /* more than 20 bytes without a colon */
    {"000000000000000000000", 20, XCHG_TOO_LONG, false},   /* the same without an announced byte */
    {"00000000000000000000", 20, XCHG_TRUNCATED, true},
    {"3", 20, XCHG_TRUNCATED, true},
    {"3:aa", 20, XCHG_TRUNCATED, true},
    {"5:aaaaa", 6, XCHG_TOO_LONG, false}, /* complete, but too long */
    {"18446744073709551000:", 30, XCHG_TOO_LONG, false},
};

/* At every split the messages before are answered, and then the connection ends. */
START_TEST(test_bad_custom_frames_at_every_split) {
  const struct bad *bad = &bads[_i];
  for (size_t split = 0; split <= strlen(bad->bytes); split++) {
    custom_init();
    fixture.handler.max_message = bad->max;
    int fd = start_and_connect((split & 1) != 0);
    char bytes[100];
    int size = snprintf(bytes, sizeof(bytes), "3:one0:%.*s", (int)split, bad->bytes);
    ck_assert_int_eq(send(fd, bytes, (size_t)size, 0), size);
    fixture_settle();
    (void)send(fd, bad->bytes + split, strlen(bad->bytes) - split, MSG_NOSIGNAL);
    if (bad->ends) {
      client_shutdown(fd);
    }
    CLIENT_EXPECT(fd, "3:one0:");
    if (bad->reason == XCHG_FINISHED) {
      char back[100];
      ck_assert_uint_eq(client_recv(fd, back, strlen(bad->bytes)), strlen(bad->bytes));
    }
    client_expect_end(fd);
    client_shutdown(fd);
    expect_end_then_close(fd, bad->reason);
    handler_fixture_reset();
  }
}
END_TEST

/* Sizes from just over the limit to the largest that is not XCHG_PARSE_ERROR. */
static size_t cut_at_will(struct xchg_conn *conn, const void *data, size_t size) {
  (void)data;
  (void)size;
  return *(const size_t *)xchg_user(conn);
}

START_TEST(test_parser_announces_too_much) {
  static const size_t wants[] = {SIZE_MAX - 1, SIZE_MAX / 2, 64 * 1024 + 1};
  custom_init();
  fixture.handler.frame.parse = cut_at_will;
  fixture.handler.user = (void *)(uintptr_t)&wants[_i / 2];
  int fd = start_and_connect((_i & 1) != 0);
  CLIENT_SEND(fd, "x");
  client_expect_end(fd);
  ck_assert_uint_eq(fixture.ctx.bufs.bytes, 0);
  close_and_expect_end(fd, XCHG_TOO_LONG);
}
END_TEST

/* ---- prefixes ---- */

/*
 * The largest length that a prefix of ${size} bytes can announce is too long and takes no memory.
 */
START_TEST(test_prefix_announces_too_much) {
  static const size_t sizes[] = {1, 2, 4, 8};
  size_t size = sizes[_i / 4];
  fixture.handler.frame =
      (struct xchg_frame){.kind = XCHG_FRAME_PREFIX, .size = size, .little_endian = (_i & 2) != 0};
  fixture.handler.max_message = 254;
  int fd = start_and_connect((_i & 1) != 0);
  client_send(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", size - 1);
  fixture_settle();
  ck_assert_uint_le(fixture.ctx.bufs.bytes, BUF_BLOCK_MIN);
  ck_assert_uint_eq(fixture.closes, 0);
  CLIENT_SEND(fd, "\xff");
  client_expect_end(fd);
  ck_assert_uint_eq(fixture.ctx.bufs.bytes, 0);
  close_and_expect_end(fd, XCHG_TOO_LONG);
}
END_TEST

/* A message that announces the largest size takes memory only for the bytes that have arrived. */
START_TEST(test_long_prefix_takes_no_memory_in_advance) {
  fixture.handler.frame =
      (struct xchg_frame){.kind = XCHG_FRAME_PREFIX, .size = 8, .little_endian = (_i & 2) != 0};
  fixture.handler.max_message = XCHG_MESSAGE_MAX;
  int fd = start_and_connect((_i & 1) != 0);
  uint8_t head[FRAME_HEAD_MAX];
  size_t size = frame_head(&fixture.handler.frame, XCHG_MESSAGE_MAX, head);
  client_send(fd, head, size);
  CLIENT_SEND(fd, "a few bytes");
  fixture_settle();
  ck_assert_uint_le(fixture.ctx.bufs.bytes, 2 * BUF_BLOCK_MIN);
  client_shutdown(fd);
  expect_end_then_close(fd, XCHG_TRUNCATED);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_custom_frame_at_every_split, 2},
      {test_parser_is_called_when_the_message_is_complete, 2},
      {test_parser_is_not_called_while_paused, 2},
      {test_bad_custom_frames_at_every_split, count_of(bads)},
      {test_parser_announces_too_much, 6},
      {test_prefix_announces_too_much, 16},
      {test_long_prefix_takes_no_memory_in_advance, 4},
  };
  return run_suite_fixture("conn_custom", tests, count_of(tests), handler_fixture_init,
                           handler_fixture_fini);
}
