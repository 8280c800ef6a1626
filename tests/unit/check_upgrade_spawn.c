/*
 * check_upgrade_spawn: the child of an upgrade, from its start to its end.
 *
 * The child is this program: with the variable of the channel it writes its own to that descriptor,
 * or waits for a signal.
 */
#include "pool/upgrade_spawn.h"

#include "tests/fixtures/run_suite.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const prints[] = {"A=1", NULL};
static const char *const waits[] = {"WAITS=1", NULL};

static struct upgrade_program program;
static struct upgrade_image image;

/* What the child does. */
static int run_child(const char *channel) {
  if (getenv("WAITS") != NULL) {
    pause();
  }
  return dprintf(atoi(channel), "%d", atoi(channel)) > 0 ? 0 : 1;
}

static void await(int fd) {
  struct pollfd fds[] = {{.fd = fd, .events = POLLIN}};
  ck_assert_int_eq(poll(fds, 1, -1), 1);
}

static void open_image(const char *const *environment) {
  const struct upgrade_image_setup setup = {.program = &program, .environment = environment};
  if (program.path[0] == 0) {
    upgrade_program_find(&program, NULL);
  }
  ck_assert_int_eq(upgrade_image_open(&image, &setup), 0);
}

/* The channel is open in the child, and in no later program of this process. */
START_TEST(the_channel_is_open_in_the_child) {
  int ends[2], status;
  pid_t child;
  char wanted[16], got[16] = "";
  open_image(prints);
  ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
  int fd = upgrade_spawn(&image, ends[1], &child);
  ck_assert_int_ne(fd, -1);
  ck_assert_int_eq(fcntl(ends[1], F_GETFD), FD_CLOEXEC);
  close(ends[1]);
  await(fd);
  ck_assert(upgrade_reap(fd, &status));
  ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  snprintf(wanted, sizeof(wanted), "%d", ends[1]);
  ck_assert_int_gt(read(ends[0], got, sizeof(got) - 1), 0);
  ck_assert_str_eq(got, wanted);
  close(ends[0]);
  close(fd);
  upgrade_image_close(&image);
}
END_TEST

/* A FIFO in place of the program does not block. */
START_TEST(no_program) {
  char folder[] = "/tmp/check_upgrade_spawn.XXXXXX";
  int status;
  pid_t child;
  ck_assert_ptr_nonnull(mkdtemp(folder));
  snprintf(program.path, sizeof(program.path), "%s/fifo", folder);
  ck_assert_int_eq(mkfifo(program.path, 0700), 0);
  open_image(prints);
  int fd = upgrade_spawn(&image, STDIN_FILENO, &child);
  ck_assert_int_ne(fd, -1);
  await(fd);
  ck_assert(upgrade_reap(fd, &status));
  ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 127);
  close(fd);
  upgrade_image_close(&image);
  ck_assert_int_eq(unlink(program.path), 0);
  ck_assert_int_eq(rmdir(folder), 0);
  program.path[0] = 0; /* for the next test, which may run in this process */
}
END_TEST

/* Without a descriptor for it there is no process, either. */
START_TEST(no_descriptor_is_left) {
  struct rlimit limit, few;
  pid_t child;
  open_image(waits);
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
  int lowest = dup(STDIN_FILENO);
  ck_assert_int_ne(lowest, -1);
  close(lowest);
  few = limit;
  few.rlim_cur = (rlim_t)lowest;
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
  int fd = upgrade_spawn(&image, STDIN_FILENO, &child);
  int error = errno;
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
  ck_assert_int_eq(fd, -1);
  ck_assert_int_eq(error, EMFILE);
  ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
  ck_assert_int_eq(errno, ECHILD);
  upgrade_image_close(&image);
}
END_TEST

/*
 * It is killed by its descriptor.  Who only looks leaves it to be waited for.  If the program has
 * waited for it, only the status is lost.
 */
START_TEST(the_end) {
  int status;
  pid_t child;
  open_image(waits);
  int fd = upgrade_spawn(&image, STDIN_FILENO, &child);
  ck_assert_int_ne(fd, -1);
  ck_assert(!upgrade_reap(fd, &status));
  ck_assert(!upgrade_peek(fd, &status));
  upgrade_signal(fd, SIGKILL);
  await(fd);
  if (_i == 0) {
    ck_assert(upgrade_peek(fd, &status));
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    ck_assert(upgrade_reap(fd, &status));
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  } else {
    ck_assert_int_eq(waitpid(-1, &status, 0), child);
    ck_assert(upgrade_reap(fd, &status));
    ck_assert_int_eq(status, UPGRADE_UNKNOWN);
    upgrade_signal(fd, SIGKILL); /* it reaches no other process */
  }
  upgrade_forget(&fd);
  ck_assert_int_eq(fd, -1);
  upgrade_forget(&fd);
  upgrade_image_close(&image);
}
END_TEST

/* A process that is no child, such as the parent, is watched and has no status. */
START_TEST(another_process) {
  int ends[2], status;
  pid_t grandchild;
  ck_assert_int_eq(pipe(ends), 0);
  pid_t between = fork();
  ck_assert_int_ne(between, -1);
  if (between == 0) {
    grandchild = fork();
    if (grandchild == 0) {
      pause();
    }
    _exit(write(ends[1], &grandchild, sizeof(grandchild)) == sizeof(grandchild) ? 0 : 1);
  }
  ck_assert_int_eq(read(ends[0], &grandchild, sizeof(grandchild)), sizeof(grandchild));
  ck_assert_int_eq(waitpid(between, &status, 0), between);
  int fd = upgrade_watch(grandchild);
  ck_assert_int_ne(fd, -1);
  ck_assert(!upgrade_reap(fd, &status));
  upgrade_signal(fd, SIGKILL);
  await(fd);
  ck_assert(upgrade_reap(fd, &status));
  ck_assert_int_eq(status, UPGRADE_UNKNOWN);
  close(fd);
  close(ends[0]);
  close(ends[1]);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {the_channel_is_open_in_the_child, 1},
      {no_program, 1},
      {no_descriptor_is_left, 1},
      {the_end, 2},
      {another_process, 1},
  };
  const char *channel = getenv(UPGRADE_CHANNEL_NAME);
  return channel != NULL ? run_child(channel) : run_suite("upgrade_spawn", tests, count_of(tests));
}
