/*
 * check_conn_pack_state: connections of a handler with a state of its own move, come back, stay,
 * or are refused.  Exactly one of on_close and on_gone follows each on_open and on_restore.
 */
#include "tests/fixtures/handler_fixture.h"
#include "tests/fixtures/other_worker.h"

#define VERSION 7

/* A connection's state: a text on the heap, so that the sanitizers see one that is lost. */
struct state {
  char *text; /* owns */
};

static struct {
  size_t size;  /* what on_save writes; SIZE_MAX: it refuses, and more than it may is a refusal */
  bool refuses; /* on_restore */
  act_fn *act;  /* in on_restore, or NULL */
  unsigned saved, restored, gone;
  uint64_t id;       /* in on_restore */
  uint64_t saved_id; /* in on_save */
} with;

static void set_text(struct xchg_conn *conn, const void *text, size_t size) {
  struct state *state = xchg_state(conn);
  ck_assert_ptr_null(state->text); /* zeroed before */
  state->text = calloc(size + 1, 1);
  ck_assert_ptr_nonnull(state->text);
  memcpy(state->text, text, size);
}

static void state_on_open(struct xchg_conn *conn) {
  handler_on_open(conn);
  set_text(conn, "opened", 6);
}

static void state_on_close(struct xchg_conn *conn, enum xchg_reason reason) {
  free(((struct state *)xchg_state(conn))->text);
  handler_on_close(conn, reason);
}

/* Calls that change ${conn} fail, or do nothing. */
static void expect_no_calls(struct xchg_conn *conn) {
  bool queued = conn->source.queued;
  uint8_t hold = conn->hold_reasons;
  const struct member *memberships = conn->cold->memberships;
  ck_assert_int_eq(xchg_send(conn, "no", 2), -1);
  ck_assert_int_eq(errno, EPIPE);
  ck_assert_int_eq(xchg_join(conn, 99, XCHG_SLOW_SKIP), -1);
  ck_assert_int_eq(xchg_timer(conn, 1), 0);
  ck_assert_int_eq(xchg_abort(conn), 0);
  ck_assert_int_eq(xchg_finish(conn), 0);
  ck_assert_int_eq(conn->request, REQUEST_NONE);
  ck_assert_int_eq(xchg_pause(conn), 0);
  ck_assert_int_eq(conn->hold_reasons, hold);
  ck_assert_int_eq(xchg_resume(conn), 0);
  ck_assert_int_eq(conn->hold_reasons, hold);
  ck_assert_int_eq(xchg_leave(conn, 42), -1);
  ck_assert_ptr_eq(conn->cold->memberships, memberships);
  ck_assert(!timer_armed(&conn->source.timer) || conn->cold->timer_ns == NEVER);
  ck_assert(conn->source.queued == queued);
}

static ssize_t on_save(struct xchg_conn *conn, void *data, size_t size) {
  const struct state *state = xchg_state(conn);
  ck_assert_uint_eq(size, XCHG_SAVE_MAX);
  with.saved++;
  with.saved_id = xchg_id(conn);
  expect_no_calls(conn);
  if (with.size > XCHG_SAVE_MAX) {
    return with.size == SIZE_MAX ? -1 : (ssize_t)with.size;
  }
  memset(data, 'x', with.size);
  size_t length = strlen(state->text);
  memcpy(data, state->text, length < with.size ? length : with.size);
  return (ssize_t)with.size;
}

static int on_restore(struct xchg_conn *conn, uint32_t version, const void *data, size_t size) {
  ck_assert_uint_eq(version, VERSION);
  ck_assert_uint_eq(size, with.size);
  with.restored++;
  if (with.refuses) {
    if (with.act != NULL) {
      with.act(conn);
    }
    return -1;
  }
  fixture.opens++;
  ck_assert_ptr_nonnull(data);
  set_text(conn, data, size);
  if (with.act != NULL) {
    with.act(conn);
  }
  return 0;
}

static void on_gone(struct xchg_conn *conn) {
  with.gone++;
  ck_assert_uint_eq(xchg_id(conn), with.saved_id);
  fixture.closes++;
  expect_no_calls(conn);
  free(((struct state *)xchg_state(conn))->text);
}

static void set_up(void) {
  handler_fixture_init();
  memset(&with, 0, sizeof(with));
  with.size = 6;
  fixture.handler.state_size = sizeof(struct state);
  fixture.handler.on_open = state_on_open;
  fixture.handler.on_close = state_on_close;
  fixture.handler.state_version = VERSION;
  fixture.handler.on_save = on_save;
  fixture.handler.on_restore = on_restore;
  fixture.handler.on_gone = on_gone;
}

static const char *text_of(struct xchg_conn *conn) {
  return ((struct state *)xchg_state(conn))->text;
}

static void end(int fd) {
  close(fd);
  fixture_until_all_closed();
  ck_assert_uint_eq(fixture.opens, fixture.closes);
}

/* Each size that on_save may write arrives. */
START_TEST(it_moves) {
  static const size_t sizes[] = {0, 1, 6, XCHG_SAVE_MAX - 1, XCHG_SAVE_MAX};
  with.size = sizes[_i];
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "half");
  fixture_settle();
  other_open();
  struct packed out = pack(fixture_conn());
  struct xchg_conn *conn = unpack(&other.ctx, &out);
  size_t used = with.size < 6 ? with.size : 6;
  ck_assert_uint_eq(strlen(text_of(conn)), with.size);
  ck_assert_mem_eq(text_of(conn), "opened", used);
  struct packed back = pack(conn);
  conn = unpack(&fixture.ctx, &back);
  ck_assert_mem_eq(text_of(conn), "opened", used);
  other_close();
  CLIENT_SEND(fd, "\0");
  CLIENT_EXPECT(fd, "half\0");
  ck_assert_uint_eq(with.gone, 2);
  ck_assert_uint_eq(with.restored, 2);
  end(fd);
}
END_TEST

/* Its state, its id and its place in the address space are as before, and nothing is called. */
START_TEST(it_comes_back) {
  int fd = start_and_connect(false);
  fixture_settle();
  struct xchg_conn *conn = fixture_conn();
  ck_assert_int_eq(xchg_join(conn, 42, XCHG_SLOW_SKIP), 0);
  uint64_t id = xchg_id(conn);
  const char *text = text_of(conn);
  CLIENT_WRITE(fd, "one\0");
  struct packed packed = park(conn);
  ck_assert_uint_eq(fixture.ctx.parked, 1);
  ck_assert_ptr_null(conn_find(&fixture.ctx, id));
  expect_no_calls(conn);
  for (int i = 0; i < 3; i++) {
    reactor_wait(&fixture.reactor, 0);
    reactor_dispatch(&fixture.reactor);
  }
  ck_assert_uint_eq(fixture.messages, 0);
  conn_resume(conn);
  packed_free(&packed);
  ck_assert_uint_eq(fixture.ctx.parked, 0);
  ck_assert_ptr_eq(conn_find(&fixture.ctx, id), conn);
  ck_assert_uint_eq(xchg_id(conn), id);
  ck_assert_ptr_eq(text_of(conn), text);
  CLIENT_EXPECT(fd, "one\0");
  ck_assert_uint_eq(with.restored + with.gone, 0);
  end(fd);
}
END_TEST

/* on_save refuses, or has written more than it may. */
START_TEST(it_stays) {
  with.size = _i == 0 ? SIZE_MAX : XCHG_SAVE_MAX + 1;
  int fd = start_and_connect(false);
  fixture_settle();
  struct xchg_conn *conn = fixture_conn();
  uint8_t *bytes = malloc(conn_record_room(conn));
  ck_assert_ptr_nonnull(bytes);
  ck_assert_uint_eq(conn_pack(conn, bytes), 0);
  free(bytes);
  ck_assert_uint_eq(fixture.ctx.parked, 0);
  ck_assert_int_eq(conn->state, CONN_OPEN);
  CLIENT_SEND(fd, "one\0");
  CLIENT_EXPECT(fd, "one\0");
  end(fd);
}
END_TEST

/* on_restore refuses: nothing of it is left there, and it comes back. */
START_TEST(it_is_refused) {
  with.refuses = true;
  int fd = start_and_connect(false);
  fixture_settle();
  struct xchg_conn *conn = fixture_conn();
  ck_assert_int_eq(xchg_join(conn, 1, XCHG_SLOW_SKIP), 0);
  struct packed packed = park(conn);
  packed.owned.fd = conn->fd;
  struct conn_record record = packed_read(&packed);
  other_open();
  ck_assert_ptr_null(conn_unpack(&other.ctx, &record));
  ck_assert_int_eq(errno, ECANCELED);
  other_close();
  packed_free(&packed);
  conn_resume(conn);
  ck_assert_uint_eq(with.restored, 1);
  CLIENT_SEND(fd, "one\0");
  CLIENT_EXPECT(fd, "one\0");
  end(fd);
}
END_TEST

static uint32_t slot_of_jobs;

static void note_jobs(struct xchg_conn *conn) {
  slot_of_jobs = conn_peer(conn)->ip_slot;
  conn->cold->jobs = NULL;
}

static void act_offload(struct xchg_conn *conn) {
  conn->ctx->end_jobs = note_jobs;
  conn_cold(conn)->jobs = &slot_of_jobs; /* not NULL */
}

/* on_restore offloads work and refuses: the work gets no place that the caller returns, too. */
START_TEST(work_of_a_refused_one) {
  with.refuses = true;
  with.act = act_offload;
  slot_of_jobs = 5;
  int fd = start_and_connect(false);
  fixture_settle();
  struct packed packed = pack(fixture_conn());
  packed.owned.ip_slot = 5;
  struct conn_record record = packed_read(&packed);
  ck_assert_ptr_null(conn_unpack(&fixture.ctx, &record));
  ck_assert_uint_eq(slot_of_jobs, NO_IP_SLOT);
  with.refuses = false;
  with.act = NULL;
  packed.owned.ip_slot = NO_IP_SLOT;
  (void)unpack(&fixture.ctx, &packed);
  end(fd);
}
END_TEST

/* A handler without a state refuses one, and the reverse. */
START_TEST(it_does_not_fit) {
  int fd = start_and_connect(false);
  fixture_settle();
  struct xchg_handler plain = fixture.handler;
  plain.state_version = 0;
  plain.on_save = NULL;
  plain.on_restore = NULL;
  plain.on_gone = NULL;
  other_open_with(_i == 0 ? &plain : &fixture.handler);
  struct xchg_conn *conn = fixture_conn();
  struct packed packed = park(conn);
  struct conn_record record = packed_read(&packed);
  if (_i == 1) {
    record.state_version = 0;
  }
  ck_assert_ptr_null(conn_unpack(&other.ctx, &record));
  ck_assert_int_eq(errno, EBADMSG);
  other_close();
  packed_free(&packed);
  conn_resume(conn);
  end(fd);
}
END_TEST

static void act_all(struct xchg_conn *conn) {
  with.id = xchg_id(conn);
  ck_assert_int_eq(xchg_send(conn, "restored", 8), 0);
  ck_assert_int_eq(xchg_join(conn, 5, XCHG_SLOW_SKIP), 0);
  ck_assert_int_eq(xchg_timer(conn, 50 * NS_PER_MS), 0);
  ck_assert_int_eq(xchg_pause(conn), 0);
}

/* What on_restore asks for is done when the connection is served, and not before. */
START_TEST(on_restore_makes_calls) {
  with.act = act_all;
  int fd = start_and_connect(false);
  fixture_settle();
  struct packed packed = pack(fixture_conn());
  struct conn_record record = packed_read(&packed);
  struct xchg_conn *conn = conn_unpack(&fixture.ctx, &record);
  ck_assert_ptr_nonnull(conn);
  fixture_advance(100 * NS_PER_MS);
  for (int i = 0; i < 3; i++) {
    reactor_wait(&fixture.reactor, 0);
    reactor_dispatch(&fixture.reactor);
  }
  client_expect_nothing(fd);
  ck_assert_uint_eq(call_count[AT_TIMER], 0);
  conn_resume(conn);
  packed_free(&packed);
  ck_assert_uint_eq(xchg_id(conn), with.id);
  CLIENT_EXPECT(fd, "restored");
  fixture_settle();
  ck_assert_uint_eq(call_count[AT_TIMER], 1);
  ck_assert_int_eq(conn->hold_reasons, HOLD_HANDLER);
  publish_bytes(5, "news", 4, 10);
  CLIENT_EXPECT(fd, "news");
  post_act(xchg_id(conn), act_resume);
  end(fd);
}
END_TEST

static void act_abort_now(struct xchg_conn *conn) { ck_assert_int_eq(xchg_abort(conn), 0); }

START_TEST(on_restore_aborts) {
  with.act = act_abort_now;
  int fd = start_and_connect(false);
  fixture_settle();
  struct packed packed = pack(fixture_conn());
  (void)unpack(&fixture.ctx, &packed);
  fixture_until_all_closed();
  ck_assert_uint_eq(fixture_ended(XCHG_ERROR), 1);
  end(fd);
}
END_TEST

/* Before the end of a PROXY header there is no state. */
START_TEST(within_a_header) {
  fixture.config.proxy_timeout_ns = 5 * NS_PER_S;
  fixture.config.listen_count = 1;
  fixture.config.listen[0].proxy = ADDR_PROXY_ANY;
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "PROXY ");
  fixture_settle();
  other_open();
  struct packed packed = pack(fixture_conn());
  struct packed back = pack(unpack(&other.ctx, &packed));
  (void)unpack(&fixture.ctx, &back);
  other_close();
  ck_assert_uint_eq(with.saved + with.restored + with.gone, 0);
  CLIENT_SEND(fd, "UNKNOWN\r\none\0");
  CLIENT_EXPECT(fd, "one\0");
  ck_assert_str_eq(text_of(fixture_conn()), "opened");
  end(fd);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {{it_moves, 5},
                                     {it_comes_back, 1},
                                     {it_stays, 2},
                                     {it_is_refused, 1},
                                     {work_of_a_refused_one, 1},
                                     {it_does_not_fit, 2},
                                     {on_restore_makes_calls, 1},
                                     {on_restore_aborts, 1},
                                     {within_a_header, 1}};
  return run_suite_fixture("conn_pack_state", tests, count_of(tests), set_up, handler_fixture_fini);
}
