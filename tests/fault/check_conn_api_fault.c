/*
 * check_conn_api_fault: what the calls of a handler cost the kernel, and what they do when it has
 * no memory, at each of the mappings that they need.
 */
#include "tests/fault/fault.h"
#include "tests/fixtures/handler_fixture.h"

#include <inttypes.h>

#define GROUP 9
enum { PARTS = 64, MEMBERS = 8 };

static void check_count(enum fault_call call, uint64_t count) {
  ck_assert_msg(orders_count(call) == count, "%s: %" PRIu64 " calls, not %" PRIu64,
                fault_name(call), orders_count(call), count);
}

/* ---- the cost ---- */

static void send_many(struct xchg_conn *conn) {
  for (uint32_t i = 0; i < *(const uint32_t *)test_data; i++) {
    ck_assert_int_eq(xchg_send(conn, "s", 1), 0);
  }
}

static void lend_many(struct xchg_conn *conn) {
  for (uint32_t i = 0; i < *(const uint32_t *)test_data; i++) {
    ck_assert_int_eq(send_ref(conn, "s", 1), 0);
  }
}

/* What is sent in one turn leaves in one call, or as few as its parts can do with. */
START_TEST(test_cost_of_many_sends) {
  const uint32_t counts[] = {1, 2, PARTS, PARTS + 1, 2 * PARTS, 1000};
  uint32_t count = counts[_i / 2];
  bool lends = (_i & 1) != 0;
  test_data = &count;
  acts[AT_MESSAGE] = lends ? lend_many : send_many;
  fixture_start(false);
  int fd = client_connect_tcp();
  char got[1000];
  for (int warm = 0; warm < 2; warm++) {
    fixture_settle();
    fault_reset();
    CLIENT_SEND(fd, "m\0");
    ck_assert_uint_eq(client_recv(fd, got, count), count);
    fixture_settle();
  }
  /* References beyond CONN_REFS_MAX were copied: one part more, sent by its own call. */
  check_count(FAULT_SEND, lends && count <= PARTS ? 0 : 1);
  check_count(FAULT_SENDMSG, lends ? 1 : 0);
  check_count(FAULT_EPOLL_CTL, 0);
  check_count(FAULT_IOCTL, 0);
  check_count(FAULT_MAP, 0);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* Calls and publications between two turns of a connection leave together as well. */
START_TEST(test_cost_of_mail) {
  uint32_t count = 3;
  int fds[MEMBERS];
  test_data = &count;
  fixture_start(false);
  uint64_t ids[MEMBERS];
  for (int i = 0; i < MEMBERS; i++) {
    fds[i] = client_connect_tcp();
    struct xchg_conn *conn = fixture_newest();
    ids[i] = xchg_id(conn);
    ck_assert_int_eq(xchg_join(conn, GROUP, XCHG_SLOW_SKIP), 0);
  }
  for (int warm = 0; warm < 2; warm++) {
    fixture_settle();
    fault_reset();
    for (int i = 0; i < MEMBERS; i++) {
      run_in_slices(&create_call(ids[i], send_many, NULL)->task, TASK_BUDGET);
    }
    publish_bytes(GROUP, "P", 1, TASK_BUDGET);
    publish_bytes(GROUP, "Q", 1, TASK_BUDGET);
    check_count(FAULT_SENDMSG, 0); /* not before the turns */
    for (int i = 0; i < MEMBERS; i++) {
      CLIENT_EXPECT(fds[i], "sssPQ");
    }
    fixture_settle();
  }
  check_count(FAULT_SENDMSG, MEMBERS);
  check_count(FAULT_SEND, 0);
  check_count(FAULT_RECV, 0);
  check_count(FAULT_EPOLL_CTL, 0);
  check_count(FAULT_MAP, 0);
  for (int i = 0; i < MEMBERS; i++) {
    close(fds[i]);
  }
  fixture_until_all_closed();
}
END_TEST

/* A timer, a pause, a resume ask the kernel for nothing. */
START_TEST(test_cost_of_wishes) {
  fixture_start(false);
  uint64_t id;
  int fd = client_connect_id(&id);
  struct xchg_conn *conn = fixture_conn();
  ck_assert_int_eq(xchg_timer(conn, NS_PER_S), 0); /* what it needs is there now */
  fixture_settle();
  fault_reset();
  for (int i = 0; i < 10; i++) {
    ck_assert_int_eq(xchg_timer(conn, NS_PER_S), 0);
    post_act(id, act_pause);
    post_act(id, act_resume);
  }
  fixture_advance(2 * NS_PER_S);
  ck_assert_uint_eq(call_count[AT_TIMER], 1);
  for (int call = 0; call < FAULT_CALLS; call++) {
    if (call != FAULT_EPOLL_WAIT) {
      check_count((enum fault_call)call, 0);
    }
  }
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* ---- no memory ---- */

static uint32_t released;
static void count_up(void *argument) {
  (void)argument;
  released++;
}

static int send_one(struct xchg_conn *conn) { return xchg_send(conn, "sent", 4); }
static int lend_one(struct xchg_conn *conn) {
  return xchg_send_ref(conn, "sent", 4, count_up, NULL);
}
static int send_behind(struct xchg_conn *conn) {
  struct iovec parts[] = {{.iov_base = (char[]){'s', 'e'}, .iov_len = 2},
                          {.iov_base = (char[]){'n', 't'}, .iov_len = 2}};
  return xchg_sendv(conn, parts, 2);
}
static int join_one(struct xchg_conn *conn) { return xchg_join(conn, GROUP, XCHG_SLOW_SKIP); }
static int arm_one(struct xchg_conn *conn) { return xchg_timer(conn, NS_PER_S); }

struct demand {
  int (*call)(struct xchg_conn *conn);
  bool sends;    /* without memory the connection ends */
  uint64_t maps; /* mappings that it needs at least, at its first time */
};

static const struct demand demands[] = {
    {send_one, true, 1},  {send_behind, true, 1}, {lend_one, true, 2},
    {join_one, false, 5}, {arm_one, false, 1},
};

/* It did what it should: the client sees it. */
static void check_done(const struct demand *demand, int fd) {
  if (demand->call == join_one) {
    publish_bytes(GROUP, "sent", 4, TASK_BUDGET);
  } else if (demand->call == arm_one) {
    fixture_advance(2 * NS_PER_S);
    ck_assert_uint_eq(call_count[AT_TIMER], 1);
    return;
  }
  CLIENT_EXPECT(fd, "sent");
}

/* Fail the ${nth} mapping of the first such call of all. Return: was there one? */
static bool fail_mapping(const struct demand *demand, uint64_t nth) {
  int fd = start_and_connect(false);
  struct xchg_conn *conn = fixture_conn();
  fixture_settle();
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
    check_done(demand, fd);
  } else if (demand->sends) {
    client_expect_end(fd);
    fixture_expect_end(XCHG_MEMORY);
    ck_assert_uint_eq(released, 0); /* no reference was queued */
  } else {
    ck_assert_int_eq(demand->call(conn), 0); /* there is memory again, and nothing was lost */
    check_done(demand, fd);
  }
  close(fd);
  fixture_until_all_closed();
  handler_fixture_fini();
  handler_fixture_init_silent();
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

/* A member for which memory is missing ends. The other members get the publication. */
START_TEST(test_no_mapping_for_a_publication) {
  fixture_start(false);
  int fds[2];
  for (int i = 0; i < 2; i++) {
    fds[i] = client_connect();
    ck_assert_int_eq(xchg_join(fixture_newest(), GROUP, XCHG_SLOW_SKIP), 0);
  }
  fixture_settle();
  fault_reset();
  orders_fail(FAULT_MAP, 1, ENOMEM, 1);
  publish_bytes(GROUP, "news", 4, TASK_BUDGET);
  ck_assert_uint_eq(orders_hits(), 1);
  fault_reset();
  fixture_settle();
  ck_assert_uint_eq(fixture_ended(XCHG_MEMORY), 1);
  ck_assert_uint_eq(atom_load_relaxed_u64(&fixture.stats.published), 1);
  client_expect_end(fds[1]); /* who joined last is visited first */
  CLIENT_EXPECT(fds[0], "news");
  close(fds[0]);
  close(fds[1]);
  fixture_until_all_closed();
}
END_TEST

/* No memory to wait for EPOLLOUT: all references are released. */
START_TEST(test_epoll_refuses_a_stall) {
  static const uint8_t much[1000000];
  int fd = start_and_connect(false);
  fixture_settle();
  ck_assert_int_eq(send_ref(fixture_conn(), much, sizeof(much)), 0);
  fault_reset();
  orders_fail(FAULT_EPOLL_CTL, 1, ENOMEM, 1);
  fixture_settle();
  ck_assert_uint_eq(orders_hits(), 1);
  fault_reset();
  fixture_expect_end(XCHG_MEMORY);
  ck_assert_uint_eq(refs.released, 1);
  ck_assert(refs.closed_first);
  close(fd);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_cost_of_many_sends, 12},
      {test_cost_of_mail, 1},
      {test_cost_of_wishes, 1},
      {test_no_mapping, count_of(demands)},
      {test_no_mapping_for_a_publication, 1},
      {test_epoll_refuses_a_stall, 1},
  };
  return run_suite_fixture("call_fault", tests, count_of(tests), handler_fixture_init_silent,
                           handler_fixture_fini);
}
