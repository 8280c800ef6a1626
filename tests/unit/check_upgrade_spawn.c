/*
 * check_upgrade_spawn: the program, the arguments, the environment and the end of a new process.
 *
 * The new process is this program: with the variable of the channel it prints its arguments and its
 * environment.
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

#define ARGUMENT "an argument of two\nlines"

static char printed[65536];

/* What the new process does. */
static int print_all(int argc, char **argv) {
  if (getenv("WAITS") != NULL) {
    pause();
  }
  for (int i = 0; i < argc; i++) {
    printf("argument %d: %s\n", i, argv[i]);
  }
  for (char **entry = environ; *entry != NULL; entry++) {
    puts(*entry);
  }
  return 0;
}

static void await(int fd) {
  struct pollfd fds[] = {{.fd = fd, .events = POLLIN}};
  ck_assert_int_eq(poll(fds, 1, -1), 1);
}

/* Let a new process print what it has. Return: the descriptor that its environment names. */
static int run_printer(struct upgrade_spawn_setup *setup) {
  static struct upgrade_program program;
  int ends[2], status;
  pid_t child;
  size_t size = 0;
  upgrade_program_find(&program);
  setup->program = &program;
  ck_assert_int_eq(pipe(ends), 0);
  setup->channel = ends[0];
  fflush(stdout);
  int out = dup(STDOUT_FILENO);
  ck_assert_int_eq(dup2(ends[1], STDOUT_FILENO), STDOUT_FILENO);
  ck_assert_int_eq(fcntl(ends[0], F_SETFD, FD_CLOEXEC), 0);
  int fd = upgrade_spawn(setup, &child);
  ck_assert_int_eq(dup2(out, STDOUT_FILENO), STDOUT_FILENO);
  close(out);
  close(ends[1]);
  ck_assert_int_ne(fd, -1);
  for (ssize_t got; (got = read(ends[0], printed + size, sizeof(printed) - 1 - size)) > 0;) {
    size += (size_t)got;
  }
  printed[size] = 0;
  await(fd);
  ck_assert(upgrade_reap(fd, &status));
  ck_assert(WIFEXITED(status));
  ck_assert_int_eq(WEXITSTATUS(status), 0);
  ck_assert(fcntl(ends[0], F_GETFD) == FD_CLOEXEC); /* it is open in the new process only */
  close(ends[0]);
  close(fd);
  return setup->channel;
}

static bool has_line(const char *line) {
  char text[256];
  snprintf(text, sizeof(text), "\n%s\n", line);
  return strstr(printed, text) != NULL || strncmp(printed, text + 1, strlen(text + 1)) == 0;
}

static const char *const environment[] = {
    "PATH=/bin",    "XCHG_LISTEN=:1", "WATCHDOG_PID=7", "LISTEN_PID=8",
    "LISTEN_FDS=2", "XCHG_WORKERS=2", "XCHG_IGNORED=1", NULL};

START_TEST(the_environment_stays) {
  struct upgrade_spawn_setup setup = {.environment = environment};
  int channel = run_printer(&setup);
  char line[64];
  snprintf(line, sizeof(line), UPGRADE_CHANNEL_NAME "=%d", channel);
  ck_assert(has_line(line));
  ck_assert(has_line("PATH=/bin") && has_line("XCHG_LISTEN=:1") && has_line("XCHG_WORKERS=2"));
  ck_assert(has_line("LISTEN_PID=8") && has_line("LISTEN_FDS=2"));
  ck_assert_ptr_null(strstr(printed, "WATCHDOG_PID"));
}
END_TEST

START_TEST(a_request_replaces_all_variables_of_xchgd) {
  static const char *const request[] = {"XCHG_LISTEN=:2", "XCHG_QUEUE=4", NULL};
  struct upgrade_spawn_setup setup = {
      .environment = environment, .request = request, .passed = true};
  (void)run_printer(&setup);
  char line[64];
  snprintf(line, sizeof(line), "LISTEN_PID=%d", (int)getpid());
  ck_assert(has_line(line) && !has_line("LISTEN_PID=8"));
  ck_assert(has_line("PATH=/bin") && has_line("XCHG_LISTEN=:2") && has_line("XCHG_QUEUE=4"));
  ck_assert_ptr_null(strstr(printed, "XCHG_WORKERS"));
}
END_TEST

START_TEST(the_arguments_stay) {
  struct upgrade_spawn_setup setup = {.environment = environment};
  char line[512];
  (void)run_printer(&setup);
  snprintf(line, sizeof(line), "argument 0: %s", program_invocation_name);
  ck_assert(has_line(line) && has_line("argument 1: " ARGUMENT) && has_line("argument 2: "));
  ck_assert_ptr_null(strstr(printed, "argument 3"));
}
END_TEST

START_TEST(a_program_that_is_gone) {
  static struct upgrade_program program = {.path = "/no/such/program"}, unknown;
  struct upgrade_spawn_setup setup = {.environment = environment, .program = &program};
  pid_t child;
  ck_assert_int_eq(upgrade_spawn(&setup, &child), -1);
  ck_assert_int_eq(errno, ENOENT);
  setup.program = &unknown;
  ck_assert_int_eq(upgrade_spawn(&setup, &child), -1);
  upgrade_program_find(&unknown);
  ck_assert_ptr_nonnull(strstr(unknown.path, "check_upgrade_spawn"));
}
END_TEST

/* A FIFO in place of the program does not block. */
START_TEST(no_program) {
  static struct upgrade_program program;
  char folder[] = "/tmp/check_upgrade_spawn.XXXXXX";
  int status;
  pid_t child;
  ck_assert_ptr_nonnull(mkdtemp(folder));
  snprintf(program.path, sizeof(program.path), "%s/fifo", folder);
  ck_assert_int_eq(mkfifo(program.path, 0700), 0);
  const struct upgrade_spawn_setup setup = {.environment = environment, .program = &program};
  int fd = upgrade_spawn(&setup, &child);
  ck_assert_int_ne(fd, -1);
  await(fd);
  ck_assert(upgrade_reap(fd, &status));
  ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 127);
  close(fd);
  ck_assert_int_eq(unlink(program.path), 0);
  ck_assert_int_eq(rmdir(folder), 0);
}
END_TEST

/* Without a descriptor for it there is no process, either. */
START_TEST(no_descriptor_is_left) {
  static struct upgrade_program program;
  static const char *const waits[] = {"WAITS=1", NULL};
  const struct upgrade_spawn_setup setup = {.environment = waits, .program = &program};
  struct rlimit limit, few;
  pid_t child;
  upgrade_program_find(&program);
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
  int lowest = dup(STDIN_FILENO);
  ck_assert_int_ne(lowest, -1);
  close(lowest);
  few = limit;
  few.rlim_cur = (rlim_t)lowest + 1; /* the program's */
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
  int fd = upgrade_spawn(&setup, &child);
  int error = errno;
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
  ck_assert_int_eq(fd, -1);
  ck_assert_int_eq(error, EMFILE);
  ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
  ck_assert_int_eq(errno, ECHILD);
}
END_TEST

/* It is killed by its descriptor.  If the program has waited for it, only the status is lost. */
START_TEST(the_end) {
  static struct upgrade_program program;
  static const char *const waits[] = {"WAITS=1", NULL};
  const struct upgrade_spawn_setup setup = {.environment = waits, .program = &program};
  int status;
  pid_t child;
  upgrade_program_find(&program);
  int fd = upgrade_spawn(&setup, &child);
  ck_assert_int_ne(fd, -1);
  ck_assert(!upgrade_reap(fd, &status));
  upgrade_kill(fd);
  await(fd);
  if (_i == 0) {
    ck_assert(upgrade_reap(fd, &status));
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  } else {
    ck_assert_int_eq(waitpid(-1, &status, 0), child);
    ck_assert(upgrade_reap(fd, &status));
    ck_assert_int_eq(status, UPGRADE_UNKNOWN);
    upgrade_kill(fd); /* it reaches no other process */
  }
  close(fd);
}
END_TEST

START_TEST(the_variable_of_the_channel) {
  static const char *const with[] = {"A=1", UPGRADE_CHANNEL_NAME "=17", "B=2", NULL};
  static const char *const bad[] = {UPGRADE_CHANNEL_NAME "=x", NULL};
  const char **list;
  ck_assert_int_eq(upgrade_spawned(environment, &list), -1);
  ck_assert_ptr_null(list);
  ck_assert_int_eq(upgrade_spawned(bad, &list), -1);
  ck_assert_int_eq(upgrade_spawned(with, &list), 17);
  ck_assert_str_eq(list[0], "A=1");
  ck_assert_str_eq(list[1], "B=2");
  ck_assert_ptr_null(list[2]);
  free(list);
}
END_TEST

int main(int argc, char **argv) {
  const struct suite_test tests[] = {
      {the_environment_stays, 1},
      {a_request_replaces_all_variables_of_xchgd, 1},
      {the_arguments_stay, 1},
      {a_program_that_is_gone, 1},
      {no_program, 1},
      {no_descriptor_is_left, 1},
      {the_end, 2},
      {the_variable_of_the_channel, 1},
  };
  if (getenv(UPGRADE_CHANNEL_NAME) != NULL) {
    return print_all(argc, argv);
  }
  if (argc == 1) {
    execv(argv[0], (char *[]){argv[0], (char *)(uintptr_t)ARGUMENT, (char *)(uintptr_t) "", NULL});
  }
  return run_suite("upgrade_spawn", tests, count_of(tests));
}
