/*
 * check_conn_out: what a connection sends, and how it ends without destroying any of it.
 *
 * Over a pair of UNIX sockets "acknowledged" means read by the peer, so that each path of the safe
 * close is chosen by the test; over TCP it is shown that no client loses its greeting.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/unit/rig.h"

/* The peer has read everything and sent nothing more: closed in the turn of the last message. */
START_TEST(test_acknowledged_closes_at_once) {
  struct rig rig;
  rig_init(&rig);
  rig.greeting = "hello";
  rig.reply = RIG_SILENT;
  rig.handler.messages = 1;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_GET(&rig, fd, "hello");
  RIG_PUT(&rig, fd, "x\0");
  ck_assert_uint_eq(rig.slab.used, 0);
  rig_over(&rig, XCHG_FINISHED);
  rig_get_end(&rig, fd);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* It has not read the reply: half-closed, drained, and closed at its end of stream. */
START_TEST(test_unacknowledged_drains_to_the_end_of_stream) {
  struct rig rig;
  rig_init(&rig);
  rig.handler.messages = 1;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "ping\0");
  rig_settle(&rig);
  struct xchg_conn *conn = rig_conn(&rig);
  ck_assert_ptr_nonnull(conn);
  ck_assert_int_eq(conn->state, CONN_DRAINING);
  ck_assert_uint_eq(rig.closes, 0);
  RIG_PUT(&rig, fd, "more that nobody asked for");
  rig_settle(&rig);
  ck_assert_ptr_nonnull(rig_conn(&rig));
  RIG_GET(&rig, fd, "ping\0");
  rig_get_end(&rig, fd); /* the half-close, while the server still reads */
  ck_assert_uint_eq(rig.closes, 0);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  ck_assert_uint_eq(rig.messages, 1);
  rig_fini(&rig);
}
END_TEST

/* Bytes beyond the last message: they are read, so that the close cannot reset. */
START_TEST(test_excess_is_ignored_and_drained) {
  struct rig rig;
  rig_init(&rig);
  rig.reply = RIG_SILENT;
  rig.handler.messages = 2;
  rig_start(&rig, false);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "one\0two\0three\0");
  rig_settle(&rig);
  struct xchg_conn *conn = rig_conn(&rig);
  ck_assert_ptr_nonnull(conn);
  ck_assert_int_eq(conn->state, CONN_DRAINING);
  ck_assert_uint_eq(rig.messages, 2);
  ck_assert_mem_eq(rig.got, "one|two|", 8);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

/* The drain ends XCHG_LINGER after the last acknowledgement, whatever the peer sends. */
START_TEST(test_drain_ends_after_linger) {
  struct rig rig;
  rig_init(&rig);
  rig.handler.messages = 1;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "ping\0");
  rig_settle(&rig);
  rig_advance(&rig, rig.config.linger_ns - NS_PER_S / 2);
  RIG_PUT(&rig, fd, "more");
  rig_settle(&rig);
  ck_assert_uint_eq(rig.closes, 0);
  rig_advance(&rig, NS_PER_S / 2 - 100 * NS_PER_MS);
  ck_assert_uint_eq(rig.closes, 0);
  rig_advance(&rig, 200 * NS_PER_MS);
  rig_over(&rig, XCHG_FINISHED);
  RIG_GET(&rig, fd, "ping\0"); /* nothing was unread: the reply is whole */
  rig_get_end(&rig, fd);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* An acknowledgement prolongs the drain once by XCHG_LINGER. */
START_TEST(test_acknowledgement_prolongs_the_drain) {
  struct rig rig;
  rig_init(&rig);
  rig.handler.messages = 1;
  rig_start(&rig, false);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "ping\0");
  rig_settle(&rig);
  rig_advance(&rig, rig.config.linger_ns / 2);
  RIG_GET(&rig, fd, "ping\0");
  rig_advance(&rig, rig.config.linger_ns / 2 + 10 * NS_PER_MS);
  ck_assert_uint_eq(rig.closes, 0);
  rig_advance(&rig, rig.config.linger_ns - 100 * NS_PER_MS);
  ck_assert_uint_eq(rig.closes, 0);
  rig_advance(&rig, 200 * NS_PER_MS);
  rig_over(&rig, XCHG_FINISHED);
  close(fd);
  rig_fini(&rig);
}
END_TEST

START_TEST(test_linger_0_closes_at_once) {
  struct rig rig;
  rig_init(&rig);
  rig.config.linger_ns = 0;
  rig.handler.messages = 1;
  rig_start(&rig, false);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "ping\0");
  ck_assert_uint_eq(rig.slab.used, 0);
  rig_over(&rig, XCHG_FINISHED);
  RIG_GET(&rig, fd, "ping\0");
  rig_get_end(&rig, fd);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* A drain reads 1 MiB, then no more: closed where all is acknowledged, else left until linger. */
START_TEST(test_drain_reads_a_mebibyte) {
  bool acknowledged = _i == 1;
  struct rig rig;
  rig_init(&rig);
  rig.handler.messages = 1;
  rig_start(&rig, false);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "ping\0");
  rig_settle(&rig);
  ck_assert_int_eq(rig_conn(&rig)->state, CONN_DRAINING);
  if (acknowledged) {
    RIG_GET(&rig, fd, "ping\0");
  }
  char block[4095] = {0}; /* no divisor of what a drain may read */
  size_t sent = 0;
  for (int refused = 0; refused < 3 && sent < 16 * DRAIN_BYTES_MAX && rig.closes == 0;) {
    ssize_t put = send(fd, block, sizeof(block), MSG_NOSIGNAL);
    sent += put == -1 ? 0 : (size_t)put;
    refused = put == -1 ? refused + 1 : 0;
    rig_settle(&rig);
  }
  ck_assert_uint_ge(sent, DRAIN_BYTES_MAX);
  ck_assert_uint_lt(sent, 4 * DRAIN_BYTES_MAX);
  ck_assert_uint_eq(rig.closes, acknowledged ? 1 : 0);
  uint64_t read = atom_load_relaxed_u64(&rig.stats.bytes_in);
  ck_assert_uint_eq(read, DRAIN_BYTES_MAX + 5); /* and the message */
  rig_advance(&rig, rig.config.linger_ns + NS_PER_S);
  rig_over(&rig, XCHG_FINISHED);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* The peer has ended its stream already: everything that it gets is on its way, closed at once. */
START_TEST(test_half_closed_client_gets_the_whole_reply) {
  enum { SIZE = 1000000 };
  struct rig rig;
  rig_init(&rig);
  rig.reply = RIG_LONG;
  rig.long_bytes = SIZE;
  rig.handler.messages = (uint64_t)_i & 1;
  rig_start(&rig, (_i & 2) != 0);
  int fd = (_i & 4) != 0 ? rig_connect_tcp(&rig) : rig_connect(&rig);
  RIG_PUT(&rig, fd, "z\0");
  ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
  rig_settle(&rig);
  char *reply = malloc(SIZE + 1);
  ck_assert_ptr_nonnull(reply);
  ck_assert_uint_eq(rig_get(&rig, fd, reply, SIZE + 1), SIZE);
  ck_assert(rig_all(reply, SIZE, 'z'));
  free(reply);
  rig_over(&rig, XCHG_FINISHED);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* The client writes a lot before it reads: it gets the greeting and an end, never a reset. */
START_TEST(test_tcp_client_that_writes_first_keeps_its_greeting) {
  struct rig rig;
  rig_init(&rig);
  rig.greeting = "Message from server";
  rig.reply = RIG_SILENT;
  rig.handler.messages = 1;
  rig_start(&rig, _i == 1);
  int fd = rig_connect_tcp(&rig);
  char block[100000] = {0};
  rig_put(&rig, fd, block, sizeof(block));
  rig_settle(&rig);
  RIG_GET(&rig, fd, "Message from server");
  rig_get_end(&rig, fd);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

/* TCP: the message acknowledges the greeting, so that nothing is left to wait for. */
START_TEST(test_tcp_greet_closes_at_once) {
  struct rig rig;
  rig_init(&rig);
  rig.greeting = "Message from server";
  rig.reply = RIG_SILENT;
  rig.handler.messages = 1;
  rig_start(&rig, false);
  int fd = rig_connect_tcp(&rig);
  RIG_GET(&rig, fd, "Message from server");
  RIG_PUT(&rig, fd, "hi\0");
  RIG_UNTIL(&rig, rig.slab.used == 0);
  rig_over(&rig, XCHG_FINISHED);
  rig_get_end(&rig, fd);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* A reply over what the kernel takes goes on when the peer reads; every byte is right. */
START_TEST(test_stalled_output_goes_on) {
  struct rig rig;
  rig_init(&rig);
  rig.reply = RIG_LONG;
  rig.long_bytes = 500000;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "a\0b\0c\0");
  rig_settle(&rig);
  struct xchg_conn *conn = rig_conn(&rig);
  ck_assert(conn->stalled);
  ck_assert(!outbox_empty(&conn->out));
  char *reply = malloc(rig.long_bytes);
  ck_assert_ptr_nonnull(reply);
  for (char want = 'a'; want <= 'c'; want++) {
    ck_assert_uint_eq(rig_get(&rig, fd, reply, rig.long_bytes), rig.long_bytes);
    ck_assert(rig_all(reply, rig.long_bytes, want));
  }
  free(reply);
  rig_settle(&rig);
  ck_assert(!conn->stalled);
  ck_assert(outbox_empty(&conn->out));
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

/* What comes while the last reply is still being sent is read and thrown away. */
START_TEST(test_input_is_thrown_away_while_the_last_reply_is_sent) {
  struct rig rig;
  rig_init(&rig);
  rig.reply = RIG_LONG;
  rig.long_bytes = 1000000;
  rig.handler.messages = 1;
  rig_start(&rig, false);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "z\0");
  rig_settle(&rig);
  ck_assert_int_eq(rig_conn(&rig)->state, CONN_ENDING);
  RIG_PUT(&rig, fd, "noise\0noise\0");
  rig_settle(&rig);
  ck_assert_uint_eq(rig_conn(&rig)->thrown_away, 12);
  ck_assert_uint_eq(rig.messages, 1);
  char *reply = malloc(rig.long_bytes);
  ck_assert_ptr_nonnull(reply);
  ck_assert_uint_eq(rig_get(&rig, fd, reply, rig.long_bytes), rig.long_bytes);
  free(reply);
  rig_get_end(&rig, fd);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

/* A client that is gone while output waits: reset, whoever notices it first. */
START_TEST(test_peer_gone_while_output_waits) {
  struct rig rig;
  rig_init(&rig);
  rig.reply = RIG_LONG;
  rig.long_bytes = 8000000;
  rig.config.max_pending_bytes = 1 << 16;
  rig_start(&rig, _i == 1);
  int fd = rig_connect_tcp(&rig);
  RIG_PUT(&rig, fd, "z\0");
  RIG_UNTIL(&rig, rig_conn(&rig)->stalled);
  struct linger hard = {.l_onoff = 1};
  ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
  close(fd);
  rig_over(&rig, XCHG_RESET);
  rig_fini(&rig);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_acknowledged_closes_at_once, 2},
      {test_unacknowledged_drains_to_the_end_of_stream, 2},
      {test_excess_is_ignored_and_drained, 1},
      {test_drain_ends_after_linger, 2},
      {test_acknowledgement_prolongs_the_drain, 1},
      {test_linger_0_closes_at_once, 1},
      {test_drain_reads_a_mebibyte, 2},
      {test_half_closed_client_gets_the_whole_reply, 8},
      {test_tcp_client_that_writes_first_keeps_its_greeting, 2},
      {test_tcp_greet_closes_at_once, 1},
      {test_stalled_output_goes_on, 2},
      {test_input_is_thrown_away_while_the_last_reply_is_sent, 1},
      {test_peer_gone_while_output_waits, 2},
  };
  return run_suite("conn_out", tests, count_of(tests));
}
