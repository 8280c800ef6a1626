/*
 * check_log_descriptor: nothing that a descriptor does makes the logger wait or die.
 *
 * Each test logs to a descriptor of the kind that it is about and reads what came out at the other
 * end.  A logger that waits is caught by libcheck's time-out.
 */
#include "tests/fixtures/log_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>

/* ---- descriptors that misbehave ----------------------------------------------------------- */

/* Log until ${lost} lines were lost. */
static void log_until_lost(uint64_t lost) {
  while (dropped() < lost) {
    log_msg(&logger, LOG_INFO, "one of very many");
  }
}

/* The next line gets through, and one that counts the ${lost} comes before it. */
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

START_TEST(full_pipe) {
  start(ends[1], LOG_LOGFMT);
  ck_assert_int_eq(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0); /* others write there too */
  log_until_lost(7);
  expect_recovery(ends[0], "7");
  log_until_lost(1);
  expect_recovery(ends[0], "1");
}
END_TEST

START_TEST(reader_gone) {
  start(ends[1], LOG_LOGFMT);
  log_msg(&logger, LOG_INFO, "x");
  close(ends[0]);
  ends[0] = -1;
  log_msg(&logger, LOG_INFO, "x");
  log_msg(&logger, LOG_INFO, "x");
  ck_assert_uint_eq(dropped(), 2);
  log_fini(&logger);
  start(ends[1], LOG_LOGFMT); /* gone before the start */
  log_msg(&logger, LOG_INFO, "x");
  ck_assert_uint_eq(dropped(), 1);
}
END_TEST

/*
 * A named pipe that had no reader at the start is polled before each write, and still never
 * waited for.
 */
START_TEST(polled_pipe) {
  char path[] = "/tmp/check_log.XXXXXX";
  ck_assert_ptr_nonnull(mkdtemp(path));
  char name[64];
  snprintf(name, sizeof(name), "%s/fifo", path);
  ck_assert_int_eq(mkfifo(name, 0600), 0);
  int reader = open(name, O_RDONLY | O_NONBLOCK);
  int writer = open(name, O_WRONLY);
  ck_assert(reader != -1 && writer != -1);
  close(reader);
  signal(SIGPIPE, SIG_DFL); /* who looks first gets no signal */
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

START_TEST(full_disk) {
  int fd = open("/dev/full", O_WRONLY);
  ck_assert_int_ne(fd, -1);
  start(fd, LOG_LOGFMT);
  log_msg(&logger, LOG_INFO, "x");
  ck_assert_uint_eq(dropped(), 1);
  close(fd);
}
END_TEST

/*
 * A disk that fills up within a line: the half that came ends with a line feed before anything
 * else.
 */
START_TEST(torn_line) {
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

START_TEST(sockets) {
  const int types[] = {SOCK_STREAM, SOCK_DGRAM};
  for (size_t i = 0; i < count_of(types); i++) {
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, types[i], 0, pair), 0);
    signal(SIGPIPE, SIG_DFL); /* sockets need no help against it */
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

/* Somebody presses Control-S. */
START_TEST(stopped_terminal) {
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

/* A closed descriptor's number belongs to whoever opens something next: a client, say. */
START_TEST(closed_descriptor) {
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
      {full_pipe, 1}, {reader_gone, 1}, {polled_pipe, 1},      {full_disk, 1},
      {torn_line, 1}, {sockets, 1},     {stopped_terminal, 1}, {closed_descriptor, 1},
  };
  return run_suite_fixture("log_descriptor", tests, count_of(tests), setup, teardown);
}
