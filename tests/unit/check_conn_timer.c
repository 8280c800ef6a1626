/*
 * check_conn_timer: a handler's timer: never early, replaced, cancelled, begun anew, beside the
 * limits of a connection, which shares its one timer in the wheel with it.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/unit/stage.h"

#define SOON_NS (20 * NS_PER_MS)

struct timed {
  struct stage stage;
  int fd;
  struct xchg_conn *conn;
};

static void timed_start(struct timed *timed, bool single) {
  stage_start(&timed->stage, single);
  timed->fd = rig_connect(&timed->stage.rig);
  timed->conn = rig_conn(&timed->stage.rig);
  rig_settle(&timed->stage.rig);
}

static void arm(struct timed *timed, uint64_t after_ns) {
  ck_assert_int_eq(xchg_timer(timed->conn, after_ns), 0);
}

/* No call comes before ${after_ns} have passed, and one soon after. */
static void comes_after(struct timed *timed, uint64_t after_ns) {
  uint32_t before = timed->stage.count[AT_TIMER];
  rig_advance(&timed->stage.rig, after_ns - 1);
  rig_settle(&timed->stage.rig);
  ck_assert_uint_eq(timed->stage.count[AT_TIMER], before);
  rig_advance(&timed->stage.rig, SOON_NS);
  rig_settle(&timed->stage.rig);
  ck_assert_uint_eq(timed->stage.count[AT_TIMER], before + 1);
}

static void comes_no_more(struct timed *timed) {
  uint32_t before = timed->stage.count[AT_TIMER];
  rig_advance(&timed->stage.rig, 20 * NS_PER_S);
  rig_settle(&timed->stage.rig);
  ck_assert_uint_eq(timed->stage.count[AT_TIMER], before);
}

static void timed_fini(struct timed *timed, enum xchg_reason why) {
  close(timed->fd);
  rig_over(&timed->stage.rig, why);
  stage_fini(&timed->stage);
}

START_TEST(test_never_early) {
  const uint64_t times[] = {1, NS_PER_MS, 1500001, 999 * NS_PER_MS, NS_PER_S, 50 * NS_PER_S};
  struct timed timed;
  stage_init(&timed.stage);
  timed.stage.rig.config.idle_timeout_ns = 0;
  timed_start(&timed, _i == 1);
  for (size_t i = 0; i < count_of(times); i++) {
    arm(&timed, times[i]);
    comes_after(&timed, times[i]);
  }
  comes_no_more(&timed);
  timed_fini(&timed, XCHG_FINISHED);
}
END_TEST

/* Now is soon, and a time behind all times is never. */
START_TEST(test_extremes) {
  struct timed timed;
  stage_init(&timed.stage);
  timed_start(&timed, _i == 1);
  arm(&timed, 0);
  rig_advance(&timed.stage.rig, SOON_NS);
  ck_assert_uint_eq(timed.stage.count[AT_TIMER], 1);
  arm(&timed, XCHG_NEVER - 1);
  comes_no_more(&timed);
  arm(&timed, XCHG_NEVER - timed.stage.rig.reactor.now_ns);
  comes_no_more(&timed);
  timed_fini(&timed, XCHG_FINISHED);
}
END_TEST

/* By an earlier one, by a later one; the last one counts alone. */
START_TEST(test_replaced) {
  struct timed timed;
  stage_init(&timed.stage);
  timed_start(&timed, _i == 1);
  arm(&timed, 5 * NS_PER_S);
  arm(&timed, NS_PER_S);
  comes_after(&timed, NS_PER_S);
  comes_no_more(&timed);
  arm(&timed, NS_PER_S);
  arm(&timed, 5 * NS_PER_S);
  comes_after(&timed, 5 * NS_PER_S);
  comes_no_more(&timed);
  timed_fini(&timed, XCHG_FINISHED);
}
END_TEST

START_TEST(test_cancelled) {
  struct timed timed;
  stage_init(&timed.stage);
  timed_start(&timed, _i == 1);
  arm(&timed, XCHG_NEVER); /* nothing there to cancel */
  arm(&timed, NS_PER_S);
  rig_advance(&timed.stage.rig, NS_PER_S / 2);
  arm(&timed, XCHG_NEVER);
  comes_no_more(&timed);
  arm(&timed, NS_PER_S);
  comes_after(&timed, NS_PER_S);
  timed_fini(&timed, XCHG_FINISHED);
}
END_TEST

/* A beat: each call asks for the next, at once or later; others have their turns in between. */
static void beat(struct stage *stage, struct xchg_conn *conn) {
  const uint64_t *every_ns = stage->script;
  ck_assert_int_eq(xchg_send(conn, "b", 1), 0);
  ck_assert_int_eq(xchg_timer(conn, *every_ns), 0);
}

START_TEST(test_beats) {
  uint64_t every_ns = _i < 2 ? NS_PER_S : 0;
  struct timed timed;
  stage_init(&timed.stage);
  timed.stage.script = &every_ns;
  timed.stage.acts[AT_OPEN] = timed.stage.acts[AT_TIMER] = beat;
  timed_start(&timed, (_i & 1) != 0);
  RIG_GET(&timed.stage.rig, timed.fd, "b");
  uint64_t step_ns = every_ns > 0 ? every_ns : 3 * NS_PER_MS;
  for (uint32_t i = 1; i <= 10; i++) {
    uint32_t before = timed.stage.count[AT_TIMER];
    rig_advance(&timed.stage.rig, step_ns + SOON_NS);
    ck_assert_uint_eq(timed.stage.count[AT_TIMER], before + 1); /* one a turn */
    RIG_GET(&timed.stage.rig, timed.fd, "b");
  }
  RIG_PUT(&timed.stage.rig, timed.fd, "e\0");
  RIG_GET(&timed.stage.rig, timed.fd, "e\0");
  timed_fini(&timed, XCHG_FINISHED);
}
END_TEST

/* It is nobody's activity: the limits come when they come, before it and after it. */
START_TEST(test_beside_the_limits) {
  struct timed timed;
  stage_init(&timed.stage);
  timed_start(&timed, _i == 1);
  arm(&timed, NS_PER_S);
  RIG_PUT(&timed.stage.rig, timed.fd, "begun");
  comes_after(&timed, NS_PER_S);
  arm(&timed, 9 * NS_PER_S + NS_PER_S / 2); /* the message has 9 s left */
  rig_advance(&timed.stage.rig, 8 * NS_PER_S);
  rig_settle(&timed.stage.rig);
  ck_assert_uint_eq(timed.stage.rig.closes, 0);
  rig_advance(&timed.stage.rig, NS_PER_S + SOON_NS);
  rig_over(&timed.stage.rig, XCHG_MESSAGE);
  comes_no_more(&timed);
  ck_assert_uint_eq(timed.stage.count[AT_TIMER], 1);
  timed_fini(&timed, XCHG_MESSAGE);
}
END_TEST

/* Timer and limit are due in one turn: the call comes, and what it sends is no rescue. */
START_TEST(test_due_with_a_limit) {
  struct timed timed;
  stage_init(&timed.stage);
  timed_start(&timed, _i == 1);
  RIG_PUT(&timed.stage.rig, timed.fd, "begun");
  arm(&timed, NS_PER_S);
  rig_advance(&timed.stage.rig, timed.stage.rig.config.message_timeout_ns + SOON_NS);
  rig_over(&timed.stage.rig, XCHG_MESSAGE);
  ck_assert_uint_eq(timed.stage.count[AT_TIMER], 1);
  timed_fini(&timed, XCHG_MESSAGE);
}
END_TEST

/* What a connection waits for may be a time: paused, it is called all the same. */
static void answer(struct stage *stage, struct xchg_conn *conn) {
  (void)stage;
  ck_assert_int_eq(xchg_send(conn, "late", 4), 0);
  ck_assert_int_eq(xchg_resume(conn), 0);
}

static void wait_a_second(struct stage *stage, struct xchg_conn *conn) {
  stage_pause(stage, conn);
  ck_assert_int_eq(xchg_timer(conn, NS_PER_S), 0);
}

START_TEST(test_while_paused) {
  struct timed timed;
  stage_init(&timed.stage);
  timed.stage.rig.reply = RIG_SILENT;
  timed.stage.rig.handler.messages = 1;
  timed.stage.acts[AT_MESSAGE] = wait_a_second;
  timed.stage.acts[AT_TIMER] = answer;
  timed_start(&timed, _i == 1);
  RIG_PUT(&timed.stage.rig, timed.fd, "m\0");
  ck_assert_int_eq(shutdown(timed.fd, SHUT_WR), 0);
  rig_settle(&timed.stage.rig);
  comes_after(&timed, NS_PER_S);
  RIG_GET(&timed.stage.rig, timed.fd, "late");
  rig_get_end(&timed.stage.rig, timed.fd);
  timed_fini(&timed, XCHG_FINISHED);
}
END_TEST

/* No call comes once the connection is ending, also where it was asked for only then. */
static void finish_and_arm(struct stage *stage, struct xchg_conn *conn) {
  stage_finish(stage, conn);
  ck_assert_int_eq(xchg_timer(conn, NS_PER_MS), 0);
}

START_TEST(test_not_while_ending) {
  struct timed timed;
  stage_init(&timed.stage);
  timed.stage.rig.config.linger_ns = 60 * NS_PER_S;
  timed.stage.acts[AT_MESSAGE] = _i < 2 ? stage_finish : finish_and_arm;
  timed_start(&timed, (_i & 1) != 0);
  arm(&timed, NS_PER_S);
  RIG_PUT(&timed.stage.rig, timed.fd, "m\0"); /* its echo is not read: there is a drain */
  rig_settle(&timed.stage.rig);
  ck_assert_uint_eq(timed.stage.rig.closes, 0);
  rig_advance(&timed.stage.rig, 5 * NS_PER_S);
  rig_settle(&timed.stage.rig);
  ck_assert_uint_eq(timed.stage.rig.closes, 0);
  RIG_GET(&timed.stage.rig, timed.fd, "m\0");
  rig_get_end(&timed.stage.rig, timed.fd);
  timed_fini(&timed, XCHG_FINISHED);
  ck_assert_uint_eq(timed.stage.count[AT_TIMER], 0);
}
END_TEST

/* ... and from on_timer it may end. */
START_TEST(test_ends_there) {
  bool aborts = (_i & 2) != 0;
  struct timed timed;
  stage_init(&timed.stage);
  timed.stage.acts[AT_TIMER] = aborts ? stage_abort : stage_finish;
  timed_start(&timed, (_i & 1) != 0);
  arm(&timed, NS_PER_S);
  comes_after(&timed, NS_PER_S);
  rig_get_end(&timed.stage.rig, timed.fd);
  timed_fini(&timed, aborts ? XCHG_ERROR : XCHG_FINISHED);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_never_early, 2},      {test_extremes, 2},     {test_replaced, 2},
      {test_cancelled, 2},        {test_beats, 4},        {test_beside_the_limits, 2},
      {test_due_with_a_limit, 2}, {test_while_paused, 2}, {test_not_while_ending, 4},
      {test_ends_there, 4},
  };
  return run_suite("conn_timer", tests, count_of(tests));
}
