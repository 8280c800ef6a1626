/*
 * check_conn_time: the clocks of a connection.
 *
 * Time passes by hand.  A limit must not come before its time and must come soon after it: each
 * test looks just before and just after, the slack of the wheel and of a turn apart.
 */
#include "tests/fixtures/conn_fixture.h"

#include "net/conn_time.h"

#define SOON_NS (20 * NS_PER_MS)

static void still_open(void) {
  fixture_settle();
  ck_assert_uint_eq(fixture.closes, 0);
}

/* ${limit_ns} from now the connection ends as ${why}, and not before. */
static void ends_after(uint64_t limit_ns, enum xchg_reason why) {
  fixture_advance(limit_ns - SOON_NS);
  still_open();
  fixture_advance(2 * SOON_NS);
  fixture_expect_end(why);
}

/* The peer reads so much that a buffer of the kernel is freed (64 KiB at most, in one piece). */
static void take_some(int fd) {
  static char some[70000];
  ck_assert_int_gt(recv(fd, some, sizeof(some), 0), 0);
}

START_TEST(test_idle) {
  int fd = start_and_connect(_i == 1);
  fixture_advance(fixture.config.idle_timeout_ns / 2);
  CLIENT_SEND(fd, "x\0");
  CLIENT_EXPECT(fd, "x\0");
  ends_after(fixture.config.idle_timeout_ns, XCHG_IDLE);
  client_expect_end(fd);
  close(fd);
}
END_TEST

/* A reader that is slow but goes on: the idle time is prolonged while acknowledgement grows. */
START_TEST(test_idle_is_prolonged_by_acknowledgement) {
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

/* From the first byte of a message, whatever comes meanwhile. */
START_TEST(test_message) {
  int fd = start_and_connect(_i == 1);
  fixture_advance(3 * fixture.config.message_timeout_ns); /* none has begun */
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

/* Each message has its own time: one ends and the next begins within the limit. */
START_TEST(test_message_starts_anew) {
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

/* The first message of a counted exchange: from the accept. */
START_TEST(test_message_of_a_counted_exchange) {
  fixture.handler.messages = 2;
  int fd = start_and_connect(_i == 1);
  fixture_advance(fixture.config.message_timeout_ns / 2);
  CLIENT_SEND(fd, "b");
  still_open();
  ends_after(fixture.config.message_timeout_ns / 2, XCHG_MESSAGE);
  close(fd);
}
END_TEST

/* ... and for the others from their first byte. */
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

/* Start, and have so much answered that output waits. */
static int stall(bool single) {
  fixture.reply = FIXTURE_LONG;
  fixture.long_bytes = 1000000;
  int fd = start_and_connect(single);
  CLIENT_SEND(fd, "z\0");
  fixture_settle();
  ck_assert(fixture_conn()->stalled);
  return fd;
}

/* Output waits and the peer takes none. */
START_TEST(test_write) {
  fixture.handler.messages = (uint64_t)_i & 1; /* CONN_OPEN or CONN_ENDING */
  int fd = stall((_i & 2) != 0);
  ends_after(fixture.config.write_timeout_ns, XCHG_WRITE);
  close(fd);
}
END_TEST

/* A peer that takes some before each limit: asked when the limit comes, at most twice the value. */
START_TEST(test_write_is_prolonged_by_progress) {
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
 * What a peer took before a short write prolongs nothing once more when the limit after it comes.
 */
START_TEST(test_write_is_prolonged_once_by_what_was_taken) {
  int fd = stall(_i == 1);
  uint32_t sent = fixture_conn()->sent;
  fixture_advance(fixture.config.write_timeout_ns / 2);
  for (int i = 0; i < 3; i++) { /* a UNIX socket is writable again when a quarter is left */
    take_some(fd);
  }
  fixture_settle();
  ck_assert_uint_gt(fixture_conn()->sent, sent);
  ck_assert(fixture_conn()->stalled);
  ends_after(fixture.config.write_timeout_ns, XCHG_WRITE);
  close(fd);
}
END_TEST

/* Who took some is waited for anew from when that is found, however long the turn has lasted. */
START_TEST(test_progress_counts_from_the_kernels_time) {
  int fd = stall(false);
  take_some(fd);
  struct xchg_conn *conn = fixture_conn();
  uint64_t ahead_ns = fixture.reactor.now_ns, now_ns = sys_now_ns();
  fixture.config.write_timeout_ns = 1;
  conn->more->progress_ns = 1;
  fixture.reactor.now_ns = now_ns - 1; /* when the turn began */
  ck_assert_int_eq(conn_time_overdue(conn), OVERDUE_NOT);
  ck_assert_uint_ge(conn->more->progress_ns, now_ns);
  fixture.reactor.now_ns = ahead_ns;
  close(fd);
  fixture_settle();
}
END_TEST

/* All off: nothing ever ends it. */
START_TEST(test_off) {
  fixture.config.idle_timeout_ns = fixture.config.message_timeout_ns =
      fixture.config.write_timeout_ns = 0;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "begun");
  ck_assert_uint_eq(conn_time_next(fixture_conn()), NEVER);
  fixture_advance(1000000 * NS_PER_S);
  still_open();
  client_shutdown(fd);
  CLIENT_EXPECT(fd, "begun");
  expect_end_then_close(fd, XCHG_FINISHED);
}
END_TEST

/* Bytes that are there when the clock jumps are served first: nobody is cut for our own sleep. */
START_TEST(test_nobody_is_cut_whose_bytes_are_there) {
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "a");
  fixture_settle();
  CLIENT_WRITE(fd, "b\0");
  fixture_advance(100 * NS_PER_S); /* no event was asked for: the timer looks */
  still_open();
  CLIENT_EXPECT(fd, "ab\0");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* ---- XCHG_MAX_LIFETIME ---- */

START_TEST(test_lifetime_is_shortened_at_random) {
  fixture_start(false);
  const uint64_t life = 100 * NS_PER_S, from = 7 * NS_PER_S;
  ck_assert_uint_eq(conn_time_lifetime(&fixture.host, from), NEVER);
  fixture.config.max_lifetime_ns = life;
  uint64_t least = NEVER, most = 0;
  for (int i = 0; i < 10000; i++) {
    uint64_t at = conn_time_lifetime(&fixture.host, from);
    least = min_u64(least, at);
    most = max_u64(most, at);
  }
  ck_assert_uint_ge(least, from + life / 10 * 9);
  ck_assert_uint_le(least, from + life / 100 * 91);
  ck_assert_uint_le(most, from + life);
  ck_assert_uint_ge(most, from + life / 100 * 99);
  fixture.config.max_lifetime_ns = 1;
  ck_assert_uint_eq(conn_time_lifetime(&fixture.host, from), from + 1);
}
END_TEST

static void start_with_lifetime(bool single) {
  fixture.config.max_lifetime_ns = 20 * NS_PER_S;
  fixture.config.message_timeout_ns = fixture.config.idle_timeout_ns = 0;
  fixture_start(single);
}

/* Between messages: half-closed when it is over, drained. */
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
  ck_assert_int_eq(fixture_conn()->state, CONN_DRAINING);
  close_and_expect_end(fd, XCHG_LIFETIME);
}
END_TEST

/* A message that has begun is finished and answered. */
START_TEST(test_lifetime_lets_a_message_finish) {
  start_with_lifetime(_i == 1);
  int fd = client_connect();
  CLIENT_SEND(fd, "a\0b");
  CLIENT_EXPECT(fd, "a\0");
  fixture_advance(21 * NS_PER_S);
  still_open();
  ck_assert(fixture_conn()->leaving);
  CLIENT_SEND(fd, "b\0");
  CLIENT_EXPECT(fd, "bb\0");
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_LIFETIME);
}
END_TEST

/* ... or cut after XCHG_DRAIN_TIMEOUT. */
START_TEST(test_lifetime_cuts) {
  start_with_lifetime(_i == 1);
  int fd = client_connect();
  CLIENT_SEND(fd, "b");
  uint64_t life_ns = fixture_conn()->more->lifetime_ns - fixture.reactor.now_ns;
  ends_after(life_ns + fixture.config.drain_timeout_ns, XCHG_LIFETIME);
  close(fd);
}
END_TEST

/* One that was about to part by then, and goes on reading or being read, is cut no later. */
START_TEST(test_lifetime_cuts_who_was_parting) {
  start_with_lifetime(_i == 1);
  fixture.config.linger_ns = 3600 * NS_PER_S;
  fixture.finish_after = 1;
  int fd = client_connect();
  uint64_t life_ns = fixture_conn()->more->lifetime_ns - fixture.reactor.now_ns;
  CLIENT_SEND(fd, "a\0b");
  CLIENT_EXPECT(fd, "a\0");
  client_expect_end(fd);
  ck_assert_int_eq(fixture_conn()->state, CONN_DRAINING);
  ends_after(life_ns + fixture.config.drain_timeout_ns, XCHG_LIFETIME);
  close(fd);
}
END_TEST

/* One that never spoke is waited for a second. */
START_TEST(test_lifetime_of_one_that_is_silent) {
  start_with_lifetime(_i == 1);
  int fd = client_connect();
  uint64_t life_ns = fixture_conn()->more->lifetime_ns - fixture.reactor.now_ns;
  fixture_advance(life_ns + NS_PER_S - SOON_NS);
  still_open();
  ck_assert_int_eq(fixture_conn()->state, CONN_OPEN);
  fixture_advance(2 * SOON_NS);
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_LIFETIME);
}
END_TEST

/* conn_time_next never lies after what conn_time_overdue finds due. */
START_TEST(test_next_is_when_something_is_due) {
  int fd = start_and_connect(false);
  struct xchg_conn *conn = fixture_conn();
  CLIENT_SEND(fd, "a");
  uint64_t next = conn_time_next(conn);
  fixture.reactor.now_ns = next - 1;
  ck_assert_int_eq(conn_time_overdue(conn), OVERDUE_NOT);
  fixture.reactor.now_ns = next;
  ck_assert_int_eq(conn_time_overdue(conn), OVERDUE_MESSAGE);
  buf_release(&fixture.host.bufs, &conn->in);
  next = conn_time_next(conn);
  fixture.reactor.now_ns = next - 1;
  ck_assert_int_eq(conn_time_overdue(conn), OVERDUE_NOT);
  fixture.reactor.now_ns = next;
  ck_assert_int_eq(conn_time_overdue(conn), OVERDUE_IDLE);
  fixture_advance(NS_PER_S);
  expect_end_then_close(fd, XCHG_IDLE);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_idle, 2},
      {test_idle_is_prolonged_by_acknowledgement, 2},
      {test_message, 2},
      {test_message_starts_anew, 1},
      {test_message_of_a_counted_exchange, 2},
      {test_second_message_of_a_counted_exchange, 1},
      {test_write, 4},
      {test_write_is_prolonged_by_progress, 2},
      {test_write_is_prolonged_once_by_what_was_taken, 2},
      {test_progress_counts_from_the_kernels_time, 1},
      {test_off, 2},
      {test_nobody_is_cut_whose_bytes_are_there, 2},
      {test_lifetime_is_shortened_at_random, 1},
      {test_lifetime_ends_between_messages, 2},
      {test_lifetime_lets_a_message_finish, 2},
      {test_lifetime_cuts, 2},
      {test_lifetime_cuts_who_was_parting, 2},
      {test_lifetime_of_one_that_is_silent, 2},
      {test_next_is_when_something_is_due, 1},
  };
  return run_suite_fixture("conn_time", tests, count_of(tests), conn_fixture_init,
                           conn_fixture_fini);
}
