/*
 * check_conn_offload: works that have not come back hold a connection as a pause does; here they
 * are begun and brought back by hand, without the threads of pool/offload.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/unit/held.h"

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

static void offload(struct stage *stage, struct xchg_conn *conn) {
  works[works_count] = call_create(xchg_id(conn), come_back, stage->script);
  ck_assert_ptr_nonnull(works[works_count]);
  works[works_count++]->offloaded = true;
  conn_more(conn)->offloads++;
}

static void offload_two(struct stage *stage, struct xchg_conn *conn) {
  offload(stage, conn);
  offload(stage, conn);
}

static void bring_back(struct held *held, uint32_t work) {
  stage_deal(&held->stage, &works[work]->letter, STAGE_BUDGET);
  rig_settle(&held->stage.rig);
}

/* Each message has two works: not before both are back is the next one cut. */
START_TEST(test_works_hold_it) {
  struct held held;
  held_init(&held);
  held.stage.rig.handler.messages = _i >= 2 ? 2 : 0;
  held.stage.acts[AT_MESSAGE] = offload_two;
  held_start(&held, (_i & 1) != 0);
  works_count = 0;
  PUT_AND_END(&held, "one\0two\0");
  got(&held, "one|");
  stage_post(&held.stage, held.id, stage_resume); /* is not what it waits for */
  got(&held, "one|");
  bring_back(&held, 1);
  got(&held, "one|");
  RIG_GET(&held.stage.rig, held.fd, "done");
  bring_back(&held, 0);
  got(&held, "one|two|");
  RIG_GET(&held.stage.rig, held.fd, "done");
  stage_post(&held.stage, held.id, stage_pause); /* it waits for both */
  bring_back(&held, 2);
  bring_back(&held, 3);
  RIG_GET(&held.stage.rig, held.fd, "donedone");
  rig_get_nothing(&held.stage.rig, held.fd);
  answer_once(&held);
  rig_get_end(&held.stage.rig, held.fd);
  ck_assert_uint_eq(works_count, 4);
  ck_assert_uint_eq(atom_load_relaxed_u64(&held.stage.rig.stats.posts), 3); /* works are none */
  held_fini(&held, XCHG_FINISHED);
}
END_TEST

/* What comes back may ask for nothing: the next message is cut all the same. */
START_TEST(test_works_come_back_silently) {
  struct held held;
  held_init(&held);
  held.stage.acts[AT_MESSAGE] = offload;
  held_start(&held, _i == 1);
  works_count = 0;
  silent = true;
  PUT_AND_END(&held, "one\0two\0");
  bring_back(&held, 0);
  got(&held, "one|two|");
  bring_back(&held, 1);
  rig_get_end(&held.stage.rig, held.fd);
  held_fini(&held, XCHG_FINISHED);
}
END_TEST

/* A stop waits for those of a message that it met half come. */
START_TEST(test_stop_waits_for_works) {
  struct held held;
  held_init(&held);
  held.stage.acts[AT_MESSAGE] = offload;
  held_start(&held, _i == 1);
  works_count = 0;
  silent = false;
  struct xchg_conn *conn = conn_find(&held.stage.rig.host, held.id);
  conn->local = conn->to_end = false; /* as under TCP, where a short read has read all */
  PUT(&held, "on");
  stop(&held);
  PUT(&held, "e\0");
  got(&held, "one|");
  rig_advance(&held.stage.rig, 5 * NS_PER_S);
  rig_settle(&held.stage.rig);
  ck_assert(!conn->unread);
  ck_assert_int_eq(conn->state, CONN_OPEN);
  bring_back(&held, 0);
  RIG_GET(&held.stage.rig, held.fd, "done");
  rig_get_end(&held.stage.rig, held.fd);
  ck_assert_int_eq(shutdown(held.fd, SHUT_WR), 0);
  held_fini(&held, XCHG_FINISHED);
}
END_TEST

/* It ends before they are back: they find nobody. */
START_TEST(test_works_find_nobody) {
  uint32_t gone = 0;
  struct held held;
  held_init(&held);
  held.stage.script = &gone;
  held.stage.acts[AT_MESSAGE] = offload_two;
  held_start(&held, (_i & 1) != 0);
  works_count = 0;
  PUT(&held, "one\0");
  stage_post(&held.stage, held.id, _i >= 2 ? stage_abort : stage_finish);
  rig_get_end(&held.stage.rig, held.fd);
  close(held.fd);
  held.fd = rig_connect(&held.stage.rig); /* in the same slot */
  bring_back(&held, 0);
  bring_back(&held, 1);
  ck_assert_uint_eq(gone, 2);
  stage_post(&held.stage, xchg_id(rig_conn(&held.stage.rig)), stage_finish);
  RIG_UNTIL(&held.stage.rig, held.stage.rig.slab.used == 0);
  close(held.fd);
  stage_fini(&held.stage);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_works_hold_it, 4},
      {test_works_come_back_silently, 2},
      {test_stop_waits_for_works, 2},
      {test_works_find_nobody, 4},
  };
  return run_suite("conn_offload", tests, count_of(tests));
}
