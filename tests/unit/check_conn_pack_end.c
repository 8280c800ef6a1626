/*
 * check_conn_pack_end: a connection moves to another worker and back while it ends, before its
 * deadlines, and within or behind a PROXY header.
 */
#include "tests/fixtures/moved_conn.h"
#include "tests/fixtures/proxied_conn.h"

/* ---- the end ---- */

START_TEST(test_ending) {
  long_replies();
  fixture.finish_after = 1;
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "a\0");
  fixture_settle();
  ck_assert_int_eq(fixture_conn()->state, CONN_ENDING);
  (void)there_and_back(fixture_conn());
  expect_long(fd, 'a');
  CLIENT_EXPECT(fd, "");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* The end of the stream has come, and the output of the last messages waits. */
START_TEST(test_end_of_stream) {
  long_replies();
  fixture.config.max_pending_bytes = 2 * LONG_BYTES;
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "a\0b");
  client_shutdown(fd);
  fixture_settle();
  ck_assert(fixture_conn()->eof);
  (void)there_and_back(fixture_conn());
  expect_long(fd, 'a');
  expect_long(fd, 'b');
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

START_TEST(test_lingering) {
  fixture.finish_after = 1;
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "a\0extra");
  fixture_settle();
  struct xchg_conn *conn = fixture_conn();
  ck_assert_int_eq(conn->state, CONN_LINGERING);
  ck_assert(conn->extra_input);
  fixture_advance(NS_PER_S);
  conn = there_and_back(conn);
  fixture_settle();
  CLIENT_SEND(fd, "more");
  fixture_settle();
  ck_assert_uint_eq(fixture_conn()->discarded, 4);
  fixture_advance(900 * NS_PER_MS);
  fixture_settle();
  ck_assert_uint_eq(fixture.slab.used, 1);
  fixture_advance(200 * NS_PER_MS);
  fixture_expect_end(XCHG_FINISHED);
  close(fd);
}
END_TEST

/* The last message came, and on_drain waits for the output. */
START_TEST(test_waits_for_drain) {
  long_replies();
  fixture.handler.messages = 1;
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "a\0");
  fixture_settle();
  ck_assert_int_eq(fixture_conn()->hold_reasons, HOLD_DRAIN);
  (void)there_and_back(fixture_conn());
  expect_long(fd, 'a');
  close_and_expect_end(fd, XCHG_FINISHED);
  ck_assert_uint_eq(call_count[AT_DRAIN], 1);
}
END_TEST

/* ---- deadlines ---- */

/* Nothing happens until ${left_ns}, then it ends as ${reason}. */
static void expect_deadline(uint64_t left_ns, enum xchg_reason reason) {
  fixture_advance(left_ns - 100 * NS_PER_MS);
  fixture_settle();
  ck_assert_uint_eq(fixture.slab.used, 1);
  fixture_advance(200 * NS_PER_MS);
  fixture_expect_end(reason);
}

START_TEST(test_idle_deadline) {
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "a\0");
  CLIENT_EXPECT(fd, "a\0");
  fixture_settle();
  fixture_advance(58 * NS_PER_S);
  (void)there_and_back(fixture_conn());
  fixture_settle();
  expect_deadline(2 * NS_PER_S, XCHG_IDLE);
  close(fd);
}
END_TEST

START_TEST(test_message_deadline) {
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "a");
  fixture_settle();
  fixture_advance(7 * NS_PER_S);
  (void)there_and_back(fixture_conn());
  fixture_settle();
  expect_deadline(3 * NS_PER_S, XCHG_MESSAGE);
  close(fd);
}
END_TEST

START_TEST(test_write_deadline) {
  long_replies();
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "a\0");
  fixture_settle();
  fixture_advance(7 * NS_PER_S);
  (void)there_and_back(fixture_conn());
  fixture_settle();
  expect_deadline(3 * NS_PER_S, XCHG_WRITE);
  close(fd);
}
END_TEST

/* It ends between messages; within one, it may still end that. */
START_TEST(test_lifetime) {
  fixture.config.max_lifetime_ns = 20 * NS_PER_S;
  fixture.config.message_timeout_ns = 60 * NS_PER_S;
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "a\0b");
  CLIENT_EXPECT(fd, "a\0");
  fixture_settle();
  uint64_t end_ns = fixture_conn()->cold->lifetime_ns;
  struct xchg_conn *conn = there_and_back(fixture_conn());
  ck_assert_uint_eq(conn->cold->lifetime_ns, end_ns);
  fixture_advance(9 * NS_PER_S);
  CLIENT_SEND(fd, "\0c");
  CLIENT_EXPECT(fd, "b\0");
  fixture_settle();
  fixture_advance(end_ns + 10 * NS_PER_MS - fixture.reactor.now_ns);
  fixture_settle();
  ck_assert(fixture_conn()->lifetime_over);
  (void)there_and_back(fixture_conn());
  CLIENT_SEND(fd, "\0");
  CLIENT_EXPECT(fd, "c\0");
  close_and_expect_end(fd, XCHG_LIFETIME);
}
END_TEST

/* ---- PROXY headers ---- */

static void take_proxy(void) {
  fixture.greeting = GREETING;
  fixture.config.proxy_timeout_ns = 5 * NS_PER_S;
  fixture.config.listen_count = 1;
  fixture.config.listen[0].proxy = ADDR_PROXY_ANY;
}

START_TEST(test_within_the_header) {
  static const char header[] = V1;
  for (size_t split = 0; split < sizeof(header) - 1; split++) {
    take_proxy();
    int fd = start_and_connect(false);
    client_send(fd, header, split);
    fixture_settle();
    ck_assert_int_eq(fixture_conn()->state, CONN_HEADER);
    (void)there_and_back(fixture_conn());
    expect_waiting(fd);
    client_send(fd, header + split, sizeof(header) - 1 - split);
    expect_greeting(fd);
    close_and_expect_end(fd, XCHG_FINISHED);
    proxied_conn_reset();
  }
}
END_TEST

START_TEST(test_header_deadline) {
  take_proxy();
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "PROXY");
  fixture_settle();
  fixture_advance(4 * NS_PER_S);
  (void)there_and_back(fixture_conn());
  fixture_settle();
  fixture_advance(1100 * NS_PER_MS);
  expect_rejected(STATS_PROXY_TIMEOUT);
  close(fd);
}
END_TEST

/* A header with a TLV that is kept, and the addresses of client and proxy. */
START_TEST(test_kept_header) {
  static const char header[] = V2_HEAD("\x21", "\x11", "\0\x14") V4_BLOCK "\2\0\5hosts";
  take_proxy();
  fixture.handler.proxy_tlvs = true;
  fixture_start(false);
  int fd = client_connect_tcp();
  client_send(fd, header, sizeof(header) - 1);
  expect_greeting(fd);
  fixture_settle();
  struct xchg_proxy before = {.size = sizeof(before)}, after = {.size = sizeof(after)};
  ck_assert_int_eq(xchg_proxy(fixture_conn(), &before), 0);
  struct xchg_conn *conn = there_and_back(fixture_conn());
  ck_assert_int_eq(xchg_proxy(conn, &after), 0);
  ck_assert_str_eq(after.via, before.via);
  ck_assert_str_eq(after.source, "192.0.2.7:12345");
  ck_assert_str_eq(after.destination, "198.51.100.1:7000");
  ck_assert_uint_eq(after.authority.size, 5);
  ck_assert_mem_eq(after.authority.data, "hosts", 5);
  CLIENT_SEND(fd, "a\0");
  CLIENT_EXPECT(fd, "a\0");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* A worker without a listener with ;proxy= has no room for a header. */
START_TEST(test_receiver_without_proxy) {
  take_proxy();
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "PRO");
  fixture_settle();
  struct xchg_conn *conn = fixture_conn();
  struct packed packed = park(conn);
  fixture.config.listen[0].proxy = ADDR_PROXY_OFF;
  other_open();
  struct conn_record record = packed_read(&packed);
  ck_assert(record.proxied);
  errno = 0;
  ck_assert_ptr_null(conn_unpack(&other.ctx, &record));
  ck_assert_int_eq(errno, ENOTSUP);
  other_close();
  packed_free(&packed);
  conn_resume(conn); /* given back */
  CLIENT_SEND(fd, "x");
  expect_rejected(STATS_PROXY_NOT_HEADER);
  close(fd);
}
END_TEST

/* ---- the rest ---- */

START_TEST(test_slow_log) {
  fixture.config.slow_log_ns = NS_PER_S;
  fixture.reply = FIXTURE_SILENT;
  acts[AT_MESSAGE] = act_pause;
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "a\0b");
  fixture_settle();
  struct xchg_conn *conn = fixture_conn();
  struct conn_pace *pace = &fixture.ctx.paces[source_slot(&fixture.reactor, &conn->source)];
  ck_assert(pace->held);
  pace->handoff_us = 77;
  conn = there_and_back(conn);
  fixture_advance(2 * NS_PER_S);
  acts[AT_MESSAGE] = NULL;
  post_act(xchg_id(conn), act_resume);
  ck_assert_uint_eq(atom_load_relaxed_u64(&fixture.stats.slow), 1);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* Times that the receiver has not reached count as now; a clock that is behind does no harm. */
START_TEST(test_receiver_whose_clock_is_behind) {
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "a\0b");
  fixture_settle();
  other_open();
  struct packed packed = pack(fixture_conn());
  other.reactor.now_ns = sys_now_ns();
  struct xchg_conn *conn = unpack(&other.ctx, &packed);
  uint64_t now_ns = sys_now_ns();
  ck_assert_uint_le(conn->active_ns, now_ns);
  ck_assert_uint_le(conn->message_clock_ns, now_ns);
  ck_assert_uint_le(conn_peer(conn)->opened_ns, now_ns);
  struct packed back = pack(conn);
  (void)unpack(&fixture.ctx, &back);
  other_close();
  CLIENT_SEND(fd, "\0");
  CLIENT_EXPECT(fd, "a\0b\0");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {{test_ending, 1},
                                     {test_end_of_stream, 1},
                                     {test_lingering, 1},
                                     {test_waits_for_drain, 1},
                                     {test_idle_deadline, 1},
                                     {test_message_deadline, 1},
                                     {test_write_deadline, 1},
                                     {test_lifetime, 1},
                                     {test_within_the_header, 1},
                                     {test_header_deadline, 1},
                                     {test_kept_header, 1},
                                     {test_receiver_without_proxy, 1},
                                     {test_slow_log, 1},
                                     {test_receiver_whose_clock_is_behind, 1}};
  return run_suite_fixture("conn_pack_end", tests, count_of(tests), handler_fixture_init,
                           handler_fixture_fini);
}
