/*
 * check_call_fault: how many system calls the calls of a handler make, and what they do when a
 * mapping that they need fails.
 */
#include "tests/fault/fault.h"
#include "tests/fixtures/run_suite.h"
#include "tests/unit/stage.h"

#include <inttypes.h>

#define GROUP 9
enum { PARTS = 64, MEMBERS = 8 };

static void check_count(enum fault_call call, uint64_t count) {
  ck_assert_msg(orders_count(call) == count, "%s: %" PRIu64 " calls, not %" PRIu64,
                fault_name(call), orders_count(call), count);
}

/* ---- the cost ---- */

static void send_many(struct stage *stage, struct xchg_conn *conn) {
  for (uint32_t i = 0; i < *(const uint32_t *)stage->script; i++) {
    ck_assert_int_eq(xchg_send(conn, "s", 1), 0);
  }
}

static void send_many_refs(struct stage *stage, struct xchg_conn *conn) {
  for (uint32_t i = 0; i < *(const uint32_t *)stage->script; i++) {
    ck_assert_int_eq(stage_lend(conn, "s", 1), 0);
  }
}

/* Everything that is sent in one turn leaves in one system call, or in as few as its parts need. */
START_TEST(test_cost_of_many_sends) {
  const uint32_t counts[] = {1, 2, PARTS, PARTS + 1, 2 * PARTS, 1000};
  uint32_t count = counts[_i / 2];
  bool by_reference = (_i & 1) != 0;
  struct stage stage;
  stage_quiet(&stage);
  stage.script = &count;
  stage.acts[AT_MESSAGE] = by_reference ? send_many_refs : send_many;
  stage_start(&stage, false);
  int fd = rig_connect_tcp(&stage.rig);
  char got[1000];
  for (int warm = 0; warm < 2; warm++) {
    rig_settle(&stage.rig);
    fault_reset();
    RIG_PUT(&stage.rig, fd, "m\0");
    ck_assert_uint_eq(rig_get(&stage.rig, fd, got, count), count);
    rig_settle(&stage.rig);
  }
  /*
   * Beyond CONN_SHARES references bytes are copied: one more part, which leaves by a send of its
   * own.
   */
  check_count(FAULT_SEND, by_reference && count <= PARTS ? 0 : 1);
  check_count(FAULT_SENDMSG, by_reference ? 1 : 0);
  check_count(FAULT_EPOLL_CTL, 0);
  check_count(FAULT_IOCTL, 0);
  check_count(FAULT_MAP, 0);
  close(fd);
  rig_over(&stage.rig, XCHG_FINISHED);
  stage_fini(&stage);
}
END_TEST

/* Posts and publications between two turns of a connection leave together as well. */
START_TEST(test_cost_of_tasks) {
  uint32_t count = 3;
  int fds[MEMBERS];
  struct stage stage;
  stage_quiet(&stage);
  stage.script = &count;
  stage_start(&stage, false);
  uint64_t ids[MEMBERS];
  for (int i = 0; i < MEMBERS; i++) {
    fds[i] = rig_connect_tcp(&stage.rig);
    struct xchg_conn *conn = stage_newest(&stage);
    ids[i] = xchg_id(conn);
    ck_assert_int_eq(xchg_join(conn, GROUP, XCHG_SLOW_SKIP), 0);
  }
  for (int warm = 0; warm < 2; warm++) {
    rig_settle(&stage.rig);
    fault_reset();
    for (int i = 0; i < MEMBERS; i++) {
      stage_deal(&stage, &stage_call(&stage, ids[i], send_many, NULL)->letter, STAGE_BUDGET);
    }
    stage_publish(&stage, GROUP, "P", 1, STAGE_BUDGET);
    stage_publish(&stage, GROUP, "Q", 1, STAGE_BUDGET);
    check_count(FAULT_SENDMSG, 0); /* not before the turns */
    for (int i = 0; i < MEMBERS; i++) {
      RIG_GET(&stage.rig, fds[i], "sssPQ");
    }
    rig_settle(&stage.rig);
  }
  check_count(FAULT_SENDMSG, MEMBERS);
  check_count(FAULT_SEND, 0);
  check_count(FAULT_RECV, 0);
  check_count(FAULT_EPOLL_CTL, 0);
  check_count(FAULT_MAP, 0);
  for (int i = 0; i < MEMBERS; i++) {
    close(fds[i]);
  }
  RIG_UNTIL(&stage.rig, stage.rig.slab.used == 0);
  stage_fini(&stage);
}
END_TEST

/* A timer, a pause and a resume make no system call. */
START_TEST(test_cost_of_requests) {
  struct stage stage;
  stage_quiet(&stage);
  stage_start(&stage, false);
  uint64_t id;
  int fd = stage_connect(&stage, &id);
  struct xchg_conn *conn = rig_conn(&stage.rig);
  ck_assert_int_eq(xchg_timer(conn, NS_PER_S), 0); /* the memory that it needs is mapped now */
  rig_settle(&stage.rig);
  fault_reset();
  for (int i = 0; i < 10; i++) {
    ck_assert_int_eq(xchg_timer(conn, NS_PER_S), 0);
    stage_post(&stage, id, stage_pause);
    stage_post(&stage, id, stage_resume);
  }
  rig_advance(&stage.rig, 2 * NS_PER_S);
  ck_assert_uint_eq(stage.count[AT_TIMER], 1);
  for (int call = 0; call < FAULT_CALLS; call++) {
    if (call != FAULT_EPOLL_WAIT) {
      check_count((enum fault_call)call, 0);
    }
  }
  close(fd);
  rig_over(&stage.rig, XCHG_FINISHED);
  stage_fini(&stage);
}
END_TEST

/* ---- no memory ---- */

static uint32_t released;
static void count_up(void *argument) {
  (void)argument;
  released++;
}

static int send_one(struct xchg_conn *conn) { return xchg_send(conn, "sent", 4); }
static int send_one_ref(struct xchg_conn *conn) {
  return xchg_send_ref(conn, "sent", 4, count_up, NULL);
}
static int send_two_parts(struct xchg_conn *conn) {
  struct iovec parts[] = {{.iov_base = (char[]){'s', 'e'}, .iov_len = 2},
                          {.iov_base = (char[]){'n', 't'}, .iov_len = 2}};
  return xchg_sendv(conn, parts, 2);
}
static int join_one(struct xchg_conn *conn) { return xchg_join(conn, GROUP, XCHG_SLOW_SKIP); }
static int arm_one(struct xchg_conn *conn) { return xchg_timer(conn, NS_PER_S); }

struct demand {
  int (*call)(struct xchg_conn *conn);
  bool sends;    /* without memory the connection ends */
  uint64_t maps; /* least number of mappings at the first call */
};

static const struct demand demands[] = {
    {send_one, true, 1},  {send_two_parts, true, 1}, {send_one_ref, true, 2},
    {join_one, false, 5}, {arm_one, false, 1},
};

/* Check the effect of the call at the client. */
static void check_done(struct stage *stage, const struct demand *demand, int fd) {
  if (demand->call == join_one) {
    stage_publish(stage, GROUP, "sent", 4, STAGE_BUDGET);
  } else if (demand->call == arm_one) {
    rig_advance(&stage->rig, 2 * NS_PER_S);
    ck_assert_uint_eq(stage->count[AT_TIMER], 1);
    return;
  }
  RIG_GET(&stage->rig, fd, "sent");
}

/* Fail the ${nth} mapping of a first call. Return: was there one? */
static bool fail_mapping(const struct demand *demand, uint64_t nth) {
  struct stage stage;
  stage_quiet(&stage);
  stage_start(&stage, false);
  int fd = rig_connect(&stage.rig);
  struct xchg_conn *conn = rig_conn(&stage.rig);
  rig_settle(&stage.rig);
  released = 0;
  fault_reset();
  orders_fail(FAULT_MAP, nth, ENOMEM, 1);
  errno = 0;
  int result = demand->call(conn);
  int error = errno;
  bool hit = orders_hits() > 0;
  fault_reset();
  ck_assert_int_eq(result, hit ? -1 : 0);
  ck_assert(!hit || error == ENOMEM);
  if (!hit) {
    check_done(&stage, demand, fd);
  } else if (demand->sends) {
    rig_get_end(&stage.rig, fd);
    rig_over(&stage.rig, XCHG_MEMORY);
    ck_assert_uint_eq(released, 0); /* no reference was taken */
  } else {
    ck_assert_int_eq(demand->call(conn), 0); /* there is memory again, and nothing was lost */
    check_done(&stage, demand, fd);
  }
  close(fd);
  RIG_UNTIL(&stage.rig, stage.rig.slab.used == 0);
  stage_fini(&stage);
  return hit;
}

START_TEST(test_no_mapping) {
  uint64_t nth = 1;
  while (fail_mapping(&demands[_i], nth)) {
    nth++;
  }
  ck_assert_uint_gt(nth, demands[_i].maps);
}
END_TEST

/* A member without memory ends; the publication reaches the others. */
START_TEST(test_no_mapping_for_a_publication) {
  struct stage stage;
  stage_quiet(&stage);
  stage_start(&stage, false);
  int fds[2];
  for (int i = 0; i < 2; i++) {
    fds[i] = rig_connect(&stage.rig);
    ck_assert_int_eq(xchg_join(stage_newest(&stage), GROUP, XCHG_SLOW_SKIP), 0);
  }
  rig_settle(&stage.rig);
  fault_reset();
  orders_fail(FAULT_MAP, 1, ENOMEM, 1);
  stage_publish(&stage, GROUP, "news", 4, STAGE_BUDGET);
  ck_assert_uint_eq(orders_hits(), 1);
  fault_reset();
  rig_settle(&stage.rig);
  ck_assert_uint_eq(rig_ended(&stage.rig, XCHG_MEMORY), 1);
  ck_assert_uint_eq(atom_load_relaxed_u64(&stage.rig.stats.published), 1);
  rig_get_end(&stage.rig, fds[1]); /* the last to join is visited first */
  RIG_GET(&stage.rig, fds[0], "news");
  close(fds[0]);
  close(fds[1]);
  RIG_UNTIL(&stage.rig, stage.rig.slab.used == 0);
  stage_fini(&stage);
}
END_TEST

/* epoll_ctl has no memory to watch for room: the references are released. */
START_TEST(test_epoll_refuses_a_stall) {
  static const uint8_t much[1000000];
  struct stage stage;
  stage_quiet(&stage);
  stage_start(&stage, false);
  int fd = rig_connect(&stage.rig);
  rig_settle(&stage.rig);
  ck_assert_int_eq(stage_lend(rig_conn(&stage.rig), much, sizeof(much)), 0);
  fault_reset();
  orders_fail(FAULT_EPOLL_CTL, 1, ENOMEM, 1);
  rig_settle(&stage.rig);
  ck_assert_uint_eq(orders_hits(), 1);
  fault_reset();
  rig_over(&stage.rig, XCHG_MEMORY);
  ck_assert_uint_eq(stage.released, 1);
  ck_assert(stage.closed_first);
  close(fd);
  stage_fini(&stage);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_cost_of_many_sends, 12},
      {test_cost_of_tasks, 1},
      {test_cost_of_requests, 1},
      {test_no_mapping, count_of(demands)},
      {test_no_mapping_for_a_publication, 1},
      {test_epoll_refuses_a_stall, 1},
  };
  return run_suite("call_fault", tests, count_of(tests));
}
