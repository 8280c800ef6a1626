/*
 * check_conn_offload: an offloaded job that has not completed stops a connection as a pause does.
 *
 * The tests start and complete the jobs themselves, without the threads of pool/offload.
 */
#include "tests/fixtures/paused_conn.h"

static struct posted_call *jobs[8]; /* in the order of their start; without a thread */
static uint32_t jobs_count;
static bool silent; /* completions send nothing */

static void job_done(struct xchg_conn *conn, void *argument) {
  if (conn == NULL) {
    (*(uint32_t *)argument)++;
  } else if (!silent) {
    ck_assert_int_eq(xchg_send(conn, "done", 4), 0);
  }
}

static void come_back(struct xchg_conn *conn, struct posted_call *posted) {
  (void)posted;
  conn_offload_end(conn);
  conn_schedule(conn);
}

static void offload(struct xchg_conn *conn) {
  jobs[jobs_count] = posted_call_create(xchg_id(conn), job_done, test_data);
  ck_assert_ptr_nonnull(jobs[jobs_count]);
  jobs[jobs_count++]->returned = come_back;
  ck_assert_int_eq(conn_offload_begin(conn), 0);
}

static void offload_two(struct xchg_conn *conn) {
  offload(conn);
  offload(conn);
}

static void complete(uint32_t job) {
  run_in_slices(&jobs[job]->task, TASK_BUDGET);
  fixture_settle();
}

/* Each message starts two jobs. The next message is parsed when both have completed. */
START_TEST(test_jobs_stop_the_next_message) {
  fixture.handler.messages = _i >= 2 ? 2 : 0;
  acts[AT_MESSAGE] = offload_two;
  paused_conn_start((_i & 1) != 0);
  jobs_count = 0;
  PUT_AND_END("one\0two\0");
  fixture_expect_messages("one|");
  post_act(client_id, act_resume); /* does not end the wait for the jobs */
  fixture_expect_messages("one|");
  complete(1);
  fixture_expect_messages("one|");
  CLIENT_EXPECT(client, "done");
  complete(0);
  fixture_expect_messages("one|two|");
  CLIENT_EXPECT(client, "done");
  post_act(client_id, act_pause); /* a pause and two jobs */
  complete(2);
  complete(3);
  CLIENT_EXPECT(client, "donedone");
  client_expect_nothing(client);
  answer_once();
  client_expect_end(client);
  ck_assert_uint_eq(jobs_count, 4);
  ck_assert_uint_eq(atom_load_relaxed_u64(&fixture.stats.posts),
                    3); /* completions do not count as posts */
  expect_end_then_close(client, XCHG_FINISHED);
}
END_TEST

/* A completion that makes no call lets the next message be parsed as well. */
START_TEST(test_silent_completion_continues) {
  acts[AT_MESSAGE] = offload;
  paused_conn_start(_i == 1);
  jobs_count = 0;
  silent = true;
  PUT_AND_END("one\0two\0");
  complete(0);
  fixture_expect_messages("one|two|");
  complete(1);
  client_expect_end(client);
  expect_end_then_close(client, XCHG_FINISHED);
}
END_TEST

/* A stop waits for the jobs of a message that was incomplete when it came. */
START_TEST(test_stop_waits_for_jobs) {
  acts[AT_MESSAGE] = offload;
  paused_conn_start(_i == 1);
  jobs_count = 0;
  silent = false;
  struct xchg_conn *conn = conn_find(&fixture.ctx, client_id);
  conn->is_unix = false,
  conn->readable = READABLE_MAYBE; /* as over TCP, where a short read has read everything */
  PUT("on");
  fixture_stop();
  fixture_settle();
  PUT("e\0");
  fixture_expect_messages("one|");
  fixture_advance(5 * NS_PER_S);
  fixture_settle();
  ck_assert_int_eq(conn->readable, READABLE_NO);
  ck_assert_int_eq(conn->state, CONN_OPEN);
  complete(0);
  CLIENT_EXPECT(client, "done");
  client_expect_end(client);
  client_shutdown(client);
  expect_end_then_close(client, XCHG_FINISHED);
}
END_TEST

/* The connection ends first: the completions get NULL. */
START_TEST(test_completion_after_the_end_gets_null) {
  uint32_t gone = 0;
  test_data = &gone;
  acts[AT_MESSAGE] = offload_two;
  paused_conn_start((_i & 1) != 0);
  jobs_count = 0;
  PUT("one\0");
  post_act(client_id, _i >= 2 ? act_abort : act_finish);
  client_expect_end(client);
  close(client);
  client = client_connect(); /* in the same slot */
  complete(0);
  complete(1);
  ck_assert_uint_eq(gone, 2);
  post_act(xchg_id(fixture_conn()), act_finish);
  fixture_until_all_closed();
  close(client);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_jobs_stop_the_next_message, 4},
      {test_silent_completion_continues, 2},
      {test_stop_waits_for_jobs, 2},
      {test_completion_after_the_end_gets_null, 4},
  };
  return run_suite_fixture("conn_offload", tests, count_of(tests), paused_conn_init,
                           handler_fixture_fini);
}
