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

static int open_signals(void) {
  int fd = signals_open();
  ck_assert_int_ne(fd, -1);
  return fd;
}

static void send_self(int number) { ck_assert_int_eq(kill(getpid(), number), 0); }

static void expect(int fd, enum signals_what what) {
  struct pollfd pollfd = {.fd = fd, .events = POLLIN};
  ck_assert_int_eq(poll(&pollfd, 1, (int)(FIXTURE_TIMEOUT_NS / NS_PER_MS)), 1);
  ck_assert_int_eq(signals_next(fd), what);
}

START_TEST(each_signal_has_its_command) {
  int fd = open_signals();
  ck_assert_int_eq(signals_next(fd), SIGNALS_NONE); /* does not block */
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
    expect(fd, cases[i].what);
    ck_assert_int_eq(signals_next(fd), SIGNALS_NONE);
  }
  close(fd);
}
END_TEST

START_TEST(two_stops_are_reported_as_two) {
  int fd = open_signals();
  send_self(SIGTERM);
  expect(fd, SIGNALS_STOP);
  send_self(SIGTERM);
  send_self(SIGINT);
  expect(fd, SIGNALS_STOP);
  expect(fd, SIGNALS_STOP);
  ck_assert_int_eq(signals_next(fd), SIGNALS_NONE);
  close(fd);
}
END_TEST

START_TEST(some_are_ignored) {
  int fd = open_signals();
  send_self(SIGHUP);
  send_self(SIGUSR2);
  send_self(SIGPIPE);
  int ends[2];
  ck_assert_int_eq(pipe(ends), 0);
  close(ends[0]);
  ck_assert_int_eq(write(ends[1], "x", 1), -1); /* the process lives on */
  ck_assert_int_eq(errno, EPIPE);
  ck_assert_int_eq(signals_next(fd), SIGNALS_NONE);
  close(ends[1]);
  close(fd);
}
END_TEST

/* A background job of a shell inherits SIGINT and SIGQUIT as ignored. */
START_TEST(inherited_ignored_signals_arrive) {
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
  signal(SIGCHLD, SIG_IGN);
  int fd = open_signals();
  send_self(SIGINT);
  expect(fd, SIGNALS_STOP);
  send_self(SIGTERM);
  expect(fd, SIGNALS_STOP);
  pid_t pid = fork();
  ck_assert_int_ne(pid, -1);
  if (pid == 0) {
    close(fd);
    _exit(3);
  }
  expect(fd, SIGNALS_CHILD);
  int status;
  ck_assert_int_eq(waitpid(pid, &status, 0),
                   pid); /* an ignored SIGCHLD would have reaped the child */
  ck_assert_int_eq(WEXITSTATUS(status), 3);
  close(fd);
}
END_TEST

static void *mask_of_thread(void *mask) {
  pthread_sigmask(SIG_BLOCK, NULL, mask);
  return NULL;
}

START_TEST(threads_inherit_the_mask) {
  int fd = open_signals();
  sigset_t mask;
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, mask_of_thread, &mask), 0);
  pthread_join(thread, NULL);
  ck_assert(sigismember(&mask, SIGTERM) && sigismember(&mask, SIGINT) &&
            sigismember(&mask, SIGQUIT) && sigismember(&mask, SIGUSR1) &&
            sigismember(&mask, SIGCHLD));
  ck_assert(!sigismember(&mask, SIGSEGV) && !sigismember(&mask, SIGABRT));
  close(fd);
}
END_TEST

START_TEST(the_descriptor_is_not_inherited) {
  int fd = open_signals();
  ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  close(fd);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {each_signal_has_its_command, 1},
      {two_stops_are_reported_as_two, 1},
      {some_are_ignored, 1},
      {inherited_ignored_signals_arrive, 1},
      {threads_inherit_the_mask, 1},
      {the_descriptor_is_not_inherited, 1},
  };
  return run_suite("signals", tests, count_of(tests));
}
