/*
 * check_conn_pack: an open connection in every state moves to another worker and back, every member
 * is as before, and the client notices nothing.
 *
 * Its end and its deadlines are in check_conn_pack_end, the bytes of records in check_conn_record,
 * failures of memory in check_conn_pack_fault.
 */
#include "tests/fixtures/moved_conn.h"

/* ---- open ---- */

START_TEST(test_idle) {
  fixture_start(false);
  int fd = _i == 0 ? client_connect() : client_connect_tcp();
  (void)settle_and_move();
  CLIENT_SEND(fd, "one\0");
  CLIENT_EXPECT(fd, "one\0");
  (void)settle_and_move();
  CLIENT_SEND(fd, "two\0three\0");
  CLIENT_EXPECT(fd, "two\0three\0");
  fixture_expect_messages("one|two|three|");
  ck_assert_uint_eq(fixture_conn()->messages, 3);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

START_TEST(test_unfinished_message) {
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "ha");
  fixture_settle();
  ck_assert_uint_eq(fixture_conn()->in->scanned, 2);
  struct xchg_conn *conn = there_and_back(fixture_conn());
  ck_assert_uint_eq(conn->in->scanned, 2);
  CLIENT_SEND(fd, "lf\0");
  CLIENT_EXPECT(fd, "half\0");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* Longer than every block of a slab. */
START_TEST(test_long_unfinished_message) {
  static char bytes[600000];
  memset(bytes, 'x', sizeof(bytes) - 1);
  fixture.handler.max_message = sizeof(bytes);
  fixture.config.max_pending_bytes = sizeof(bytes);
  fixture.reply = FIXTURE_SILENT;
  int fd = start_and_connect(false);
  client_send(fd, bytes, sizeof(bytes) - 1);
  struct xchg_conn *conn = settle_and_move();
  ck_assert_uint_eq(buf_size(conn->in), sizeof(bytes) - 1);
  client_send(fd, "", 1);
  fixture_settle();
  ck_assert_uint_eq(fixture.messages, 1);
  ck_assert_uint_eq(fixture.got_size, sizeof(bytes));
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* Bytes that have arrived and were not read, with no event that reports them again. */
START_TEST(test_unread_input) {
  int fd = start_and_connect(false);
  fixture_settle();
  CLIENT_WRITE(fd, "one\0");
  struct xchg_conn *conn = fixture_conn();
  reactor_wait(&fixture.reactor, 0); /* the old set has reported it */
  fixture.reactor.ready = 0;
  (void)there_and_back(conn);
  CLIENT_EXPECT(fd, "one\0");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* ---- output ---- */

START_TEST(test_stalled_output) {
  long_replies();
  fixture_start(false);
  int fd = _i == 0 ? client_connect() : client_connect_tcp();
  CLIENT_SEND(fd, "a\0");
  fixture_settle();
  ck_assert(fixture_conn()->stalled);
  (void)there_and_back(fixture_conn());
  expect_long(fd, 'a');
  CLIENT_SEND(fd, "b\0");
  expect_long(fd, 'b');
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

static void send_mixed(struct xchg_conn *conn) {
  static uint8_t many[300000];
  memset(many, 'm', sizeof(many));
  ck_assert_int_eq(xchg_send(conn, "first", 5), 0);
  ck_assert_int_eq(send_ref(conn, many, sizeof(many)), 0);
  ck_assert_int_eq(xchg_send(conn, "between", 7), 0);
  ck_assert_int_eq(send_ref(conn, many, sizeof(many)), 0);
  ck_assert_int_eq(send_ref(conn, "last", 4), 0);
}

START_TEST(test_references_become_bytes) {
  uint64_t id;
  fixture.reply = FIXTURE_SILENT;
  fixture.long_bytes = LONG_BYTES;
  fixture_start(false);
  int fd = client_connect_id(&id);
  post_act(id, send_mixed);
  ck_assert_uint_gt(send_queue_refs(&fixture_conn()->out), 1);
  (void)there_and_back(fixture_conn());
  ck_assert_uint_eq(refs.released, refs.sent);
  char *got = malloc(600016);
  ck_assert_ptr_nonnull(got);
  ck_assert_uint_eq(client_recv(fd, got, 600016), 600016);
  ck_assert_mem_eq(got, "firstm", 6);
  ck_assert_mem_eq(got + 300004, "mbetweenm", 9);
  ck_assert_mem_eq(got + 600011, "mlast", 5);
  free(got);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* Over XCHG_MAX_PENDING: messages wait, and their clock stands. */
START_TEST(test_blocked_input) {
  static char bytes[400000];
  memset(bytes, 'x', sizeof(bytes));
  for (size_t at = 999; at < sizeof(bytes); at += 1000) {
    bytes[at] = 0;
  }
  fixture.config.max_pending_bytes = 4096;
  int fd = start_and_connect(false);
  size_t sent = 0;
  for (ssize_t put = 1; put > 0;) {
    put = send(fd, bytes + sent, sizeof(bytes) - sent, MSG_NOSIGNAL);
    sent += put > 0 ? (size_t)put : 0;
    fixture_settle();
  }
  ck_assert(fixture_conn()->clock_stopped);
  ck_assert_ptr_nonnull(fixture_conn()->in);
  (void)there_and_back(fixture_conn());
  char *got = malloc(sent);
  ck_assert_ptr_nonnull(got);
  size_t whole = sent / 1000 * 1000;
  ck_assert_uint_eq(client_recv(fd, got, whole), whole);
  ck_assert_mem_eq(got, bytes, whole);
  free(got);
  close(fd);
  fixture_until_all_closed();
}
END_TEST

/* Output that was queued before the move and for which a turn is asked. */
static void send_text(struct xchg_conn *conn) { ck_assert_int_eq(xchg_send(conn, "text", 4), 0); }

START_TEST(test_queued_before_its_turn) {
  uint64_t id;
  fixture_start(false);
  int fd = client_connect_id(&id);
  fixture_settle();
  run_call(id, send_text, NULL);
  struct xchg_conn *conn = fixture_conn();
  ck_assert(conn->source.queued);
  (void)there_and_back(conn);
  CLIENT_EXPECT(fd, "text");
  ck_assert_uint_eq(call_count[AT_DRAIN], 1);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* ---- what a handler has set ---- */

static void join_three(struct xchg_conn *conn) {
  ck_assert_int_eq(xchg_join(conn, 1, XCHG_SLOW_SKIP), 0);
  ck_assert_int_eq(xchg_join(conn, UINT64_MAX, XCHG_SLOW_DROP), 0);
  ck_assert_int_eq(xchg_join(conn, 3, XCHG_SLOW_SKIP), 0);
}

static void leave_one(struct xchg_conn *conn) {
  ck_assert_int_eq(xchg_leave(conn, 1), 0);
  ck_assert_int_eq(xchg_leave(conn, 1), -1);
}

START_TEST(test_groups) {
  static const struct {
    uint64_t number;
    enum xchg_slow slow;
  } want[] = {{3, XCHG_SLOW_SKIP}, {UINT64_MAX, XCHG_SLOW_DROP}, {1, XCHG_SLOW_SKIP}};
  uint64_t id;
  fixture.reply = FIXTURE_SILENT;
  fixture_start(false);
  int fd = client_connect_id(&id);
  post_act(id, join_three);
  struct xchg_conn *conn = there_and_back(fixture_conn());
  const struct member *member = conn->cold->memberships;
  for (size_t i = 0; i < count_of(want); i++, member = member->next_of_conn) {
    ck_assert_uint_eq(member->group->number, want[i].number);
    ck_assert_int_eq(member->slow, want[i].slow);
    ck_assert_uint_eq(member->count, count_of(want) - i);
  }
  ck_assert_ptr_null(member);
  publish_bytes(UINT64_MAX, "news", 4, 10);
  CLIENT_EXPECT(fd, "news");
  post_act(xchg_id(conn), leave_one);
  publish_bytes(1, "no", 2, 10);
  publish_bytes(3, "more", 4, 10);
  CLIENT_EXPECT(fd, "more");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* A publication that comes between both steps does not reach a connection that is not resumed. */
START_TEST(test_unresumed_is_hidden) {
  uint64_t id;
  fixture.reply = FIXTURE_SILENT;
  fixture_start(false);
  int fd = client_connect_id(&id);
  post_act(id, join_three);
  struct packed packed = pack(fixture_conn());
  struct conn_record record = packed_read(&packed);
  ck_assert_ptr_null(conn_find(&fixture.ctx, id));
  struct xchg_conn *conn = conn_unpack(&fixture.ctx, &record);
  ck_assert_ptr_nonnull(conn);
  ck_assert_ptr_null(fixture_conn()); /* nothing finds it */
  publish_bytes(1, "no", 2, 10);
  CLIENT_WRITE(fd, "one\0");
  for (int i = 0; i < 3; i++) {
    reactor_wait(&fixture.reactor, 0);
    reactor_dispatch(&fixture.reactor);
  }
  ck_assert_uint_eq(fixture.messages, 0);
  conn_resume(conn);
  packed_free(&packed);
  ck_assert_uint_ne(conn_id(conn), id);
  fixture_settle();
  ck_assert_uint_eq(fixture.messages, 1);
  client_expect_nothing(fd);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

static void arm_timer(struct xchg_conn *conn) {
  ck_assert_int_eq(xchg_timer(conn, 50 * NS_PER_MS), 0);
}

START_TEST(test_timer) {
  uint64_t id;
  fixture_start(false);
  int fd = client_connect_id(&id);
  post_act(id, arm_timer);
  (void)there_and_back(fixture_conn());
  fixture_advance(45 * NS_PER_MS);
  fixture_settle();
  ck_assert_uint_eq(call_count[AT_TIMER], 0);
  fixture_advance(10 * NS_PER_MS);
  fixture_settle();
  ck_assert_uint_eq(call_count[AT_TIMER], 1);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

START_TEST(test_paused) {
  uint64_t id;
  acts[AT_MESSAGE] = act_pause;
  fixture_start(false);
  int fd = client_connect_id(&id);
  CLIENT_SEND(fd, "a\0b\0");
  fixture_settle();
  CLIENT_SEND(fd, "c\0");
  struct xchg_conn *conn = settle_and_move();
  fixture_settle();
  fixture_expect_messages("a|");
  ck_assert_int_eq(conn->hold_reasons, HOLD_HANDLER);
  acts[AT_MESSAGE] = NULL;
  post_act(xchg_id(conn), act_resume);
  CLIENT_EXPECT(fd, "a\0b\0c\0");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

START_TEST(test_request) {
  uint64_t id;
  fixture_start(false);
  int fd = client_connect_id(&id);
  fixture_settle();
  run_call(id, _i == 0 ? act_finish : act_abort, NULL);
  ck_assert_int_ne(fixture_conn()->request, REQUEST_NONE);
  (void)there_and_back(fixture_conn());
  fixture_expect_end(_i == 0 ? XCHG_FINISHED : XCHG_ERROR);
  close(fd);
}
END_TEST

/* ---- who stays ---- */

START_TEST(test_who_stays) {
  int fd = start_and_connect(false);
  struct xchg_conn *conn = fixture_conn();
  ck_assert_int_eq(conn_stays(conn), CONN_MOVES);
  ck_assert_int_eq(conn_offload_begin(conn), 0);
  ck_assert_int_eq(conn_stays(conn), CONN_STAYS_OFFLOAD);
  conn_offload_end(conn);
  ck_assert_int_eq(conn_stays(conn), CONN_MOVES);
  for (enum conn_stays i = CONN_MOVES; i < CONN_STAYS_COUNT; i++) {
    ck_assert_uint_gt(strlen(conn_stays_text(i)), 0);
  }
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {{test_idle, 2},
                                     {test_unfinished_message, 1},
                                     {test_long_unfinished_message, 1},
                                     {test_unread_input, 1},
                                     {test_stalled_output, 2},
                                     {test_references_become_bytes, 1},
                                     {test_blocked_input, 1},
                                     {test_queued_before_its_turn, 1},
                                     {test_groups, 1},
                                     {test_unresumed_is_hidden, 1},
                                     {test_timer, 1},
                                     {test_paused, 1},
                                     {test_request, 2},
                                     {test_who_stays, 1}};
  return run_suite_fixture("conn_pack", tests, count_of(tests), handler_fixture_init,
                           handler_fixture_fini);
}
