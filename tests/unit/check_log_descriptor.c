/*
 * check_log_descriptor: nothing that a descriptor does makes the logger wait or die.
 *
 * Each test logs to a descriptor of the kind that it is about and reads what came out at the other
 * end.  A logger that waits is caught by libcheck's timeout.
 */
#include "tests/fixtures/log_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>

/* ---- descriptors that block or fail ---- */

/* Log until ${lost} lines were lost. */
static void log_until_lost(uint64_t lost) {
  while (dropped() < lost) {
    log_msg(&logger, LOG_INFO, "one of very many");
  }
}

/* The next line is written, after a line that counts the ${lost} lines. */
static void expect_recovery(int fd, const char *lost) {
  take(fd);
  log_msg(&logger, LOG_INFO, "back");
  take(fd);
  char rest[64];
  snprintf(rest, sizeof(rest), " level=warn msg=\"lines lost\" count=%s\n", lost);
  const char *at = expect(text, LOG_LOGFMT, rest);
  ck_assert_str_eq(expect(at, LOG_LOGFMT, " level=info msg=back\n"), "");
  ck_assert_uint_eq(dropped(), 0);
}

START_TEST(a_full_pipe_loses_lines) {
  start(ends[1], LOG_LOGFMT);
  ck_assert_int_eq(fcntl(ends[1], F_GETFL) & O_NONBLOCK,
                   0); /* it is shared, so it stays blocking */
  log_until_lost(7);
  expect_recovery(ends[0], "7");
  log_until_lost(1);
  expect_recovery(ends[0], "1");
}
END_TEST

START_TEST(a_pipe_without_a_reader_loses_lines) {
  start(ends[1], LOG_LOGFMT);
  log_msg(&logger, LOG_INFO, "x");
  close(ends[0]);
  ends[0] = -1;
  log_msg(&logger, LOG_INFO, "x");
  log_msg(&logger, LOG_INFO, "x");
  ck_assert_uint_eq(dropped(), 2);
  log_fini(&logger);
  start(ends[1], LOG_LOGFMT); /* closed before the start */
  log_msg(&logger, LOG_INFO, "x");
  ck_assert_uint_eq(dropped(), 1);
}
END_TEST

/* A named pipe without a reader at the start is polled before each write, and does not block. */
START_TEST(a_named_pipe_does_not_block) {
  char path[] = "/tmp/check_log.XXXXXX";
  ck_assert_ptr_nonnull(mkdtemp(path));
  char name[64];
  snprintf(name, sizeof(name), "%s/fifo", path);
  ck_assert_int_eq(mkfifo(name, 0600), 0);
  int reader = open(name, O_RDONLY | O_NONBLOCK);
  int writer = open(name, O_WRONLY);
  ck_assert(reader != -1 && writer != -1);
  close(reader);
  signal(SIGPIPE, SIG_DFL); /* polling first avoids the signal */
  start(writer, LOG_LOGFMT);
  log_until_lost(3);
  reader = open(name, O_RDONLY | O_NONBLOCK);
  expect_recovery(reader, "3");
  log_until_lost(2);
  expect_recovery(reader, "2");
  close(reader);
  close(writer);
  unlink(name);
  rmdir(path);
}
END_TEST

START_TEST(a_full_disk_loses_lines) {
  int fd = open("/dev/full", O_WRONLY);
  ck_assert_int_ne(fd, -1);
  start(fd, LOG_LOGFMT);
  log_msg(&logger, LOG_INFO, "x");
  ck_assert_uint_eq(dropped(), 1);
  close(fd);
}
END_TEST

/* The disk becomes full within a line: a line feed ends the partial line before the next one. */
START_TEST(a_partial_line_is_ended) {
  FILE *file = tmpfile();
  ck_assert_ptr_nonnull(file);
  struct rlimit limit, small;
  ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
  small = (struct rlimit){.rlim_cur = TIME_SIZE + 11, .rlim_max = limit.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  start(fileno(file), LOG_LOGFMT);
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
  log_msg(&logger, LOG_INFO, "torn");
  log_msg(&logger, LOG_INFO, "nothing of it");
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
  ck_assert_uint_eq(dropped(), 2);
  log_msg(&logger, LOG_INFO, "back");
  ck_assert_int_eq(lseek(fileno(file), 0, SEEK_SET), 0);
  take(fileno(file));
  const char *at = expect(text, LOG_LOGFMT, " level\n");
  at = expect(at, LOG_LOGFMT, " level=warn msg=\"lines lost\" count=2\n");
  ck_assert_str_eq(expect(at, LOG_LOGFMT, " level=info msg=back\n"), "");
  fclose(file);
}
END_TEST

START_TEST(sockets_lose_lines_without_a_signal) {
  const int types[] = {SOCK_STREAM, SOCK_DGRAM};
  for (size_t i = 0; i < count_of(types); i++) {
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, types[i], 0, pair), 0);
    signal(SIGPIPE, SIG_DFL); /* not needed for sockets */
    start(pair[1], LOG_LOGFMT);
    log_msg(&logger, LOG_INFO, "x");
    take(pair[0]);
    ck_assert_str_eq(expect(text, LOG_LOGFMT, " level=info msg=x\n"), "");
    log_until_lost(5);
    expect_recovery(pair[0], "5");
    ck_assert_int_eq(fcntl(pair[1], F_GETFL) & O_NONBLOCK, 0);
    close(pair[0]);
    log_msg(&logger, LOG_INFO, "x");
    ck_assert_uint_eq(dropped(), 1);
    log_fini(&logger);
    close(pair[1]);
  }
}
END_TEST

/* A user presses Control-S. */
START_TEST(a_stopped_terminal_does_not_block) {
  int master = posix_openpt(O_RDWR | O_NOCTTY);
  ck_assert_int_ne(master, -1);
  ck_assert_int_eq(grantpt(master), 0);
  ck_assert_int_eq(unlockpt(master), 0);
  int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
  ck_assert_int_ne(slave, -1);
  struct termios raw;
  ck_assert_int_eq(tcgetattr(slave, &raw), 0);
  cfmakeraw(&raw);
  ck_assert_int_eq(tcsetattr(slave, TCSANOW, &raw), 0);
  start(slave, LOG_LOGFMT);
  ck_assert_int_eq(fcntl(slave, F_GETFL) & O_NONBLOCK, 0);
  ck_assert_int_eq(tcflow(slave, TCOOFF), 0);
  log_msg(&logger, LOG_INFO, "x");
  ck_assert_uint_eq(dropped(), 1);
  ck_assert_int_eq(tcflow(slave, TCOON), 0);
  log_msg(&logger, LOG_INFO, "back");
  ck_assert_uint_eq(dropped(), 0);
  close(slave);
  close(master);
}
END_TEST

/* The number of a closed descriptor may be reused, for example by a client. */
START_TEST(a_closed_descriptor_is_not_written) {
  int fd = dup(ends[1]);
  close(fd);
  start(fd, LOG_LOGFMT);
  ck_assert_int_eq(dup2(ends[1], fd), fd);
  log_msg(&logger, LOG_INFO, "x");
  ck_assert_uint_eq(dropped(), 1);
  ck_assert_uint_eq(take(ends[0]), 0);
  close(fd);
  start(-1, LOG_JSON);
  log_msg(&logger, LOG_ERROR, "x");
  ck_assert_uint_eq(dropped(), 1);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {a_full_pipe_loses_lines, 1},           {a_pipe_without_a_reader_loses_lines, 1},
      {a_named_pipe_does_not_block, 1},       {a_full_disk_loses_lines, 1},
      {a_partial_line_is_ended, 1},           {sockets_lose_lines_without_a_signal, 1},
      {a_stopped_terminal_does_not_block, 1}, {a_closed_descriptor_is_not_written, 1},
  };
  return run_suite_fixture("log_descriptor", tests, count_of(tests), setup, teardown);
}
