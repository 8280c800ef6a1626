/* check_thread: start of a thread, pinning it to a CPU, its name, its CPU time. */
#include "pool/thread.h"

#include "tests/fixtures/cpus.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

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

/* ---- CPU time ---- */

#define WORK_NS (20 * NS_PER_MS)

static struct thread_cpu cpu;
static sem_t works, may_end;

static uint64_t own_ns(void) {
  struct timespec time;
  ck_assert_int_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time), 0);
  return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

static void work(uint64_t ns) {
  for (uint64_t end_ns = own_ns() + ns; own_ns() < end_ns;) {
  }
}

static void *measured(void *unused) {
  (void)unused;
  thread_cpu_begin(&cpu);
  work(WORK_NS);
  sem_post(&works);
  sem_wait(&may_end);
  work(WORK_NS);
  thread_cpu_end(&cpu);
  return NULL;
}

/* Another thread reads the time of one that runs, and of one that has ended. */
START_TEST(cpu_time_is_the_threads_own) {
  pthread_t thread;
  ck_assert_uint_eq(thread_cpu_read(&cpu), 0);
  ck_assert_int_eq(sem_init(&works, 0, 0), 0);
  ck_assert_int_eq(sem_init(&may_end, 0, 0), 0);
  ck_assert_int_eq(pthread_create(&thread, NULL, measured, NULL), 0);
  ck_assert_int_eq(sem_wait(&works), 0);
  uint64_t first_ns = thread_cpu_read(&cpu);
  ck_assert_uint_ge(first_ns, WORK_NS);
  work(5 * WORK_NS); /* of this thread: it does not count */
  uint64_t waiting_ns = thread_cpu_read(&cpu);
  ck_assert_uint_ge(waiting_ns, first_ns);
  ck_assert_uint_lt(waiting_ns, first_ns + WORK_NS);
  sem_post(&may_end);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  uint64_t last_ns = thread_cpu_read(&cpu);
  ck_assert_uint_ge(last_ns, first_ns + WORK_NS);
  work(WORK_NS);
  ck_assert_uint_eq(thread_cpu_read(&cpu), last_ns);
}
END_TEST

/* ---- start ---- */

static void *note_run(void *argument) {
  *(bool *)argument = true;
  return NULL;
}

/* Address space that this process uses, in bytes. */
static size_t address_space(void) {
  size_t pages = 0;
  FILE *stream = fopen("/proc/self/statm", "re");
  ck_assert_ptr_nonnull(stream);
  ck_assert_int_eq(fscanf(stream, "%zu", &pages), 1);
  fclose(stream);
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Room for the stack alone is not enough: the thread would die at its first allocation. */
START_TEST(a_thread_needs_room_for_its_first_allocation) {
  pthread_t thread;
  bool ran = false;
  struct rlimit before, limit;
  ck_assert_int_eq(getrlimit(RLIMIT_AS, &before), 0);
  limit = before;
  limit.rlim_cur = address_space() + ((size_t)12 << 20);
  ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
  int refused = thread_create(&thread, note_run, &ran);
  ck_assert_int_eq(setrlimit(RLIMIT_AS, &before), 0);
  ck_assert_int_eq(refused, ENOMEM);
  ck_assert(!ran);
  ck_assert_int_eq(thread_create(&thread, note_run, &ran), 0);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  ck_assert(ran);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {pin_wraps_around, 1},
      {names_are_truncated, 1},
      {cpu_time_is_the_threads_own, 1},
      {a_thread_needs_room_for_its_first_allocation, 1},
  };
  return run_suite("thread", tests, count_of(tests));
}
