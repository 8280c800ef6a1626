/*
 * check_conn_custom: frames that a handler cuts itself, and prefixes of all sizes: what comes of
 * them does not depend on how the bytes were split, and no announced length takes memory.
 *
 * The frame here is "<digits>:<bytes>": the whole is announced as soon as the colon is there, and
 * a digit must be one.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/unit/stage.h"

/* What the cutting function was told last, in each connection's state. */
struct cutter {
  size_t wanted; /* bytes that it asked for; 0 = it did not say */
  uint32_t calls;
};

static size_t cut(struct xchg_conn *conn, const void *data, size_t size) {
  struct cutter *cutter = xchg_state(conn);
  const uint8_t *bytes = data;
  size_t length = 0, at = 0;
  cutter->calls++;
  rig_holds(size > 0, "there is a byte");
  rig_holds(size >= cutter->wanted, "it is not asked before as many are there as it wanted");
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

static void custom_init(struct stage *stage) {
  stage_init(stage);
  stage->rig.handler.frame = (struct xchg_frame){.kind = XCHG_FRAME_CUSTOM, .parse = cut};
  stage->rig.handler.state_size = sizeof(struct cutter);
}

#define SESSION "3:one0:5:three0:1::12:a longer one"
#define SESSION_GOT "3:one|0:|5:three|0:|1::|12:a longer one|"

static void expect_session(struct stage *stage, int fd) {
  RIG_GET(&stage->rig, fd, SESSION);
  rig_settle(&stage->rig);
  ck_assert_uint_eq(stage->rig.got_size, sizeof(SESSION_GOT) - 1);
  ck_assert_mem_eq(stage->rig.got, SESSION_GOT, sizeof(SESSION_GOT) - 1);
}

/* In two pieces, then in pieces of every size. */
START_TEST(test_every_split) {
  const size_t size = sizeof(SESSION) - 1;
  for (size_t split = 0; split <= 2 * size; split++) {
    struct stage stage;
    custom_init(&stage);
    stage_start(&stage, _i == 1);
    int fd = rig_connect(&stage.rig);
    size_t step = split <= size ? size : split - size;
    size_t first = min_u64(split, step);
    rig_put(&stage.rig, fd, SESSION, min_u64(first, size));
    rig_settle(&stage.rig);
    for (size_t at = first; at < size; at += step) {
      rig_put(&stage.rig, fd, &SESSION[at], min_u64(step, size - at));
      rig_settle(&stage.rig);
    }
    expect_session(&stage, fd);
    close(fd);
    rig_over(&stage.rig, XCHG_FINISHED);
    stage_fini(&stage);
  }
}
END_TEST

/* A long message that comes byte by byte costs two looks, once its length is known. */
START_TEST(test_asked_when_enough_is_there) {
  struct stage stage;
  custom_init(&stage);
  stage_start(&stage, _i == 1);
  int fd = rig_connect(&stage.rig);
  struct cutter *cutter = xchg_state(rig_conn(&stage.rig));
  RIG_PUT(&stage.rig, fd, "1000:");
  rig_settle(&stage.rig);
  uint32_t calls = cutter->calls;
  for (int i = 0; i < 999; i++) {
    RIG_PUT(&stage.rig, fd, "x");
  }
  rig_settle(&stage.rig);
  ck_assert_uint_eq(cutter->calls, calls);
  ck_assert_uint_eq(stage.rig.messages, 0);
  RIG_PUT(&stage.rig, fd, "x2:");
  rig_settle(&stage.rig);
  ck_assert_uint_eq(cutter->calls, calls + 2); /* the message, and what begins behind it */
  ck_assert_uint_eq(stage.rig.messages, 1);
  RIG_PUT(&stage.rig, fd, "ab");
  rig_settle(&stage.rig);
  ck_assert_uint_eq(stage.rig.messages, 2);
  close(fd);
  RIG_UNTIL(&stage.rig, stage.rig.slab.used == 0);
  stage_fini(&stage);
}
END_TEST

/* Nothing is cut while it is paused, and no function is asked. */
START_TEST(test_not_asked_while_paused) {
  struct stage stage;
  custom_init(&stage);
  stage.acts[AT_MESSAGE] = stage_pause;
  stage_start(&stage, _i == 1);
  uint64_t id;
  int fd = stage_connect(&stage, &id);
  struct cutter *cutter = xchg_state(rig_conn(&stage.rig));
  RIG_PUT(&stage.rig, fd, SESSION);
  for (uint32_t n = 1; n <= 6; n++) {
    rig_settle(&stage.rig);
    ck_assert_uint_eq(stage.rig.messages, n);
    ck_assert_uint_eq(cutter->calls, n);
    stage_post(&stage, id, stage_resume);
  }
  expect_session(&stage, fd);
  close(fd);
  rig_over(&stage.rig, XCHG_FINISHED);
  stage_fini(&stage);
}
END_TEST

struct bad {
  const char *bytes; /* behind two good messages */
  size_t max;
  enum xchg_reason reason;
  bool ends; /* ... with the end of the stream */
};

static const struct bad bads[] = {
    {"x", 20, XCHG_ERROR, false},
    {"1x:a", 20, XCHG_ERROR, false},
    {"3:aax3:bbb", 20, XCHG_FINISHED, true}, /* not looked at: it is data */
    {"18:", 20, XCHG_TOO_LONG, false},       /* 21 bytes are announced */
    {"17:a", 20, XCHG_TRUNCATED, true},      /* 20 */
    {"17:aaaaaaaaaaaaaaaaa", 20, XCHG_FINISHED, true},
    {"000000000000000000001:a", 20, XCHG_TOO_LONG, false}, /* more than 20 and no end */
    {"000000000000000000000", 20, XCHG_TOO_LONG, false},   /* ... nor will there be */
    {"00000000000000000000", 20, XCHG_TRUNCATED, true},
    {"3", 20, XCHG_TRUNCATED, true},
    {"3:aa", 20, XCHG_TRUNCATED, true},
    {"5:aaaaa", 6, XCHG_TOO_LONG, false}, /* complete, and too long */
    {"18446744073709551000:", 30, XCHG_TOO_LONG, false},
};

/* However it is split, what came before is answered, and then it ends. */
START_TEST(test_bad) {
  const struct bad *bad = &bads[_i];
  for (size_t split = 0; split <= strlen(bad->bytes); split++) {
    struct stage stage;
    custom_init(&stage);
    stage.rig.handler.max_message = bad->max;
    stage_start(&stage, (split & 1) != 0);
    int fd = rig_connect(&stage.rig);
    char bytes[100];
    int size = snprintf(bytes, sizeof(bytes), "3:one0:%.*s", (int)split, bad->bytes);
    ck_assert_int_eq(send(fd, bytes, (size_t)size, 0), size);
    rig_settle(&stage.rig);
    (void)send(fd, bad->bytes + split, strlen(bad->bytes) - split, MSG_NOSIGNAL);
    if (bad->ends) {
      ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    }
    RIG_GET(&stage.rig, fd, "3:one0:");
    if (bad->reason == XCHG_FINISHED) {
      char back[100];
      ck_assert_uint_eq(rig_get(&stage.rig, fd, back, strlen(bad->bytes)), strlen(bad->bytes));
    }
    rig_get_end(&stage.rig, fd);
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    rig_over(&stage.rig, bad->reason);
    close(fd);
    stage_fini(&stage);
  }
}
END_TEST

/* A cut that returns the largest number that is no word for bad, and ones around what is there. */
static size_t cut_at_will(struct xchg_conn *conn, const void *data, size_t size) {
  (void)data;
  (void)size;
  return *(const size_t *)xchg_user(conn);
}

START_TEST(test_cut_announces_too_much) {
  static const size_t wants[] = {SIZE_MAX - 1, SIZE_MAX / 2, 64 * 1024 + 1};
  struct stage stage;
  custom_init(&stage);
  stage.rig.handler.frame.parse = cut_at_will;
  stage.rig.handler.user = (void *)(uintptr_t)&wants[_i / 2];
  stage_start(&stage, (_i & 1) != 0);
  int fd = rig_connect(&stage.rig);
  RIG_PUT(&stage.rig, fd, "x");
  rig_get_end(&stage.rig, fd);
  ck_assert_uint_eq(stage.rig.host.bufs.bytes, 0);
  close(fd);
  rig_over(&stage.rig, XCHG_TOO_LONG);
  stage_fini(&stage);
}
END_TEST

/* ---- prefixes ---- */

/* The greatest length that ${size} bytes can announce is too long, and takes no memory. */
START_TEST(test_prefix_announces_too_much) {
  static const size_t sizes[] = {1, 2, 4, 8};
  size_t size = sizes[_i / 4];
  struct stage stage;
  stage_init(&stage);
  stage.rig.handler.frame =
      (struct xchg_frame){.kind = XCHG_FRAME_PREFIX, .size = size, .little_endian = (_i & 2) != 0};
  stage.rig.handler.max_message = 254;
  stage_start(&stage, (_i & 1) != 0);
  int fd = rig_connect(&stage.rig);
  rig_put(&stage.rig, fd, "\xff\xff\xff\xff\xff\xff\xff\xff", size - 1);
  rig_settle(&stage.rig);
  ck_assert_uint_le(stage.rig.host.bufs.bytes, BUF_BLOCK_MIN);
  ck_assert_uint_eq(stage.rig.closes, 0);
  RIG_PUT(&stage.rig, fd, "\xff");
  rig_get_end(&stage.rig, fd);
  ck_assert_uint_eq(stage.rig.host.bufs.bytes, 0);
  close(fd);
  rig_over(&stage.rig, XCHG_TOO_LONG);
  stage_fini(&stage);
}
END_TEST

/* An eight-byte prefix within the largest limit takes no more memory than came of it. */
START_TEST(test_long_prefix_takes_what_came) {
  struct stage stage;
  stage_init(&stage);
  stage.rig.handler.frame =
      (struct xchg_frame){.kind = XCHG_FRAME_PREFIX, .size = 8, .little_endian = (_i & 2) != 0};
  stage.rig.handler.max_message = XCHG_MESSAGE_MAX;
  stage_start(&stage, (_i & 1) != 0);
  int fd = rig_connect(&stage.rig);
  uint8_t head[FRAME_HEAD_MAX];
  size_t size = frame_head(&stage.rig.handler.frame, XCHG_MESSAGE_MAX, head);
  rig_put(&stage.rig, fd, head, size);
  RIG_PUT(&stage.rig, fd, "a few bytes");
  rig_settle(&stage.rig);
  ck_assert_uint_le(stage.rig.host.bufs.bytes, 2 * BUF_BLOCK_MIN);
  ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
  rig_over(&stage.rig, XCHG_TRUNCATED);
  close(fd);
  stage_fini(&stage);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_every_split, 2},
      {test_asked_when_enough_is_there, 2},
      {test_not_asked_while_paused, 2},
      {test_bad, count_of(bads)},
      {test_cut_announces_too_much, 6},
      {test_prefix_announces_too_much, 16},
      {test_long_prefix_takes_what_came, 4},
  };
  return run_suite("conn_custom", tests, count_of(tests));
}
