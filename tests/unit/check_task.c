/*
 * check_task: what tasks do to a worker's connections: posted calls run once, publications reach
 * the members of a group in slices, and discarded tasks are freed.
 */
#include "tests/fixtures/handler_fixture.h"

#define GROUP UINT64_C(0xfeedfacecafe)
enum { MEMBERS = 20 };

/* ---- a group of clients ---- */

static int fds[MEMBERS];
static uint64_t ids[MEMBERS];

static void join(struct xchg_conn *conn) {
  const enum xchg_slow *slow = test_data;
  ck_assert_int_eq(xchg_join(conn, GROUP, *slow), 0);
}

/* Start, and connect members whose policy is ${slow}. */
static void members_start(enum xchg_slow slow) {
  test_data = &slow;
  acts[AT_OPEN] = join;
  fixture_start(false);
  for (int i = 0; i < MEMBERS; i++) {
    fds[i] = client_connect_id(&ids[i]);
  }
  fixture_settle();
  test_data = NULL;
}

static struct xchg_conn *member(int i) { return conn_find(&fixture.ctx, ids[i]); }

static uint64_t published(void) { return atom_load_relaxed_u64(&fixture.stats.published); }

static uint64_t skipped(void) { return atom_load_relaxed_u64(&fixture.stats.skipped); }

static void members_close(void) {
  for (int i = 0; i < MEMBERS; i++) {
    close(fds[i]);
  }
  fixture_until_all_closed();
}

#define PUBLISH(text, slice) publish_bytes(GROUP, text, sizeof(text) - 1, slice)

/* In slices of every size each member gets each publication once, in order. */
START_TEST(test_publications_arrive_once_in_order) {
  members_start(XCHG_SLOW_SKIP);
  for (uint32_t slice = 1; slice <= MEMBERS + 1; slice++) {
    PUBLISH("one", slice);
    PUBLISH("two", slice);
    for (int i = 0; i < MEMBERS; i++) {
      CLIENT_EXPECT(fds[i], "onetwo");
    }
  }
  publish_bytes(GROUP + 1, "x", 1, TASK_BUDGET); /* the group has no member */
  for (int i = 0; i < MEMBERS; i++) {
    client_expect_nothing(fds[i]);
  }
  ck_assert_uint_eq(published(), 2 * MEMBERS * (MEMBERS + 1));
  ck_assert_uint_eq(skipped(), 0);
  members_close();
}
END_TEST

/*
 * Publishing 0 bytes sends nothing. A large publication exists once, and each member's queue refers
 * to it.
 */
START_TEST(test_large_publication_is_copied_once) {
  static char much[300000], got[300000];
  members_start(XCHG_SLOW_SKIP);
  PUBLISH("", 3);
  for (int i = 0; i < MEMBERS; i++) {
    client_expect_nothing(fds[i]);
  }
  memset(much, 'm', sizeof(much));
  publish_bytes(GROUP, much, sizeof(much), 3);
  memset(much, 'x', sizeof(much)); /* it was copied */
  fixture_settle();
  ck_assert_uint_lt(fixture.ctx.bufs.bytes, sizeof(much)); /* but not for each member */
  for (int i = 0; i < MEMBERS; i++) {
    ck_assert_uint_eq(client_recv(fds[i], got, sizeof(got)), sizeof(got));
    ck_assert(all_bytes(got, sizeof(got), 'm'));
  }
  members_close();
}
END_TEST

/* The group does not exist yet, or its only member has ended. */
START_TEST(test_publish_to_an_empty_group) {
  fixture_start(false);
  publish_bytes(GROUP, "x", 1, 1);
  int fd = client_connect();
  publish_bytes(GROUP, "x", 1, 1);
  ck_assert_int_eq(xchg_join(fixture_conn(), GROUP, XCHG_SLOW_SKIP), 0);
  close_and_expect_end(fd, XCHG_FINISHED);
  publish_bytes(GROUP, "x", 1, 1);
  ck_assert_uint_eq(atom_load_relaxed_u64(&fixture.stats.published), 0);
}
END_TEST

/* ---- slow members ---- */

/*
 * A member over XCHG_MAX_PENDING misses the publication or is closed, by its policy. One just below
 * gets it.
 */
START_TEST(test_slow_member) {
  static char queue[1000000];
  bool drops = _i == 1;
  members_start(drops ? XCHG_SLOW_DROP : XCHG_SLOW_SKIP);
  struct xchg_conn *slow = member(3), *full = member(4);
  ck_assert_int_eq(xchg_send(slow, queue, fixture.config.max_pending_bytes), 0);
  ck_assert_int_eq(xchg_send(full, queue, fixture.config.max_pending_bytes - 1), 0);
  PUBLISH("news", TASK_BUDGET);
  ck_assert_uint_eq(skipped(), 1);
  ck_assert_uint_eq(published(), MEMBERS - 1);
  fixture_settle();
  for (int i = 0; i < MEMBERS; i++) {
    if (i != 3 && i != 4) {
      CLIENT_EXPECT(fds[i], "news");
    }
  }
  size_t size = fixture.config.max_pending_bytes;
  ck_assert_uint_eq(client_recv(fds[4], queue, size + 3), size + 3);
  ck_assert_mem_eq(queue + size - 1, "news", 4);
  if (drops) {
    ck_assert_uint_eq(fixture.closes, 1);
    ck_assert_uint_eq(fixture_ended(XCHG_WRITE), 1);
  } else {
    ck_assert_uint_eq(client_recv(fds[3], queue, size), size);
    PUBLISH("more", TASK_BUDGET); /* the slow member has caught up */
    CLIENT_EXPECT(fds[3], "more");
  }
  members_close();
}
END_TEST

/* Each member has its own policy, which the last xchg_join sets. */
START_TEST(test_policy_is_replaced) {
  static const char queue[300000];
  members_start(XCHG_SLOW_DROP);
  struct xchg_conn *conn = member(7);
  ck_assert_int_eq(xchg_join(conn, GROUP, XCHG_SLOW_SKIP), 0);
  ck_assert_int_eq(xchg_send(conn, queue, sizeof(queue)), 0);
  PUBLISH("news", TASK_BUDGET);
  fixture_settle();
  ck_assert_uint_eq(fixture.closes, 0);
  ck_assert_uint_eq(skipped(), 1);
  ck_assert_int_eq(xchg_join(conn, GROUP, XCHG_SLOW_DROP), 0);
  ck_assert_int_eq(xchg_send(conn, queue, sizeof(queue)), 0);
  PUBLISH("news", TASK_BUDGET);
  PUBLISH("news", TASK_BUDGET); /* the member is closed once */
  fixture_settle();
  ck_assert_uint_eq(fixture_ended(XCHG_WRITE), 1);
  ck_assert_uint_eq(skipped(), 2);
  members_close();
}
END_TEST

/* Members that are ending get nothing and are not counted as skipped. */
START_TEST(test_ending_members_get_nothing) {
  members_start(XCHG_SLOW_DROP);
  ck_assert_int_eq(xchg_finish(member(0)), 0);
  ck_assert_int_eq(xchg_abort(member(1)), 0);
  ck_assert_int_eq(xchg_leave(member(2), GROUP), 0);
  PUBLISH("news", TASK_BUDGET);
  ck_assert_uint_eq(published(), MEMBERS - 3);
  ck_assert_uint_eq(skipped(), 0);
  fixture_settle();
  client_expect_end(fds[0]);
  client_expect_end(fds[1]);
  client_expect_nothing(fds[2]);
  for (int i = 3; i < MEMBERS; i++) {
    CLIENT_EXPECT(fds[i], "news");
  }
  ck_assert_uint_eq(fixture_ended(XCHG_FINISHED), 1);
  ck_assert_uint_eq(fixture_ended(XCHG_ERROR), 1);
  members_close();
}
END_TEST

/*
 * Between two slices members leave, end and join again: each of the others gets the publication
 * once.
 */
START_TEST(test_changes_between_two_slices) {
  members_start(XCHG_SLOW_SKIP);
  struct publication *publication = publication_create(GROUP, "news", 4, 1);
  ck_assert_ptr_nonnull(publication);
  struct task *task = publication_task(publication, 0);
  publication_release(publication);
  atom_add_relaxed_u32(&inbox.tasks_waiting, 1);
  uint32_t budget = 5;
  ck_assert(!task_run(&fixture.ctx, &inbox, task, &budget));
  ck_assert_uint_eq(budget, 0);
  ck_assert_uint_eq(published(), 5);
  bool leaves[MEMBERS] = {false}, closed[MEMBERS] = {false}, had[MEMBERS] = {false};
  for (int i = 0; i < MEMBERS; i++) {
    had[i] = xchg_pending(member(i)) > 0;
    leaves[i] = i % 3 == _i;
    closed[i] = i % 3 == (_i + 1) % 3;
  }
  fixture_settle();
  for (int i = 0; i < MEMBERS; i++) {
    if (leaves[i]) {
      ck_assert_int_eq(xchg_leave(member(i), GROUP), 0);
      if (i % 2 == 0) { /* a member that joins again is not visited again */
        ck_assert_int_eq(xchg_join(member(i), GROUP, XCHG_SLOW_SKIP), 0);
      }
    } else if (closed[i]) {
      client_shutdown(fds[i]);
    }
  }
  fixture_settle();
  run_in_slices(task, 2);
  atom_sub_release_u32(&inbox.tasks_waiting, 1); /* run_in_slices has counted it once more */
  fixture_settle();
  for (int i = 0; i < MEMBERS; i++) {
    if (had[i] || !(leaves[i] || closed[i])) {
      CLIENT_EXPECT(fds[i], "news");
    }
    if (!closed[i]) {
      client_expect_nothing(fds[i]);
    }
  }
  members_close();
}
END_TEST

/* A member that has CONN_REFS_MAX references gets a copy instead. */
START_TEST(test_member_with_all_its_references_gets_a_copy) {
  members_start(XCHG_SLOW_SKIP);
  for (uint32_t i = 0; i < CONN_REFS_MAX; i++) {
    require(xchg_send_ref(member(0), "x", 1, NULL, NULL) == 0, "a reference is allowed");
  }
  PUBLISH("news", TASK_BUDGET);
  ck_assert_uint_eq(published(), MEMBERS);
  ck_assert_uint_eq(send_queue_refs(&member(0)->out), CONN_REFS_MAX);
  ck_assert_uint_eq(xchg_pending(member(0)), CONN_REFS_MAX + 4);
  fixture_settle();
  ck_assert_uint_eq(fixture_ended(XCHG_MEMORY), 0);
  members_close();
}
END_TEST

/* Paused members get publications as well. */
START_TEST(test_paused_members_get_publications) {
  members_start(XCHG_SLOW_SKIP);
  for (int i = 0; i < MEMBERS; i++) {
    ck_assert_int_eq(xchg_pause(member(i)), 0);
  }
  PUBLISH("news", 3);
  for (int i = 0; i < MEMBERS; i++) {
    CLIENT_EXPECT(fds[i], "news");
    ck_assert_int_eq(xchg_resume(member(i)), 0);
  }
  members_close();
}
END_TEST

/* A member of many groups gets the publications of each, and leaves all of them when it ends. */
START_TEST(test_member_of_many_groups) {
  members_start(XCHG_SLOW_SKIP);
  struct xchg_conn *conn = member(5);
  const uint64_t groups[] = {0, 1, UINT64_MAX, GROUP ^ 1};
  for (size_t i = 0; i < count_of(groups); i++) {
    ck_assert_int_eq(xchg_join(conn, groups[i], XCHG_SLOW_SKIP), 0);
    publish_bytes(groups[i], (const char[]){(char)('a' + i)}, 1, 1);
  }
  CLIENT_EXPECT(fds[5], "abcd");
  ck_assert_int_eq(xchg_leave(conn, groups[1]), 0);
  publish_bytes(groups[1], "x", 1, 1);
  publish_bytes(groups[2], "y", 1, 1);
  CLIENT_EXPECT(fds[5], "y");
  members_close();
}
END_TEST

/* ---- posted calls ---- */

static void send_call(struct xchg_conn *conn) {
  char digit = (char)('0' + (*(int *)test_data)++ % 10);
  ck_assert_int_eq(xchg_send(conn, &digit, 1), 0);
}

/*
 * Each call costs one unit of the budget and runs once, in order. It gets NULL if the connection
 * has ended.
 */
START_TEST(test_posted_calls_run_once_in_order) {
  int number = 0;
  uint32_t gone = 0;
  test_data = &number;
  fixture_start(_i == 1);
  uint64_t id;
  int fd = client_connect_id(&id);
  for (int i = 0; i < 10; i++) {
    uint32_t budget = 3;
    atom_add_relaxed_u32(&inbox.tasks_waiting, 1);
    struct posted_call *posted = create_call(id, send_call, NULL);
    ck_assert(task_run(&fixture.ctx, &inbox, &posted->task, &budget));
    ck_assert_uint_eq(budget, 2);
    ck_assert_int_eq(number, i + 1); /* at once */
  }
  CLIENT_EXPECT(fd, "0123456789");
  run_in_slices(&create_call(0, send_call, &gone)->task, 1);
  close_and_expect_end(fd, XCHG_FINISHED);
  run_in_slices(&create_call(id, send_call, &gone)->task, 1);
  fd = client_connect(); /* in the same slot */
  run_in_slices(&create_call(id, send_call, &gone)->task, 1);
  ck_assert_uint_eq(gone, 3);
  ck_assert_uint_eq(atom_load_relaxed_u64(&fixture.stats.posts), 13);
  close(fd);
  fixture_until_all_closed();
}
END_TEST

/* A connection that is ending is still found, but accepts no more output. */
static void refused(struct xchg_conn *conn) {
  (*(int *)test_data)++;
  ck_assert_int_eq(xchg_send(conn, "x", 1), -1);
  ck_assert_int_eq(errno, EPIPE);
  ck_assert_int_eq(xchg_pause(conn), 0);
  ck_assert_int_eq(xchg_finish(conn), 0);
}

START_TEST(test_call_to_an_ending_connection) {
  int calls = 0;
  uint32_t gone = 0;
  fixture.greeting = "unread";
  test_data = &calls;
  fixture_start(_i == 1);
  uint64_t id;
  int fd = client_connect_id(&id);
  post_act(id, act_finish); /* lingers, as the greeting was not read */
  run_in_slices(&create_call(id, refused, &gone)->task, 1);
  fixture_settle();
  ck_assert_int_eq(calls, 1);
  run_in_slices(&create_call(id, act_abort, &gone)->task, 1);
  run_in_slices(&create_call(id, refused, &gone)->task, 1);
  ck_assert_int_eq(calls, 2); /* the turn that closes the connection is still to come */
  fixture_expect_end(XCHG_ERROR);
  run_in_slices(&create_call(id, refused, &gone)->task, 1);
  ck_assert_uint_eq(gone, 1);
  close(fd);
}
END_TEST

/* ---- discarded tasks ---- */

static void never_returned(struct xchg_conn *conn, struct posted_call *posted) {
  (void)conn;
  (void)posted;
  ck_abort_msg("there is no connection");
}

START_TEST(test_discarded_tasks_are_freed) {
  uint32_t gone = 0;
  task_discard(&create_call(1, send_call, &gone)->task);
  struct posted_call *offloaded = create_call(1, send_call, &gone);
  offloaded->returned = never_returned;
  task_discard(&offloaded->task);
  ck_assert_uint_eq(gone, 2);
  /* The last share frees the publication, in every order. The sanitizers would report a leak. */
  for (int first = 0; first < 4; first++) {
    struct publication *publication = publication_create(GROUP, "news", 4, 3);
    ck_assert_ptr_nonnull(publication);
    struct task *tasks[3];
    for (uint32_t i = 0; i < 3; i++) {
      tasks[i] = publication_task(publication, i);
    }
    for (int i = 0; i < 4; i++) {
      int which = (first + i) % 4;
      if (which == 3) {
        publication_release(publication);
      } else {
        task_discard(tasks[which]);
      }
    }
  }
  publication_release(publication_create(GROUP, NULL, 0, 0));
}
END_TEST

START_TEST(test_full_counts_waiting_tasks) {
  struct inbox full;
  ck_assert_int_eq(inbox_open(&full, 2), 0);
  ck_assert(!task_queue_full(&full));
  atom_store_relaxed_u32(&full.tasks_waiting, TASK_QUEUE_MAX - 1);
  ck_assert(!task_queue_full(&full));
  uint32_t gone = 0;
  struct posted_call *posted = create_call(1, send_call, &gone);
  task_send(&full, &posted->task);
  ck_assert(task_queue_full(&full));
  ck_assert_ptr_eq(inbox_take_all(&full), &posted->task);
  ck_assert_ptr_null(inbox_take_all(&full));
  task_discard(&posted->task);
  inbox_close(&full);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_publications_arrive_once_in_order, 1},
      {test_large_publication_is_copied_once, 1},
      {test_publish_to_an_empty_group, 1},
      {test_slow_member, 2},
      {test_policy_is_replaced, 1},
      {test_ending_members_get_nothing, 1},
      {test_changes_between_two_slices, 3},
      {test_member_with_all_its_references_gets_a_copy, 1},
      {test_paused_members_get_publications, 1},
      {test_member_of_many_groups, 1},
      {test_posted_calls_run_once_in_order, 2},
      {test_call_to_an_ending_connection, 2},
      {test_discarded_tasks_are_freed, 1},
      {test_full_counts_waiting_tasks, 1},
  };
  return run_suite_fixture("mail", tests, count_of(tests), handler_fixture_init_silent,
                           handler_fixture_fini);
}
