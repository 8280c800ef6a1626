/*
 * check_conn_pause: a connection that waits for an answer of its handler's: nothing is cut, read or
 * concluded meanwhile, and afterwards everything goes on where it stood.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/unit/held.h"

#define SOON_NS (20 * NS_PER_MS)

/* ---- messages wait ---- */

START_TEST(test_no_message_meanwhile) {
  struct held held;
  held_init(&held);
  held_start(&held, _i == 1);
  PUT(&held, "one\0two\0thr");
  got(&held, "one|");
  PUT(&held, "ee\0");
  got(&held, "one|");
  ck_assert_uint_eq(atom_load_relaxed_u64(&held.stage.rig.stats.bytes_in), 11); /* nor a byte */
  answer_once(&held);
  got(&held, "one|two|");
  rig_get_nothing(&held.stage.rig, held.fd);
  answer_once(&held);
  got(&held, "one|two|three|");
  answer_once(&held);
  PUT(&held, "four\0");
  got(&held, "one|two|three|four|");
  answer_once(&held);
  ck_assert_int_eq(shutdown(held.fd, SHUT_WR), 0);
  held_fini(&held, XCHG_FINISHED);
}
END_TEST

/*
 * Pause in on_open: the message that came first waits as well, and what the first turn sends goes.
 */
START_TEST(test_pause_at_open) {
  struct held held;
  held_init(&held);
  held.stage.rig.greeting = "hello";
  held.stage.acts[AT_OPEN] = stage_pause;
  held.stage.acts[AT_MESSAGE] = NULL;
  held_start(&held, _i == 1);
  PUT(&held, "one\0");
  RIG_GET(&held.stage.rig, held.fd, "hello");
  got(&held, "");
  answer_once(&held);
  got(&held, "one|");
  ck_assert_int_eq(shutdown(held.fd, SHUT_WR), 0);
  held_fini(&held, XCHG_FINISHED);
}
END_TEST

/* Neither counts, and resuming one that was not paused is nothing. */
START_TEST(test_neither_counts) {
  struct held held;
  held_init(&held);
  held.stage.acts[AT_MESSAGE] = NULL;
  held_start(&held, _i == 1);
  for (int i = 0; i < 3; i++) {
    stage_post(&held.stage, held.id, stage_resume);
  }
  PUT(&held, "one\0");
  got(&held, "one|");
  for (int i = 0; i < 3; i++) {
    stage_post(&held.stage, held.id, stage_pause);
  }
  PUT(&held, "two\0");
  got(&held, "one|");
  stage_post(&held.stage, held.id, stage_resume);
  got(&held, "one|two|");
  ck_assert_int_eq(shutdown(held.fd, SHUT_WR), 0);
  held_fini(&held, XCHG_FINISHED);
}
END_TEST

/* Paused, and over the mark: it goes on when neither is so. */
static void flood(struct stage *stage, struct xchg_conn *conn) {
  static uint8_t much[1000000];
  stage_pause(stage, conn);
  ck_assert_int_eq(xchg_send(conn, much, sizeof(much)), 0);
}

START_TEST(test_over_the_mark_too) {
  static uint8_t much[1000000];
  struct held held;
  held_init(&held);
  held.stage.rig.long_bytes = sizeof(much);
  held.stage.acts[AT_MESSAGE] = flood;
  held_start(&held, (_i & 1) != 0);
  PUT(&held, "one\0two\0");
  if (_i >= 2) {
    stage_post(&held.stage, held.id, stage_resume);
    got(&held, "one|");
  }
  ck_assert_uint_eq(rig_get(&held.stage.rig, held.fd, much, sizeof(much)), sizeof(much));
  rig_settle(&held.stage.rig);
  if (_i < 2) {
    got(&held, "one|");
    stage_post(&held.stage, held.id, stage_resume);
  }
  got(&held, "one|two|");
  stage_post(&held.stage, held.id, stage_finish);
  ck_assert_uint_eq(rig_get(&held.stage.rig, held.fd, much, sizeof(much)), sizeof(much));
  rig_get_end(&held.stage.rig, held.fd);
  ck_assert_int_eq(shutdown(held.fd, SHUT_WR), 0);
  held_fini(&held, XCHG_FINISHED);
}
END_TEST

/* ---- the end waits ---- */

/* The last message of a counted exchange, with the client's end behind it or more than that. */
START_TEST(test_last_message_waits) {
  const struct {
    const char *bytes;
    size_t size;
    bool ends;
  } sent[] = {{"one\0two\0", 8, false},
              {"one\0two\0", 8, true},
              {"one\0two\0excess\0", 15, false},
              {"one\0two\0excess\0", 15, true},
              {"one\0two\0exc", 11, true}};
  struct held held;
  held_init(&held);
  held.stage.rig.handler.messages = 2;
  held_start(&held, (_i & 1) != 0);
  held_put(&held, sent[_i / 2].bytes, sent[_i / 2].size, sent[_i / 2].ends);
  answer_once(&held);
  got(&held, "one|two|");
  rig_get_nothing(&held.stage.rig, held.fd);
  answer_once(&held);
  rig_get_end(&held.stage.rig, held.fd);
  got(&held, "one|two|");
  if (!sent[_i / 2].ends) {
    ck_assert_int_eq(shutdown(held.fd, SHUT_WR), 0);
  }
  held_fini(&held, XCHG_FINISHED);
}
END_TEST

/* The client's end, behind a message, a terminated one or one that it ends, or before any. */
START_TEST(test_clients_end_waits) {
  const struct {
    const char *bytes, *got;
  } sent[] = {{"one\n", "one|"}, {"one", "one|"}, {"one\ntwo", "one|two|"}, {"", ""}};
  bool wordless = sent[_i / 2].got[0] == 0;
  struct held held;
  held_init(&held);
  held.stage.rig.handler.frame.kind = XCHG_FRAME_LINE;
  held.stage.acts[AT_OPEN] = wordless ? stage_pause : NULL;
  held_start(&held, (_i & 1) != 0);
  held_put(&held, sent[_i / 2].bytes, strlen(sent[_i / 2].bytes), true);
  for (uint64_t i = 0; i < (wordless ? 1 : strlen(sent[_i / 2].got) / 4); i++) {
    ck_assert_uint_eq(held.stage.rig.closes, 0);
    ck_assert_uint_eq(held.stage.rig.messages, wordless ? 0 : i + 1);
    rig_get_nothing(&held.stage.rig, held.fd);
    answer_once(&held);
  }
  rig_get_end(&held.stage.rig, held.fd);
  got(&held, sent[_i / 2].got);
  held_fini(&held, XCHG_FINISHED);
}
END_TEST

/* The client's end before the exchange is complete is one when it is seen. */
START_TEST(test_clients_early_end_waits) {
  struct held held;
  held_init(&held);
  held.stage.rig.handler.messages = 2;
  held_start(&held, _i == 1);
  PUT_AND_END(&held, "one\0");
  answer_once(&held);
  rig_get_end(&held.stage.rig, held.fd);
  held_fini(&held, XCHG_PEER);
}
END_TEST

/* A large answer goes out whole to a client that has half-closed. */
static void answer_much(struct stage *stage, struct xchg_conn *conn) {
  (void)stage;
  static uint8_t much[1000000];
  ck_assert_int_eq(stage_lend(conn, much, sizeof(much)), 0);
  ck_assert_int_eq(xchg_send(conn, "!", 1), 0);
  ck_assert_int_eq(xchg_resume(conn), 0);
}

START_TEST(test_large_answer_after_the_end) {
  static char much[1000001];
  struct held held;
  held_init(&held);
  held.stage.rig.long_bytes = sizeof(much);
  held.stage.rig.handler.messages = _i < 2 ? 1 : 0;
  held_start(&held, (_i & 1) != 0);
  PUT_AND_END(&held, "one\0");
  stage_post(&held.stage, held.id, answer_much);
  ck_assert_uint_eq(rig_get(&held.stage.rig, held.fd, much, sizeof(much)), sizeof(much));
  ck_assert(rig_all(much, sizeof(much) - 1, 0) && much[sizeof(much) - 1] == '!');
  rig_get_end(&held.stage.rig, held.fd);
  held_fini(&held, XCHG_FINISHED);
}
END_TEST

/* A peer that is gone raises no storm while nobody wants to read; what is sent then meets it. */
START_TEST(test_peer_gone_meanwhile) {
  struct held held;
  held_init(&held);
  held_start(&held, _i == 1);
  PUT(&held, "one\0two\0");
  close(held.fd);
  rig_settle(&held.stage.rig);
  ck_assert_uint_eq(held.stage.rig.closes, 0);
  stage_post(&held.stage, held.id, answer);
  held.fd = -1;
  rig_over(&held.stage.rig, XCHG_RESET);
  stage_fini(&held.stage);
}
END_TEST

/* The handler ends it while it is paused. */
START_TEST(test_ended_while_paused) {
  bool aborts = (_i & 1) != 0;
  struct held held;
  held_init(&held);
  held_start(&held, (_i & 2) != 0);
  PUT(&held, "one\0two\0");
  stage_post(&held.stage, held.id, aborts ? stage_abort : stage_finish);
  rig_get_end(&held.stage.rig, held.fd);
  got(&held, "one|");
  ck_assert_int_eq(shutdown(held.fd, SHUT_WR), 0);
  held_fini(&held, aborts ? XCHG_ERROR : XCHG_FINISHED);
}
END_TEST

/* ---- clocks ---- */

static void ends_after(struct held *held, uint64_t limit_ns, enum xchg_reason why) {
  struct rig *rig = &held->stage.rig;
  rig_advance(rig, limit_ns - SOON_NS);
  rig_settle(rig);
  ck_assert_uint_eq(rig->closes, 0);
  rig_advance(rig, 2 * SOON_NS);
  rig_over(rig, why);
}

/* The message's clock stands, and goes on from where it stood. */
START_TEST(test_message_clock_stands) {
  struct held held;
  held_init(&held);
  held.stage.rig.handler.messages = _i >= 2 ? 2 : 0; /* then it runs from the accept */
  held_start(&held, (_i & 1) != 0);
  uint64_t limit_ns = held.stage.rig.config.message_timeout_ns;
  PUT(&held, "beg");
  rig_advance(&held.stage.rig, limit_ns * 6 / 10);
  stage_post(&held.stage, held.id, stage_pause);
  rig_advance(&held.stage.rig, 3 * limit_ns);
  rig_settle(&held.stage.rig);
  stage_post(&held.stage, held.id, stage_resume);
  ends_after(&held, limit_ns * 4 / 10, XCHG_MESSAGE);
  held_fini(&held, XCHG_MESSAGE);
}
END_TEST

START_TEST(test_idle_clock_runs) {
  struct held held;
  held_init(&held);
  held_start(&held, _i == 1);
  PUT(&held, "one\0two");
  ends_after(&held, held.stage.rig.config.idle_timeout_ns, XCHG_IDLE);
  held_fini(&held, XCHG_IDLE);
}
END_TEST

/* A stop waits for the answer of one that is paused, also where nothing was read of it yet. */
START_TEST(test_stop_while_paused) {
  bool counted = (_i & 2) != 0, at_open = _i >= 4;
  struct held held;
  held_init(&held);
  held.stage.rig.handler.messages = counted ? 3 : 0;
  held.stage.acts[at_open ? AT_OPEN : AT_MESSAGE] = stage_pause;
  held.stage.acts[at_open ? AT_MESSAGE : AT_OPEN] = NULL;
  held_start(&held, (_i & 1) != 0);
  PUT(&held, "one\0");
  got(&held, at_open ? "" : "one|");
  stop(&held);
  rig_advance(&held.stage.rig, 5 * NS_PER_S);
  rig_settle(&held.stage.rig);
  ck_assert_uint_eq(held.stage.rig.closes, 0);
  rig_get_nothing(&held.stage.rig, held.fd);
  answer_once(&held);
  got(&held, "one|");
  rig_get_end(&held.stage.rig, held.fd);
  ck_assert_int_eq(shutdown(held.fd, SHUT_WR), 0);
  held_fini(&held, counted ? XCHG_DRAIN : XCHG_FINISHED);
}
END_TEST

/* So does a lifetime's end, but not longer than a drain may take. */
START_TEST(test_lifetime_while_paused) {
  bool answers = (_i & 2) != 0;
  struct held held;
  held_init(&held);
  held.stage.rig.config.max_lifetime_ns = 20 * NS_PER_S;
  held.stage.rig.config.idle_timeout_ns = 0;
  held_start(&held, (_i & 1) != 0);
  PUT(&held, "one\0");
  rig_advance(&held.stage.rig, 20 * NS_PER_S);
  rig_settle(&held.stage.rig);
  rig_advance(&held.stage.rig, held.stage.rig.config.drain_timeout_ns - 3 * NS_PER_S);
  rig_settle(&held.stage.rig);
  ck_assert_uint_eq(held.stage.rig.closes, 0);
  if (answers) {
    answer_once(&held);
    rig_get_end(&held.stage.rig, held.fd);
    ck_assert_int_eq(shutdown(held.fd, SHUT_WR), 0);
  } else {
    rig_advance(&held.stage.rig, 4 * NS_PER_S);
  }
  held_fini(&held, XCHG_LIFETIME);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_no_message_meanwhile, 2},    {test_pause_at_open, 2},
      {test_neither_counts, 2},          {test_over_the_mark_too, 4},
      {test_last_message_waits, 10},     {test_clients_end_waits, 8},
      {test_clients_early_end_waits, 2}, {test_large_answer_after_the_end, 4},
      {test_peer_gone_meanwhile, 2},     {test_ended_while_paused, 4},
      {test_message_clock_stands, 4},    {test_idle_clock_runs, 2},
      {test_stop_while_paused, 8},       {test_lifetime_while_paused, 4},
  };
  return run_suite("conn_pause", tests, count_of(tests));
}
