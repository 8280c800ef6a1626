/*
 * check_conn_time: the clocks of a connection.
 *
 * Time passes by hand.  A limit must not come before its time and must come soon after it: each
 * test looks just before and just after, the slack of the wheel and of a turn apart.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/unit/rig.h"

#include "net/conn_time.h"

#define SOON_NS (20 * NS_PER_MS)

static void still_open(struct rig *rig) {
  rig_settle(rig);
  ck_assert_uint_eq(rig->closes, 0);
}

/* ${limit_ns} from now the connection ends as ${why}, and not before. */
static void ends_after(struct rig *rig, uint64_t limit_ns, enum xchg_reason why) {
  rig_advance(rig, limit_ns - SOON_NS);
  still_open(rig);
  rig_advance(rig, 2 * SOON_NS);
  rig_over(rig, why);
}

/* The peer reads so much that a buffer of the kernel is freed (64 KiB at most, in one piece). */
static void take_some(int fd) {
  static char some[70000];
  ck_assert_int_gt(recv(fd, some, sizeof(some), 0), 0);
}

START_TEST(test_idle) {
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  rig_advance(&rig, rig.config.idle_timeout_ns / 2);
  RIG_PUT(&rig, fd, "x\0");
  RIG_GET(&rig, fd, "x\0");
  ends_after(&rig, rig.config.idle_timeout_ns, XCHG_IDLE);
  rig_get_end(&rig, fd);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* A reader that is slow but goes on: the idle time is prolonged while acknowledgement grows. */
START_TEST(test_idle_is_prolonged_by_acknowledgement) {
  struct rig rig;
  rig_init(&rig);
  rig.config.write_timeout_ns = 0;
  rig.reply = RIG_LONG;
  rig.long_bytes = 100000;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  for (int i = 0; i < 10; i++) {
    RIG_PUT(&rig, fd, "z\0");
  }
  for (int i = 0; i < 6; i++) {
    rig_advance(&rig, rig.config.idle_timeout_ns - NS_PER_S);
    take_some(fd);
    rig_advance(&rig, 2 * NS_PER_S);
    ck_assert_uint_eq(rig.closes, 0);
  }
  rig_advance(&rig, 2 * rig.config.idle_timeout_ns);
  rig_settle(&rig);
  rig_advance(&rig, 2 * rig.config.idle_timeout_ns);
  rig_over(&rig, XCHG_IDLE);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* From the first byte of a message, whatever comes meanwhile. */
START_TEST(test_message) {
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  rig_advance(&rig, 3 * rig.config.message_timeout_ns); /* none has begun */
  still_open(&rig);
  RIG_PUT(&rig, fd, "a\0b");
  RIG_GET(&rig, fd, "a\0");
  for (int i = 0; i < 4; i++) {
    rig_advance(&rig, rig.config.message_timeout_ns / 5);
    RIG_PUT(&rig, fd, "b");
    still_open(&rig);
  }
  ends_after(&rig, rig.config.message_timeout_ns / 5, XCHG_MESSAGE);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* Each message has its own time: one ends and the next begins within the limit. */
START_TEST(test_message_starts_anew) {
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, false);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "b");
  for (int i = 0; i < 5; i++) {
    rig_advance(&rig, rig.config.message_timeout_ns - NS_PER_S);
    still_open(&rig);
    RIG_PUT(&rig, fd, "\0b");
    RIG_GET(&rig, fd, "b\0");
  }
  ends_after(&rig, rig.config.message_timeout_ns, XCHG_MESSAGE);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* The first message of a counted exchange: from the accept. */
START_TEST(test_message_of_a_counted_exchange) {
  struct rig rig;
  rig_init(&rig);
  rig.handler.messages = 2;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  rig_advance(&rig, rig.config.message_timeout_ns / 2);
  RIG_PUT(&rig, fd, "b");
  still_open(&rig);
  ends_after(&rig, rig.config.message_timeout_ns / 2, XCHG_MESSAGE);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* ... and for the others from their first byte. */
START_TEST(test_second_message_of_a_counted_exchange) {
  struct rig rig;
  rig_init(&rig);
  rig.handler.messages = 2;
  rig_start(&rig, false);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "b\0");
  RIG_GET(&rig, fd, "b\0");
  rig_advance(&rig, 2 * rig.config.message_timeout_ns);
  still_open(&rig);
  RIG_PUT(&rig, fd, "c");
  ends_after(&rig, rig.config.message_timeout_ns, XCHG_MESSAGE);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* Start, and have so much answered that output waits. */
static int stall(struct rig *rig, bool single) {
  rig->reply = RIG_LONG;
  rig->long_bytes = 1000000;
  rig_start(rig, single);
  int fd = rig_connect(rig);
  RIG_PUT(rig, fd, "z\0");
  rig_settle(rig);
  ck_assert(rig_conn(rig)->stalled);
  return fd;
}

/* Output waits and the peer takes none. */
START_TEST(test_write) {
  struct rig rig;
  rig_init(&rig);
  rig.handler.messages = (uint64_t)_i & 1; /* CONN_OPEN or CONN_ENDING */
  int fd = stall(&rig, (_i & 2) != 0);
  ends_after(&rig, rig.config.write_timeout_ns, XCHG_WRITE);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* A peer that takes some before each limit: asked when the limit comes, at most twice the value. */
START_TEST(test_write_is_prolonged_by_progress) {
  struct rig rig;
  rig_init(&rig);
  int fd = stall(&rig, _i == 1);
  for (int i = 0; i < 5; i++) {
    take_some(fd);
    rig_advance(&rig, rig.config.write_timeout_ns + SOON_NS);
    ck_assert_uint_eq(rig.closes, 0);
  }
  rig_advance(&rig, rig.config.write_timeout_ns + SOON_NS);
  rig_settle(&rig);
  rig_advance(&rig, rig.config.write_timeout_ns + SOON_NS);
  rig_over(&rig, XCHG_WRITE);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/*
 * What a peer took before a short write prolongs nothing once more when the limit after it comes.
 */
START_TEST(test_write_is_prolonged_once_by_what_was_taken) {
  struct rig rig;
  rig_init(&rig);
  int fd = stall(&rig, _i == 1);
  uint32_t sent = rig_conn(&rig)->sent;
  rig_advance(&rig, rig.config.write_timeout_ns / 2);
  for (int i = 0; i < 3; i++) { /* a UNIX socket is writable again when a quarter is left */
    take_some(fd);
  }
  rig_settle(&rig);
  ck_assert_uint_gt(rig_conn(&rig)->sent, sent);
  ck_assert(rig_conn(&rig)->stalled);
  ends_after(&rig, rig.config.write_timeout_ns, XCHG_WRITE);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* Who took some is waited for anew from when that is found, however long the turn has lasted. */
START_TEST(test_progress_counts_from_the_kernels_time) {
  struct rig rig;
  rig_init(&rig);
  int fd = stall(&rig, false);
  take_some(fd);
  struct xchg_conn *conn = rig_conn(&rig);
  uint64_t ahead_ns = rig.reactor.now_ns, now_ns = sys_now_ns();
  rig.config.write_timeout_ns = 1;
  conn->more->progress_ns = 1;
  rig.reactor.now_ns = now_ns - 1; /* when the turn began */
  ck_assert_int_eq(conn_time_overdue(conn), OVERDUE_NOT);
  ck_assert_uint_ge(conn->more->progress_ns, now_ns);
  rig.reactor.now_ns = ahead_ns;
  close(fd);
  rig_settle(&rig);
  rig_fini(&rig);
}
END_TEST

/* All off: nothing ever ends it. */
START_TEST(test_off) {
  struct rig rig;
  rig_init(&rig);
  rig.config.idle_timeout_ns = rig.config.message_timeout_ns = rig.config.write_timeout_ns = 0;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "begun");
  ck_assert_uint_eq(conn_time_next(rig_conn(&rig)), NEVER);
  rig_advance(&rig, 1000000 * NS_PER_S);
  still_open(&rig);
  ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
  RIG_GET(&rig, fd, "begun");
  rig_over(&rig, XCHG_FINISHED);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* Bytes that are there when the clock jumps are served first: nobody is cut for our own sleep. */
START_TEST(test_nobody_is_cut_whose_bytes_are_there) {
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "a");
  rig_settle(&rig);
  ck_assert_int_eq(send(fd, "b\0", 2, 0), 2);
  rig_advance(&rig, 100 * NS_PER_S); /* no event was asked for: the timer looks */
  still_open(&rig);
  RIG_GET(&rig, fd, "ab\0");
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

/* ---- XCHG_MAX_LIFETIME ---- */

START_TEST(test_lifetime_is_shortened_at_random) {
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, false);
  const uint64_t life = 100 * NS_PER_S, from = 7 * NS_PER_S;
  ck_assert_uint_eq(conn_time_lifetime(&rig.host, from), NEVER);
  rig.config.max_lifetime_ns = life;
  uint64_t least = NEVER, most = 0;
  for (int i = 0; i < 10000; i++) {
    uint64_t at = conn_time_lifetime(&rig.host, from);
    least = min_u64(least, at);
    most = max_u64(most, at);
  }
  ck_assert_uint_ge(least, from + life / 10 * 9);
  ck_assert_uint_le(least, from + life / 100 * 91);
  ck_assert_uint_le(most, from + life);
  ck_assert_uint_ge(most, from + life / 100 * 99);
  rig.config.max_lifetime_ns = 1;
  ck_assert_uint_eq(conn_time_lifetime(&rig.host, from), from + 1);
  rig_fini(&rig);
}
END_TEST

static void start_with_lifetime(struct rig *rig, bool single) {
  rig_init(rig);
  rig->config.max_lifetime_ns = 20 * NS_PER_S;
  rig->config.message_timeout_ns = rig->config.idle_timeout_ns = 0;
  rig_start(rig, single);
}

/* Between messages: half-closed when it is over, drained. */
START_TEST(test_lifetime_ends_between_messages) {
  struct rig rig;
  start_with_lifetime(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "a\0");
  RIG_GET(&rig, fd, "a\0");
  rig_advance(&rig, 18 * NS_PER_S - SOON_NS);
  still_open(&rig);
  ck_assert_int_eq(rig_conn(&rig)->state, CONN_OPEN);
  rig_advance(&rig, 2 * NS_PER_S + 2 * SOON_NS);
  rig_get_end(&rig, fd);
  ck_assert_int_eq(rig_conn(&rig)->state, CONN_DRAINING);
  close(fd);
  rig_over(&rig, XCHG_LIFETIME);
  rig_fini(&rig);
}
END_TEST

/* A message that has begun is finished and answered. */
START_TEST(test_lifetime_lets_a_message_finish) {
  struct rig rig;
  start_with_lifetime(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "a\0b");
  RIG_GET(&rig, fd, "a\0");
  rig_advance(&rig, 21 * NS_PER_S);
  still_open(&rig);
  ck_assert(rig_conn(&rig)->leaving);
  RIG_PUT(&rig, fd, "b\0");
  RIG_GET(&rig, fd, "bb\0");
  rig_get_end(&rig, fd);
  close(fd);
  rig_over(&rig, XCHG_LIFETIME);
  rig_fini(&rig);
}
END_TEST

/* ... or cut after XCHG_DRAIN_TIMEOUT. */
START_TEST(test_lifetime_cuts) {
  struct rig rig;
  start_with_lifetime(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "b");
  uint64_t life_ns = rig_conn(&rig)->more->lifetime_ns - rig.reactor.now_ns;
  ends_after(&rig, life_ns + rig.config.drain_timeout_ns, XCHG_LIFETIME);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* One that was about to part by then, and goes on reading or being read, is cut no later. */
START_TEST(test_lifetime_cuts_who_was_parting) {
  struct rig rig;
  start_with_lifetime(&rig, _i == 1);
  rig.config.linger_ns = 3600 * NS_PER_S;
  rig.finish_after = 1;
  int fd = rig_connect(&rig);
  uint64_t life_ns = rig_conn(&rig)->more->lifetime_ns - rig.reactor.now_ns;
  RIG_PUT(&rig, fd, "a\0b");
  RIG_GET(&rig, fd, "a\0");
  rig_get_end(&rig, fd);
  ck_assert_int_eq(rig_conn(&rig)->state, CONN_DRAINING);
  ends_after(&rig, life_ns + rig.config.drain_timeout_ns, XCHG_LIFETIME);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* One that never spoke is waited for a second. */
START_TEST(test_lifetime_of_one_that_is_silent) {
  struct rig rig;
  start_with_lifetime(&rig, _i == 1);
  int fd = rig_connect(&rig);
  uint64_t life_ns = rig_conn(&rig)->more->lifetime_ns - rig.reactor.now_ns;
  rig_advance(&rig, life_ns + NS_PER_S - SOON_NS);
  still_open(&rig);
  ck_assert_int_eq(rig_conn(&rig)->state, CONN_OPEN);
  rig_advance(&rig, 2 * SOON_NS);
  rig_get_end(&rig, fd);
  close(fd);
  rig_over(&rig, XCHG_LIFETIME);
  rig_fini(&rig);
}
END_TEST

/* conn_time_next never lies after what conn_time_overdue finds due. */
START_TEST(test_next_is_when_something_is_due) {
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, false);
  int fd = rig_connect(&rig);
  struct xchg_conn *conn = rig_conn(&rig);
  RIG_PUT(&rig, fd, "a");
  uint64_t next = conn_time_next(conn);
  rig.reactor.now_ns = next - 1;
  ck_assert_int_eq(conn_time_overdue(conn), OVERDUE_NOT);
  rig.reactor.now_ns = next;
  ck_assert_int_eq(conn_time_overdue(conn), OVERDUE_MESSAGE);
  buf_release(&rig.host.bufs, &conn->in);
  next = conn_time_next(conn);
  rig.reactor.now_ns = next - 1;
  ck_assert_int_eq(conn_time_overdue(conn), OVERDUE_NOT);
  rig.reactor.now_ns = next;
  ck_assert_int_eq(conn_time_overdue(conn), OVERDUE_IDLE);
  rig_advance(&rig, NS_PER_S);
  rig_over(&rig, XCHG_IDLE);
  close(fd);
  rig_fini(&rig);
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
  return run_suite("conn_time", tests, count_of(tests));
}
