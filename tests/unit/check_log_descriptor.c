/*
 * check_log_descriptor: nothing that a descriptor does makes a thread that logs wait or die.
 *
 * Each test logs to a descriptor of the kind that it is about and reads what comes out at the other
 * end.  A thread that waits is caught by libcheck's timeout.
 */
#include "tests/fixtures/log_writer_fixture.h"

#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

START_TEST(a_full_pipe) {
  size_t filled = fill(ends[1]);
  begin_writer(ends[1], LOG_LOGFMT);
  for (uint64_t i = 0; i < MANY; i++) {
    log_number(i);
  }
  ck_assert_int_eq(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0); /* it is shared */
  discard(ends[0], filled);
  expect_recovery(ends[0], MANY);
  end_writer();
}
END_TEST

START_TEST(a_pipe_without_a_reader) {
  begin_writer(ends[1], LOG_LOGFMT);
  close(ends[0]);
  ends[0] = -1;
  log_number(0);
  log_number(1);
  end_writer();
}
END_TEST

/* A named pipe whose reader has gone, and another one comes: it cannot be opened again. */
START_TEST(a_pipe_that_cannot_be_opened_again) {
  create_thread_writer(LOG_LOGFMT);
  size_t filled = fill(ends[1]);
  ck_assert_int_eq(log_writer_start(writer, NULL), 0);
  for (uint64_t i = 0; i < MANY; i++) {
    log_number(i);
  }
  discard(ends[0], filled);
  expect_recovery(ends[0], MANY);
  close(ends[0]);
  ends[0] = -1;
  log_number(MANY);
  end_writer();
}
END_TEST

START_TEST(a_full_disk) {
  int fd = open("/dev/full", O_WRONLY);
  ck_assert_int_ne(fd, -1);
  begin_writer(fd, LOG_LOGFMT);
  log_number(0);
  end_writer();
  close(fd);
}
END_TEST

/* Where the log begins in its file. The file in which libcheck keeps its notes is shorter. */
#define FILE_BEGIN (1 << 20)

/* The file ends within a line. A line feed ends that part before the next line. */
START_TEST(a_file_at_its_limit) {
  FILE *file = tmpfile();
  ck_assert_ptr_nonnull(file);
  struct rlimit limit, small;
  struct stat status = {.st_size = 0};
  ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
  ck_assert_int_eq(lseek(fileno(file), FILE_BEGIN, SEEK_SET), FILE_BEGIN);
  small = (struct rlimit){.rlim_cur = FILE_BEGIN + TIME_SIZE + 11, .rlim_max = limit.rlim_max};
  begin_writer(fileno(file), LOG_LOGFMT);
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
  log_msg(&logger, LOG_INFO, "torn");
  while (status.st_size < (off_t)small.rlim_cur) {
    ck_assert_int_eq(fstat(fileno(file), &status), 0);
  }
  await_idle();
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
  log_msg(&logger, LOG_INFO, "back");
  end_writer();
  ck_assert_int_eq(lseek(fileno(file), FILE_BEGIN, SEEK_SET), FILE_BEGIN);
  take(fileno(file));
  const char *at = expect(text, LOG_LOGFMT, " level\n");
  at = expect(at, LOG_LOGFMT, " level=warn msg=\"lines lost\" count=1\n");
  ck_assert_str_eq(expect(at, LOG_LOGFMT, " level=info msg=back\n"), "");
  fclose(file);
}
END_TEST

/* Each line is a datagram of its own. */
START_TEST(a_full_socket) {
  const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
  int pair[2];
  ck_assert_int_eq(socketpair(AF_UNIX, types[_i], 0, pair), 0);
  begin_writer(pair[1], LOG_LOGFMT);
  for (uint64_t i = 0; i < MANY; i++) {
    log_number(i);
  }
  expect_recovery(pair[0], MANY);
  ck_assert_int_eq(fcntl(pair[1], F_GETFL) & O_NONBLOCK, 0);
  close(pair[0]);
  log_number(MANY);
  end_writer();
  close(pair[1]);
}
END_TEST

/* Another process has made the open file nonblocking. */
START_TEST(a_nonblocking_pipe) {
  size_t filled = fill(ends[1]);
  ck_assert_int_eq(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
  begin_writer(ends[1], LOG_LOGFMT);
  for (uint64_t i = 0; i < MANY; i++) {
    log_number(i);
  }
  discard(ends[0], filled);
  expect_recovery(ends[0], MANY);
  end_writer();
}
END_TEST

/* Open a terminal. Return: its end for programs. */
static int open_terminal(int *master, tcflag_t flags) {
  struct termios raw;
  *master = posix_openpt(O_RDWR | O_NOCTTY);
  ck_assert_int_ne(*master, -1);
  ck_assert_int_eq(grantpt(*master), 0);
  ck_assert_int_eq(unlockpt(*master), 0);
  int slave = open(ptsname(*master), O_RDWR | O_NOCTTY);
  ck_assert_int_ne(slave, -1);
  ck_assert_int_eq(tcgetattr(slave, &raw), 0);
  cfmakeraw(&raw);
  raw.c_lflag |= flags;
  ck_assert_int_eq(tcsetattr(slave, TCSANOW, &raw), 0);
  return slave;
}

/* A user presses Control-S. */
START_TEST(a_stopped_terminal) {
  int master, slave = open_terminal(&master, 0);
  begin_writer(slave, LOG_LOGFMT);
  ck_assert_int_eq(tcflow(slave, TCOOFF), 0);
  for (uint64_t i = 0; i < MANY; i++) {
    log_number(i);
  }
  ck_assert_int_eq(tcflow(slave, TCOON), 0);
  expect_recovery(master, MANY);
  end_writer();
  close(slave);
  close(master);
}
END_TEST

START_TEST(a_terminal_that_is_not_read) {
  int master, slave = open_terminal(&master, 0);
  begin_writer(slave, LOG_LOGFMT);
  for (uint64_t i = 0; i < MANY; i++) {
    log_number(i);
  }
  expect_recovery(master, MANY);
  end_writer();
  close(slave);
  close(master);
}
END_TEST

START_TEST(a_terminal_that_was_closed) {
  int master, slave = open_terminal(&master, 0);
  close(master);
  begin_writer(slave, LOG_LOGFMT);
  log_number(0);
  end_writer();
  close(slave);
}
END_TEST

/* In a new session on ${slave}: log as a background job. Return: an exit status. */
static int log_in_background(int slave) {
  int status;
  if (setsid() == -1 || ioctl(slave, TIOCSCTTY, 0) == -1) {
    return 2;
  }
  pid_t job = fork();
  if (job == 0) {
    if (setpgid(0, 0) == -1 || tcgetpgrp(slave) == getpgrp()) {
      _exit(3);
    }
    begin_writer(slave, LOG_LOGFMT);
    log_number(0);
    end_writer();
    _exit(0);
  }
  if (waitpid(job, &status, WUNTRACED) != job) {
    return 4;
  }
  if (WIFSTOPPED(status)) {
    kill(job, SIGKILL);
    return 5;
  }
  return WEXITSTATUS(status);
}

/* stty tostop: a write of a background job raises SIGTTOU, which stops the process. */
START_TEST(a_background_job_with_tostop) {
  int master, slave = open_terminal(&master, TOSTOP), status;
  pid_t session = fork();
  ck_assert_int_ne(session, -1);
  if (session == 0) {
    _exit(log_in_background(slave));
  }
  ck_assert_int_eq(waitpid(session, &status, 0), session);
  ck_assert_int_eq(status, 0);
  struct arrived arrived = {.size = 0};
  receive(&arrived, master, 0);
  ck_assert_uint_eq(arrived.lines, 1);
  close(slave);
  close(master);
}
END_TEST

/* The number of a closed descriptor may be reused, for example by a client. */
START_TEST(a_descriptor_that_is_closed_before) {
  int fd = dup(ends[1]);
  close(fd);
  begin_writer(fd, LOG_LOGFMT);
  ck_assert_int_eq(dup2(ends[1], fd), fd);
  log_number(0);
  end_writer();
  ck_assert_uint_eq(take(ends[0]), 0);
  close(fd);
  begin_writer(-1, LOG_JSON);
  log_number(0);
  end_writer();
}
END_TEST

START_TEST(a_descriptor_that_is_closed_later) {
  int fd = dup(ends[1]), other[2];
  ck_assert_int_eq(pipe2(other, O_CLOEXEC), 0);
  begin_writer(fd, LOG_LOGFMT);
  ck_assert_int_eq(dup2(other[1], fd), fd);
  log_number(0);
  end_writer();
  ck_assert_uint_eq(take(other[0]), 0);
  struct arrived arrived = {.size = 0};
  receive(&arrived, ends[0], 0);
  ck_assert_uint_eq(arrived.lines, 1);
  close(fd);
  close(other[0]);
  close(other[1]);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {a_full_pipe, 1},
      {a_pipe_without_a_reader, 1},
      {a_pipe_that_cannot_be_opened_again, 1},
      {a_full_disk, 1},
      {a_file_at_its_limit, 1},
      {a_full_socket, 3},
      {a_nonblocking_pipe, 1},
      {a_stopped_terminal, 1},
      {a_terminal_that_is_not_read, 1},
      {a_terminal_that_was_closed, 1},
      {a_background_job_with_tostop, 1},
      {a_descriptor_that_is_closed_before, 1},
      {a_descriptor_that_is_closed_later, 1},
  };
  return run_suite_fixture("log_descriptor", tests, count_of(tests), setup, teardown);
}
