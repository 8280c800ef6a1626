/*
 * check_conn_timeout: the timeouts of a connection.
 *
 * The tests move the clock. They look SOON_NS before and SOON_NS after each deadline, which covers
 * the granularity of the wheel.
 */
#include "tests/fixtures/conn_fixture.h"

#include "net/conn_timeout.h"

#define SOON_NS (20 * NS_PER_MS)

static void still_open(void) {
  fixture_settle();
  ck_assert_uint_eq(fixture.closes, 0);
}

/* The connection ends as ${why} after ${limit_ns}, and not before. */
static void ends_after(uint64_t limit_ns, enum xchg_reason why) {
  fixture_advance(limit_ns - SOON_NS);
  still_open();
  fixture_advance(2 * SOON_NS);
  fixture_expect_end(why);
}

/* The client reads enough to free one of the kernel's buffers (at most 64 KiB). */
static void take_some(int fd) {
  static char some[70000];
  ck_assert_int_gt(recv(fd, some, sizeof(some), 0), 0);
}

START_TEST(test_idle_timeout) {
  int fd = start_and_connect(_i == 1);
  fixture_advance(fixture.config.idle_timeout_ns / 2);
  CLIENT_SEND(fd, "x\0");
  CLIENT_EXPECT(fd, "x\0");
  ends_after(fixture.config.idle_timeout_ns, XCHG_IDLE);
  client_expect_end(fd);
  close(fd);
}
END_TEST

/* A slow reader: acknowledged bytes extend the idle timeout. */
START_TEST(test_acknowledgement_extends_the_idle_timeout) {
  fixture.config.write_timeout_ns = 0;
  fixture.reply = FIXTURE_LONG;
  fixture.long_bytes = 100000;
  int fd = start_and_connect(_i == 1);
  for (int i = 0; i < 10; i++) {
    CLIENT_SEND(fd, "z\0");
  }
  for (int i = 0; i < 6; i++) {
    fixture_advance(fixture.config.idle_timeout_ns - NS_PER_S);
    take_some(fd);
    fixture_advance(2 * NS_PER_S);
    ck_assert_uint_eq(fixture.closes, 0);
  }
  fixture_advance(2 * fixture.config.idle_timeout_ns);
  fixture_settle();
  fixture_advance(2 * fixture.config.idle_timeout_ns);
  expect_end_then_close(fd, XCHG_IDLE);
}
END_TEST

/* The timeout runs from the first byte of a message. Later bytes do not extend it. */
START_TEST(test_message_timeout) {
  int fd = start_and_connect(_i == 1);
  fixture_advance(3 * fixture.config.message_timeout_ns); /* no message has begun */
  still_open();
  CLIENT_SEND(fd, "a\0b");
  CLIENT_EXPECT(fd, "a\0");
  for (int i = 0; i < 4; i++) {
    fixture_advance(fixture.config.message_timeout_ns / 5);
    CLIENT_SEND(fd, "b");
    still_open();
  }
  ends_after(fixture.config.message_timeout_ns / 5, XCHG_MESSAGE);
  close(fd);
}
END_TEST

/* Each message has its own timeout. */
START_TEST(test_message_timeout_restarts_with_each_message) {
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "b");
  for (int i = 0; i < 5; i++) {
    fixture_advance(fixture.config.message_timeout_ns - NS_PER_S);
    still_open();
    CLIENT_SEND(fd, "\0b");
    CLIENT_EXPECT(fd, "b\0");
  }
  ends_after(fixture.config.message_timeout_ns, XCHG_MESSAGE);
  close(fd);
}
END_TEST

/* In a counted exchange the timeout of the first message runs from the accept... */
START_TEST(test_first_message_of_a_counted_exchange) {
  fixture.handler.messages = 2;
  int fd = start_and_connect(_i == 1);
  fixture_advance(fixture.config.message_timeout_ns / 2);
  CLIENT_SEND(fd, "b");
  still_open();
  ends_after(fixture.config.message_timeout_ns / 2, XCHG_MESSAGE);
  close(fd);
}
END_TEST

/* ... and that of later messages from their first byte. */
START_TEST(test_second_message_of_a_counted_exchange) {
  fixture.handler.messages = 2;
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "b\0");
  CLIENT_EXPECT(fd, "b\0");
  fixture_advance(2 * fixture.config.message_timeout_ns);
  still_open();
  CLIENT_SEND(fd, "c");
  ends_after(fixture.config.message_timeout_ns, XCHG_MESSAGE);
  close(fd);
}
END_TEST

/* Start, connect, and ask for a reply that stalls. */
static int stall(bool single) {
  fixture.reply = FIXTURE_LONG;
  fixture.long_bytes = 1000000;
  int fd = start_and_connect(single);
  CLIENT_SEND(fd, "z\0");
  fixture_settle();
  ck_assert(fixture_conn()->stalled);
  return fd;
}

/* Output is queued and the client reads nothing. */
START_TEST(test_write_timeout) {
  fixture.handler.messages = (uint64_t)_i & 1; /* CONN_OPEN or CONN_ENDING */
  int fd = stall((_i & 2) != 0);
  ends_after(fixture.config.write_timeout_ns, XCHG_WRITE);
  close(fd);
}
END_TEST

/*
 * A client that reads a little before each deadline is not timed out. The check comes at the
 * deadline, so a stalled client is closed within twice the value.
 */
START_TEST(test_progress_extends_the_write_timeout) {
  int fd = stall(_i == 1);
  for (int i = 0; i < 5; i++) {
    take_some(fd);
    fixture_advance(fixture.config.write_timeout_ns + SOON_NS);
    ck_assert_uint_eq(fixture.closes, 0);
  }
  fixture_advance(fixture.config.write_timeout_ns + SOON_NS);
  fixture_settle();
  fixture_advance(fixture.config.write_timeout_ns + SOON_NS);
  expect_end_then_close(fd, XCHG_WRITE);
}
END_TEST

/*
 * Bytes that were acknowledged before a short write count as progress once, not again at the next
 * deadline.
 */
START_TEST(test_progress_extends_the_write_timeout_once) {
  int fd = stall(_i == 1);
  uint64_t sent = fixture_conn()->bytes_out;
  fixture_advance(fixture.config.write_timeout_ns / 2);
  for (int i = 0; i < 3; i++) { /* a UNIX socket is writable once it is three quarters empty */
    take_some(fd);
  }
  fixture_settle();
  ck_assert_uint_gt(fixture_conn()->bytes_out, sent);
  ck_assert(fixture_conn()->stalled);
  ends_after(fixture.config.write_timeout_ns, XCHG_WRITE);
  close(fd);
}
END_TEST

/* The extended timeout runs from when the progress is found, not from the start of the turn. */
START_TEST(test_extension_runs_from_the_kernels_time) {
  int fd = stall(false);
  take_some(fd);
  struct xchg_conn *conn = fixture_conn();
  uint64_t ahead_ns = fixture.reactor.now_ns, now_ns = sys_now_ns();
  fixture.config.write_timeout_ns = 1;
  conn->cold->progress_ns = 1;
  fixture.reactor.now_ns = now_ns - 1; /* the start of the turn */
  ck_assert_int_eq(conn_timeout_expired(conn), EXPIRED_NOT);
  ck_assert_uint_ge(conn->cold->progress_ns, now_ns);
  fixture.reactor.now_ns = ahead_ns;
  close(fd);
  fixture_settle();
}
END_TEST

/* With all timeouts off the connection stays open. */
START_TEST(test_timeouts_off) {
  fixture.config.idle_timeout_ns = fixture.config.message_timeout_ns =
      fixture.config.write_timeout_ns = 0;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "begun");
  ck_assert_uint_eq(conn_timeout_next(fixture_conn()), NEVER);
  fixture_advance(1000000 * NS_PER_S);
  still_open();
  client_shutdown(fd);
  CLIENT_EXPECT(fd, "begun");
  expect_end_then_close(fd, XCHG_FINISHED);
}
END_TEST

/* The clock jumps past the deadline: bytes that have already arrived are served first. */
START_TEST(test_arrived_bytes_are_served_before_a_timeout) {
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "a");
  fixture_settle();
  CLIENT_WRITE(fd, "b\0");
  fixture_advance(100 * NS_PER_S); /* the timer reads the socket, not an event */
  still_open();
  CLIENT_EXPECT(fd, "ab\0");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* ---- XCHG_MAX_LIFETIME ---- */

START_TEST(test_lifetime_is_shortened_by_up_to_a_tenth) {
  fixture_start(false);
  const uint64_t life = 100 * NS_PER_S, from = 7 * NS_PER_S;
  ck_assert_uint_eq(conn_timeout_lifetime(&fixture.ctx, from), NEVER);
  fixture.config.max_lifetime_ns = life;
  uint64_t least = NEVER, most = 0;
  for (int i = 0; i < 10000; i++) {
    uint64_t at = conn_timeout_lifetime(&fixture.ctx, from);
    least = min_u64(least, at);
    most = max_u64(most, at);
  }
  ck_assert_uint_ge(least, from + life / 10 * 9);
  ck_assert_uint_le(least, from + life / 100 * 91);
  ck_assert_uint_le(most, from + life);
  ck_assert_uint_ge(most, from + life / 100 * 99);
  fixture.config.max_lifetime_ns = 1;
  ck_assert_uint_eq(conn_timeout_lifetime(&fixture.ctx, from), from + 1);
}
END_TEST

static void start_with_lifetime(bool single) {
  fixture.config.max_lifetime_ns = 20 * NS_PER_S;
  fixture.config.message_timeout_ns = fixture.config.idle_timeout_ns = 0;
  fixture_start(single);
}

/* Between messages: half-close and linger at the end of the lifetime. */
START_TEST(test_lifetime_ends_between_messages) {
  start_with_lifetime(_i == 1);
  int fd = client_connect();
  CLIENT_SEND(fd, "a\0");
  CLIENT_EXPECT(fd, "a\0");
  fixture_advance(18 * NS_PER_S - SOON_NS);
  still_open();
  ck_assert_int_eq(fixture_conn()->state, CONN_OPEN);
  fixture_advance(2 * NS_PER_S + 2 * SOON_NS);
  client_expect_end(fd);
  ck_assert_int_eq(fixture_conn()->state, CONN_LINGERING);
  close_and_expect_end(fd, XCHG_LIFETIME);
}
END_TEST

/* A message that has begun may be completed and is answered... */
START_TEST(test_lifetime_lets_a_message_finish) {
  start_with_lifetime(_i == 1);
  int fd = client_connect();
  CLIENT_SEND(fd, "a\0b");
  CLIENT_EXPECT(fd, "a\0");
  fixture_advance(21 * NS_PER_S);
  still_open();
  ck_assert(fixture_conn()->lifetime_over);
  CLIENT_SEND(fd, "b\0");
  CLIENT_EXPECT(fd, "bb\0");
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_LIFETIME);
}
END_TEST

/* ... within XCHG_DRAIN_TIMEOUT. */
START_TEST(test_lifetime_ends_after_the_drain_timeout) {
  start_with_lifetime(_i == 1);
  int fd = client_connect();
  CLIENT_SEND(fd, "b");
  uint64_t life_ns = fixture_conn()->cold->lifetime_ns - fixture.reactor.now_ns;
  ends_after(life_ns + fixture.config.drain_timeout_ns, XCHG_LIFETIME);
  close(fd);
}
END_TEST

/* A connection that already lingers when its lifetime ends has the same deadline. */
START_TEST(test_lifetime_ends_a_lingering_connection) {
  start_with_lifetime(_i == 1);
  fixture.config.linger_ns = 3600 * NS_PER_S;
  fixture.finish_after = 1;
  int fd = client_connect();
  uint64_t life_ns = fixture_conn()->cold->lifetime_ns - fixture.reactor.now_ns;
  CLIENT_SEND(fd, "a\0b");
  CLIENT_EXPECT(fd, "a\0");
  client_expect_end(fd);
  ck_assert_int_eq(fixture_conn()->state, CONN_LINGERING);
  ends_after(life_ns + fixture.config.drain_timeout_ns, XCHG_LIFETIME);
  close(fd);
}
END_TEST

/* A client that has sent nothing gets one second. */
START_TEST(test_lifetime_of_a_silent_client) {
  start_with_lifetime(_i == 1);
  int fd = client_connect();
  uint64_t life_ns = fixture_conn()->cold->lifetime_ns - fixture.reactor.now_ns;
  fixture_advance(life_ns + NS_PER_S - SOON_NS);
  still_open();
  ck_assert_int_eq(fixture_conn()->state, CONN_OPEN);
  fixture_advance(2 * SOON_NS);
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_LIFETIME);
}
END_TEST

/* conn_timeout_next is the first moment at which conn_timeout_expired reports a timeout. */
START_TEST(test_next_is_when_something_is_due) {
  int fd = start_and_connect(false);
  struct xchg_conn *conn = fixture_conn();
  CLIENT_SEND(fd, "a");
  uint64_t next = conn_timeout_next(conn);
  fixture.reactor.now_ns = next - 1;
  ck_assert_int_eq(conn_timeout_expired(conn), EXPIRED_NOT);
  fixture.reactor.now_ns = next;
  ck_assert_int_eq(conn_timeout_expired(conn), EXPIRED_MESSAGE);
  buf_release(&fixture.ctx.bufs, &conn->in);
  next = conn_timeout_next(conn);
  fixture.reactor.now_ns = next - 1;
  ck_assert_int_eq(conn_timeout_expired(conn), EXPIRED_NOT);
  fixture.reactor.now_ns = next;
  ck_assert_int_eq(conn_timeout_expired(conn), EXPIRED_IDLE);
  fixture_advance(NS_PER_S);
  expect_end_then_close(fd, XCHG_IDLE);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_idle_timeout, 2},
      {test_acknowledgement_extends_the_idle_timeout, 2},
      {test_message_timeout, 2},
      {test_message_timeout_restarts_with_each_message, 1},
      {test_first_message_of_a_counted_exchange, 2},
      {test_second_message_of_a_counted_exchange, 1},
      {test_write_timeout, 4},
      {test_progress_extends_the_write_timeout, 2},
      {test_progress_extends_the_write_timeout_once, 2},
      {test_extension_runs_from_the_kernels_time, 1},
      {test_timeouts_off, 2},
      {test_arrived_bytes_are_served_before_a_timeout, 2},
      {test_lifetime_is_shortened_by_up_to_a_tenth, 1},
      {test_lifetime_ends_between_messages, 2},
      {test_lifetime_lets_a_message_finish, 2},
      {test_lifetime_ends_after_the_drain_timeout, 2},
      {test_lifetime_ends_a_lingering_connection, 2},
      {test_lifetime_of_a_silent_client, 2},
      {test_next_is_when_something_is_due, 1},
  };
  return run_suite_fixture("conn_timeout", tests, count_of(tests), conn_fixture_init,
                           conn_fixture_fini);
}
