/*
 * check_task_visit: a visit shows each connection of a worker once, in slices, while connections
 * open and end, and tells its sender the end.
 */
#include "tests/fixtures/handler_fixture.h"

enum { CLIENTS = 20 };

static int fds[CLIENTS];
static uint64_t ids[CLIENTS];

static void clients_start(void) {
  fixture_start(false);
  for (int i = 0; i < CLIENTS; i++) {
    fds[i] = client_connect_id(&ids[i]);
  }
  fixture_settle();
}

static void clients_close(void) {
  for (int i = 0; i < CLIENTS; i++) {
    close(fds[i]);
  }
  fixture_until_all_closed();
}

/* What a visit has shown. */
struct tour {
  struct visit visit;
  uint32_t shown[CLIENTS + 1]; /* how often each client, then all others, were shown */
  uint32_t ends, complete;
};

static void note_shown(struct visit *visit, const struct xchg_conn *conn) {
  struct tour *tour = container_of(visit, struct tour, visit);
  int i = 0;
  while (i < CLIENTS && ids[i] != xchg_id(conn)) {
    i++;
  }
  tour->shown[i]++;
}

static void note_ended(struct visit *visit, bool complete) {
  struct tour *tour = container_of(visit, struct tour, visit);
  tour->ends++;
  tour->complete += complete;
}

/* Send ${tour} to the fixture's inbox. Return: its task. */
static struct task *begin(struct tour *tour) {
  *tour = (struct tour){.visit = {.cursor = 7, .each = note_shown, .ended = note_ended}};
  ck_assert(visit_send(&inbox, &tour->visit));
  ck_assert_uint_eq(atom_load_relaxed_u32(&inbox.tasks_waiting), 1);
  atom_store_relaxed_u32(&inbox.tasks_waiting, 0); /* run_in_slices counts it */
  struct task *task = inbox_take_all(&inbox);
  ck_assert_ptr_eq(task, &tour->visit.task);
  return task;
}

/* In slices of every size each connection is shown once, and the turns between them go on. */
START_TEST(test_each_connection_is_shown_once) {
  clients_start();
  for (uint32_t slice = 1; slice <= CLIENTS + 1; slice++) {
    struct tour tour;
    run_in_slices(begin(&tour), slice);
    for (int i = 0; i < CLIENTS; i++) {
      ck_assert_uint_eq(tour.shown[i], 1);
    }
    ck_assert_uint_eq(tour.shown[CLIENTS], 0);
    ck_assert_uint_eq(tour.ends, 1);
    ck_assert_uint_eq(tour.complete, 1);
  }
  clients_close();
}
END_TEST

/* A worker without a connection has nothing to show. */
START_TEST(test_nothing_to_show) {
  struct tour tour;
  fixture_start(false);
  run_in_slices(begin(&tour), 1);
  ck_assert_uint_eq(tour.complete, 1);
}
END_TEST

/* One visit at a time; the next one may be sent when the last one has ended. */
START_TEST(test_visits_come_one_at_a_time) {
  struct tour tour, other = {.visit = {.each = note_shown, .ended = note_ended}};
  clients_start();
  struct task *task = begin(&tour);
  ck_assert(!visit_send(&inbox, &other.visit));
  ck_assert_ptr_null(inbox_take_all(&inbox));
  run_in_slices(task, 7);
  ck_assert_uint_eq(tour.complete, 1);
  ck_assert_uint_eq(other.ends, 0);
  run_in_slices(begin(&other), 7);
  ck_assert_uint_eq(other.complete, 1);
  clients_close();
}
END_TEST

/* Connections open and end between two slices: those that stay are shown once, no ended one is. */
START_TEST(test_changes_between_two_slices) {
  clients_start();
  struct tour tour;
  struct task *task = begin(&tour);
  uint32_t budget = CLIENTS / 2;
  uint64_t first = ids[0];
  ck_assert(!task_run(&fixture.ctx, &inbox, task, &budget));
  ck_assert_uint_eq(tour.shown[0], 1);
  close(fds[0]);           /* shown already */
  close(fds[CLIENTS - 1]); /* ends before its turn */
  fixture_settle();
  fds[0] = client_connect_id(&ids[0]); /* in the slot of the first, which was passed */
  ck_assert_uint_ne(ids[0], first);
  budget = TASK_BUDGET;
  atom_store_relaxed_u32(&inbox.tasks_waiting, 1);
  ck_assert(task_run(&fixture.ctx, &inbox, task, &budget));
  ck_assert_uint_eq(tour.shown[CLIENTS - 1], 0);
  for (int i = 0; i < CLIENTS - 1; i++) {
    ck_assert_uint_eq(tour.shown[i], 1);
  }
  ck_assert_uint_eq(tour.shown[CLIENTS], 0);
  fds[CLIENTS - 1] = client_connect_id(&ids[CLIENTS - 1]);
  clients_close();
}
END_TEST

/* A connection that has ended and waits to be freed is not shown. */
START_TEST(test_ended_connections_are_not_shown) {
  clients_start();
  struct tour tour;
  struct task *task = begin(&tour);
  ck_assert_int_eq(xchg_abort(conn_find(&fixture.ctx, ids[3])), 0);
  reactor_wait(&fixture.reactor, 0);
  reactor_dispatch(&fixture.reactor); /* without the reap */
  uint32_t budget = TASK_BUDGET;
  atom_store_relaxed_u32(&inbox.tasks_waiting, 1);
  ck_assert(task_run(&fixture.ctx, &inbox, task, &budget));
  for (int i = 0; i < CLIENTS; i++) {
    ck_assert_uint_eq(tour.shown[i], i == 3 ? 0 : 1);
  }
  fixture_reap();
  clients_close();
}
END_TEST

/* The worker ends first: the sender is told, once, begun or not. */
START_TEST(test_discarded_visit_ends) {
  clients_start();
  struct tour tour;
  struct task *task = begin(&tour);
  if (_i == 1) {
    uint32_t budget = 3;
    ck_assert(!task_run(&fixture.ctx, &inbox, task, &budget));
  }
  task_discard(task);
  ck_assert_uint_eq(tour.ends, 1);
  ck_assert_uint_eq(tour.complete, 0);
  clients_close();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_each_connection_is_shown_once, 1},   {test_nothing_to_show, 1},
      {test_visits_come_one_at_a_time, 1},       {test_changes_between_two_slices, 1},
      {test_ended_connections_are_not_shown, 1}, {test_discarded_visit_ends, 2},
  };
  return run_suite_fixture("task_visit", tests, count_of(tests), handler_fixture_init,
                           handler_fixture_fini);
}
