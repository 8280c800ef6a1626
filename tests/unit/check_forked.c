/* check_forked: each process has a number of its own, and a child's thread gets a call. */
#include "pool/forked.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

START_TEST(a_process_has_a_number_of_its_own) {
  ck_assert_int_eq(forked_watch(), 0);
  ck_assert_int_eq(forked_watch(), 0); /* counts each fork once */
  pid_t before = getpid();
  uint64_t numbers[4] = {forked_number()};
  int generation = 0, status = 0;
  for (pid_t child; generation < 3 && (child = fork()) != -1; generation++) {
    if (child > 0) {
      ck_assert_int_eq(waitpid(child, &status, 0), child);
      break;
    }
    numbers[generation + 1] = forked_number();
  }
  for (int i = 0; i < generation; i++) {
    status |= numbers[i] == numbers[generation];
  }
  if (getpid() != before) {
    _exit(status != 0 ? 1 : 0);
  }
  ck_assert_int_eq(status, 0);
  ck_assert_uint_eq(forked_number(), numbers[0]);
}
END_TEST

static void count_call(void *argument) { ++*(int *)argument; }

static void *fork_without_a_call(void *argument) {
  int status;
  pid_t child = fork();
  if (child == 0) {
    _exit(*(int *)argument);
  }
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(status, 0);
  return NULL;
}

/* Only in the child, only of the thread that forks, and only while it is set. */
START_TEST(a_child_gets_the_call_of_its_thread) {
  int calls = 0, status;
  ck_assert_int_eq(forked_watch(), 0);
  forked_call(count_call, &calls);
  pid_t child = fork();
  if (child == 0) {
    _exit(calls);
  }
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(WEXITSTATUS(status), 1);
  pthread_t other;
  ck_assert_int_eq(pthread_create(&other, NULL, fork_without_a_call, &calls), 0);
  ck_assert_int_eq(pthread_join(other, NULL), 0);
  forked_call(NULL, NULL);
  fork_without_a_call(&calls);
  ck_assert_int_eq(calls, 0);
}
END_TEST

/* A test of the fixture: the child's ck_assert does not wait for a thread that is not there. */
static void *check_until(void *stop) {
  while (!__atomic_load_n((bool *)stop, __ATOMIC_RELAXED)) {
    ck_assert_ptr_nonnull(stop);
  }
  return NULL;
}

START_TEST(a_child_checks_while_other_threads_do) {
  bool stop = false;
  pthread_t other;
  ck_assert_int_eq(pthread_create(&other, NULL, check_until, &stop), 0);
  for (int i = 0; i < 200; i++) {
    int status;
    pid_t child = fork();
    if (child == 0) {
      alarm(60);
      ck_assert_int_eq(child, 0);
      _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
  }
  __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
  ck_assert_int_eq(pthread_join(other, NULL), 0);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {{a_process_has_a_number_of_its_own, 1},
                                     {a_child_checks_while_other_threads_do, 1},
                                     {a_child_gets_the_call_of_its_thread, 1}};
  return run_suite("forked", tests, count_of(tests));
}
