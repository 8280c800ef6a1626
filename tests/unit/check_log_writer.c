/*
 * check_log_writer: the thread xchg-log, its start and its end, threads that log at the same time,
 * and forked children. Descriptors that block are in check_log_descriptor.
 */
#include "pool/sandbox.h"
#include "tests/fixtures/log_writer_fixture.h"
#include "tests/unit/json_line.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>

START_TEST(signals_are_blocked_in_the_thread) {
  const int from_outside[] = {SIGPIPE, SIGXFSZ, SIGTTOU, SIGTERM, SIGINT,  SIGHUP, SIGUSR1,
                              SIGUSR2, SIGALRM, SIGCHLD, SIGCONT, SIGTSTP, SIGTTIN};
  begin_thread_writer(LOG_LOGFMT);
  unsigned long long blocked = 0;
  char line[256];
  FILE *file = open_thread_file("status");
  while (fgets(line, sizeof(line), file) != NULL) {
    if (strncmp(line, "SigBlk:", 7) == 0) {
      blocked = strtoull(line + 7, NULL, 16);
    }
  }
  fclose(file);
  for (size_t i = 0; i < count_of(from_outside); i++) {
    ck_assert_msg((blocked >> (from_outside[i] - 1) & 1) == 1, "signal %d", from_outside[i]);
  }
  end_writer();
}
END_TEST

START_TEST(lines_before_the_start_wait) {
  create_thread_writer(LOG_LOGFMT);
  log_number(0);
  log_number(1);
  struct pollfd ready = {.fd = ends[0], .events = POLLIN};
  ck_assert_int_eq(poll(&ready, 1, 0), 0);
  ck_assert_int_eq(log_writer_start(writer, NULL), 0);
  end_writer();
  struct arrived arrived = {.size = 0};
  receive(&arrived, ends[0], 0);
  ck_assert_uint_eq(arrived.lines, 2);
}
END_TEST

static unsigned count_threads(void) {
  unsigned count = 0;
  DIR *folder = opendir("/proc/self/task");
  ck_assert_ptr_nonnull(folder);
  while (readdir(folder) != NULL) {
    count++;
  }
  closedir(folder);
  return count;
}

/* As when xchg_server_start is refused because a child has started the server, and called again. */
START_TEST(a_second_start_starts_no_thread) {
  begin_thread_writer(LOG_LOGFMT);
  unsigned count = count_threads();
  ck_assert_int_eq(log_writer_start(writer, NULL), 0);
  ck_assert_uint_eq(count_threads(), count);
  end_writer();
}
END_TEST

/* Also of a writer that was never started, as when xchg_server_create fails. */
START_TEST(destroying_writes_what_is_left) {
  create_thread_writer(LOG_LOGFMT);
  ck_assert_int_eq(_i == 0 ? 0 : log_writer_start(writer, NULL), 0);
  for (uint64_t i = 0; i < 100; i++) {
    log_number(i);
  }
  end_writer();
  struct arrived arrived = {.size = 0};
  receive(&arrived, ends[0], 0);
  ck_assert_uint_eq(arrived.lines, 100);
}
END_TEST

/* The thread still waits in a write. It ends after that, and closes its descriptor. */
START_TEST(destroying_does_not_wait_for_a_reader) {
  create_thread_writer(LOG_LOGFMT);
  size_t filled = fill(ends[1]);
  ck_assert_int_eq(log_writer_start(writer, NULL), 0);
  log_number(0);
  log_number(1);
  end_writer();
  close(ends[1]);
  ends[1] = -1;
  discard(ends[0], filled);
  struct arrived arrived = {.size = 0};
  struct pollfd ready = {.fd = ends[0], .events = POLLIN};
  do {
    receive(&arrived, ends[0], 10);
    ck_assert_int_ge(poll(&ready, 1, 0), 0);
  } while ((ready.revents & POLLHUP) == 0 || (ready.revents & POLLIN) != 0);
  ck_assert_uint_ge(arrived.lines, 1);
}
END_TEST

/* A start that the sandbox refuses ends the thread. The one that writes what is left is another. */
START_TEST(destroying_after_a_refused_start_does_not_wait_either) {
  const struct sandbox sandbox = {.mode = SANDBOX_ON, .ruleset_fd = 99}; /* no ruleset */
  create_thread_writer(LOG_LOGFMT);
  fill(ends[1]);
  ck_assert_int_eq(log_writer_start(writer, &sandbox), -1);
  log_number(0);
  end_writer();
}
END_TEST

START_TEST(no_descriptor_is_left) {
  struct rlimit limit;
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
  struct rlimit few = {.rlim_cur = 3, .rlim_max = limit.rlim_max};
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
  ck_assert_ptr_null(log_writer_create(STDERR_FILENO, LOG_LOGFMT, false));
  ck_assert(errno == EMFILE || errno == EINVAL);         /* fcntl(2) gives either */
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0); /* a leak sanitizer reads /proc at exit */
}
END_TEST

/* ---- processes ---- */

static atom_u32 forking;

static void *log_while_forking(void *unused) {
  while (atom_load_relaxed_u32(&forking) != 0) {
    log_number(0);
  }
  return unused;
}

/* A child logs and destroys, whatever its parent's threads held when it was forked. */
START_TEST(a_forked_child_does_not_wait) {
  pthread_t threads[2];
  const char *const paths[] = {"/dev/null", "/tmp"}; /* without the thread, and with it */
  int fd = open(paths[_i], O_WRONLY | (_i == 1 ? O_TMPFILE : 0), 0600), status;
  ck_assert_int_ne(fd, -1);
  begin_writer(fd, LOG_LOGFMT);
  atom_store_relaxed_u32(&forking, 1);
  for (size_t i = 0; i < count_of(threads); i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, log_while_forking, NULL), 0);
  }
  for (unsigned i = 0; i < 300; i++) {
    pid_t child = fork();
    ck_assert_int_ne(child, -1);
    if (child == 0) {
      log_number(1);
      end_writer();
      _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
  }
  atom_store_relaxed_u32(&forking, 0);
  for (size_t i = 0; i < count_of(threads); i++) {
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  }
  end_writer();
  close(fd);
}
END_TEST

/* Other threads may log during and after it. */
START_TEST(a_flush_frees_nothing) {
  pthread_t threads[2];
  if (_i == 0) {
    begin_writer(ends[1], LOG_LOGFMT);
  } else {
    begin_thread_writer(LOG_LOGFMT);
  }
  log_number(0);
  atom_store_relaxed_u32(&forking, 1);
  for (size_t i = 0; i < count_of(threads); i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, log_while_forking, NULL), 0);
  }
  log_writer_flush(writer); /* the pipe is full soon: at most a second */
  log_writer_flush(writer);
  ck_assert_uint_gt(take(ends[0]), 0);
  atom_store_relaxed_u32(&forking, 0);
  for (size_t i = 0; i < count_of(threads); i++) {
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  }
  end_writer();
}
END_TEST

/* A process that cannot execute another program goes on. */
START_TEST(lines_after_a_flush_are_written) {
  struct arrived arrived = {.size = 0};
  begin_thread_writer(LOG_LOGFMT);
  log_number(0);
  log_writer_flush(writer);
  receive(&arrived, ends[0], 0);
  ck_assert_uint_eq(arrived.lines, 1);
  log_number(1);
  if (_i == 0) {
    log_writer_flush(writer);
  }
  end_writer();
  receive(&arrived, ends[0], 0);
  ck_assert_uint_eq(arrived.lines, 2);
}
END_TEST

/* As a program that calls daemon(3) between xchg_server_create and xchg_server_start. */
START_TEST(a_child_may_start_the_thread) {
  int status;
  create_thread_writer(LOG_LOGFMT);
  log_number(0);
  pid_t child = fork();
  ck_assert_int_ne(child, -1);
  if (child == 0) {
    int result = log_writer_start(writer, NULL);
    log_number(1);
    end_writer();
    _exit(result == 0 ? 0 : 1);
  }
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(status, 0);
  struct arrived arrived = {.size = 0};
  receive(&arrived, ends[0], 0);
  ck_assert_uint_eq(arrived.lines, 2);
  end_writer();
}
END_TEST

/* ---- threads ---- */

#define THREADS 4
#define LINES 300

static void *log_much(void *number) {
  static const char filler[] = "............................................................";
  for (unsigned i = 0; i < LINES; i++) {
    struct log_line line;
    log_begin(&line, &logger, LOG_INFO, "thread");
    log_u64(&line, "i", i);
    for (unsigned j = 0; j <= (i + *(unsigned *)number) % 50; j++) {
      log_str(&line, "filler", filler);
    }
    log_end(&line);
  }
  return NULL;
}

struct tally {
  FILE *file;
  uint64_t lines, lost;
  unsigned wrong;
  atom_u32 over; /* a line that was logged after all threads has arrived */
};

/* Read to the end of the pipe. */
static void *read_all(void *argument) {
  static const char mark[] = "\"msg\":\"lines lost\",\"count\":";
  static const char after[] = "\"msg\":\"line\",\"n\":"; /* logged after all threads */
  struct tally *tally = argument;
  while (fgets(text, ROOM, tally->file) != NULL) {
    const char *lost = strstr(text, mark);
    const char *end = json_line(text);
    tally->wrong += end == NULL || *end != '\0';
    tally->lines += lost == NULL;
    tally->lost += lost == NULL ? 0 : strtoull(lost + sizeof(mark) - 1, NULL, 10);
    const char *last = strstr(text, after);
    if (last != NULL) {
      uint64_t number = strtoull(last + sizeof(after) - 1, NULL, 10);
      tally->wrong += tally->lines + tally->lost != THREADS * LINES + number + 1;
      atom_store_relaxed_u32(&tally->over, 1);
    }
  }
  return NULL;
}

/* Threads log at the same time: each line is whole, and is read or counted as lost. */
START_TEST(threads_do_not_mix) {
  static unsigned numbers[THREADS] = {0, 11, 22, 33};
  pthread_t threads[THREADS], reader;
  if (_i == 0) {
    begin_writer(ends[1], LOG_JSON);
  } else {
    begin_thread_writer(LOG_JSON);
  }
  struct tally tally = {.file = fdopen(ends[0], "r")};
  ck_assert_ptr_nonnull(tally.file);
  ck_assert_int_eq(pthread_create(&reader, NULL, read_all, &tally), 0);
  for (size_t i = 0; i < THREADS; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, log_much, &numbers[i]), 0);
  }
  for (size_t i = 0; i < THREADS; i++) {
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  }
  for (uint64_t i = 0; atom_load_relaxed_u32(&tally.over) == 0; i++) {
    log_number(i);
    (void)sched_yield();
  }
  end_writer();
  close(ends[1]);
  ck_assert_int_eq(pthread_join(reader, NULL), 0);
  ck_assert_uint_eq(tally.wrong, 0);
  ck_assert_uint_gt(tally.lines, 0);
  fclose(tally.file);
  ends[0] = ends[1] = -1; /* the tear-down has nothing to close */
}
END_TEST

/* Lost lines are counted in all: those that the descriptor does not take, those without room. */
START_TEST(lost_lines_are_counted) {
  if (_i == 0) {
    begin_writer(-1, LOG_LOGFMT);
  } else {
    create_thread_writer(LOG_LOGFMT); /* nothing takes lines from the buffer */
  }
  ck_assert_uint_eq(log_writer_lost(writer), 0);
  for (uint64_t i = 0; i < MANY; i++) {
    log_number(i);
  }
  uint64_t lost = log_writer_lost(writer);
  ck_assert_uint_gt(lost, 0);
  ck_assert(_i == 0 ? lost == MANY : lost < MANY);
  log_number(MANY);
  ck_assert_uint_eq(log_writer_lost(writer), lost + 1);
  end_writer();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {signals_are_blocked_in_the_thread, 1},
      {lines_before_the_start_wait, 1},
      {a_second_start_starts_no_thread, 1},
      {destroying_writes_what_is_left, 2},
      {destroying_does_not_wait_for_a_reader, 1},
      {destroying_after_a_refused_start_does_not_wait_either, 1},
      {no_descriptor_is_left, 1},
      {a_forked_child_does_not_wait, 2},
      {a_child_may_start_the_thread, 1},
      {a_flush_frees_nothing, 2},
      {lines_after_a_flush_are_written, 2},
      {threads_do_not_mix, 2},
      {lost_lines_are_counted, 2},
  };
  return run_suite_fixture("log_writer", tests, count_of(tests), setup, teardown);
}
