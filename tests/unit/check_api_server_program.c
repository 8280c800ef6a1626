/*
 * check_api_server_program: embedded servers leave a program's memory, descriptors, signals, limits
 * and standard error as they are.
 */
#include "tests/fixtures/server_fixture.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#define LAST_SIGNAL 64

/* ---- repeated servers ---- */

static void work(void *argument) { (void)argument; }

static void work_done(struct xchg_conn *conn, void *argument) {
  (void)argument;
  ck_assert_int_eq(xchg_send(conn, "ping\n", 5), 0);
}

static void join_and_offload(struct xchg_conn *conn, const struct xchg_message *message) {
  (void)message;
  ck_assert_int_eq(xchg_join(conn, 7, XCHG_SLOW_SKIP), 0);
  ck_assert_int_eq(xchg_offload(conn, work, work_done, NULL), 0);
}

static const struct xchg_handler busy = {.size = sizeof(busy),
                                         .frame = {.kind = XCHG_FRAME_LINE},
                                         .state_size = 100,
                                         .on_message = join_and_offload};

START_TEST(repeated_servers_leak_nothing) {
  unsigned descriptors = 0;
  size_t bytes = 0;
  count_descriptors(); /* what the C library allocates for it */
  for (int i = 0; i < 16; i++) {
    if (i == 10) { /* by then the allocator's caches are full */
      bytes = mallinfo2().uordblks;
    }
    SETTINGS();
    start_server(&busy);
    int client = connect_and_ping(server);
    ck_assert_int_eq(xchg_publish(server, 7, "all", 3), 0);
    expect_bytes(client, "all", 3);
    xchg_server_drain(server);
    expect_end(client);
    close(client);
    ck_assert_int_eq(xchg_server_wait(server), 0);
    xchg_server_destroy(server);
    AWAIT(count_threads("xchg-") == 0);
    descriptors = i == 0 ? count_descriptors() : descriptors;
    ck_assert_uint_eq(count_descriptors(), descriptors);
    lines_clear();
  }
  size_t now = mallinfo2().uordblks;
  ck_assert_msg(now < bytes + 4096, "%zu bytes became %zu", bytes, now);
}
END_TEST

/* ---- what belongs to the program ---- */

static struct sigaction actions[LAST_SIGNAL + 1];
static sigset_t mask;

static void note_signals(void) {
  for (int i = 1; i <= LAST_SIGNAL; i++) {
    sigaction(i, NULL, &actions[i]); /* fails for the C library's own signals, each time alike */
  }
  ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
}

static void check_signals(void) {
  sigset_t now;
  ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
  for (int i = 1; i <= LAST_SIGNAL; i++) {
    struct sigaction action = actions[i];
    sigaction(i, NULL, &action);
    ck_assert_msg(action.sa_handler == actions[i].sa_handler, "signal %d", i);
    ck_assert_int_eq(action.sa_flags, actions[i].sa_flags);
    ck_assert_int_eq(sigismember(&now, i), sigismember(&mask, i));
  }
}

static volatile sig_atomic_t caught;
static pid_t catcher;

static void catch (int signal) {
  (void)signal;
  caught++;
  catcher = gettid();
}

START_TEST(signals_are_left_to_the_program) {
  SETTINGS();
  ck_assert_ptr_ne(signal(SIGUSR1, catch), SIG_ERR);
  ck_assert_ptr_ne(signal(SIGTERM, catch), SIG_ERR);
  ck_assert_ptr_ne(signal(SIGHUP, SIG_IGN), SIG_ERR);
  sigset_t usual;
  sigemptyset(&usual);
  sigaddset(&usual, SIGUSR2);
  ck_assert_int_eq(pthread_sigmask(SIG_BLOCK, &usual, NULL), 0);
  note_signals();
  create_server(&busy);
  check_signals();
  ck_assert_int_eq(xchg_server_start(server), 0);
  check_signals();
  close(connect_and_ping(server)); /* the offload threads run as well */

  /* While this thread blocks all signals, no thread takes one. */
  sigset_t both;
  sigemptyset(&both);
  sigaddset(&both, SIGUSR1);
  sigaddset(&both, SIGTERM);
  ck_assert_int_eq(pthread_sigmask(SIG_BLOCK, &both, NULL), 0);
  ck_assert_int_eq(kill(getpid(), SIGUSR1), 0);
  ck_assert_int_eq(kill(getpid(), SIGTERM), 0);
  close(connect_and_ping(server));
  sigset_t pending;
  ck_assert_int_eq(sigpending(&pending), 0);
  ck_assert(sigismember(&pending, SIGUSR1) == 1 && sigismember(&pending, SIGTERM) == 1);
  ck_assert_int_eq(caught, 0);
  ck_assert_int_eq(pthread_sigmask(SIG_UNBLOCK, &both, NULL), 0);
  AWAIT(caught == 2);
  ck_assert_int_eq(catcher, gettid());

  close(connect_and_ping(server)); /* SIGTERM did not stop the server */
  xchg_server_drain(server);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  check_signals();
  xchg_server_destroy(server);
  check_signals();
}
END_TEST

/* A signal that the program handles does not end xchg_server_wait. */
static void *interrupt(void *argument) {
  const pthread_t *waiter = argument;
  for (int i = 0; i < 20; i++) {
    ck_assert_int_eq(pthread_kill(*waiter, SIGUSR1), 0);
    poll(NULL, 0, 2);
  }
  xchg_server_drain(server);
  return NULL;
}

START_TEST(a_wait_outlasts_signals) {
  SETTINGS();
  ck_assert_ptr_ne(signal(SIGUSR1, catch), SIG_ERR);
  start_server(&echoes);
  pthread_t self = pthread_self(), thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, interrupt, &self), 0);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  ck_assert_int_gt(caught, 0);
  xchg_server_destroy(server);
}
END_TEST

START_TEST(resource_limits_are_not_changed) {
  struct rlimit before, after;
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
  before.rlim_cur = min_u64(before.rlim_max, 256);
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
  SETTINGS();
  settings.max_connections = 0;
  start_server(&echoes);
  close(connect_and_ping(server));
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &after), 0);
  ck_assert(after.rlim_cur == before.rlim_cur && after.rlim_max == before.rlim_max);
  xchg_server_destroy(server);
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &after), 0);
  ck_assert(after.rlim_cur == before.rlim_cur && after.rlim_max == before.rlim_max);
}
END_TEST

/* Lines go to the callback only, or to standard error without one. */
START_TEST(the_log_goes_to_the_callback_or_stderr) {
  int fd = memfd_create("stderr", MFD_CLOEXEC), old = dup(STDERR_FILENO);
  ck_assert_int_ne(dup2(fd, STDERR_FILENO), -1);
  SETTINGS();
  settings.workers = 2000;
  ck_assert_ptr_null(xchg_server_create(&settings, &echoes));
  ck_assert_uint_eq(lines_count("workers"), 1);
  off_t written = lseek(fd, 0, SEEK_END);
  settings.log = NULL;
  ck_assert_ptr_null(xchg_server_create(&settings, &echoes));
  off_t more = lseek(fd, 0, SEEK_END);
  ck_assert_int_ne(dup2(old, STDERR_FILENO), -1);
  close(old);
  close(fd);
  ck_assert_int_eq(written, 0);
  ck_assert_int_gt(more, 0);
  ck_assert_uint_eq(lines_count("\n"), 1);
}
END_TEST

/* Make standard error a pipe without a reader, or a file at its limit, or close it. */
static void break_stderr(int how) {
  int ends[2];
  ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
  int file = memfd_create("stderr", MFD_CLOEXEC);
  ck_assert_int_eq(ftruncate(file, 1 << 20), 0);
  ck_assert_int_eq(lseek(file, 0, SEEK_END), 1 << 20);
  close(STDERR_FILENO);
  ck_assert(how == 2 || dup2(how == 0 ? ends[1] : file, STDERR_FILENO) == STDERR_FILENO);
  close(ends[0]);
  close(ends[1]);
  close(file);
}

/* A create that fails logs on the program's thread. Signals have their default effect. */
START_TEST(a_line_for_a_broken_stderr_does_no_harm) {
  const struct rlimit limit = {.rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY};
  const int raised[] = {SIGPIPE, SIGXFSZ};
  sigset_t pending;
  for (size_t i = 0; i < count_of(raised); i++) {
    signal(raised[i], SIG_DFL);
  }
  SETTINGS();
  settings.log = NULL;
  break_stderr(_i);
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
  settings.workers = 2000;
  ck_assert_ptr_null(xchg_server_create(&settings, &echoes));
  ck_assert_int_eq(errno, EINVAL);
  settings.workers = 1;
  settings.backlog = 2147483647; /* a warning */
  server = xchg_server_create(&settings, &echoes);
  ck_assert_ptr_nonnull(server);
  ck_assert_int_eq(xchg_server_start(server), 0);
  close(connect_and_ping(server));
  xchg_server_destroy(server);
  ck_assert_int_eq(sigpending(&pending), 0);
  ck_assert(!sigismember(&pending, SIGPIPE) && !sigismember(&pending, SIGXFSZ));
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {repeated_servers_leak_nothing, 1},
      {signals_are_left_to_the_program, 1},
      {a_wait_outlasts_signals, 1},
      {resource_limits_are_not_changed, 1},
      {the_log_goes_to_the_callback_or_stderr, 1},
      {a_line_for_a_broken_stderr_does_no_harm, 3},
  };
  return run_suite("api_server_program", tests, count_of(tests));
}
