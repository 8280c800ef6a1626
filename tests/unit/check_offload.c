/*
 * check_offload: every job is told its end once; the queue's bound; when threads come and go.
 *
 * The module is compiled into this program, so that threads and memory can be refused.  A thread of
 * the pool is held by a job that waits at a gate, never by time.
 */
#include <pthread.h>
#include <stdlib.h>

static int test_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                               void *(*start)(void *), void *argument);
static void *test_calloc(size_t count, size_t size);
#define pthread_create test_pthread_create
#define calloc test_calloc
#include "pool/offload.c"
#undef pthread_create
#undef calloc

#include "core/atom.h"
#include "tests/fixtures/pool_fixture.h"

#include <dirent.h>
#include <semaphore.h>

#define THREADS 3
#define PUSHERS 4
#define JOBS OFFLOAD_QUEUE_MAX /* of a test: all that may wait at a time */

static struct offload offload;
static int creates_left = INT32_MAX; /* calls of pthread_create that succeed */
static bool refuse_memory;

static int test_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                               void *(*start)(void *), void *argument) {
  return creates_left-- > 0 ? pthread_create(thread, attributes, start, argument) : EAGAIN;
}

static void *test_calloc(size_t count, size_t size) {
  errno = ENOMEM;
  return refuse_memory ? NULL : calloc(count, size);
}

/* ---- jobs ---- */

struct task {
  struct job job;
  atom_u32 begun, not_begun; /* how often run was called so */
  pthread_t ran_by;
  int pushed; /* what offload_push said; its pusher */
};

static struct task tasks[JOBS + 1];
static int order[JOBS], order_count; /* in which one thread took them */
static sem_t done;                   /* posted by each task that ends */

static void run_task(struct job *job, bool begun) {
  struct task *task = container_of(job, struct task, job);
  task->ran_by = pthread_self();
  atom_add_relaxed_u32(begun ? &task->begun : &task->not_begun, 1);
  sem_post(&done);
}

/* A task that waits at the gate, and says that it does. */
static sem_t arrived, gate;
static struct job holders[THREADS];

static void await(sem_t *semaphore) {
  while (sem_wait(semaphore) == -1) { /* interrupted */
  }
}

static void hold(struct job *job, bool begun) {
  (void)job;
  (void)begun;
  sem_post(&arrived);
  await(&gate);
}

/* Hold every thread of the pool. */
static void hold_threads(void) {
  for (int i = 0; i < THREADS; i++) {
    holders[i].run = hold;
    ck_assert_int_eq(offload_push(&offload, &holders[i]), 0);
  }
  for (int i = 0; i < THREADS; i++) {
    await(&arrived);
  }
}

static void release_threads(void) {
  for (int i = 0; i < THREADS; i++) {
    sem_post(&gate);
  }
}

static void set_up(uint32_t threads_max) {
  ck_assert_int_eq(sem_init(&done, 0, 0), 0);
  ck_assert_int_eq(sem_init(&arrived, 0, 0), 0);
  ck_assert_int_eq(sem_init(&gate, 0, 0), 0);
  ck_assert_int_eq(offload_init(&offload, threads_max), 0);
  order_count = 0;
  for (size_t i = 0; i < count_of(tasks); i++) {
    tasks[i] = (struct task){.job = {.run = run_task}};
  }
}

static void tear_down(void) {
  offload_fini(&offload);
  sem_destroy(&done);
  sem_destroy(&arrived);
  sem_destroy(&gate);
}

static void expect_refusal(struct job *job, int error) {
  errno = 0;
  ck_assert_int_eq(offload_push(&offload, job), -1);
  ck_assert_int_eq(errno, error);
}

static void expect_runs(const struct task *task, uint32_t begun, uint32_t not_begun) {
  ck_assert_uint_eq(atom_load_relaxed_u32(&task->begun), begun);
  ck_assert_uint_eq(atom_load_relaxed_u32(&task->not_begun), not_begun);
}

/* ---- threads as the system sees them ---- */

static bool is_named(const char *task, const char *prefix) {
  char path[64], name[32] = "";
  snprintf(path, sizeof(path), "/proc/self/task/%.16s/comm", task);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd == -1) {
    return false; /* has ended meanwhile */
  }
  ssize_t size = read(fd, name, sizeof(name) - 1);
  close(fd);
  return size > 0 && strncmp(name, prefix, strlen(prefix)) == 0;
}

/* Threads of this process whose name begins with ${prefix}. */
static uint32_t count_threads(const char *prefix) {
  uint32_t count = 0;
  DIR *dir = opendir("/proc/self/task");
  ck_assert_ptr_nonnull(dir);
  struct dirent *entry;
  while ((entry = readdir(dir)) != NULL) {
    count += entry->d_name[0] != '.' && is_named(entry->d_name, prefix);
  }
  closedir(dir);
  return count;
}

START_TEST(threads_come_with_the_first_job) {
  uint32_t before = count_threads("");
  set_up(THREADS);
  ck_assert_uint_eq(count_threads(""), before);
  ck_assert_int_eq(offload_push(&offload, &tasks[0].job), 0);
  ck_assert_uint_ge(count_threads(""), before + THREADS);
  AWAIT(count_threads("xchg-off-") == THREADS); /* each names itself */
  await(&done);
  ck_assert_int_eq(offload_push(&offload, &tasks[1].job), 0);
  await(&done);
  ck_assert_uint_eq(count_threads("xchg-off-"), THREADS);
  for (uint32_t i = 0; i < THREADS; i++) {
    char name[32];
    snprintf(name, sizeof(name), "xchg-off-%u", i);
    ck_assert_uint_eq(count_threads(name), 1);
  }
  offload_close(&offload);
  AWAIT(count_threads("xchg-off-") == 0); /* joined is a moment before it is out of /proc */
  tear_down();
}
END_TEST

START_TEST(no_push_no_thread) {
  uint32_t before = count_threads("");
  set_up(THREADS);
  tear_down();
  set_up(1024);
  offload_close(&offload);
  ck_assert_uint_eq(count_threads(""), before);
  tear_down();
}
END_TEST

static sigset_t mask_seen;

static void look_at_mask(struct job *job, bool begun) {
  (void)job;
  (void)begun;
  pthread_sigmask(SIG_SETMASK, NULL, &mask_seen);
  sem_post(&done);
}

START_TEST(signals_are_left_to_the_program) {
  set_up(1);
  sigset_t mine, before, after;
  sigemptyset(&mine);
  sigaddset(&mine, SIGUSR1);
  ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, &mine, &before), 0);
  struct job job = {.run = look_at_mask};
  ck_assert_int_eq(offload_push(&offload, &job), 0);
  await(&done);
  ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
  static const int signals[] = {SIGTERM, SIGINT,  SIGQUIT, SIGHUP,  SIGUSR1,
                                SIGUSR2, SIGPIPE, SIGCHLD, SIGALRM, SIGWINCH};
  for (size_t i = 0; i < count_of(signals); i++) {
    ck_assert_int_eq(sigismember(&mask_seen, signals[i]), 1);
    ck_assert_int_eq(sigismember(&after, signals[i]), signals[i] == SIGUSR1);
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  tear_down();
}
END_TEST

/* ---- refusals ---- */

START_TEST(no_threads_wanted) {
  set_up(0);
  expect_refusal(&tasks[0].job, ENOTSUP);
  offload_close(&offload);
  tear_down();
  expect_runs(&tasks[0], 0, 0);
}
END_TEST

START_TEST(no_thread_given) {
  set_up(THREADS);
  creates_left = 0;
  expect_refusal(&tasks[0].job, EAGAIN);
  expect_runs(&tasks[0], 0, 0);
  creates_left = INT32_MAX; /* the next push tries again */
  ck_assert_int_eq(offload_push(&offload, &tasks[0].job), 0);
  await(&done);
  tear_down();
  expect_runs(&tasks[0], 1, 0);
}
END_TEST

START_TEST(fewer_threads_than_wanted) {
  set_up(THREADS);
  creates_left = THREADS - 1;
  for (int i = 0; i < 100; i++) {
    ck_assert_int_eq(offload_push(&offload, &tasks[i].job), 0);
    await(&done);
  }
  ck_assert_uint_eq(offload.threads_count, THREADS - 1);
  creates_left = INT32_MAX;
  tear_down();
}
END_TEST

START_TEST(no_memory) {
  refuse_memory = true;
  errno = 0;
  ck_assert_int_eq(offload_init(&offload, THREADS), -1);
  ck_assert_int_eq(errno, ENOMEM);
  refuse_memory = false;
}
END_TEST

START_TEST(refused_at_the_bound_and_not_before) {
  set_up(THREADS);
  hold_threads();
  for (int i = 0; i < OFFLOAD_QUEUE_MAX; i++) {
    ck_assert_int_eq(offload_push(&offload, &tasks[i].job), 0);
  }
  expect_refusal(&tasks[OFFLOAD_QUEUE_MAX].job, EAGAIN);
  expect_refusal(&tasks[OFFLOAD_QUEUE_MAX].job, EAGAIN);
  release_threads();
  for (int i = 0; i < OFFLOAD_QUEUE_MAX; i++) {
    await(&done);
  }
  expect_runs(&tasks[OFFLOAD_QUEUE_MAX], 0, 0);
  ck_assert_int_eq(offload_push(&offload, &tasks[OFFLOAD_QUEUE_MAX].job), 0);
  await(&done);
  tear_down();
  for (int i = 0; i <= OFFLOAD_QUEUE_MAX; i++) {
    expect_runs(&tasks[i], 1, 0);
  }
}
END_TEST

/* ---- running ---- */

/* Each waits for all the others: one thread too few, or a lock that is held, and nobody returns. */
static pthread_barrier_t barrier;

static void meet(struct job *job, bool begun) {
  pthread_barrier_wait(&barrier);
  run_task(job, begun);
}

START_TEST(all_threads_run_at_once) {
  set_up(THREADS);
  ck_assert_int_eq(pthread_barrier_init(&barrier, NULL, THREADS), 0);
  for (int i = 0; i < 10 * THREADS; i++) {
    tasks[i].job.run = meet;
    ck_assert_int_eq(offload_push(&offload, &tasks[i].job), 0);
  }
  for (int i = 0; i < 10 * THREADS; i++) {
    await(&done);
  }
  tear_down();
  pthread_barrier_destroy(&barrier);
}
END_TEST

static void note_order(struct job *job, bool begun) {
  order[order_count++] = (int)(container_of(job, struct task, job) - tasks);
  run_task(job, begun);
}

START_TEST(first_come_first_served) {
  set_up(1);
  for (int i = 0; i < JOBS; i++) {
    tasks[i].job.run = note_order;
    ck_assert_int_eq(offload_push(&offload, &tasks[i].job), 0);
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

/* A job is its owner's again when it runs: this one is pushed again, and freed in the end. */
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

/* ---- several who push ---- */

/* Push every PUSHERS-th task, from ${argument} on. */
static void *push_share(void *argument) {
  for (struct task *task = argument; task < tasks + JOBS; task += PUSHERS) {
    task->pushed = offload_push(&offload, &task->job);
    if (task->pushed == -1) {
      task->pushed = -errno;
    }
  }
  return NULL;
}

static void start_pushers(pthread_t pushers[PUSHERS], void *(*start)(void *)) {
  for (int i = 0; i < PUSHERS; i++) {
    ck_assert_int_eq((pthread_create)(&pushers[i], NULL, start, &tasks[i]), 0);
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
      ck_assert_int_eq(tasks[i].pushed, 0);
      expect_runs(&tasks[i], 1, 0);
    }
  }
}
END_TEST

/* ---- the end ---- */

static void *close_pool(void *argument) {
  (void)argument;
  offload_close(&offload);
  return NULL;
}

static bool is_closing(void) {
  pthread_mutex_lock(&offload.mutex);
  bool closing = offload.closing;
  pthread_mutex_unlock(&offload.mutex);
  return closing;
}

/* Those that run come to their end, the others are told, on the thread that closes. */
START_TEST(close_tells_those_not_begun) {
  set_up(THREADS);
  hold_threads();
  for (int i = 0; i < JOBS; i++) {
    ck_assert_int_eq(offload_push(&offload, &tasks[i].job), 0);
  }
  pthread_t closer;
  ck_assert_int_eq((pthread_create)(&closer, NULL, close_pool, NULL), 0);
  AWAIT(is_closing());
  expect_refusal(&tasks[JOBS].job, ESHUTDOWN);
  expect_runs(&tasks[0], 0, 0); /* not while jobs run */
  release_threads();
  ck_assert_int_eq(pthread_join(closer, NULL), 0);
  for (int i = 0; i < JOBS; i++) {
    expect_runs(&tasks[i], 0, 1);
    ck_assert(pthread_equal(tasks[i].ran_by, closer));
  }
  offload_close(&offload); /* repeated */
  expect_refusal(&tasks[JOBS].job, ESHUTDOWN);
  tear_down();
  expect_runs(&tasks[0], 0, 1);
  expect_runs(&tasks[JOBS], 0, 0);
}
END_TEST

START_TEST(closed_before_the_first_job) {
  set_up(THREADS);
  offload_close(&offload);
  expect_refusal(&tasks[0].job, ESHUTDOWN);
  ck_assert_uint_eq(offload.threads_count, 0);
  tear_down();
  expect_runs(&tasks[0], 0, 0);
}
END_TEST

/* Whatever the moment: what was taken is told once, what was refused never. */
START_TEST(close_among_pushers) {
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
      const struct task *task = &tasks[i];
      ck_assert(task->pushed == 0 || task->pushed == -ESHUTDOWN);
      ck_assert_uint_eq(
          atom_load_relaxed_u32(&task->begun) + atom_load_relaxed_u32(&task->not_begun),
          task->pushed == 0);
    }
    tear_down();
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {threads_come_with_the_first_job, 1},
      {no_push_no_thread, 1},
      {signals_are_left_to_the_program, 1},
      {no_threads_wanted, 1},
      {no_thread_given, 1},
      {fewer_threads_than_wanted, 1},
      {no_memory, 1},
      {refused_at_the_bound_and_not_before, 1},
      {all_threads_run_at_once, 1},
      {first_come_first_served, 1},
      {jobs_push_and_free_themselves, 1},
      {each_of_several_pushers_is_served_once, 1},
      {close_tells_those_not_begun, 1},
      {closed_before_the_first_job, 1},
      {close_among_pushers, 1},
  };
  return run_suite("offload", tests, count_of(tests));
}
