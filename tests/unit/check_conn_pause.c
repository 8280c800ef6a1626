/*
 * check_conn_pause: while a handler has paused its connection, nothing is parsed, read or
 * completed. After xchg_resume everything continues where it stopped.
 */
#include "tests/fixtures/paused_conn.h"

#define SOON_NS (20 * NS_PER_MS)

/* ---- messages ---- */

START_TEST(test_no_message_is_delivered_while_paused) {
  paused_conn_start(_i == 1);
  PUT("one\0two\0thr");
  fixture_expect_messages("one|");
  PUT("ee\0");
  fixture_expect_messages("one|");
  ck_assert_uint_eq(atom_load_relaxed_u64(&fixture.stats.bytes_in),
                    11); /* no byte was read either */
  answer_once();
  fixture_expect_messages("one|two|");
  client_expect_nothing(client);
  answer_once();
  fixture_expect_messages("one|two|three|");
  answer_once();
  PUT("four\0");
  fixture_expect_messages("one|two|three|four|");
  answer_once();
  client_shutdown(client);
  expect_end_then_close(client, XCHG_FINISHED);
}
END_TEST

/* Pause in on_open: the first message waits, and the greeting is sent. */
START_TEST(test_pause_at_open) {
  fixture.greeting = "hello";
  acts[AT_OPEN] = act_pause;
  acts[AT_MESSAGE] = NULL;
  paused_conn_start(_i == 1);
  PUT("one\0");
  CLIENT_EXPECT(client, "hello");
  fixture_expect_messages("");
  answer_once();
  fixture_expect_messages("one|");
  client_shutdown(client);
  expect_end_then_close(client, XCHG_FINISHED);
}
END_TEST

/* Pauses do not nest, and resuming a connection that is not paused does nothing. */
START_TEST(test_pauses_do_not_nest) {
  acts[AT_MESSAGE] = NULL;
  paused_conn_start(_i == 1);
  for (int i = 0; i < 3; i++) {
    post_act(client_id, act_resume);
  }
  PUT("one\0");
  fixture_expect_messages("one|");
  for (int i = 0; i < 3; i++) {
    post_act(client_id, act_pause);
  }
  PUT("two\0");
  fixture_expect_messages("one|");
  post_act(client_id, act_resume);
  fixture_expect_messages("one|two|");
  client_shutdown(client);
  expect_end_then_close(client, XCHG_FINISHED);
}
END_TEST

/* Paused and over XCHG_MAX_PENDING: parsing continues when neither holds any more. */
static void flood(struct xchg_conn *conn) {
  static uint8_t much[1000000];
  act_pause(conn);
  ck_assert_int_eq(xchg_send(conn, much, sizeof(much)), 0);
}

START_TEST(test_paused_and_over_max_pending) {
  static uint8_t much[1000000];
  fixture.long_bytes = sizeof(much);
  acts[AT_MESSAGE] = flood;
  paused_conn_start((_i & 1) != 0);
  PUT("one\0two\0");
  if (_i >= 2) {
    post_act(client_id, act_resume);
    fixture_expect_messages("one|");
  }
  ck_assert_uint_eq(client_recv(client, much, sizeof(much)), sizeof(much));
  fixture_settle();
  if (_i < 2) {
    fixture_expect_messages("one|");
    post_act(client_id, act_resume);
  }
  fixture_expect_messages("one|two|");
  post_act(client_id, act_finish);
  ck_assert_uint_eq(client_recv(client, much, sizeof(much)), sizeof(much));
  client_expect_end(client);
  client_shutdown(client);
  expect_end_then_close(client, XCHG_FINISHED);
}
END_TEST

/* ---- the end ---- */

/*
 * The exchange is complete only after the answer to its last message, whatever follows that
 * message.
 */
START_TEST(test_complete_exchange_waits_for_the_answer) {
  const struct {
    const char *bytes;
    size_t size;
    bool ends;
  } sent[] = {{"one\0two\0", 8, false},
              {"one\0two\0", 8, true},
              {"one\0two\0excess\0", 15, false},
              {"one\0two\0excess\0", 15, true},
              {"one\0two\0exc", 11, true}};
  fixture.handler.messages = 2;
  paused_conn_start((_i & 1) != 0);
  paused_conn_put(sent[_i / 2].bytes, sent[_i / 2].size, sent[_i / 2].ends);
  answer_once();
  fixture_expect_messages("one|two|");
  client_expect_nothing(client);
  answer_once();
  client_expect_end(client);
  fixture_expect_messages("one|two|");
  if (!sent[_i / 2].ends) {
    client_shutdown(client);
  }
  expect_end_then_close(client, XCHG_FINISHED);
}
END_TEST

/*
 * The client's end takes effect only after the answer: it follows a message, completes one, or
 * comes first.
 */
START_TEST(test_clients_end_waits_for_the_answer) {
  const struct {
    const char *bytes, *got;
  } sent[] = {{"one\n", "one|"}, {"one", "one|"}, {"one\ntwo", "one|two|"}, {"", ""}};
  bool wordless = sent[_i / 2].got[0] == 0;
  fixture.handler.frame.kind = XCHG_FRAME_LINE;
  acts[AT_OPEN] = wordless ? act_pause : NULL;
  paused_conn_start((_i & 1) != 0);
  paused_conn_put(sent[_i / 2].bytes, strlen(sent[_i / 2].bytes), true);
  for (uint64_t i = 0; i < (wordless ? 1 : strlen(sent[_i / 2].got) / 4); i++) {
    ck_assert_uint_eq(fixture.closes, 0);
    ck_assert_uint_eq(fixture.messages, wordless ? 0 : i + 1);
    client_expect_nothing(client);
    answer_once();
  }
  client_expect_end(client);
  fixture_expect_messages(sent[_i / 2].got);
  expect_end_then_close(client, XCHG_FINISHED);
}
END_TEST

/* An end before the exchange is complete counts as peer when the pause is over. */
START_TEST(test_clients_early_end_waits_for_the_answer) {
  fixture.handler.messages = 2;
  paused_conn_start(_i == 1);
  PUT_AND_END("one\0");
  answer_once();
  client_expect_end(client);
  expect_end_then_close(client, XCHG_PEER);
}
END_TEST

/* A client that has half-closed gets a large answer whole. */
static void answer_much(struct xchg_conn *conn) {
  static uint8_t much[1000000];
  ck_assert_int_eq(send_ref(conn, much, sizeof(much)), 0);
  ck_assert_int_eq(xchg_send(conn, "!", 1), 0);
  ck_assert_int_eq(xchg_resume(conn), 0);
}

START_TEST(test_large_answer_after_the_end) {
  static char much[1000001];
  fixture.long_bytes = sizeof(much);
  fixture.handler.messages = _i < 2 ? 1 : 0;
  paused_conn_start((_i & 1) != 0);
  PUT_AND_END("one\0");
  post_act(client_id, answer_much);
  ck_assert_uint_eq(client_recv(client, much, sizeof(much)), sizeof(much));
  ck_assert(all_bytes(much, sizeof(much) - 1, 0) && much[sizeof(much) - 1] == '!');
  client_expect_end(client);
  expect_end_then_close(client, XCHG_FINISHED);
}
END_TEST

/*
 * A closed client causes no events while the connection is paused. The answer then fails as reset.
 */
START_TEST(test_client_that_closed_while_paused) {
  paused_conn_start(_i == 1);
  PUT("one\0two\0");
  close(client);
  fixture_settle();
  ck_assert_uint_eq(fixture.closes, 0);
  post_act(client_id, act_answer);
  client = -1;
  fixture_expect_end(XCHG_RESET);
}
END_TEST

START_TEST(test_ended_while_paused) {
  bool aborts = (_i & 1) != 0;
  paused_conn_start((_i & 2) != 0);
  PUT("one\0two\0");
  post_act(client_id, aborts ? act_abort : act_finish);
  client_expect_end(client);
  fixture_expect_messages("one|");
  client_shutdown(client);
  expect_end_then_close(client, aborts ? XCHG_ERROR : XCHG_FINISHED);
}
END_TEST

/* ---- timeouts ---- */

static void ends_after(uint64_t limit_ns, enum xchg_reason why) {
  fixture_advance(limit_ns - SOON_NS);
  fixture_settle();
  ck_assert_uint_eq(fixture.closes, 0);
  fixture_advance(2 * SOON_NS);
  fixture_expect_end(why);
}

/* A pause stops the message timeout, which then continues with the time that was left. */
START_TEST(test_pause_stops_the_message_timeout) {
  fixture.handler.messages = _i >= 2 ? 2 : 0; /* then the timeout runs from the accept */
  paused_conn_start((_i & 1) != 0);
  uint64_t limit_ns = fixture.config.message_timeout_ns;
  PUT("beg");
  fixture_advance(limit_ns * 6 / 10);
  post_act(client_id, act_pause);
  fixture_advance(3 * limit_ns);
  fixture_settle();
  post_act(client_id, act_resume);
  ends_after(limit_ns * 4 / 10, XCHG_MESSAGE);
  expect_end_then_close(client, XCHG_MESSAGE);
}
END_TEST

/*
 * The same before the first byte of a counted exchange.  The timer fires during the pause, when the
 * connection has no deadline, so the end of the pause must arm it again.
 */
START_TEST(test_pause_at_open_stops_the_message_timeout) {
  uint64_t limit_ns = fixture.config.message_timeout_ns;
  fixture.handler.messages = 2;
  fixture.config.idle_timeout_ns = 0;
  acts[AT_OPEN] = act_pause;
  paused_conn_start(_i == 1);
  fixture_advance(3 * limit_ns);
  fixture_settle();
  post_act(client_id, act_resume);
  ends_after(limit_ns, XCHG_MESSAGE);
  expect_end_then_close(client, XCHG_MESSAGE);
}
END_TEST

START_TEST(test_idle_timeout_runs_while_paused) {
  paused_conn_start(_i == 1);
  PUT("one\0two");
  ends_after(fixture.config.idle_timeout_ns, XCHG_IDLE);
  expect_end_then_close(client, XCHG_IDLE);
}
END_TEST

/* A stop waits for the answer of a paused connection, even if nothing has been read from it yet. */
START_TEST(test_stop_while_paused) {
  bool counted = (_i & 2) != 0, at_open = _i >= 4;
  fixture.handler.messages = counted ? 3 : 0;
  acts[at_open ? AT_OPEN : AT_MESSAGE] = act_pause;
  acts[at_open ? AT_MESSAGE : AT_OPEN] = NULL;
  paused_conn_start((_i & 1) != 0);
  PUT("one\0");
  fixture_expect_messages(at_open ? "" : "one|");
  fixture_stop();
  fixture_settle();
  fixture_advance(5 * NS_PER_S);
  fixture_settle();
  ck_assert_uint_eq(fixture.closes, 0);
  client_expect_nothing(client);
  answer_once();
  fixture_expect_messages("one|");
  client_expect_end(client);
  client_shutdown(client);
  expect_end_then_close(client, counted ? XCHG_DRAIN : XCHG_FINISHED);
}
END_TEST

/* So does the end of the lifetime, for at most XCHG_DRAIN_TIMEOUT. */
START_TEST(test_lifetime_while_paused) {
  bool answers = (_i & 2) != 0;
  fixture.config.max_lifetime_ns = 20 * NS_PER_S;
  fixture.config.idle_timeout_ns = 0;
  paused_conn_start((_i & 1) != 0);
  PUT("one\0");
  fixture_advance(20 * NS_PER_S);
  fixture_settle();
  fixture_advance(fixture.config.drain_timeout_ns - 3 * NS_PER_S);
  fixture_settle();
  ck_assert_uint_eq(fixture.closes, 0);
  if (answers) {
    answer_once();
    client_expect_end(client);
    client_shutdown(client);
  } else {
    fixture_advance(4 * NS_PER_S);
  }
  expect_end_then_close(client, XCHG_LIFETIME);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_no_message_is_delivered_while_paused, 2},
      {test_pause_at_open, 2},
      {test_pauses_do_not_nest, 2},
      {test_paused_and_over_max_pending, 4},
      {test_complete_exchange_waits_for_the_answer, 10},
      {test_clients_end_waits_for_the_answer, 8},
      {test_clients_early_end_waits_for_the_answer, 2},
      {test_large_answer_after_the_end, 4},
      {test_client_that_closed_while_paused, 2},
      {test_ended_while_paused, 4},
      {test_pause_stops_the_message_timeout, 4},
      {test_pause_at_open_stops_the_message_timeout, 2},
      {test_idle_timeout_runs_while_paused, 2},
      {test_stop_while_paused, 8},
      {test_lifetime_while_paused, 4},
  };
  return run_suite_fixture("conn_pause", tests, count_of(tests), paused_conn_init,
                           handler_fixture_fini);
}
