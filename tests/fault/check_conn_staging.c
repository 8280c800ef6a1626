/*
 * check_conn_staging: what a handler sends in its connection's own turn.  It is written from the
 * worker's staging block, and what the kernel did not take moves to the connection's send queue.
 *
 * The kernel takes less where an order says so.  After each turn the fixture checks that no
 * connection holds the block.
 */
#include "tests/fault/fault.h"
#include "tests/fixtures/handler_fixture.h"

#define REPLY "0123456789"
#define REPLY_BYTES (sizeof(REPLY) - 1)
#define TAKEN 3 /* bytes of a shortened send */

static bool is_staged(const struct xchg_conn *conn) {
  return conn->out.bytes != NULL && conn->out.bytes->slot == BUF_STAGING;
}

static void send_text(struct xchg_conn *conn, const char *text) {
  ck_assert_int_eq(xchg_send(conn, text, strlen(text)), 0);
}

static void reply(struct xchg_conn *conn) {
  size_t before = xchg_pending(conn);
  bool staged = is_staged(conn) || send_queue_empty(&conn->out);
  send_text(conn, REPLY);
  ck_assert_uint_eq(xchg_pending(conn), before + REPLY_BYTES);
  ck_assert_int_eq(is_staged(conn), staged);
}

/* Connect a client whose messages are answered by ${act}, with the memory that a stall needs. */
static int connect_with(act_fn *act, bool single) {
  acts[AT_MESSAGE] = act;
  fixture_start(single);
  int fd = client_connect();
  fixture_settle();
  fault_reset();
  return fd;
}

/* Let the next send take ${taken} bytes; 0 = EAGAIN. */
static void limit_send(size_t taken) {
  if (taken == 0) {
    orders_fail(FAULT_SEND, 1, EAGAIN, 1);
  } else {
    orders_shorten(FAULT_SEND, 1, taken, 1);
  }
}

/* One turn for what the client has sent. */
static void run_one_turn(int fd, const char *message, size_t size) {
  ck_assert_int_eq(send(fd, message, size, MSG_NOSIGNAL), (ssize_t)size);
  fixture_turn(sys_now_ns() + FIXTURE_TIMEOUT_NS);
}

/* All is sent: no memory is used, and no block is taken from a slab. */
START_TEST(test_reply_needs_no_memory) {
  int fd = connect_with(reply, _i == 1);
  fixture.ctx.bufs.bytes_max = 0;
  CLIENT_SEND(fd, "m\0m\0m\0");
  CLIENT_EXPECT(fd, REPLY REPLY REPLY);
  fixture_settle();
  ck_assert_uint_eq(orders_count(FAULT_MAP), 0);
  ck_assert_uint_eq(call_count[AT_DRAIN], 1);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* The kernel takes a part, or nothing: the rest waits in a block of its own, then follows. */
START_TEST(test_rest_is_queued) {
  size_t taken = (_i & 1) != 0 ? TAKEN : 0;
  int fd = connect_with(reply, (_i & 2) != 0);
  limit_send(taken);
  run_one_turn(fd, "m", 2);
  struct xchg_conn *conn = fixture_conn();
  ck_assert(conn->stalled && !is_staged(conn));
  ck_assert_uint_eq(xchg_pending(conn), REPLY_BYTES - taken);
  ck_assert_uint_eq(fixture.ctx.bufs.bytes, BUF_BLOCK_MIN);
  ck_assert_uint_eq(call_count[AT_DRAIN], 0);
  CLIENT_EXPECT(fd, REPLY);
  fixture_settle();
  ck_assert_uint_eq(fixture.ctx.bufs.bytes, 0);
  ck_assert_uint_eq(call_count[AT_DRAIN], 1);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* No memory for the stall, or for the copy of the rest: the connection ends as memory. */
START_TEST(test_no_memory_for_the_rest) {
  size_t taken = (_i & 1) != 0 ? TAKEN : 0;
  int fd = connect_with(reply, false);
  int other = client_connect();
  limit_send(taken);
  orders_fail(FAULT_MAP, (_i & 2) != 0 ? 2 : 1, ENOMEM, UINT64_MAX);
  CLIENT_SEND(fd, "m\0");
  FIXTURE_UNTIL(fixture.closes == 1);
  ck_assert_int_eq(fixture.reason, XCHG_MEMORY);
  char got[REPLY_BYTES];
  ck_assert_uint_eq(client_recv(fd, got, sizeof(got)), taken);
  CLIENT_SEND(other, "m\0"); /* no memory is needed */
  CLIENT_EXPECT(other, REPLY);
  fault_reset();
  close(fd);
  close(other);
  fixture_until_all_closed();
}
END_TEST

/* While output is queued, further output is queued after it, and is not staged. */
START_TEST(test_order_after_queued_output) {
  int fd = connect_with(reply, _i == 1);
  limit_send(TAKEN);
  run_one_turn(fd, "m", 2);
  orders_fail(FAULT_SEND, 1, EAGAIN, 2);
  run_one_turn(fd, "m\0m", 4);
  ck_assert_uint_eq(xchg_pending(fixture_conn()), 3 * REPLY_BYTES - TAKEN);
  fault_reset();
  CLIENT_EXPECT(fd, REPLY REPLY REPLY);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

static void send_mixed(struct xchg_conn *conn) {
  const struct iovec parts[] = {{(void *)"de", 2}, {NULL, 0}, {(void *)"f", 1}};
  send_text(conn, "a");
  ck_assert_int_eq(send_ref(conn, "bc", 2), 0);
  ck_assert_int_eq(xchg_sendv(conn, parts, count_of(parts)), 0);
  ck_assert_int_eq(send_ref(conn, "", 0), 0);
  ck_assert_int_eq(send_ref(conn, "g", 1), 0);
  send_text(conn, "h");
}

/* Staged bytes come before references and the bytes after them, wherever the kernel stops. */
START_TEST(test_order_with_references) {
  int fd = connect_with(send_mixed, false);
  orders_shorten(FAULT_SENDMSG, 1, (size_t)_i, 1);
  if (_i == 0) {
    orders_fail(FAULT_SENDMSG, 1, EAGAIN, 1);
  }
  run_one_turn(fd, "m", 2);
  ck_assert_uint_eq(xchg_pending(fixture_conn()), 8 - (size_t)_i);
  CLIENT_EXPECT(fd, "abcdefgh");
  CLIENT_SEND(fd, "m\0");
  CLIENT_EXPECT(fd, "abcdefgh");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

static void reply_outside(struct xchg_conn *conn) {
  send_text(conn, REPLY);
  ck_assert(!is_staged(conn));
}

static void send_to_other(struct xchg_conn *conn) {
  struct xchg_conn *other = test_data;
  send_text(conn, "own, ");
  if (conn != other) {
    send_text(other, "other");
    ck_assert(is_staged(conn) && !is_staged(other));
  }
  send_text(conn, "end");
}

/* A handler sends to another connection in its turn, then that one in its own. */
START_TEST(test_sends_to_another_connection) {
  int fd = connect_with(send_to_other, false);
  uint64_t id;
  int other = client_connect_id(&id);
  test_data = fixture_newest();
  limit_send(_i == 0 ? TAKEN : 0);
  CLIENT_SEND(fd, "m\0");
  CLIENT_EXPECT(other, "other");
  CLIENT_EXPECT(fd, "own, end");
  CLIENT_SEND(other, "m\0");
  CLIENT_EXPECT(other, "own, end");
  post_act(id, reply_outside);
  CLIENT_EXPECT(other, REPLY);
  close(fd);
  close(other);
  fixture_until_all_closed();
}
END_TEST

static char long_bytes[CONN_TURN_BYTES + 1];

static void send_long(struct xchg_conn *conn) {
  const size_t first = *(const size_t *)test_data;
  ck_assert_int_eq(xchg_send(conn, long_bytes, first), 0);
  ck_assert_int_eq(xchg_send(conn, long_bytes + first, sizeof(long_bytes) - first), 0);
  ck_assert(!is_staged(conn));
}

/* One byte more than the block has, sent as a whole or in two parts. */
START_TEST(test_more_than_the_block) {
  size_t firsts[] = {0, 1, CONN_TURN_BYTES, sizeof(long_bytes)};
  memset(long_bytes, 'z', sizeof(long_bytes));
  test_data = &firsts[_i];
  int fd = connect_with(send_long, false);
  CLIENT_SEND(fd, "m\0");
  client_expect_all(fd, sizeof(long_bytes), 'z');
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

static void reply_once_blocked(struct xchg_conn *conn) {
  ck_assert_uint_eq(xchg_pending(conn), 0); /* else no message would have been delivered */
  reply(conn);
}

/* Staged bytes count against XCHG_MAX_PENDING. */
START_TEST(test_staged_bytes_block_the_input) {
  fixture.config.max_pending_bytes = REPLY_BYTES;
  int fd = connect_with(reply_once_blocked, _i == 1);
  CLIENT_SEND(fd, "m\0m\0m\0");
  CLIENT_EXPECT(fd, REPLY REPLY REPLY);
  ck_assert_uint_eq(call_count[AT_MESSAGE], 3);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

static void send_when_drained(struct xchg_conn *conn) {
  if (call_count[AT_DRAIN] == 1) {
    reply(conn);
  }
}

/* What on_drain sends comes after the turn's write: it is queued, and needs memory. */
START_TEST(test_output_of_on_drain) {
  acts[AT_DRAIN] = send_when_drained;
  int fd = connect_with(reply, false);
  bool memory = _i == 0;
  fixture.ctx.bufs.bytes_max = memory ? fixture.ctx.bufs.bytes_max : 0;
  run_one_turn(fd, "m", 2);
  if (memory) {
    ck_assert_uint_eq(xchg_pending(fixture_conn()), REPLY_BYTES);
    CLIENT_EXPECT(fd, REPLY REPLY);
    fixture_settle();
    ck_assert_uint_eq(call_count[AT_DRAIN], 2);
    close_and_expect_end(fd, XCHG_FINISHED);
  } else {
    CLIENT_EXPECT(fd, REPLY);
    expect_end_then_close(fd, XCHG_MEMORY);
  }
}
END_TEST

static void reply_and_abort(struct xchg_conn *conn) {
  reply(conn);
  act_abort(conn);
}

/* An abort discards what is staged. */
START_TEST(test_abort_discards) {
  int fd = connect_with(reply_and_abort, false);
  CLIENT_SEND(fd, "m\0");
  client_expect_end(fd);
  ck_assert_uint_eq(orders_count(FAULT_SEND), 0);
  expect_end_then_close(fd, XCHG_ERROR);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_reply_needs_no_memory, 2},  {test_rest_is_queued, 4},
      {test_no_memory_for_the_rest, 4}, {test_order_after_queued_output, 2},
      {test_order_with_references, 8},  {test_sends_to_another_connection, 2},
      {test_more_than_the_block, 4},    {test_staged_bytes_block_the_input, 2},
      {test_output_of_on_drain, 2},     {test_abort_discards, 1},
  };
  return run_suite_fixture("conn_staging", tests, count_of(tests), handler_fixture_init_silent,
                           handler_fixture_fini);
}
