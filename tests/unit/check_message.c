/*
 * check_message: payloads are reproducible, fit their frame, and differ from wrong ones.
 *
 * The frames are checked with net/frame, the parser of the server.
 */
#include "xchg-bench/message.h"

#include "net/frame.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define MAX_MESSAGE 65536

static const struct xchg_frame frames[] = {
    {.kind = XCHG_FRAME_RAW},
    {.kind = XCHG_FRAME_DELIMITER},
    {.kind = XCHG_FRAME_LINE},
    {.kind = XCHG_FRAME_PREFIX, .size = 2},
    {.kind = XCHG_FRAME_PREFIX, .size = 4},
    {.kind = XCHG_FRAME_FIXED, .size = 100},
};

static const struct size_spec sizes[] = {
    {SIZE_FIXED, 64, 0},          {SIZE_UNIFORM, 0, 1024}, {SIZE_EXPONENTIAL, 200, 0},
    {SIZE_EXPONENTIAL, 65000, 0}, {SIZE_FIXED, 0, 0},      {SIZE_UNIFORM, 65000, 70000},
};

static struct message_set make(struct xchg_frame frame, struct size_spec size, uint64_t seed) {
  const struct config exchange = {
      .reply = REPLY_ECHO, .frame = frame, .max_message_bytes = MAX_MESSAGE};
  struct message_set set;
  ck_assert_int_eq(message_set_init(&set, &exchange, &size, seed), 0);
  return set;
}

/* Copy all bytes of ${message} in pieces of ${room}; the caller frees them. */
static uint8_t *whole(const struct message *message, size_t room) {
  uint8_t *bytes = malloc(message->total + 1);
  size_t done = 0;
  while (done < message->total) {
    const size_t left = message->total - done;
    const size_t count = message_copy(message, done, bytes + done, left < room ? left : room);
    ck_assert_uint_gt(count, 0);
    done += count;
  }
  ck_assert_uint_eq(done, message->total);
  return bytes;
}

/* Every frame with every size: the server must parse exactly this message. */
START_TEST(test_frames) {
  const struct xchg_frame *frame = &frames[_i];
  for (size_t s = 0; s < count_of(sizes); s++) {
    struct message_set set = make(*frame, sizes[s], 1);
    for (uint64_t i = 0; i < 200; i++) {
      struct message message;
      message_sent(&set, i % 7, i, &message);
      ck_assert_uint_gt(message.total, 0);
      ck_assert_uint_le(message.total, message_total_max(&set));
      uint8_t *bytes = whole(&message, 999);
      struct frame_parsed parsed = {0};
      ck_assert_int_eq(frame_parse(frame, frame->kind == XCHG_FRAME_RAW ? SIZE_MAX : MAX_MESSAGE,
                                   bytes, message.total, &parsed),
                       FRAME_MESSAGE);
      ck_assert_uint_eq(parsed.size, message.size);
      ck_assert_uint_eq(parsed.head + parsed.size + parsed.tail, message.total);
      free(bytes);
    }
    message_set_fini(&set);
  }
}
END_TEST

START_TEST(test_reproducible) {
  struct message_set a = make(frames[0], sizes[1], 1), b = make(frames[0], sizes[1], 1);
  struct message_set c = make(frames[0], sizes[1], 2);
  unsigned other = 0;
  for (uint64_t i = 0; i < 100; i++) {
    struct message one, two, three, reply;
    message_sent(&a, 3, i, &one);
    message_sent(&b, 3, i, &two);
    message_sent(&c, 3, i, &three);
    message_reply(&a, 3, i, &reply);
    uint8_t *x = whole(&one, SIZE_MAX), *y = whole(&two, 1), *z = whole(&three, SIZE_MAX);
    ck_assert_uint_eq(one.total, two.total);
    ck_assert_mem_eq(x, y, one.total);
    ck_assert(message_equals(&reply, 0, x, one.total));
    if (one.total != three.total || memcmp(x, z, one.total) != 0) {
      other++;
    }
    free(x);
    free(y);
    free(z);
  }
  ck_assert_uint_ge(other, 98); /* two messages of 0 bytes may be equal */
  message_set_fini(&a);
  message_set_fini(&b);
  message_set_fini(&c);
}
END_TEST

/* Messages of neighbours differ, so an answer to another message is noticed. */
START_TEST(test_distinct) {
  struct message_set set = make(frames[0], sizes[0], 1);
  for (uint64_t i = 0; i < 300; i++) {
    struct message mine, next, neighbour;
    message_sent(&set, 5, i, &mine);
    message_sent(&set, 5, i + 1, &next);
    message_sent(&set, 6, i, &neighbour);
    uint8_t *bytes = whole(&mine, SIZE_MAX);
    ck_assert(!message_equals(&next, 0, bytes, mine.total));
    ck_assert(!message_equals(&neighbour, 0, bytes, mine.total));
    free(bytes);
  }
  message_set_fini(&set);
}
END_TEST

/* Each changed byte is noticed, at any position and split. */
START_TEST(test_wrong_byte) {
  struct message_set set = make(frames[_i], sizes[0], 1);
  struct message message;
  message_sent(&set, 0, 0, &message);
  uint8_t *bytes = whole(&message, SIZE_MAX);
  for (size_t i = 0; i < message.total; i++) {
    bytes[i] ^= 0x40;
    ck_assert(!message_equals(&message, 0, bytes, message.total));
    ck_assert(!message_equals(&message, i, bytes + i, 1));
    ck_assert(message_equals(&message, 0, bytes, i));
    ck_assert(message_equals(&message, i + 1, bytes + i + 1, message.total - i - 1));
    bytes[i] ^= 0x40;
  }
  free(bytes);
  message_set_fini(&set);
}
END_TEST

/* What arrives in pieces of any size is matched, and a wrong byte at the end is noticed. */
START_TEST(test_match) {
  struct message_set set = make(frames[_i], sizes[0], 1);
  struct message message;
  message_sent(&set, 0, 0, &message);
  uint8_t *bytes = whole(&message, SIZE_MAX);
  for (size_t piece = 1; piece <= message.total; piece++) {
    uint64_t done = 0;
    while (done < message.total) {
      uint64_t before = done, left = message.total - done;
      size_t size = (size_t)min_u64(piece, left);
      ck_assert_uint_eq(message_match(&message, &done, bytes + done, size), size);
      ck_assert_uint_eq(done, before + size);
    }
  }
  uint64_t done = 1;
  bytes[message.total - 1] ^= 1;
  ck_assert_uint_eq(message_match(&message, &done, bytes + 1, message.total - 1), 0);
  ck_assert_uint_eq(done, 1);
  free(bytes);
  message_set_fini(&set);
}
END_TEST

/* A message that is longer than the pool wraps around. */
START_TEST(test_longer_than_pool) {
  struct message_set set = make(frames[0], (struct size_spec){SIZE_FIXED, 3 << 20, 0}, 1);
  ck_assert_uint_le(set.pool_size, MESSAGE_POOL_MAX);
  struct message message;
  message_sent(&set, 1, 1, &message);
  ck_assert_uint_eq(message.total, 3 << 20);
  uint8_t *bytes = whole(&message, 12345);
  ck_assert(message_equals(&message, 0, bytes, message.total));
  bytes[message.total - 1] ^= 1;
  ck_assert(!message_equals(&message, 0, bytes, message.total));
  free(bytes);
  message_set_fini(&set);
}
END_TEST

/* The drawn sizes have the requested mean and bounds. */
START_TEST(test_sizes) {
  struct message_set uniform = make(frames[4], (struct size_spec){SIZE_UNIFORM, 16, 31}, 1);
  struct message_set exponential = make(frames[4], (struct size_spec){SIZE_EXPONENTIAL, 200, 0}, 1);
  unsigned seen[32] = {0};
  double sum = 0;
  for (uint64_t i = 0; i < 20000; i++) {
    struct message message;
    message_sent(&uniform, 0, i, &message);
    ck_assert_uint_ge(message.size, 16);
    ck_assert_uint_le(message.size, 31);
    seen[message.size]++;
    message_sent(&exponential, 0, i, &message);
    sum += (double)message.size;
  }
  for (unsigned size = 16; size <= 31; size++) {
    ck_assert_uint_ge(seen[size], 20000 / 16 * 3 / 4);
  }
  ck_assert_double_eq_tol(sum / 20000, 200, 10);
  message_set_fini(&uniform);
  message_set_fini(&exponential);
}
END_TEST

START_TEST(test_texts) {
  uint8_t hello[] = "hello", answer[] = "ok";
  const struct config exchange = {.has_greeting = true,
                                  .greeting = {hello, 5},
                                  .reply = REPLY_TEXT,
                                  .reply_text = {answer, 2},
                                  .frame = {.kind = XCHG_FRAME_PREFIX, .size = 2},
                                  .max_message_bytes = MAX_MESSAGE};
  struct message_set set;
  struct message reply;
  ck_assert_int_eq(message_set_init(&set, &exchange, &sizes[0], 1), 0);
  ck_assert(message_replies(&set));
  ck_assert_uint_eq(set.greeting.total, 7);
  ck_assert(message_equals(&set.greeting, 0, (const uint8_t *)"\0\5hello", 7));
  message_reply(&set, 9, 9, &reply);
  ck_assert_uint_eq(reply.total, 4);
  ck_assert(message_equals(&reply, 0, (const uint8_t *)"\0\2ok", 4));
  message_set_fini(&set);
}
END_TEST

START_TEST(test_no_reply) {
  const struct config exchange = {.reply = REPLY_NONE,
                                  .frame = {.kind = XCHG_FRAME_DELIMITER},
                                  .max_message_bytes = MAX_MESSAGE};
  struct message_set set;
  struct message reply;
  ck_assert_int_eq(message_set_init(&set, &exchange, &sizes[0], 1), 0);
  ck_assert(!message_replies(&set));
  ck_assert_uint_eq(set.greeting.total, 0);
  message_reply(&set, 0, 0, &reply);
  ck_assert_uint_eq(reply.total, 0);
  message_set_fini(&set);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_frames, count_of(frames)},
      {test_reproducible, 1},
      {test_distinct, 1},
      {test_wrong_byte, count_of(frames)},
      {test_match, count_of(frames)},
      {test_longer_than_pool, 1},
      {test_sizes, 1},
      {test_texts, 1},
      {test_no_reply, 1},
  };
  return run_suite("message", tests, count_of(tests));
}
