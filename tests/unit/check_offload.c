/* check_offload: every job runs or is cancelled exactly once, whichever threads push it. */
#include "tests/fixtures/offload_fixture.h"

static int order[JOBS], order_count; /* in which one thread ran them */

/* ---- running ---- */

/* Each job waits for all others: with one thread too few, or under a lock, none would return. */
static pthread_barrier_t barrier;

static void meet(struct job *job, bool begun) {
  pthread_barrier_wait(&barrier);
  run_counted(job, begun);
}

START_TEST(all_threads_run_at_once) {
  set_up(THREADS);
  ck_assert_int_eq(pthread_barrier_init(&barrier, NULL, THREADS), 0);
  for (int i = 0; i < 10 * THREADS; i++) {
    jobs[i].job.run = meet;
    ck_assert_int_eq(offload_push(&offload, &jobs[i].job), 0);
  }
  for (int i = 0; i < 10 * THREADS; i++) {
    await(&done);
  }
  tear_down();
  pthread_barrier_destroy(&barrier);
}
END_TEST

static void note_order(struct job *job, bool begun) {
  order[order_count++] = (int)(container_of(job, struct counted_job, job) - jobs);
  run_counted(job, begun);
}

START_TEST(jobs_run_in_order_of_arrival) {
  set_up(1);
  for (int i = 0; i < JOBS; i++) {
    jobs[i].job.run = note_order;
    ck_assert_int_eq(offload_push(&offload, &jobs[i].job), 0);
  }
  for (int i = 0; i < JOBS; i++) {
    await(&done);
  }
  tear_down();
  for (int i = 0; i < JOBS; i++) {
    ck_assert_int_eq(order[i], i);
  }
}
END_TEST

/* A job belongs to its owner again once it runs: this one is pushed again, and freed at the end. */
struct again {
  struct job job;
  int left;
};

static void run_again(struct job *job, bool begun) {
  struct again *again = container_of(job, struct again, job);
  if (!begun || again->left-- == 0 || offload_push(&offload, job) == -1) {
    free(again);
    sem_post(&done);
  }
}

START_TEST(jobs_push_and_free_themselves) {
  set_up(THREADS);
  for (int i = 0; i < 8; i++) {
    struct again *again = malloc(sizeof(*again));
    ck_assert_ptr_nonnull(again);
    *again = (struct again){.job = {.run = run_again}, .left = 200};
    ck_assert_int_eq(offload_push(&offload, &again->job), 0);
  }
  for (int i = 0; i < 8; i++) {
    await(&done);
  }
  tear_down();
}
END_TEST

/* ---- several pushing threads ---- */

/* Push every PUSHERS-th job, from ${argument} on. */
static void *push_share(void *argument) {
  for (struct counted_job *counted = argument; counted < jobs + JOBS; counted += PUSHERS) {
    counted->pushed = offload_push(&offload, &counted->job);
    if (counted->pushed == -1) {
      counted->pushed = -errno;
    }
  }
  return NULL;
}

static void start_pushers(pthread_t pushers[PUSHERS], void *(*start)(void *)) {
  for (int i = 0; i < PUSHERS; i++) {
    ck_assert_int_eq((pthread_create)(&pushers[i], NULL, start, &jobs[i]), 0);
  }
}

static void join_pushers(const pthread_t pushers[PUSHERS]) {
  for (int i = 0; i < PUSHERS; i++) {
    ck_assert_int_eq(pthread_join(pushers[i], NULL), 0);
  }
}

START_TEST(each_of_several_pushers_is_served_once) {
  pthread_t pushers[PUSHERS];
  for (int round = 0; round < 5; round++) {
    set_up(THREADS);
    start_pushers(pushers, push_share);
    join_pushers(pushers);
    for (int i = 0; i < JOBS; i++) {
      await(&done);
    }
    tear_down();
    for (int i = 0; i < JOBS; i++) {
      ck_assert_int_eq(jobs[i].pushed, 0);
      expect_runs(&jobs[i], 1, 0);
    }
  }
}
END_TEST

/* ---- cancel ---- */

/* Queued jobs can be cancelled once, wherever they stand; the others run in their order. */
START_TEST(a_queued_job_can_be_cancelled) {
  enum { COUNT = 8 };
  set_up(THREADS);
  hold_threads();
  ck_assert(!offload_cancel(&offload, &holders[0])); /* it runs */
  for (int i = 0; i < COUNT; i++) {
    jobs[i].job.run = run_counted;
    ck_assert_int_eq(offload_push(&offload, &jobs[i].job), 0);
  }
  for (int i = 0; i < COUNT; i++) {
    bool cancelled = (_i >> i & 1) != 0;
    ck_assert(!cancelled || offload_cancel(&offload, &jobs[i].job));
    ck_assert(!cancelled || !offload_cancel(&offload, &jobs[i].job));
  }
  ck_assert_uint_eq(offload.queued, COUNT - (unsigned)__builtin_popcount((unsigned)_i));
  ck_assert_int_eq(offload_push(&offload, &jobs[COUNT].job), 0); /* the list still has an end */
  release_threads();
  for (int i = 0; i <= COUNT - __builtin_popcount((unsigned)_i); i++) {
    await(&done);
  }
  ck_assert(!offload_cancel(&offload, &jobs[COUNT].job)); /* it has run */
  tear_down();
  for (int i = 0; i <= COUNT; i++) {
    expect_runs(&jobs[i], (_i >> i & 1) == 0, 0);
  }
}
END_TEST

/* A job that waits for the close is run by the close. */
START_TEST(a_stopped_pool_cancels_nothing) {
  set_up(THREADS);
  hold_threads();
  ck_assert_int_eq(offload_push(&offload, &jobs[0].job), 0);
  ck_assert_uint_eq(offload_stop(&offload), THREADS);
  ck_assert(!offload_cancel(&offload, &jobs[0].job));
  release_threads();
  tear_down();
  expect_runs(&jobs[0], 0, 1);
}
END_TEST

/* ---- close ---- */

static void *close_pool(void *argument) {
  (void)argument;
  offload_close(&offload);
  return NULL;
}

static bool is_stopped(void) {
  pthread_mutex_lock(&offload.mutex);
  bool stopped = offload.stopped;
  pthread_mutex_unlock(&offload.mutex);
  return stopped;
}

/* Running jobs finish. Queued jobs are cancelled on the thread that closes. */
START_TEST(close_cancels_queued_jobs) {
  set_up(THREADS);
  hold_threads();
  for (int i = 0; i < JOBS; i++) {
    ck_assert_int_eq(offload_push(&offload, &jobs[i].job), 0);
  }
  pthread_t closer;
  ck_assert_int_eq((pthread_create)(&closer, NULL, close_pool, NULL), 0);
  AWAIT(is_stopped());
  expect_refusal(&jobs[JOBS].job, ESHUTDOWN);
  expect_runs(&jobs[0], 0, 0); /* not while jobs run */
  release_threads();
  ck_assert_int_eq(pthread_join(closer, NULL), 0);
  for (int i = 0; i < JOBS; i++) {
    expect_runs(&jobs[i], 0, 1);
    ck_assert(pthread_equal(jobs[i].ran_by, closer));
  }
  offload_close(&offload); /* a second call */
  expect_refusal(&jobs[JOBS].job, ESHUTDOWN);
  tear_down();
  expect_runs(&jobs[0], 0, 1);
  expect_runs(&jobs[JOBS], 0, 0);
}
END_TEST

/* No job begins after a stop, which does not wait, and the end of the last one is announced. */
START_TEST(stop_tells_how_many_run) {
  struct wake idle;
  uint64_t wakes;
  ck_assert_int_eq(wake_open(&idle), 0);
  set_up(THREADS);
  offload.idle = &idle;
  ck_assert_uint_eq(_i == 0 ? 0 : offload_stop(&offload), 0); /* nothing has begun */
  if (_i == 0) {
    hold_threads();
    ck_assert_int_eq(offload_push(&offload, &jobs[0].job), 0);
    for (int i = 0; i < 2; i++) {
      ck_assert_uint_eq(offload_stop(&offload), THREADS);
    }
    ck_assert_int_eq(read(idle.fd, &wakes, sizeof(wakes)), -1); /* EAGAIN: they still run */
    release_threads();
    AWAIT(offload_stop(&offload) == 0);
    AWAIT(read(idle.fd, &wakes, sizeof(wakes)) == sizeof(wakes));
    ck_assert_uint_eq(wakes, 1);
    expect_runs(&jobs[0], 0, 0); /* until the close */
  }
  expect_refusal(&jobs[1].job, ESHUTDOWN);
  tear_down();
  expect_runs(&jobs[0], 0, _i == 0);
  wake_close(&idle);
}
END_TEST

START_TEST(closed_before_the_first_job) {
  set_up(THREADS);
  offload_close(&offload);
  expect_refusal(&jobs[0].job, ESHUTDOWN);
  ck_assert_uint_eq(offload.threads_count, 0);
  tear_down();
  expect_runs(&jobs[0], 0, 0);
}
END_TEST

/* Close races with pushes: an accepted job is run or cancelled once, a refused one never. */
START_TEST(close_races_with_pushes) {
  pthread_t pushers[PUSHERS];
  for (int round = 0; round < 20; round++) {
    set_up(THREADS);
    start_pushers(pushers, push_share);
    for (int i = 0; i < round * 10; i++) {
      await(&done);
    }
    offload_close(&offload);
    join_pushers(pushers);
    for (int i = 0; i < JOBS; i++) {
      const struct counted_job *counted = &jobs[i];
      ck_assert(counted->pushed == 0 || counted->pushed == -ESHUTDOWN);
      ck_assert_uint_eq(
          atom_load_relaxed_u32(&counted->begun) + atom_load_relaxed_u32(&counted->not_begun),
          counted->pushed == 0);
    }
    tear_down();
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {all_threads_run_at_once, 1},         {jobs_run_in_order_of_arrival, 1},
      {jobs_push_and_free_themselves, 1},   {each_of_several_pushers_is_served_once, 1},
      {close_cancels_queued_jobs, 1},       {closed_before_the_first_job, 1},
      {a_queued_job_can_be_cancelled, 256}, {a_stopped_pool_cancels_nothing, 1},
      {stop_tells_how_many_run, 2},         {close_races_with_pushes, 1},
  };
  return run_suite("offload", tests, count_of(tests));
}
