/* check_thread: pinning a thread to a CPU, and its name. */
#include "pool/thread.h"

#include "tests/fixtures/cpus.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>

struct pinned {
  uint32_t index;
  int result, count, cpu;
};

static void *pin(void *argument) {
  struct pinned *pinned = argument;
  int cpus[CPU_SETSIZE];
  pinned->result = thread_set_affinity(pinned->index);
  pinned->count = cpus_of(cpus);
  pinned->cpu = cpus[0];
  return NULL;
}

START_TEST(pin_wraps_around) {
  int cpus[CPU_SETSIZE];
  int count = cpus_of(cpus);
  for (int i = 0; i < 2 * count + 1; i++) {
    struct pinned pinned = {.index = (uint32_t)i};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, pin, &pinned), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(pinned.result, 0);
    ck_assert_int_eq(pinned.count, 1);
    ck_assert_int_eq(pinned.cpu, cpus[i % count]);
  }
}
END_TEST

START_TEST(names_are_truncated) {
  char name[16];
  thread_set_name("xchg-work-0");
  ck_assert_int_eq(pthread_getname_np(pthread_self(), name, sizeof(name)), 0);
  ck_assert_str_eq(name, "xchg-work-0");
  thread_set_name("xchg-work-12345678");
  ck_assert_int_eq(pthread_getname_np(pthread_self(), name, sizeof(name)), 0);
  ck_assert_str_eq(name, "xchg-work-12345");
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {pin_wraps_around, 1},
      {names_are_truncated, 1},
  };
  return run_suite("thread", tests, count_of(tests));
}
