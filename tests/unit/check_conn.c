/*
 * check_conn: the beginning of a connection, and the stop: what must end, what may finish.
 *
 * Its reading is in check_conn_in, its sending and closing in check_conn_out, its clocks in
 * check_conn_time; each test checks the invariants of net/conn_data.h after every turn.
 */
#include "tests/fixtures/conn_fixture.h"

/* ---- the beginning ---- */

/* The greeting leaves before the first wait. */
START_TEST(test_greets_at_once) {
  fixture.greeting = "hello";
  int fd = start_and_connect(_i == 1);
  char got[8];
  ck_assert_int_eq(recv(fd, got, sizeof(got), 0), 5);
  ck_assert_mem_eq(got, "hello", 5);
  ck_assert_uint_eq(fixture.host.bufs.bytes, 0);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* What the peer sent before it was watched is read at the first event. */
START_TEST(test_serves_what_came_before) {
  fixture_start(_i == 1);
  int fds[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  CLIENT_WRITE(fds[0], "early\0");
  client_shutdown(fds[0]);
  fixture_open(fds[1], ADDR_UNIX);
  CLIENT_EXPECT(fds[0], "early\0");
  fixture_expect_end(XCHG_FINISHED);
  close(fds[0]);
}
END_TEST

/* The peer is gone before its turn: an endless exchange without a message is finished. */
START_TEST(test_peer_gone_at_once) {
  fixture.greeting = _i == 2 ? "hello" : NULL;
  fixture_start(_i == 1);
  int fds[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  close(fds[0]);
  fixture_open(fds[1], ADDR_UNIX);
  fixture_expect_end(_i == 2 ? XCHG_RESET : XCHG_FINISHED);
}
END_TEST

START_TEST(test_open_finishes) {
  fixture.greeting = "bye";
  fixture.open_finishes = true;
  int fd = start_and_connect(_i == 1);
  CLIENT_EXPECT(fd, "bye");
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

START_TEST(test_open_aborts) {
  fixture.greeting = "bye";
  fixture.open_aborts = true;
  int fd = start_and_connect(_i == 1);
  fixture_expect_end(XCHG_ERROR);
  client_expect_end(fd); /* nothing was sent */
  close(fd);
}
END_TEST

/* A handler without callbacks: messages are counted and dropped. */
START_TEST(test_handler_without_callbacks) {
  fixture.handler.on_open = NULL;
  fixture.handler.on_message = NULL;
  fixture.handler.on_close = NULL;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "a\0b\0c\0");
  client_expect_nothing(fd);
  close(fd);
  fixture_until_all_closed();
  ck_assert_uint_eq(atom_load_relaxed_u64(&fixture.stats.messages), 3);
  ck_assert_uint_eq(atom_load_relaxed_u64(&fixture.stats.bytes_in), 6);
  ck_assert_uint_eq(fixture_ended(XCHG_FINISHED), 1);
}
END_TEST

/* Over the slab's ceiling: refused, counted, its descriptor closed; the others live. */
START_TEST(test_no_memory_for_the_connection) {
  unsigned before = count_descriptors();
  fixture_start(false);
  int fds[FIXTURE_CONNS_MAX];
  for (int i = 0; i < FIXTURE_CONNS_MAX; i++) {
    fds[i] = client_connect();
  }
  int pair[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
  ck_assert_int_eq(fixture_open(pair[1], ADDR_UNIX), -1);
  ck_assert_uint_eq(fixture_ended(XCHG_MEMORY), 1);
  ck_assert_uint_eq(fixture.opens, FIXTURE_CONNS_MAX);
  client_expect_end(pair[0]);
  close(pair[0]);
  for (int i = 0; i < FIXTURE_CONNS_MAX; i++) {
    CLIENT_SEND(fds[i], "a\0");
    CLIENT_EXPECT(fds[i], "a\0");
    close(fds[i]);
  }
  fixture_until_all_closed();
  ck_assert_uint_eq(fixture_ended(XCHG_FINISHED), FIXTURE_CONNS_MAX);
  conn_fixture_fini();
  ck_assert_uint_eq(count_descriptors(), before);
}
END_TEST

/* Many at once, each with bytes of its own, begun and ended in turns. */
START_TEST(test_many_at_once) {
  enum { CLIENTS = 50, ROUNDS = 20 };
  fixture_start(false);
  for (int round = 0; round < ROUNDS; round++) {
    int fds[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
      fds[i] = client_connect();
      const char half[2] = {(char)('A' + i), 'x'};
      client_send(fds[i], half, 2);
    }
    for (int i = CLIENTS - 1; i >= 0; i--) {
      CLIENT_SEND(fds[i], "y\0");
      char back[4];
      ck_assert_uint_eq(client_recv(fds[i], back, 4), 4);
      ck_assert_int_eq(back[0], 'A' + i);
      ck_assert_mem_eq(back + 1, "xy", 3);
    }
    for (int i = 0; i < CLIENTS; i++) {
      close(fds[i]);
    }
  }
  fixture_until_all_closed();
  ck_assert_uint_eq(fixture_ended(XCHG_FINISHED), CLIENTS * ROUNDS);
}
END_TEST

/* ---- the stop ---- */

/* Between messages: half-closed and drained; counted or not says how it is counted. */
START_TEST(test_stop_between_messages) {
  fixture.handler.messages = (_i & 1) != 0 ? 5 : 0;
  int fd = start_and_connect((_i & 2) != 0);
  CLIENT_SEND(fd, "a\0");
  CLIENT_EXPECT(fd, "a\0");
  fixture_stop();
  client_expect_end(fd);
  ck_assert_int_eq(fixture_conn()->state, CONN_DRAINING); /* though all is acknowledged */
  CLIENT_SEND(fd, "too late\0");
  close_and_expect_end(fd, (_i & 1) != 0 ? XCHG_DRAIN : XCHG_FINISHED);
  ck_assert_uint_eq(fixture.messages, 1);
}
END_TEST

/* What is unread when the stop comes is served. */
START_TEST(test_stop_serves_what_is_unread) {
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "a\0");
  fixture_settle();
  CLIENT_WRITE(fd, "b\0");
  fixture_stop();
  CLIENT_EXPECT(fd, "a\0b\0");
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* What has begun may complete. */
START_TEST(test_stop_lets_a_message_finish) {
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "beg");
  fixture_stop();
  fixture_advance(5 * NS_PER_S);
  ck_assert_int_eq(fixture_conn()->state, CONN_OPEN);
  CLIENT_SEND(fd, "un\0");
  CLIENT_EXPECT(fd, "begun\0");
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* ... within its time-out. */
START_TEST(test_stop_does_not_prolong_a_message) {
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "beg");
  fixture_stop();
  fixture_advance(fixture.config.message_timeout_ns + 50 * NS_PER_MS);
  expect_end_then_close(fd, XCHG_MESSAGE);
}
END_TEST

/* Who has not spoken gets a second in an endless exchange... */
START_TEST(test_stop_of_one_that_is_silent) {
  int fd = start_and_connect(_i == 1);
  fixture_stop();
  fixture_advance(NS_PER_S - 50 * NS_PER_MS);
  ck_assert_int_eq(fixture_conn()->state, CONN_OPEN);
  fixture_advance(100 * NS_PER_MS);
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_DRAIN);
}
END_TEST

/* ... and its message time-out in a counted one. */
START_TEST(test_stop_of_a_silent_counted_one) {
  fixture.handler.messages = 1;
  int fd = start_and_connect(_i == 1);
  fixture_stop();
  fixture_advance(fixture.config.message_timeout_ns - NS_PER_S);
  ck_assert_int_eq(fixture_conn()->state, CONN_OPEN);
  fixture_advance(NS_PER_S + 50 * NS_PER_MS);
  expect_end_then_close(fd, XCHG_MESSAGE);
}
END_TEST

/* Queued output is sent before it leaves. */
START_TEST(test_stop_sends_what_is_queued) {
  fixture.reply = FIXTURE_LONG;
  fixture.long_bytes = 1000000;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "z\0");
  fixture_stop();
  ck_assert_int_eq(fixture_conn()->state, CONN_OPEN);
  client_expect_all(fd, fixture.long_bytes, 'z');
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* The server's patience is over, in every state. */
START_TEST(test_cut) {
  fixture.reply = _i == 1 ? FIXTURE_LONG : FIXTURE_ECHO;
  fixture.long_bytes = 1000000;
  fixture.handler.messages = 1;
  int fd = start_and_connect(false);
  client_send(fd, "z\0", _i == 0 ? 1 : 2);
  fixture_settle();
  static const enum conn_state states[] = {CONN_OPEN, CONN_ENDING, CONN_DRAINING};
  ck_assert_int_eq(fixture_conn()->state, states[_i]);
  conn_cut(&fixture_conn()->source);
  expect_end_then_close(fd, XCHG_DRAIN);
}
END_TEST

/* A stop while draining, or while the last reply is sent, changes nothing. */
START_TEST(test_stop_of_one_that_ends) {
  fixture.handler.messages = 1;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "z\0");
  fixture_settle();
  ck_assert_int_eq(fixture_conn()->state, CONN_DRAINING);
  fixture_stop();
  ck_assert_uint_eq(fixture.closes, 0);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_greets_at_once, 2},
      {test_serves_what_came_before, 2},
      {test_peer_gone_at_once, 3},
      {test_open_finishes, 2},
      {test_open_aborts, 2},
      {test_handler_without_callbacks, 2},
      {test_no_memory_for_the_connection, 1},
      {test_many_at_once, 1},
      {test_stop_between_messages, 4},
      {test_stop_serves_what_is_unread, 2},
      {test_stop_lets_a_message_finish, 2},
      {test_stop_does_not_prolong_a_message, 2},
      {test_stop_of_one_that_is_silent, 2},
      {test_stop_of_a_silent_counted_one, 2},
      {test_stop_sends_what_is_queued, 2},
      {test_cut, 3},
      {test_stop_of_one_that_ends, 2},
  };
  return run_suite_fixture("conn", tests, count_of(tests), conn_fixture_init, conn_fixture_fini);
}
