/*
 * check_conn_output: what a connection sends, and how it closes without losing sent bytes.
 *
 * Over a pair of UNIX sockets "acknowledged" means read by the peer, so the test chooses each path
 * of the close. Over TCP the tests show that no client loses its greeting.
 */
#include "tests/fixtures/conn_fixture.h"

/* The client has read everything and sent no more: closed in the turn of the last message. */
START_TEST(test_acknowledged_output_closes_at_once) {
  fixture.greeting = "hello";
  fixture.reply = FIXTURE_SILENT;
  fixture.handler.messages = 1;
  int fd = start_and_connect(_i == 1);
  CLIENT_EXPECT(fd, "hello");
  CLIENT_SEND(fd, "x\0");
  ck_assert_uint_eq(fixture.slab.used, 0);
  fixture_expect_end(XCHG_FINISHED);
  client_expect_end(fd);
  close(fd);
}
END_TEST

/*
 * The client has not read the reply: half-close, linger, and close at the client's end of stream.
 */
START_TEST(test_unacknowledged_output_lingers_until_the_clients_end) {
  fixture.handler.messages = 1;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "ping\0");
  fixture_settle();
  struct xchg_conn *conn = fixture_conn();
  ck_assert_ptr_nonnull(conn);
  ck_assert_int_eq(conn->state, CONN_LINGERING);
  ck_assert_uint_eq(fixture.closes, 0);
  CLIENT_SEND(fd, "more than the exchange has");
  fixture_settle();
  ck_assert_ptr_nonnull(fixture_conn());
  CLIENT_EXPECT(fd, "ping\0");
  client_expect_end(fd); /* the half-close; the server still reads */
  ck_assert_uint_eq(fixture.closes, 0);
  close_and_expect_end(fd, XCHG_FINISHED);
  ck_assert_uint_eq(fixture.messages, 1);
}
END_TEST

/* Bytes after the last message are read, so that the close sends no reset. */
START_TEST(test_bytes_after_the_last_message_are_discarded) {
  fixture.reply = FIXTURE_SILENT;
  fixture.handler.messages = 2;
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "one\0two\0three\0");
  fixture_settle();
  struct xchg_conn *conn = fixture_conn();
  ck_assert_ptr_nonnull(conn);
  ck_assert_int_eq(conn->state, CONN_LINGERING);
  ck_assert_uint_eq(fixture.messages, 2);
  ck_assert_mem_eq(fixture.got, "one|two|", 8);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* Lingering ends XCHG_LINGER after the last acknowledgement, whatever the client sends. */
START_TEST(test_linger_ends_after_its_time) {
  fixture.handler.messages = 1;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "ping\0");
  fixture_settle();
  fixture_advance(fixture.config.linger_ns - NS_PER_S / 2);
  CLIENT_SEND(fd, "more");
  fixture_settle();
  ck_assert_uint_eq(fixture.closes, 0);
  fixture_advance(NS_PER_S / 2 - 100 * NS_PER_MS);
  ck_assert_uint_eq(fixture.closes, 0);
  fixture_advance(200 * NS_PER_MS);
  fixture_expect_end(XCHG_FINISHED);
  CLIENT_EXPECT(fd, "ping\0"); /* the reply is complete */
  client_expect_end(fd);
  close(fd);
}
END_TEST

/* An acknowledgement extends lingering once, by XCHG_LINGER. */
START_TEST(test_acknowledgement_extends_lingering) {
  fixture.handler.messages = 1;
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "ping\0");
  fixture_settle();
  fixture_advance(fixture.config.linger_ns / 2);
  CLIENT_EXPECT(fd, "ping\0");
  fixture_advance(fixture.config.linger_ns / 2 + 10 * NS_PER_MS);
  ck_assert_uint_eq(fixture.closes, 0);
  fixture_advance(fixture.config.linger_ns - 100 * NS_PER_MS);
  ck_assert_uint_eq(fixture.closes, 0);
  fixture_advance(200 * NS_PER_MS);
  expect_end_then_close(fd, XCHG_FINISHED);
}
END_TEST

START_TEST(test_linger_0_closes_at_once) {
  fixture.config.linger_ns = 0;
  fixture.handler.messages = 1;
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "ping\0");
  ck_assert_uint_eq(fixture.slab.used, 0);
  fixture_expect_end(XCHG_FINISHED);
  CLIENT_EXPECT(fd, "ping\0");
  client_expect_end(fd);
  close(fd);
}
END_TEST

/*
 * Lingering reads at most 1 MiB. Then it closes if everything is acknowledged, or else waits for
 * XCHG_LINGER.
 */
START_TEST(test_linger_reads_a_mebibyte_at_most) {
  bool acknowledged = _i == 1;
  fixture.handler.messages = 1;
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "ping\0");
  fixture_settle();
  ck_assert_int_eq(fixture_conn()->state, CONN_LINGERING);
  if (acknowledged) {
    CLIENT_EXPECT(fd, "ping\0");
  }
  char block[4095] = {0}; /* does not divide LINGER_BYTES_MAX */
  size_t sent = 0;
  for (int refused = 0; refused < 3 && sent < 16 * LINGER_BYTES_MAX && fixture.closes == 0;) {
    ssize_t put = send(fd, block, sizeof(block), MSG_NOSIGNAL);
    sent += put == -1 ? 0 : (size_t)put;
    refused = put == -1 ? refused + 1 : 0;
    fixture_settle();
  }
  ck_assert_uint_ge(sent, LINGER_BYTES_MAX);
  ck_assert_uint_lt(sent, 4 * LINGER_BYTES_MAX);
  ck_assert_uint_eq(fixture.closes, acknowledged ? 1 : 0);
  uint64_t read = atom_load_relaxed_u64(&fixture.stats.bytes_in);
  ck_assert_uint_eq(read, LINGER_BYTES_MAX + 5); /* 5: the message */
  fixture_advance(fixture.config.linger_ns + NS_PER_S);
  expect_end_then_close(fd, XCHG_FINISHED);
}
END_TEST

/*
 * The client has half-closed: it gets the whole reply, and the connection closes without lingering.
 */
START_TEST(test_half_closed_client_gets_the_whole_reply) {
  enum { SIZE = 1000000 };
  fixture.reply = FIXTURE_LONG;
  fixture.long_bytes = SIZE;
  fixture.handler.messages = (uint64_t)_i & 1;
  fixture_start((_i & 2) != 0);
  int fd = (_i & 4) != 0 ? client_connect_tcp() : client_connect();
  CLIENT_SEND(fd, "z\0");
  client_shutdown(fd);
  fixture_settle();
  char *reply = malloc(SIZE + 1);
  ck_assert_ptr_nonnull(reply);
  ck_assert_uint_eq(client_recv(fd, reply, SIZE + 1), SIZE);
  ck_assert(all_bytes(reply, SIZE, 'z'));
  free(reply);
  expect_end_then_close(fd, XCHG_FINISHED);
}
END_TEST

/*
 * The client writes 100,000 bytes before it reads: it gets the greeting and an end, never a reset.
 */
START_TEST(test_tcp_client_that_writes_first_keeps_its_greeting) {
  fixture.greeting = "Message from server";
  fixture.reply = FIXTURE_SILENT;
  fixture.handler.messages = 1;
  fixture_start(_i == 1);
  int fd = client_connect_tcp();
  char block[100000] = {0};
  client_send(fd, block, sizeof(block));
  fixture_settle();
  CLIENT_EXPECT(fd, "Message from server");
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* Over TCP the client's message acknowledges the greeting, so there is nothing to linger for. */
START_TEST(test_tcp_greet_closes_at_once) {
  fixture.greeting = "Message from server";
  fixture.reply = FIXTURE_SILENT;
  fixture.handler.messages = 1;
  fixture_start(false);
  int fd = client_connect_tcp();
  CLIENT_EXPECT(fd, "Message from server");
  CLIENT_SEND(fd, "hi\0");
  fixture_until_all_closed();
  fixture_expect_end(XCHG_FINISHED);
  client_expect_end(fd);
  close(fd);
}
END_TEST

/* A reply larger than the socket buffer continues when the client reads. Every byte is right. */
START_TEST(test_stalled_output_continues) {
  fixture.reply = FIXTURE_LONG;
  fixture.long_bytes = 500000;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "a\0b\0c\0");
  fixture_settle();
  struct xchg_conn *conn = fixture_conn();
  ck_assert(conn->stalled);
  ck_assert(!send_queue_empty(&conn->out));
  char *reply = malloc(fixture.long_bytes);
  ck_assert_ptr_nonnull(reply);
  for (char want = 'a'; want <= 'c'; want++) {
    ck_assert_uint_eq(client_recv(fd, reply, fixture.long_bytes), fixture.long_bytes);
    ck_assert(all_bytes(reply, fixture.long_bytes, want));
  }
  free(reply);
  fixture_settle();
  ck_assert(!conn->stalled);
  ck_assert(send_queue_empty(&conn->out));
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* Input that arrives while the last reply is being sent is discarded. */
START_TEST(test_input_is_discarded_while_the_last_reply_is_sent) {
  fixture.reply = FIXTURE_LONG;
  fixture.long_bytes = 1000000;
  fixture.handler.messages = 1;
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "z\0");
  fixture_settle();
  ck_assert_int_eq(fixture_conn()->state, CONN_ENDING);
  CLIENT_SEND(fd, "noise\0noise\0");
  fixture_settle();
  ck_assert_uint_eq(fixture_conn()->discarded, 12);
  ck_assert_uint_eq(fixture.messages, 1);
  char *reply = malloc(fixture.long_bytes);
  ck_assert_ptr_nonnull(reply);
  ck_assert_uint_eq(client_recv(fd, reply, fixture.long_bytes), fixture.long_bytes);
  free(reply);
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/*
 * The client resets while output is queued: the reason is reset, whether recv or send sees it
 * first.
 */
START_TEST(test_reset_while_output_is_queued) {
  fixture.reply = FIXTURE_LONG;
  fixture.long_bytes = 8000000;
  fixture.config.max_pending_bytes = 1 << 16;
  fixture_start(_i == 1);
  int fd = client_connect_tcp();
  CLIENT_SEND(fd, "z\0");
  FIXTURE_UNTIL(fixture_conn()->stalled);
  struct linger hard = {.l_onoff = 1};
  ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
  close_and_expect_end(fd, XCHG_RESET);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_acknowledged_output_closes_at_once, 2},
      {test_unacknowledged_output_lingers_until_the_clients_end, 2},
      {test_bytes_after_the_last_message_are_discarded, 1},
      {test_linger_ends_after_its_time, 2},
      {test_acknowledgement_extends_lingering, 1},
      {test_linger_0_closes_at_once, 1},
      {test_linger_reads_a_mebibyte_at_most, 2},
      {test_half_closed_client_gets_the_whole_reply, 8},
      {test_tcp_client_that_writes_first_keeps_its_greeting, 2},
      {test_tcp_greet_closes_at_once, 1},
      {test_stalled_output_continues, 2},
      {test_input_is_discarded_while_the_last_reply_is_sent, 1},
      {test_reset_while_output_is_queued, 2},
  };
  return run_suite_fixture("conn_output", tests, count_of(tests), conn_fixture_init,
                           conn_fixture_fini);
}
