/*
 * check_conn_offload: works that have not come back hold a connection as a pause does; here they
 * are begun and brought back by hand, without the threads of pool/offload.
 */
#include "tests/fixtures/paused_conn.h"

static struct call *works[8]; /* begun, in order; what xchg_offload does but for the thread */
static uint32_t works_count;
static bool silent; /* they send nothing when they are back */

static void come_back(struct xchg_conn *conn, void *argument) {
  if (conn == NULL) {
    (*(uint32_t *)argument)++;
  } else if (!silent) {
    ck_assert_int_eq(xchg_send(conn, "done", 4), 0);
  }
}

static void offload(struct xchg_conn *conn) {
  works[works_count] = call_create(xchg_id(conn), come_back, test_data);
  ck_assert_ptr_nonnull(works[works_count]);
  works[works_count++]->offloaded = true;
  conn_more(conn)->offloads++;
}

static void offload_two(struct xchg_conn *conn) {
  offload(conn);
  offload(conn);
}

static void bring_back(uint32_t work) {
  run_in_slices(&works[work]->letter, TASK_BUDGET);
  fixture_settle();
}

/* Each message has two works: not before both are back is the next one cut. */
START_TEST(test_works_hold_it) {
  fixture.handler.messages = _i >= 2 ? 2 : 0;
  acts[AT_MESSAGE] = offload_two;
  paused_conn_start((_i & 1) != 0);
  works_count = 0;
  PUT_AND_END("one\0two\0");
  fixture_expect_messages("one|");
  post_act(client_id, act_resume); /* is not what it waits for */
  fixture_expect_messages("one|");
  bring_back(1);
  fixture_expect_messages("one|");
  CLIENT_EXPECT(client, "done");
  bring_back(0);
  fixture_expect_messages("one|two|");
  CLIENT_EXPECT(client, "done");
  post_act(client_id, act_pause); /* it waits for both */
  bring_back(2);
  bring_back(3);
  CLIENT_EXPECT(client, "donedone");
  client_expect_nothing(client);
  answer_once();
  client_expect_end(client);
  ck_assert_uint_eq(works_count, 4);
  ck_assert_uint_eq(atom_load_relaxed_u64(&fixture.stats.posts), 3); /* works are none */
  expect_end_then_close(client, XCHG_FINISHED);
}
END_TEST

/* What comes back may ask for nothing: the next message is cut all the same. */
START_TEST(test_works_come_back_silently) {
  acts[AT_MESSAGE] = offload;
  paused_conn_start(_i == 1);
  works_count = 0;
  silent = true;
  PUT_AND_END("one\0two\0");
  bring_back(0);
  fixture_expect_messages("one|two|");
  bring_back(1);
  client_expect_end(client);
  expect_end_then_close(client, XCHG_FINISHED);
}
END_TEST

/* A stop waits for those of a message that it met half come. */
START_TEST(test_stop_waits_for_works) {
  acts[AT_MESSAGE] = offload;
  paused_conn_start(_i == 1);
  works_count = 0;
  silent = false;
  struct xchg_conn *conn = conn_find(&fixture.host, client_id);
  conn->local = conn->to_end = false; /* as under TCP, where a short read has read all */
  PUT("on");
  fixture_stop();
  fixture_settle();
  PUT("e\0");
  fixture_expect_messages("one|");
  fixture_advance(5 * NS_PER_S);
  fixture_settle();
  ck_assert(!conn->unread);
  ck_assert_int_eq(conn->state, CONN_OPEN);
  bring_back(0);
  CLIENT_EXPECT(client, "done");
  client_expect_end(client);
  client_shutdown(client);
  expect_end_then_close(client, XCHG_FINISHED);
}
END_TEST

/* It ends before they are back: they find nobody. */
START_TEST(test_works_find_nobody) {
  uint32_t gone = 0;
  test_data = &gone;
  acts[AT_MESSAGE] = offload_two;
  paused_conn_start((_i & 1) != 0);
  works_count = 0;
  PUT("one\0");
  post_act(client_id, _i >= 2 ? act_abort : act_finish);
  client_expect_end(client);
  close(client);
  client = client_connect(); /* in the same slot */
  bring_back(0);
  bring_back(1);
  ck_assert_uint_eq(gone, 2);
  post_act(xchg_id(fixture_conn()), act_finish);
  fixture_until_all_closed();
  close(client);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_works_hold_it, 4},
      {test_works_come_back_silently, 2},
      {test_stop_waits_for_works, 2},
      {test_works_find_nobody, 4},
  };
  return run_suite_fixture("conn_offload", tests, count_of(tests), paused_conn_init,
                           handler_fixture_fini);
}
