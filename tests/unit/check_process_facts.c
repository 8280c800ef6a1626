/*
 * check_process_facts: what the kernel says of the process, held against other ways to ask it.
 */
#include "pool/process_facts.h"

#include "core/metrics.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static struct process_facts facts;
static struct process_now now;

static void setup(void) { process_facts_open(&facts); }

static void teardown(void) { process_facts_close(&facts); }

START_TEST(constants_are_the_process_s) {
  struct rlimit limit;
  ck_assert_uint_eq(facts.pid, (uint64_t)getpid());
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
  ck_assert_uint_eq(facts.fds_max, limit.rlim_cur);
  uint64_t since_s = (uint64_t)time(NULL) - facts.start_wall_ns / NS_PER_S;
  ck_assert_uint_le(since_s, 60);
}
END_TEST

#define MORE_BYTES ((size_t)64 << 20)

START_TEST(memory_is_what_is_touched) {
  process_facts_look(&facts, &now);
  uint64_t before = now.resident_bytes;
  ck_assert_uint_gt(before, 0);
  char *more = mmap(NULL, MORE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ck_assert_ptr_ne(more, MAP_FAILED);
  memset(more, 1, MORE_BYTES);
  process_facts_look(&facts, &now);
  /* The kernel counts some pages late, on each CPU. */
  ck_assert_uint_ge(now.resident_bytes, before + MORE_BYTES * 3 / 4);
  ck_assert_uint_le(now.resident_bytes, before + MORE_BYTES * 5 / 4);
  munmap(more, MORE_BYTES);
}
END_TEST

static sem_t may_end;

static void *wait_for_end(void *unused) {
  sem_wait(&may_end);
  return unused;
}

#define MORE_THREADS 5

START_TEST(threads_are_counted) {
  pthread_t threads[MORE_THREADS];
  sem_init(&may_end, 0, 0);
  process_facts_look(&facts, &now);
  uint64_t before = now.threads;
  ck_assert_uint_ge(before, 1);
  for (size_t i = 0; i < MORE_THREADS; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, wait_for_end, NULL), 0);
  }
  process_facts_look(&facts, &now);
  ck_assert_uint_eq(now.threads, before + MORE_THREADS);
  for (size_t i = 0; i < MORE_THREADS; i++) {
    sem_post(&may_end);
  }
  for (size_t i = 0; i < MORE_THREADS; i++) {
    pthread_join(threads[i], NULL);
  }
}
END_TEST

START_TEST(cpu_time_grows_with_work) {
  process_facts_look(&facts, &now);
  uint64_t before = now.cpu_ns, worked = 0;
  while (worked < 50 * NS_PER_MS) {
    process_facts_look(&facts, &now);
    ck_assert_uint_ge(now.cpu_ns, before + worked);
    worked = now.cpu_ns - before;
  }
}
END_TEST

/* Others choose the name of a thread, and /proc/self/stat has it as it is. */
START_TEST(names_with_parentheses_do_not_matter) {
  ck_assert_int_eq(prctl(PR_SET_NAME, "a) R 1 (b c"), 0);
  process_facts_look(&facts, &now);
  ck_assert_uint_ge(now.threads, 1);
  ck_assert_uint_lt(now.threads, 100);
  ck_assert_uint_gt(now.resident_bytes, 100000);
}
END_TEST

/* As in a container without /proc. */
START_TEST(without_the_file_it_is_unknown) {
  process_facts_close(&facts);
  process_facts_close(&facts);
  process_facts_look(&facts, &now);
  ck_assert_uint_eq(now.threads, METRICS_UNKNOWN);
  ck_assert_uint_eq(now.resident_bytes, METRICS_UNKNOWN);
  ck_assert_uint_ne(now.cpu_ns, METRICS_UNKNOWN);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {constants_are_the_process_s, 1},
      {memory_is_what_is_touched, 1},
      {threads_are_counted, 1},
      {cpu_time_grows_with_work, 1},
      {names_with_parentheses_do_not_matter, 1},
      {without_the_file_it_is_unknown, 1},
  };
  return run_suite_fixture("process_facts", tests, count_of(tests), setup, teardown);
}
