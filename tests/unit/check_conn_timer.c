/*
 * check_conn_timer: xchg_timer: never early, replaced, cancelled, restarted, and independent of the
 * timeouts with which it shares the connection's one timer in the wheel.
 */
#include "tests/fixtures/handler_fixture.h"

#define SOON_NS (20 * NS_PER_MS)

static int client;

static void start(bool single) {
  client = start_and_connect(single);
  fixture_settle();
}

static void arm(uint64_t after_ns) { ck_assert_int_eq(xchg_timer(fixture_conn(), after_ns), 0); }

/* on_timer is called within SOON_NS after ${after_ns}, and not before. */
static void comes_after(uint64_t after_ns) {
  uint32_t before = call_count[AT_TIMER];
  fixture_advance(after_ns - 1);
  fixture_settle();
  ck_assert_uint_eq(call_count[AT_TIMER], before);
  fixture_advance(SOON_NS);
  fixture_settle();
  ck_assert_uint_eq(call_count[AT_TIMER], before + 1);
}

static void comes_no_more(void) {
  uint32_t before = call_count[AT_TIMER];
  fixture_advance(20 * NS_PER_S);
  fixture_settle();
  ck_assert_uint_eq(call_count[AT_TIMER], before);
}

START_TEST(test_never_early) {
  const uint64_t times[] = {1, NS_PER_MS, 1500001, 999 * NS_PER_MS, NS_PER_S, 50 * NS_PER_S};
  fixture.config.idle_timeout_ns = 0;
  start(_i == 1);
  for (size_t i = 0; i < count_of(times); i++) {
    arm(times[i]);
    comes_after(times[i]);
  }
  comes_no_more();
  close_and_expect_end(client, XCHG_FINISHED);
}
END_TEST

/* 0 means at once, and a time after the end of the clock means never. */
START_TEST(test_extremes) {
  start(_i == 1);
  arm(0);
  fixture_advance(SOON_NS);
  ck_assert_uint_eq(call_count[AT_TIMER], 1);
  arm(XCHG_NEVER - 1);
  comes_no_more();
  arm(XCHG_NEVER - fixture.reactor.now_ns);
  comes_no_more();
  close_and_expect_end(client, XCHG_FINISHED);
}
END_TEST

/* Only the last time counts, whether it is earlier or later. */
START_TEST(test_replaced) {
  start(_i == 1);
  arm(5 * NS_PER_S);
  arm(NS_PER_S);
  comes_after(NS_PER_S);
  comes_no_more();
  arm(NS_PER_S);
  arm(5 * NS_PER_S);
  comes_after(5 * NS_PER_S);
  comes_no_more();
  close_and_expect_end(client, XCHG_FINISHED);
}
END_TEST

START_TEST(test_cancelled) {
  start(_i == 1);
  arm(XCHG_NEVER); /* no timer to cancel */
  arm(NS_PER_S);
  fixture_advance(NS_PER_S / 2);
  arm(XCHG_NEVER);
  comes_no_more();
  arm(NS_PER_S);
  comes_after(NS_PER_S);
  close_and_expect_end(client, XCHG_FINISHED);
}
END_TEST

/* Each call sets the next timer, at once or later. */
static void beat(struct xchg_conn *conn) {
  const uint64_t *every_ns = test_data;
  ck_assert_int_eq(xchg_send(conn, "b", 1), 0);
  ck_assert_int_eq(xchg_timer(conn, *every_ns), 0);
}

START_TEST(test_on_timer_may_set_the_next_timer) {
  uint64_t every_ns = _i < 2 ? NS_PER_S : 0;
  test_data = &every_ns;
  acts[AT_OPEN] = acts[AT_TIMER] = beat;
  start((_i & 1) != 0);
  CLIENT_EXPECT(client, "b");
  uint64_t step_ns = every_ns > 0 ? every_ns : 3 * NS_PER_MS;
  for (uint32_t i = 1; i <= 10; i++) {
    uint32_t before = call_count[AT_TIMER];
    fixture_advance(step_ns + SOON_NS);
    ck_assert_uint_eq(call_count[AT_TIMER], before + 1); /* one call a turn */
    CLIENT_EXPECT(client, "b");
  }
  CLIENT_SEND(client, "e\0");
  CLIENT_EXPECT(client, "e\0");
  close_and_expect_end(client, XCHG_FINISHED);
}
END_TEST

/* A timer does not count as activity: it neither extends nor shortens a timeout. */
START_TEST(test_timer_extends_no_timeout) {
  start(_i == 1);
  arm(NS_PER_S);
  CLIENT_SEND(client, "begun");
  comes_after(NS_PER_S);
  arm(9 * NS_PER_S + NS_PER_S / 2); /* 9 s of the message timeout are left */
  fixture_advance(8 * NS_PER_S);
  fixture_settle();
  ck_assert_uint_eq(fixture.closes, 0);
  fixture_advance(NS_PER_S + SOON_NS);
  fixture_expect_end(XCHG_MESSAGE);
  comes_no_more();
  ck_assert_uint_eq(call_count[AT_TIMER], 1);
  close_and_expect_end(client, XCHG_MESSAGE);
}
END_TEST

/* Timer and timeout are due in the same turn: on_timer is called, and the connection ends. */
START_TEST(test_timer_and_timeout_in_one_turn) {
  start(_i == 1);
  CLIENT_SEND(client, "begun");
  arm(NS_PER_S);
  fixture_advance(fixture.config.message_timeout_ns + SOON_NS);
  fixture_expect_end(XCHG_MESSAGE);
  ck_assert_uint_eq(call_count[AT_TIMER], 1);
  close_and_expect_end(client, XCHG_MESSAGE);
}
END_TEST

/* on_timer is called for a paused connection as well. */
static void answer(struct xchg_conn *conn) {
  ck_assert_int_eq(xchg_send(conn, "late", 4), 0);
  ck_assert_int_eq(xchg_resume(conn), 0);
}

static void wait_a_second(struct xchg_conn *conn) {
  act_pause(conn);
  ck_assert_int_eq(xchg_timer(conn, NS_PER_S), 0);
}

START_TEST(test_while_paused) {
  fixture.reply = FIXTURE_SILENT;
  fixture.handler.messages = 1;
  acts[AT_MESSAGE] = wait_a_second;
  acts[AT_TIMER] = answer;
  start(_i == 1);
  CLIENT_SEND(client, "m\0");
  client_shutdown(client);
  fixture_settle();
  comes_after(NS_PER_S);
  CLIENT_EXPECT(client, "late");
  client_expect_end(client);
  close_and_expect_end(client, XCHG_FINISHED);
}
END_TEST

/*
 * on_timer is not called for a connection that is ending, even if the timer was set after
 * xchg_finish.
 */
static void finish_and_arm(struct xchg_conn *conn) {
  act_finish(conn);
  ck_assert_int_eq(xchg_timer(conn, NS_PER_MS), 0);
}

START_TEST(test_not_while_ending) {
  fixture.config.linger_ns = 60 * NS_PER_S;
  acts[AT_MESSAGE] = _i < 2 ? act_finish : finish_and_arm;
  start((_i & 1) != 0);
  arm(NS_PER_S);
  CLIENT_SEND(client, "m\0"); /* the echo stays unread, so the connection lingers */
  fixture_settle();
  ck_assert_uint_eq(fixture.closes, 0);
  fixture_advance(5 * NS_PER_S);
  fixture_settle();
  ck_assert_uint_eq(fixture.closes, 0);
  CLIENT_EXPECT(client, "m\0");
  client_expect_end(client);
  close_and_expect_end(client, XCHG_FINISHED);
  ck_assert_uint_eq(call_count[AT_TIMER], 0);
}
END_TEST

/* on_timer may end the connection. */
START_TEST(test_on_timer_may_end_the_connection) {
  bool aborts = (_i & 2) != 0;
  acts[AT_TIMER] = aborts ? act_abort : act_finish;
  start((_i & 1) != 0);
  arm(NS_PER_S);
  comes_after(NS_PER_S);
  client_expect_end(client);
  close_and_expect_end(client, aborts ? XCHG_ERROR : XCHG_FINISHED);
}
END_TEST

static struct xchg_conn *aborted; /* borrows until the timer has come */

static void send_and_abort_other(struct xchg_conn *conn) {
  if (aborted != NULL && conn != aborted) {
    ck_assert_int_eq(xchg_send(aborted, "lost", 4), 0);
    ck_assert_int_eq(xchg_abort(aborted), 0);
    aborted = NULL;
  }
}

/* Its own timer is due in the same dispatch, before the turn that the abort asks for. */
START_TEST(test_an_aborted_connection_sends_no_more) {
  start(false);
  arm(NS_PER_S);
  int second = client_connect();
  fixture_settle();
  aborted = fixture_newest();
  ck_assert_int_eq(xchg_timer(aborted, NS_PER_S + 100 * NS_PER_MS), 0);
  acts[AT_TIMER] = send_and_abort_other;
  fixture_advance(2 * NS_PER_S);
  fixture_settle();
  ck_assert_uint_eq(call_count[AT_TIMER], 1);
  client_expect_end(second);
  ck_assert_uint_eq(atom_load_relaxed_u64(&fixture.stats.bytes_out), 0);
  ck_assert_uint_eq(fixture_ended(XCHG_ERROR), 1);
  close(second);
  close(client);
  fixture_until_all_closed();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_never_early, 2},
      {test_extremes, 2},
      {test_replaced, 2},
      {test_cancelled, 2},
      {test_on_timer_may_set_the_next_timer, 4},
      {test_timer_extends_no_timeout, 2},
      {test_timer_and_timeout_in_one_turn, 2},
      {test_while_paused, 2},
      {test_not_while_ending, 4},
      {test_on_timer_may_end_the_connection, 4},
      {test_an_aborted_connection_sends_no_more, 1},
  };
  return run_suite_fixture("conn_timer", tests, count_of(tests), handler_fixture_init,
                           handler_fixture_fini);
}
