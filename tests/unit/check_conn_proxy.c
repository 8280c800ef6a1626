/*
 * check_conn_proxy: connections that begin with a PROXY header: no byte and no callback before its
 * end, every way in which it fails, the clocks, the lists of addresses, health checks, the stop.
 *
 * What the header said is in check_conn_proxy_call.  Each test runs with epoll and with poll.
 */
#include "tests/fixtures/proxied_conn.h"

/* ---- the header arrives ---- */

static const struct {
  const char *bytes;
  size_t size;
} headers[] = {
    {V1, sizeof(V1) - 1},
    {V2, sizeof(V2) - 1},
    {V2_LOCAL, sizeof(V2_LOCAL) - 1},
    {V1_UNKNOWN, sizeof(V1_UNKNOWN) - 1},
};

/* In two pieces at every place: the greeting comes after the last byte and not before. */
START_TEST(test_greeting_comes_after_the_header) {
  for (size_t i = 0; i < count_of(headers); i++) {
    for (size_t split = 0; split < headers[i].size; split++) {
      int fd = start_and_connect(_i == 1);
      client_send(fd, headers[i].bytes, split);
      expect_waiting(fd);
      client_send(fd, headers[i].bytes + split, headers[i].size - split);
      expect_greeting(fd);
      CLIENT_SEND(fd, "x\0");
      CLIENT_EXPECT(fd, "x\0");
      fixture_expect_messages("x|");
      close_and_expect_end(fd, XCHG_FINISHED);
      proxied_conn_reset();
    }
  }
}
END_TEST

START_TEST(test_header_byte_by_byte) {
  for (size_t i = 0; i < count_of(headers); i++) {
    int fd = start_and_connect(_i == 1);
    for (size_t at = 0; at < headers[i].size; at++) {
      expect_waiting(fd);
      client_send(fd, headers[i].bytes + at, 1);
    }
    expect_greeting(fd);
    close_and_expect_end(fd, XCHG_FINISHED);
    proxied_conn_reset();
  }
}
END_TEST

/* Header, messages and the beginning of another in one segment, split at every place. */
START_TEST(test_bytes_after_the_header_are_input) {
  static const char all[] = V2 "one\0two\0thr";
  for (size_t split = 0; split < sizeof(all) - 1; split++) {
    int fd = start_and_connect(_i == 1);
    client_send(fd, all, split);
    fixture_settle();
    client_send(fd, all + split, sizeof(all) - 1 - split);
    expect_greeting(fd);
    CLIENT_EXPECT(fd, "one\0two\0");
    CLIENT_SEND(fd, "ee\0");
    CLIENT_EXPECT(fd, "three\0");
    fixture_expect_messages("one|two|three|");
    close_and_expect_end(fd, XCHG_FINISHED);
    proxied_conn_reset();
  }
}
END_TEST

/* A read that the header shares with more messages than fit into a turn. */
START_TEST(test_much_input_after_the_header) {
  static char bytes[sizeof(V2) - 1 + 200000];
  memset(bytes, 'x', sizeof(bytes));
  memcpy(bytes, V2, sizeof(V2) - 1);
  for (size_t at = sizeof(V2) - 1 + 999; at < sizeof(bytes); at += 1000) {
    bytes[at] = 0;
  }
  fixture.reply = FIXTURE_SILENT;
  int fd = start_and_connect(_i == 1);
  client_send(fd, bytes, sizeof(bytes));
  expect_greeting(fd);
  FIXTURE_UNTIL(fixture.messages == 200);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* The first read is not limited to max_message, but raw messages are. */
START_TEST(test_raw_messages_after_the_header_are_limited) {
  fixture.handler.frame.kind = XCHG_FRAME_RAW;
  fixture.handler.max_message = 4;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, V2 "abcdefghij");
  expect_greeting(fd);
  CLIENT_EXPECT(fd, "abcdefghij");
  fixture_expect_messages("abcd|efgh|ij|");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* ---- no header ---- */

/* The stream ends after every number of bytes of a header. */
START_TEST(test_end_of_stream_in_the_header) {
  for (size_t i = 0; i < count_of(headers); i++) {
    for (size_t size = 0; size < headers[i].size; size++) {
      int fd = start_and_connect(_i == 1);
      client_write(fd, headers[i].bytes, size);
      client_shutdown(fd);
      expect_rejected(STATS_PROXY_TRUNCATED);
      client_expect_end(fd);
      close(fd);
      proxied_conn_reset();
    }
  }
}
END_TEST

START_TEST(test_reset_in_the_header) {
  for (size_t size = 0; size < sizeof(V2) - 1; size++) {
    int fd = proxied_tcp(_i == 1);
    client_send(fd, V2, size);
    fixture_settle();
    client_reset(fd);
    expect_rejected(STATS_PROXY_TRUNCATED);
    proxied_conn_reset();
  }
}
END_TEST

START_TEST(test_invalid_headers) {
  static char long_line[120] = "PROXY TCP6 ";
  memset(long_line + 11, '1', sizeof(long_line) - 12);
  static const struct {
    enum addr_proxy accepts;
    const char *bytes;
    size_t size;
    enum stats_proxy_cause cause;
  } cases[] = {
      {ADDR_PROXY_ANY, "G", 1, STATS_PROXY_NOT_HEADER},
      {ADDR_PROXY_ANY, "PROXY\t", 6, STATS_PROXY_NOT_HEADER},
      {ADDR_PROXY_ANY, "\r\n\r\n\1", 5, STATS_PROXY_NOT_HEADER},
      {ADDR_PROXY_V2, V1, sizeof(V1) - 1, STATS_PROXY_VERSION},
      {ADDR_PROXY_V1, V2, sizeof(V2) - 1, STATS_PROXY_VERSION},
      {ADDR_PROXY_ANY, "PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n", 34, STATS_PROXY_BAD},
      {ADDR_PROXY_ANY, V2_HEAD("\x22", "\x11", "\0\x0c") V4_BLOCK, 28, STATS_PROXY_BAD},
      {ADDR_PROXY_ANY, V2_HEAD("\x21", "\x11", "\x10\0"), 16, STATS_PROXY_TOO_LONG},
      {ADDR_PROXY_ANY, V2_HEAD("\x21", "\x11", "\0\x13") V4_BLOCK "\3\0\4\0\0\0\0", 35,
       STATS_PROXY_CHECKSUM},
      {ADDR_PROXY_ANY, V2_HEAD("\x21", "\x11", "\0\x0e") V4_BLOCK "\4\0", 30, STATS_PROXY_BAD},
  };
  for (size_t i = 0; i < count_of(cases); i++) {
    fixture.config.listen[0].proxy = cases[i].accepts;
    int fd = start_and_connect(_i == 1);
    client_write(fd, cases[i].bytes, cases[i].size);
    expect_rejected(cases[i].cause);
    client_expect_end(fd);
    close(fd);
    proxied_conn_reset();
  }
}
END_TEST

/* A version that is not taken is refused, the other is served. */
START_TEST(test_versions) {
  static const enum addr_proxy takes[] = {ADDR_PROXY_V1, ADDR_PROXY_V2};
  for (size_t i = 0; i < count_of(takes); i++) {
    fixture.config.listen[0].proxy = takes[i];
    int fd = start_and_connect(_i == 1);
    client_write(fd, headers[i].bytes, headers[i].size);
    expect_greeting(fd);
    ck_assert_uint_eq(atom_load_relaxed_u64(&fixture.stats.proxy_headers[i][STATS_PROXY_PROXY]), 1);
    close_and_expect_end(fd, XCHG_FINISHED);
    proxied_conn_reset();
  }
}
END_TEST

/* ---- clocks ---- */

#define SOON_NS (20 * NS_PER_MS)

/* No other timeout runs, and bytes of the header do not extend it. */
START_TEST(test_header_timeout) {
  fixture.config.idle_timeout_ns = fixture.config.message_timeout_ns = NS_PER_S;
  fixture.config.max_lifetime_ns = NS_PER_S;
  fixture.config.drain_timeout_ns = 0;
  int fd = start_and_connect(_i == 1);
  if (_i < 2) {
    fixture_advance(3 * NS_PER_S);
    CLIENT_SEND(fd, "PROXY ");
    fixture_advance(2 * NS_PER_S - SOON_NS);
  } else {
    fixture_advance(5 * NS_PER_S - SOON_NS);
  }
  expect_waiting(fd);
  fixture_advance(2 * SOON_NS);
  expect_rejected(STATS_PROXY_TIMEOUT);
  client_expect_end(fd);
  close(fd);
}
END_TEST

/* A header that is in the socket when the time is over is read. */
START_TEST(test_arrived_header_is_in_time) {
  int fd = start_and_connect(_i == 1);
  fixture_advance(4 * NS_PER_S);
  CLIENT_WRITE(fd, V2 "x\0");
  fixture_advance(2 * NS_PER_S);
  expect_greeting(fd);
  CLIENT_EXPECT(fd, "x\0");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* Connect, wait, send the header: after ${limit_ns} from then it ends as ${reason}. */
static void expect_clock(bool single, uint64_t limit_ns, enum xchg_reason reason) {
  int fd = start_and_connect(single);
  fixture_advance(4 * NS_PER_S);
  CLIENT_SEND(fd, V2);
  expect_greeting(fd);
  fixture_advance(limit_ns - SOON_NS);
  fixture_settle();
  ck_assert_uint_eq(fixture.closes, 0);
  fixture_advance(2 * SOON_NS);
  expect_end_then_close(fd, reason);
}

START_TEST(test_clocks_start_after_the_header) {
  fixture.config.idle_timeout_ns = 3 * NS_PER_S;
  expect_clock(_i == 1, 3 * NS_PER_S, XCHG_IDLE);
  proxied_conn_reset();
  fixture.handler.messages = 1;
  fixture.config.message_timeout_ns = 3 * NS_PER_S;
  expect_clock(_i == 1, 3 * NS_PER_S, XCHG_MESSAGE);
}
END_TEST

/* A deadline of the open connection may be earlier than that of its header was. */
START_TEST(test_clock_shorter_than_the_headers) {
  fixture.config.idle_timeout_ns = NS_PER_S;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, V2);
  expect_greeting(fd);
  fixture_advance(NS_PER_S + SOON_NS);
  expect_end_then_close(fd, XCHG_IDLE);
}
END_TEST

/* The lifetime is up to a tenth shorter, and counts from the header. */
START_TEST(test_lifetime_starts_after_the_header) {
  fixture.config.max_lifetime_ns = 10 * NS_PER_S;
  int fd = start_and_connect(_i == 1);
  fixture_advance(4 * NS_PER_S);
  CLIENT_SEND(fd, V2 "x\0");
  expect_greeting(fd);
  CLIENT_EXPECT(fd, "x\0");
  fixture_advance(9 * NS_PER_S - SOON_NS);
  fixture_settle();
  ck_assert_uint_eq(fixture.closes, 0);
  fixture_advance(NS_PER_S + 2 * SOON_NS);
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_LIFETIME);
}
END_TEST

/* ---- the handler's answers to on_open ---- */

START_TEST(test_handler_ends_at_the_open) {
  for (int aborts = 0; aborts < 2; aborts++) {
    fixture.open_aborts = aborts == 1;
    fixture.open_finishes = aborts == 0;
    int fd = start_and_connect(_i == 1);
    CLIENT_SEND(fd, V2 "x\0");
    close_and_expect_end(fd, aborts == 1 ? XCHG_ERROR : XCHG_FINISHED);
    ck_assert_uint_eq(fixture.messages, 0);
    proxied_conn_reset();
  }
}
END_TEST

START_TEST(test_handler_pauses_at_the_open) {
  acts[AT_OPEN] = act_pause;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, V2 "x\0");
  expect_greeting(fd);
  fixture_settle();
  ck_assert_uint_eq(fixture.messages, 0);
  ck_assert_int_eq(xchg_resume(fixture_conn()), 0);
  CLIENT_EXPECT(fd, "x\0");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* ---- health checks ---- */

/* The peer ends after LOCAL: with a counted exchange, before its message. */
START_TEST(test_local_without_data_is_finished) {
  fixture.handler.messages = 1;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, V2_LOCAL);
  expect_greeting(fd);
  close_and_expect_end(fd, XCHG_FINISHED);
  proxied_conn_reset();
  fd = start_and_connect(_i == 1);
  CLIENT_WRITE(fd, V2_LOCAL);
  client_shutdown(fd);
  expect_greeting(fd);
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* Before or after the greeting, and also if the handler pauses, which poll notices later. */
START_TEST(test_local_that_is_reset_is_finished) {
  fixture.handler.messages = 1;
  acts[AT_OPEN] = _i < 4 ? NULL : act_pause;
  int fd = proxied_tcp(_i == 1 || _i == 3);
  CLIENT_WRITE(fd, V2_LOCAL);
  if (_i % 4 < 2) {
    CLIENT_EXPECT(fd, GREETING);
  }
  client_reset(fd);
  fixture_expect_end(XCHG_FINISHED);
}
END_TEST

START_TEST(test_local_with_data_is_served) {
  fixture.handler.messages = 2;
  int fd = proxied_tcp(_i == 1);
  CLIENT_SEND(fd, V2_LOCAL "x\0");
  expect_greeting(fd);
  CLIENT_EXPECT(fd, "x\0");
  client_reset(fd);
  fixture_expect_end(XCHG_RESET);
  proxied_conn_reset();
  fixture.handler.messages = 1;
  fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, V2_LOCAL "x");
  expect_greeting(fd);
  client_reset(fd);
  FIXTURE_UNTIL(fixture.closes == 1);
  ck_assert(fixture.reason == XCHG_PEER || fixture.reason == XCHG_RESET);
}
END_TEST

/* A client's connection that ends without data is no health check. */
START_TEST(test_client_without_data_is_lost) {
  fixture.handler.messages = 1;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, V2);
  expect_greeting(fd);
  close_and_expect_end(fd, XCHG_PEER);
}
END_TEST

/* ---- the stop ---- */

/* Nothing has begun: it ends after a second, as other connections that say nothing. */
START_TEST(test_stop_ends_a_connection_without_a_byte) {
  int fd = start_and_connect(_i == 1);
  fixture_stop();
  fixture_advance(NS_PER_S - SOON_NS);
  expect_waiting(fd);
  fixture_advance(2 * SOON_NS);
  client_expect_end(fd);
  close(fd);
  expect_unopened_end(XCHG_DRAIN);
}
END_TEST

/* Once a header has begun it has its time, and its client is served. */
START_TEST(test_stop_serves_a_header_that_has_begun) {
  static const char all[] = V2 "x\0";
  fixture.handler.messages = 1;
  int fd = start_and_connect(_i == 1);
  client_send(fd, all, 1);
  fixture_stop();
  fixture_advance(4 * NS_PER_S);
  expect_waiting(fd);
  client_send(fd, all + 1, sizeof(all) - 2);
  expect_greeting(fd);
  CLIENT_EXPECT(fd, "x\0");
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* The header is still in the socket when the stop begins, or when its time is over. */
START_TEST(test_stop_reads_what_has_arrived) {
  fixture.handler.messages = 1;
  int fd = start_and_connect(_i % 2 == 1);
  CLIENT_WRITE(fd, V2 "x\0");
  if (_i < 2) {
    fixture_stop();
  } else {
    fixture.ctx.stop_ns = fixture.reactor.now_ns;
    (void)conn_stop_now(&fixture_conn()->source); /* the answer is sent, but not yet received */
    fixture_reap();
  }
  CLIENT_EXPECT(fd, GREETING "x\0");
  client_expect_end(fd);
  close_and_expect_end(fd, _i < 2 ? XCHG_FINISHED : XCHG_DRAIN);
}
END_TEST

START_TEST(test_stop_now_closes_an_unfinished_header) {
  int fd = start_and_connect(_i == 1);
  client_send(fd, V2, 5);
  fixture.ctx.stop_ns = fixture.reactor.now_ns;
  ck_assert(conn_stop_now(&fixture_conn()->source));
  fixture_reap();
  expect_unopened_end(XCHG_DRAIN);
  close(fd);
}
END_TEST

/* As an operator asks for it, who sees the connection before the handler does. */
START_TEST(test_a_posted_end_in_the_header) {
  int fd = start_and_connect(false);
  client_send(fd, V2, 5);
  fixture_settle();
  post_act(conn_id(fixture_conn()), _i == 0 ? act_finish : act_abort);
  expect_unopened_end(_i == 0 ? XCHG_FINISHED : XCHG_ERROR);
  close(fd);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_greeting_comes_after_the_header, 2},
      {test_header_byte_by_byte, 2},
      {test_bytes_after_the_header_are_input, 2},
      {test_much_input_after_the_header, 2},
      {test_raw_messages_after_the_header_are_limited, 2},
      {test_end_of_stream_in_the_header, 2},
      {test_reset_in_the_header, 2},
      {test_invalid_headers, 2},
      {test_versions, 2},
      {test_header_timeout, 4},
      {test_arrived_header_is_in_time, 2},
      {test_clocks_start_after_the_header, 2},
      {test_clock_shorter_than_the_headers, 2},
      {test_lifetime_starts_after_the_header, 2},
      {test_handler_ends_at_the_open, 2},
      {test_handler_pauses_at_the_open, 2},
      {test_local_without_data_is_finished, 2},
      {test_local_that_is_reset_is_finished, 5},
      {test_local_with_data_is_served, 2},
      {test_client_without_data_is_lost, 2},
      {test_stop_ends_a_connection_without_a_byte, 2},
      {test_stop_serves_a_header_that_has_begun, 2},
      {test_stop_reads_what_has_arrived, 4},
      {test_stop_now_closes_an_unfinished_header, 2},
      {test_a_posted_end_in_the_header, 2},
  };
  return run_suite_fixture("conn_proxy", tests, count_of(tests), proxied_conn_init,
                           handler_fixture_fini);
}
