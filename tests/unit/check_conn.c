/*
 * check_conn: how a connection opens, and what a graceful shutdown lets it finish.
 *
 * Reading is in check_conn_input, sending and closing in check_conn_output, timeouts in
 * check_conn_timeout. Each test checks the invariants of net/conn_internal.h after every turn.
 */
#include "tests/fixtures/conn_fixture.h"

/* ---- opening ---- */

/* The greeting is sent before the first wait. */
START_TEST(test_greeting_is_sent_before_the_first_wait) {
  fixture.greeting = "hello";
  int fd = start_and_connect(_i == 1);
  char got[8];
  ck_assert_int_eq(recv(fd, got, sizeof(got), 0), 5);
  ck_assert_mem_eq(got, "hello", 5);
  ck_assert_uint_eq(fixture.ctx.bufs.bytes, 0);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* Bytes that arrived before the socket was registered are read at the first event. */
START_TEST(test_bytes_before_the_registration_are_served) {
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

/* The client has closed before the first turn: an unlimited exchange ends as finished. */
START_TEST(test_client_that_closed_before_the_first_turn) {
  fixture.greeting = _i == 2 ? "hello" : NULL;
  fixture_start(_i == 1);
  int fds[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  close(fds[0]);
  fixture_open(fds[1], ADDR_UNIX);
  fixture_expect_end(_i == 2 ? XCHG_RESET : XCHG_FINISHED);
}
END_TEST

START_TEST(test_finish_in_on_open_sends_the_greeting) {
  fixture.greeting = "bye";
  fixture.open_finishes = true;
  int fd = start_and_connect(_i == 1);
  CLIENT_EXPECT(fd, "bye");
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

START_TEST(test_abort_in_on_open_sends_nothing) {
  fixture.greeting = "bye";
  fixture.open_aborts = true;
  int fd = start_and_connect(_i == 1);
  fixture_expect_end(XCHG_ERROR);
  client_expect_end(fd);
  close(fd);
}
END_TEST

/* Without callbacks messages are counted and dropped. */
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

/*
 * One connection more than the slab holds is counted as memory and its descriptor closed. The
 * others live on.
 */
START_TEST(test_connection_over_the_slabs_limit) {
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

/* Many clients at once: each gets its own bytes back. */
START_TEST(test_many_clients_get_their_own_bytes) {
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

/* ---- graceful shutdown ---- */

/* Between messages: half-close and linger. The reason depends on whether messages are counted. */
START_TEST(test_stop_between_messages) {
  fixture.handler.messages = (_i & 1) != 0 ? 5 : 0;
  int fd = start_and_connect((_i & 2) != 0);
  CLIENT_SEND(fd, "a\0");
  CLIENT_EXPECT(fd, "a\0");
  fixture_stop();
  client_expect_end(fd);
  ck_assert_int_eq(fixture_conn()->state, CONN_LINGERING); /* although everything is acknowledged */
  CLIENT_SEND(fd, "too late\0");
  close_and_expect_end(fd, (_i & 1) != 0 ? XCHG_DRAIN : XCHG_FINISHED);
  ck_assert_uint_eq(fixture.messages, 1);
}
END_TEST

/* A message that is still unread at the stop is served. */
START_TEST(test_stop_serves_an_unread_message) {
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

/* A message that has begun may be completed. */
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

/* ... within its timeout. */
START_TEST(test_stop_does_not_prolong_a_message) {
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "beg");
  fixture_stop();
  fixture_advance(fixture.config.message_timeout_ns + 50 * NS_PER_MS);
  expect_end_then_close(fd, XCHG_MESSAGE);
}
END_TEST

/* A silent client gets one second in an unlimited exchange... */
START_TEST(test_stop_of_a_silent_client) {
  int fd = start_and_connect(_i == 1);
  fixture_stop();
  fixture_advance(NS_PER_S - 50 * NS_PER_MS);
  ck_assert_int_eq(fixture_conn()->state, CONN_OPEN);
  fixture_advance(100 * NS_PER_MS);
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_DRAIN);
}
END_TEST

/* ... and the message timeout in a counted one. */
START_TEST(test_stop_of_a_silent_client_in_a_counted_exchange) {
  fixture.handler.messages = 1;
  int fd = start_and_connect(_i == 1);
  fixture_stop();
  fixture_advance(fixture.config.message_timeout_ns - NS_PER_S);
  ck_assert_int_eq(fixture_conn()->state, CONN_OPEN);
  fixture_advance(NS_PER_S + 50 * NS_PER_MS);
  expect_end_then_close(fd, XCHG_MESSAGE);
}
END_TEST

/* Queued output is sent before the connection closes. */
START_TEST(test_stop_sends_queued_output) {
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

/* XCHG_DRAIN_TIMEOUT has passed: every state ends at once. */
START_TEST(test_drain_timeout_closes_in_every_state) {
  fixture.reply = _i == 1 ? FIXTURE_LONG : FIXTURE_ECHO;
  fixture.long_bytes = 1000000;
  fixture.handler.messages = 1;
  int fd = start_and_connect(false);
  client_send(fd, "z\0", _i == 0 ? 1 : 2);
  fixture_settle();
  static const enum conn_state states[] = {CONN_OPEN, CONN_ENDING, CONN_LINGERING};
  ck_assert_int_eq(fixture_conn()->state, states[_i]);
  conn_stop_now(&fixture_conn()->source);
  expect_end_then_close(fd, XCHG_DRAIN);
}
END_TEST

/* A stop changes nothing for a connection that lingers. */
START_TEST(test_stop_of_a_lingering_connection) {
  fixture.handler.messages = 1;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "z\0");
  fixture_settle();
  ck_assert_int_eq(fixture_conn()->state, CONN_LINGERING);
  fixture_stop();
  ck_assert_uint_eq(fixture.closes, 0);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_greeting_is_sent_before_the_first_wait, 2},
      {test_bytes_before_the_registration_are_served, 2},
      {test_client_that_closed_before_the_first_turn, 3},
      {test_finish_in_on_open_sends_the_greeting, 2},
      {test_abort_in_on_open_sends_nothing, 2},
      {test_handler_without_callbacks, 2},
      {test_connection_over_the_slabs_limit, 1},
      {test_many_clients_get_their_own_bytes, 1},
      {test_stop_between_messages, 4},
      {test_stop_serves_an_unread_message, 2},
      {test_stop_lets_a_message_finish, 2},
      {test_stop_does_not_prolong_a_message, 2},
      {test_stop_of_a_silent_client, 2},
      {test_stop_of_a_silent_client_in_a_counted_exchange, 2},
      {test_stop_sends_queued_output, 2},
      {test_drain_timeout_closes_in_every_state, 3},
      {test_stop_of_a_lingering_connection, 2},
  };
  return run_suite_fixture("conn", tests, count_of(tests), conn_fixture_init, conn_fixture_fini);
}
