/*
 * check_conn_timer: a handler's timer: never early, replaced, cancelled, begun anew, beside the
 * limits of a connection, which shares its one timer in the wheel with it.
 */
#include "tests/fixtures/handler_fixture.h"

#define SOON_NS (20 * NS_PER_MS)

static int client;

static void start(bool single) {
  client = start_and_connect(single);
  fixture_settle();
}

static void arm(uint64_t after_ns) { ck_assert_int_eq(xchg_timer(fixture_conn(), after_ns), 0); }

/* No call comes before ${after_ns} have passed, and one soon after. */
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

/* Now is soon, and a time behind all times is never. */
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

/* By an earlier one, by a later one; the last one counts alone. */
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
  arm(XCHG_NEVER); /* nothing there to cancel */
  arm(NS_PER_S);
  fixture_advance(NS_PER_S / 2);
  arm(XCHG_NEVER);
  comes_no_more();
  arm(NS_PER_S);
  comes_after(NS_PER_S);
  close_and_expect_end(client, XCHG_FINISHED);
}
END_TEST

/* A beat: each call asks for the next, at once or later; others have their turns in between. */
static void beat(struct xchg_conn *conn) {
  const uint64_t *every_ns = test_data;
  ck_assert_int_eq(xchg_send(conn, "b", 1), 0);
  ck_assert_int_eq(xchg_timer(conn, *every_ns), 0);
}

START_TEST(test_beats) {
  uint64_t every_ns = _i < 2 ? NS_PER_S : 0;
  test_data = &every_ns;
  acts[AT_OPEN] = acts[AT_TIMER] = beat;
  start((_i & 1) != 0);
  CLIENT_EXPECT(client, "b");
  uint64_t step_ns = every_ns > 0 ? every_ns : 3 * NS_PER_MS;
  for (uint32_t i = 1; i <= 10; i++) {
    uint32_t before = call_count[AT_TIMER];
    fixture_advance(step_ns + SOON_NS);
    ck_assert_uint_eq(call_count[AT_TIMER], before + 1); /* one a turn */
    CLIENT_EXPECT(client, "b");
  }
  CLIENT_SEND(client, "e\0");
  CLIENT_EXPECT(client, "e\0");
  close_and_expect_end(client, XCHG_FINISHED);
}
END_TEST

/* It is nobody's activity: the limits come when they come, before it and after it. */
START_TEST(test_beside_the_limits) {
  start(_i == 1);
  arm(NS_PER_S);
  CLIENT_SEND(client, "begun");
  comes_after(NS_PER_S);
  arm(9 * NS_PER_S + NS_PER_S / 2); /* the message has 9 s left */
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

/* Timer and limit are due in one turn: the call comes, and what it sends is no rescue. */
START_TEST(test_due_with_a_limit) {
  start(_i == 1);
  CLIENT_SEND(client, "begun");
  arm(NS_PER_S);
  fixture_advance(fixture.config.message_timeout_ns + SOON_NS);
  fixture_expect_end(XCHG_MESSAGE);
  ck_assert_uint_eq(call_count[AT_TIMER], 1);
  close_and_expect_end(client, XCHG_MESSAGE);
}
END_TEST

/* What a connection waits for may be a time: paused, it is called all the same. */
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

/* No call comes once the connection is ending, also where it was asked for only then. */
static void finish_and_arm(struct xchg_conn *conn) {
  act_finish(conn);
  ck_assert_int_eq(xchg_timer(conn, NS_PER_MS), 0);
}

START_TEST(test_not_while_ending) {
  fixture.config.linger_ns = 60 * NS_PER_S;
  acts[AT_MESSAGE] = _i < 2 ? act_finish : finish_and_arm;
  start((_i & 1) != 0);
  arm(NS_PER_S);
  CLIENT_SEND(client, "m\0"); /* its echo is not read: there is a drain */
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

/* ... and from on_timer it may end. */
START_TEST(test_ends_there) {
  bool aborts = (_i & 2) != 0;
  acts[AT_TIMER] = aborts ? act_abort : act_finish;
  start((_i & 1) != 0);
  arm(NS_PER_S);
  comes_after(NS_PER_S);
  client_expect_end(client);
  close_and_expect_end(client, aborts ? XCHG_ERROR : XCHG_FINISHED);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_never_early, 2},      {test_extremes, 2},     {test_replaced, 2},
      {test_cancelled, 2},        {test_beats, 4},        {test_beside_the_limits, 2},
      {test_due_with_a_limit, 2}, {test_while_paused, 2}, {test_not_while_ending, 4},
      {test_ends_there, 4},
  };
  return run_suite_fixture("conn_timer", tests, count_of(tests), handler_fixture_init,
                           handler_fixture_fini);
}
