/*
 * check_offload_threads: when threads start and end, what they inherit, and which pushes are
 * refused.
 */
#include "tests/fixtures/offload_fixture.h"

#include <dirent.h>

/* ---- threads as the system sees them ---- */

static bool is_named(const char *thread, const char *prefix) {
  char path[64], name[32] = "";
  snprintf(path, sizeof(path), "/proc/self/task/%.16s/comm", thread);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd == -1) {
    return false; /* the thread has ended meanwhile */
  }
  ssize_t size = read(fd, name, sizeof(name) - 1);
  close(fd);
  return size > 0 && strncmp(name, prefix, strlen(prefix)) == 0;
}

/* How many threads of this process have names that begin with ${prefix}. */
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

START_TEST(threads_start_with_the_first_job) {
  uint32_t before = count_threads("");
  set_up(THREADS);
  ck_assert_uint_eq(count_threads(""), before);
  ck_assert_int_eq(offload_push(&offload, &jobs[0].job), 0);
  ck_assert_uint_ge(count_threads(""), before + THREADS);
  AWAIT(count_threads("xchg-off-") == THREADS); /* each thread sets its own name */
  await(&done);
  ck_assert_int_eq(offload_push(&offload, &jobs[1].job), 0);
  await(&done);
  ck_assert_uint_eq(count_threads("xchg-off-"), THREADS);
  for (uint32_t i = 0; i < THREADS; i++) {
    char name[32];
    snprintf(name, sizeof(name), "xchg-off-%u", i);
    ck_assert_uint_eq(count_threads(name), 1);
  }
  offload_close(&offload);
  AWAIT(count_threads("xchg-off-") == 0); /* /proc may still list a thread that has been joined */
  tear_down();
}
END_TEST

START_TEST(without_a_push_no_thread_starts) {
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

/* ---- refused pushes ---- */

START_TEST(push_without_threads_is_refused) {
  set_up(0);
  expect_refusal(&jobs[0].job, ENOTSUP);
  offload_close(&offload);
  tear_down();
  expect_runs(&jobs[0], 0, 0);
}
END_TEST

START_TEST(push_is_refused_if_no_thread_starts) {
  set_up(THREADS);
  creates_left = 0;
  expect_refusal(&jobs[0].job, EAGAIN);
  expect_runs(&jobs[0], 0, 0);
  creates_left = INT32_MAX; /* the next push tries again */
  ck_assert_int_eq(offload_push(&offload, &jobs[0].job), 0);
  await(&done);
  tear_down();
  expect_runs(&jobs[0], 1, 0);
}
END_TEST

START_TEST(fewer_threads_than_wanted_still_serve) {
  set_up(THREADS);
  creates_left = THREADS - 1;
  for (int i = 0; i < 100; i++) {
    ck_assert_int_eq(offload_push(&offload, &jobs[i].job), 0);
    await(&done);
  }
  ck_assert_uint_eq(offload.threads_count, THREADS - 1);
  creates_left = INT32_MAX;
  tear_down();
}
END_TEST

START_TEST(init_without_memory_fails) {
  refuse_memory = true;
  errno = 0;
  ck_assert_int_eq(offload_init(&offload, THREADS, NULL), -1);
  ck_assert_int_eq(errno, ENOMEM);
  refuse_memory = false;
}
END_TEST

START_TEST(push_is_refused_when_the_queue_is_full) {
  set_up(THREADS);
  hold_threads();
  for (int i = 0; i < OFFLOAD_QUEUE_MAX; i++) {
    ck_assert_int_eq(offload_push(&offload, &jobs[i].job), 0);
  }
  expect_refusal(&jobs[OFFLOAD_QUEUE_MAX].job, EAGAIN);
  expect_refusal(&jobs[OFFLOAD_QUEUE_MAX].job, EAGAIN);
  release_threads();
  for (int i = 0; i < OFFLOAD_QUEUE_MAX; i++) {
    await(&done);
  }
  expect_runs(&jobs[OFFLOAD_QUEUE_MAX], 0, 0);
  ck_assert_int_eq(offload_push(&offload, &jobs[OFFLOAD_QUEUE_MAX].job), 0);
  await(&done);
  tear_down();
  for (int i = 0; i <= OFFLOAD_QUEUE_MAX; i++) {
    expect_runs(&jobs[i], 1, 0);
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {threads_start_with_the_first_job, 1},    {without_a_push_no_thread_starts, 1},
      {signals_are_left_to_the_program, 1},     {push_without_threads_is_refused, 1},
      {push_is_refused_if_no_thread_starts, 1}, {fewer_threads_than_wanted_still_serve, 1},
      {init_without_memory_fails, 1},           {push_is_refused_when_the_queue_is_full, 1},
  };
  return run_suite("offload_threads", tests, count_of(tests));
}
