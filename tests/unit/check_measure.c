/*
 * check_measure: CPU time, context switches and memory of this process and of others.
 *
 * Children that were waited for are counted in ticks of 10 ms, so tests of them use several ticks.
 */
#include "xchg-bench/measure.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1 << 20)

static double cpu_now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Use ${seconds} of CPU time. */
static void burn(double seconds) {
  double end = cpu_now(CLOCK_PROCESS_CPUTIME_ID) + seconds;
  while (cpu_now(CLOCK_PROCESS_CPUTIME_ID) < end) {
  }
}

/* Fork a process that uses ${seconds} of CPU time, reports through ${done}, and waits. */
static pid_t burner(double seconds, int *done) {
  int ends[2];
  ck_assert_int_eq(pipe(ends), 0);
  pid_t child = fork();
  ck_assert_int_ne(child, -1);
  if (child == 0) {
    burn(seconds);
    if (write(ends[1], "", 1) == 1) {
      pause();
    }
    _exit(0);
  }
  close(ends[1]);
  *done = ends[0];
  return child;
}

static void wait_until_done(int done) {
  char byte;
  ck_assert_int_eq(read(done, &byte, 1), 1);
  close(done);
}

static void put_end_to(pid_t child) {
  kill(child, SIGKILL);
  ck_assert_int_eq(waitpid(child, NULL, 0), child);
}

START_TEST(own_cpu_time_is_seen) {
  const int self = 0;
  struct measure measure;
  struct usage usage;
  measure_begin(&measure, &self, 1);
  double before = cpu_now(CLOCK_PROCESS_CPUTIME_ID), at = cpu_now(CLOCK_MONOTONIC);
  burn(0.2);
  double burnt = cpu_now(CLOCK_PROCESS_CPUTIME_ID) - before;
  double seconds = cpu_now(CLOCK_MONOTONIC) - at;
  measure_end(&measure, &usage);
  ck_assert(usage.known);
  ck_assert_msg(usage.cpu_s > burnt - 0.03 && usage.cpu_s < burnt + 0.1, "%f of %f", usage.cpu_s,
                burnt);
  ck_assert(usage.seconds >= seconds);
  ck_assert(usage.resident_bytes > 64 * 1024);
}
END_TEST

START_TEST(waited_for_children_count) {
  const int self = getpid();
  struct measure measure;
  struct usage usage;
  measure_begin(&measure, &self, 1);
  pid_t child = fork();
  if (child == 0) {
    burn(0.2);
    _exit(0);
  }
  ck_assert_int_eq(waitpid(child, NULL, 0), child);
  measure_end(&measure, &usage);
  ck_assert(usage.known);
  ck_assert_msg(usage.cpu_s > 0.15, "%f", usage.cpu_s);
}
END_TEST

/* Far less than a tick, and at most what was used. */
START_TEST(cpu_time_is_counted_finer_than_in_ticks) {
  const int self = 0;
  struct measure measure;
  struct usage usage;
  double outer = cpu_now(CLOCK_PROCESS_CPUTIME_ID);
  measure_begin(&measure, &self, 1);
  double inner = cpu_now(CLOCK_PROCESS_CPUTIME_ID);
  burn(0.0013);
  inner = cpu_now(CLOCK_PROCESS_CPUTIME_ID) - inner;
  measure_end(&measure, &usage);
  outer = cpu_now(CLOCK_PROCESS_CPUTIME_ID) - outer;
  ck_assert(usage.known);
  ck_assert_msg(usage.cpu_s > inner - 1e-6 && usage.cpu_s < outer + 1e-6, "%f of %f to %f",
                usage.cpu_s, inner, outer);
}
END_TEST

static bool kernel_names_children(void) {
  char path[64];
  snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
  return access(path, R_OK) == 0;
}

START_TEST(living_children_count) {
  if (!kernel_names_children()) {
    return;
  }
  const int self = getpid();
  int done;
  struct measure measure;
  struct usage living, gone;
  measure_begin(&measure, &self, 1);
  pid_t child = burner(0.2, &done);
  wait_until_done(done);
  measure_end(&measure, &living);
  put_end_to(child);
  measure_end(&measure, &gone);
  ck_assert(living.known && gone.known);
  ck_assert_msg(living.cpu_s > 0.2, "%f", living.cpu_s);
  /* Once and not twice, and no less, except for the ticks. */
  ck_assert_msg(gone.cpu_s > living.cpu_s - 0.03 && gone.cpu_s < living.cpu_s + 0.1, "%f, then %f",
                living.cpu_s, gone.cpu_s);
}
END_TEST

START_TEST(what_a_child_used_before_does_not_count) {
  const int self = getpid();
  int done;
  struct measure measure;
  struct usage living, gone;
  pid_t child = burner(0.3, &done);
  wait_until_done(done);
  measure_begin(&measure, &self, 1);
  measure_end(&measure, &living);
  put_end_to(child);
  measure_end(&measure, &gone);
  ck_assert_msg(living.cpu_s < 0.1, "%f", living.cpu_s);
  if (kernel_names_children()) {
    ck_assert_msg(gone.cpu_s < 0.2, "%f", gone.cpu_s);
  }
}
END_TEST

START_TEST(a_child_that_is_measured_itself_counts_once) {
  int pids[2] = {getpid(), 0}, done;
  struct measure measure;
  struct usage usage;
  pids[1] = burner(0.2, &done);
  measure_begin(&measure, pids, 2);
  wait_until_done(done);
  measure_end(&measure, &usage);
  ck_assert(usage.known);
  ck_assert_msg(usage.cpu_s > 0 && usage.cpu_s < 0.3, "%f", usage.cpu_s);
  put_end_to(pids[1]);
}
END_TEST

START_TEST(context_switches_of_a_process_are_seen) {
  int to[2], from[2];
  char byte = 0;
  ck_assert_int_eq(pipe(to), 0);
  ck_assert_int_eq(pipe(from), 0);
  pid_t child = fork();
  if (child == 0) {
    while (read(to[0], &byte, 1) == 1 && write(from[1], &byte, 1) == 1) {
    }
    _exit(0);
  }
  struct measure measure;
  struct usage usage;
  measure_begin(&measure, &child, 1);
  for (int i = 0; i < 100; i++) {
    ck_assert_int_eq(write(to[1], &byte, 1), 1);
    ck_assert_int_eq(read(from[0], &byte, 1), 1);
  }
  measure_end(&measure, &usage);
  ck_assert(usage.known);
  /* It sleeps for each byte, unless the byte came before it looked. */
  ck_assert_msg(usage.context_switches > 0 && usage.context_switches < 10000, "%llu",
                (unsigned long long)usage.context_switches);
  put_end_to(child);
  for (int i = 0; i < 2; i++) {
    close(to[i]);
    close(from[i]);
  }
}
END_TEST

START_TEST(memory_is_that_of_the_end) {
  const int self = 0;
  struct measure measure;
  struct usage before, after;
  measure_begin(&measure, &self, 1);
  measure_end(&measure, &before);
  char *memory = malloc(64 * MIB);
  ck_assert_ptr_nonnull(memory);
  for (size_t i = 0; i < 64 * MIB; i += 4096) {
    ((volatile char *)memory)[i] = 1;
  }
  measure_end(&measure, &after);
  ck_assert_msg(after.resident_bytes > before.resident_bytes + 60 * MIB, "%llu, then %llu",
                (unsigned long long)before.resident_bytes,
                (unsigned long long)after.resident_bytes);
  free(memory);
}
END_TEST

START_TEST(several_processes_are_added) {
  const int pids[] = {getpid(), getppid()};
  struct measure measure;
  struct usage both, one;
  measure_begin(&measure, pids, 2);
  measure_end(&measure, &both);
  measure_begin(&measure, pids, 1);
  measure_end(&measure, &one);
  ck_assert(both.known && one.known);
  ck_assert(both.resident_bytes > one.resident_bytes);
}
END_TEST

START_TEST(a_process_that_is_gone_is_unknown) {
  struct measure measure;
  struct usage usage;
  pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  measure_begin(&measure, &child, 1);
  ck_assert(measure.known);
  kill(child, SIGKILL);
  ck_assert_int_eq(waitpid(child, NULL, 0), child);
  measure_end(&measure, &usage);
  ck_assert(!usage.known);
  ck_assert(usage.cpu_s == 0);
  measure_begin(&measure, &child, 1);
  ck_assert(!measure.known);
  measure_end(&measure, &usage);
  ck_assert(!usage.known);
}
END_TEST

START_TEST(no_process_is_unknown) {
  struct measure measure;
  struct usage usage;
  measure_begin(&measure, NULL, 0);
  measure_end(&measure, &usage);
  ck_assert(!usage.known);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {own_cpu_time_is_seen, 1},
      {waited_for_children_count, 1},
      {cpu_time_is_counted_finer_than_in_ticks, 1},
      {living_children_count, 1},
      {what_a_child_used_before_does_not_count, 1},
      {a_child_that_is_measured_itself_counts_once, 1},
      {context_switches_of_a_process_are_seen, 1},
      {memory_is_that_of_the_end, 1},
      {several_processes_are_added, 1},
      {a_process_that_is_gone_is_unknown, 1},
      {no_process_is_unknown, 1},
  };
  return run_suite("measure", tests, count_of(tests));
}
