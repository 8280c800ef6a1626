/*
 * check_signals: which signals reach the descriptor, which are ignored, and that none kills the
 * process.
 *
 * libcheck runs each test in a child process, whose signals the test may change.
 */
#include "pool/signals.h"

#include "tests/fixtures/pool_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static struct signals signals;

static void open_signals(void) { ck_assert_int_eq(signals_open(&signals, false), 0); }

static void send_self(int number) { ck_assert_int_eq(kill(getpid(), number), 0); }

static void expect(enum signals_what what) {
  struct pollfd pollfd = {.fd = signals.fd, .events = POLLIN};
  ck_assert_int_eq(poll(&pollfd, 1, (int)(FIXTURE_TIMEOUT_NS / NS_PER_MS)), 1);
  ck_assert_int_eq(signals_next(&signals), what);
}

START_TEST(each_signal_has_its_command) {
  open_signals();
  ck_assert_int_eq(signals_next(&signals), SIGNALS_NONE); /* does not block */
  static const struct {
    int number;
    enum signals_what what;
  } cases[] = {{SIGTERM, SIGNALS_STOP},
               {SIGINT, SIGNALS_STOP},
               {SIGQUIT, SIGNALS_STOP},
               {SIGUSR1, SIGNALS_STATS},
               {SIGCHLD, SIGNALS_CHILD}};
  for (size_t i = 0; i < count_of(cases); i++) {
    send_self(cases[i].number);
    expect(cases[i].what);
    ck_assert_int_eq(signals_next(&signals), SIGNALS_NONE);
  }
  signals_close(&signals);
}
END_TEST

START_TEST(two_stops_are_reported_as_two) {
  open_signals();
  send_self(SIGTERM);
  expect(SIGNALS_STOP);
  send_self(SIGINT);
  expect(SIGNALS_STOP);
  send_self(SIGTERM);
  expect(SIGNALS_STOP);
  ck_assert_int_eq(signals_next(&signals), SIGNALS_NONE);
  signals_close(&signals);
}
END_TEST

/* timeout(1) signals the program and then its group: the same signal, twice at once. */
START_TEST(a_repetition_is_the_same_signal) {
  static const int numbers[] = {SIGTERM, SIGINT, SIGQUIT};
  open_signals();
  for (size_t i = 0; i < count_of(numbers); i++) {
    send_self(numbers[i]);
    expect(SIGNALS_STOP);
    signals.stop_ns = sys_now_ns(); /* this test may not run for more than 100 ms */
    send_self(numbers[i]);
    expect(SIGNALS_NONE);
    send_self(SIGUSR1);
    expect(SIGNALS_STATS);
    send_self(SIGUSR1); /* only stop signals are compared */
    expect(SIGNALS_STATS);
  }
  signals_close(&signals);
}
END_TEST

/* The time runs from the first one, so that a signal that comes again and again ends the stop. */
START_TEST(a_later_repetition_is_a_second_signal) {
  open_signals();
  send_self(SIGTERM);
  expect(SIGNALS_STOP);
  uint64_t first_ns = signals.stop_ns = sys_now_ns();
  send_self(SIGTERM);
  expect(SIGNALS_NONE);
  ck_assert_uint_eq(signals.stop_ns, first_ns);
  signals.stop_ns -= 100 * NS_PER_MS;
  send_self(SIGTERM);
  expect(SIGNALS_STOP);
  signals_close(&signals);
}
END_TEST

/* The new process of an upgrade gets a signal itself, and from the old one, in any order. */
START_TEST(a_signal_that_comes_both_ways_is_one) {
  open_signals();
  if (_i == 0) {
    ck_assert_int_eq(signals_note(&signals, SIGTERM, SIGNALS_PASSED), SIGNALS_STOP);
    ck_assert_int_eq(signals_note(&signals, SIGTERM, SIGNALS_SENT), SIGNALS_NONE);
  } else {
    ck_assert_int_eq(signals_note(&signals, SIGTERM, SIGNALS_SENT), SIGNALS_STOP);
    ck_assert_int_eq(signals_note(&signals, SIGTERM, SIGNALS_PASSED), SIGNALS_NONE);
  }
  ck_assert_int_eq(signals_note(&signals, SIGINT, SIGNALS_PASSED), SIGNALS_STOP); /* a second one */
  ck_assert_int_eq(signals.stop, SIGINT);
  ck_assert_int_eq(signals_note(&signals, SIGINT, SIGNALS_SENT), SIGNALS_NONE);
  ck_assert_int_eq(signals_note(&signals, SIGTERM, SIGNALS_SENT), SIGNALS_STOP);
  signals_close(&signals);
}
END_TEST

/* A parent that only passes signals on marks them. */
START_TEST(a_signal_of_the_parent_is_a_passed_one) {
  open_signals();
  send_self(SIGTERM);
  expect(SIGNALS_STOP);
  signals.stop_ns = 0;
  ck_assert_int_eq(sigqueue(getpid(), SIGTERM, (union sigval){.sival_int = SIGNALS_PASSED_VALUE}),
                   0);
  ck_assert_int_eq(signals_next(&signals), SIGNALS_NONE);
  ck_assert_uint_eq(signals.passed, 1);
  ck_assert_int_eq(sigqueue(getpid(), SIGTERM, (union sigval){.sival_int = 1}), 0);
  expect(SIGNALS_STOP); /* another program's value says nothing */
  signals_close(&signals);
}
END_TEST

START_TEST(some_are_ignored) {
  open_signals();
  send_self(SIGHUP);
  send_self(SIGUSR2);
  send_self(SIGPIPE);
  int ends[2];
  ck_assert_int_eq(pipe(ends), 0);
  close(ends[0]);
  ck_assert_int_eq(write(ends[1], "x", 1), -1); /* the process lives on */
  ck_assert_int_eq(errno, EPIPE);
  ck_assert_int_eq(signals_next(&signals), SIGNALS_NONE);
  close(ends[1]);
  signals_close(&signals);
}
END_TEST

/* A background job of a shell inherits SIGINT and SIGQUIT as ignored. */
START_TEST(inherited_ignored_signals_arrive) {
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
  signal(SIGCHLD, SIG_IGN);
  open_signals();
  send_self(SIGINT);
  expect(SIGNALS_STOP);
  send_self(SIGTERM);
  expect(SIGNALS_STOP);
  pid_t pid = fork();
  ck_assert_int_ne(pid, -1);
  if (pid == 0) {
    signals_close(&signals);
    _exit(3);
  }
  expect(SIGNALS_CHILD);
  int status;
  ck_assert_int_eq(waitpid(pid, &status, 0),
                   pid); /* an ignored SIGCHLD would have reaped the child */
  ck_assert_int_eq(WEXITSTATUS(status), 3);
  signals_close(&signals);
}
END_TEST

static void *mask_of_thread(void *mask) {
  pthread_sigmask(SIG_BLOCK, NULL, mask);
  return NULL;
}

START_TEST(threads_inherit_the_mask) {
  open_signals();
  sigset_t mask;
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, mask_of_thread, &mask), 0);
  pthread_join(thread, NULL);
  ck_assert(sigismember(&mask, SIGTERM) && sigismember(&mask, SIGINT) &&
            sigismember(&mask, SIGQUIT) && sigismember(&mask, SIGUSR1) &&
            sigismember(&mask, SIGCHLD));
  ck_assert(!sigismember(&mask, SIGSEGV) && !sigismember(&mask, SIGABRT));
  signals_close(&signals);
}
END_TEST

/* Only a SIGPIPE of this thread is discarded, and not if it was blocked before. */
START_TEST(a_raised_signal_is_discarded) {
  sigset_t before, pending;
  signal(SIGPIPE, SIG_DFL);
  signals_block_all(&before);
  signals_restore_without(&before, SIGPIPE); /* there is none */
  signals_block_all(&before);
  ck_assert_int_eq(raise(SIGPIPE), 0);
  signals_restore_without(&before, SIGPIPE); /* it would end the process */
  signals_block_all(&before);
  ck_assert_int_eq(raise(SIGPIPE), 0);
  sigset_t blocked;
  signals_block_all(&blocked);
  signals_restore_without(&blocked, SIGPIPE);
  ck_assert_int_eq(sigpending(&pending), 0);
  ck_assert_int_eq(sigismember(&pending, SIGPIPE), 1);
  signals_restore_without(&before, SIGPIPE);
}
END_TEST

static void on_child(int number) { (void)number; }

/* A child of an upgrade stays, whatever the program has chosen for its own; that returns later. */
START_TEST(children_stay_for_a_while) {
  const struct sigaction ways[] = {{.sa_handler = SIG_IGN},
                                   {.sa_handler = SIG_DFL},
                                   {.sa_handler = on_child, .sa_flags = SA_RESTART},
                                   {.sa_handler = on_child, .sa_flags = SA_NOCLDWAIT}};
  struct sigaction before, now;
  open_signals();
  ck_assert_int_eq(sigaction(SIGCHLD, &ways[_i], NULL), 0);
  signals_keep_children(&before);
  ck_assert_int_eq(sigaction(SIGCHLD, NULL, &now), 0);
  ck_assert((now.sa_handler == on_child) == (_i == 2));
  pid_t child = fork();
  if (child == 0) {
    signals_close(&signals); /* valgrind looks for what is open at the end */
    _exit(7);
  }
  int status;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(WEXITSTATUS(status), 7);
  signals_restore_children(&before);
  ck_assert_int_eq(sigaction(SIGCHLD, NULL, &now), 0);
  ck_assert(now.sa_handler == ways[_i].sa_handler);
  ck_assert_int_eq(now.sa_flags & SA_NOCLDWAIT, ways[_i].sa_flags & SA_NOCLDWAIT);
  signals_close(&signals);
}
END_TEST

START_TEST(the_descriptor_is_not_inherited) {
  open_signals();
  ck_assert_int_ne(fcntl(signals.fd, F_GETFD) & FD_CLOEXEC, 0);
  ck_assert_int_ne(fcntl(signals.fd, F_GETFL) & O_NONBLOCK, 0);
  signals_close(&signals);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {each_signal_has_its_command, 1},
      {two_stops_are_reported_as_two, 1},
      {a_repetition_is_the_same_signal, 1},
      {a_later_repetition_is_a_second_signal, 1},
      {a_signal_that_comes_both_ways_is_one, 2},
      {a_signal_of_the_parent_is_a_passed_one, 1},
      {some_are_ignored, 1},
      {inherited_ignored_signals_arrive, 1},
      {threads_inherit_the_mask, 1},
      {a_raised_signal_is_discarded, 1},
      {children_stay_for_a_while, 4},
      {the_descriptor_is_not_inherited, 1},
  };
  return run_suite("signals", tests, count_of(tests));
}
