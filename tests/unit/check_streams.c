/*
 * check_streams: closed standard descriptors are filled so that their use fails, open ones stay,
 * and text that could not be written is noticed however late.
 */
#include "core/streams.h"

#include "core/base.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* In a child: close the descriptors whose bits are in ${closed}, fill them. Return: 0 = right. */
static int fill(int closed) {
  static const int modes[] = {O_WRONLY, O_RDONLY, O_RDONLY};
  int before[3];
  char byte = 0;
  for (int fd = 0; fd < 3; fd++) {
    if (open("/dev/null", O_RDWR) == -1) { /* the three exist, whatever runs the tests */
      return 1;
    }
  }
  for (int fd = 0; fd < 3; fd++) {
    if ((closed & 1 << fd) != 0) {
      close(fd);
    }
    before[fd] = fcntl(fd, F_GETFL);
  }
  if (streams_reserve() != -1) {
    return 2;
  }
  for (int fd = 0; fd < 3; fd++) {
    const int mode = fcntl(fd, F_GETFL);
    const bool is_closed = (closed & 1 << fd) != 0;
    if (is_closed ? (mode & O_ACCMODE) != modes[fd] : mode != before[fd]) {
      return 3;
    }
  }
  if ((closed & 1) != 0 && (read(0, &byte, 1) != -1 || errno != EBADF)) {
    return 4;
  }
  if ((closed & 2) != 0 && (write(1, &byte, 1) != -1 || errno != EBADF)) {
    return 5;
  }
  if ((closed & 4) != 0 && (write(2, &byte, 1) != -1 || errno != EBADF)) {
    return 6;
  }
  return 0;
}

START_TEST(closed_ones_are_filled_in_the_opposite_mode) {
  int status;
  const pid_t child = fork();
  ck_assert_int_ne(child, -1);
  if (child == 0) {
    _exit(fill(_i));
  }
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert(WIFEXITED(status));
  ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

START_TEST(a_full_device_is_noticed) {
  FILE *full = fopen("/dev/full", "w");
  ck_assert_ptr_nonnull(full);
  fputs("text", full);
  ck_assert_int_eq(streams_flush(full), -1);
  ck_assert_int_eq(errno, ENOSPC);
  fclose(full);
}
END_TEST

/* The buffer is empty by then, so that the last flush alone would succeed. */
START_TEST(an_earlier_failure_is_noticed) {
  FILE *full = fopen("/dev/full", "w");
  ck_assert_ptr_nonnull(full);
  setvbuf(full, NULL, _IONBF, 0);
  fputs("text", full);
  ck_assert_int_eq(fflush(full), 0);
  ck_assert_int_eq(streams_flush(full), -1);
  ck_assert_int_eq(errno, EIO);
  fclose(full);
}
END_TEST

START_TEST(a_pipe_without_a_reader_is_noticed) {
  int ends[2];
  signal(SIGPIPE, SIG_IGN);
  ck_assert_int_eq(pipe(ends), 0);
  close(ends[0]);
  FILE *out = fdopen(ends[1], "w");
  ck_assert_ptr_nonnull(out);
  fputs("text", out);
  ck_assert_int_eq(streams_flush(out), -1);
  ck_assert_int_eq(errno, EPIPE);
  fclose(out);
}
END_TEST

START_TEST(what_is_written_is_no_failure) {
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  fputs("text", out);
  ck_assert_int_eq(streams_flush(out), 0);
  ck_assert_str_eq(text, "text");
  fclose(out);
  free(text);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {closed_ones_are_filled_in_the_opposite_mode, 8},
      {a_full_device_is_noticed, 1},
      {an_earlier_failure_is_noticed, 1},
      {a_pipe_without_a_reader_is_noticed, 1},
      {what_is_written_is_no_failure, 1},
  };
  return run_suite("streams", tests, count_of(tests));
}
