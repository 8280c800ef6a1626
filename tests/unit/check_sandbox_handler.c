/*
 * check_sandbox_handler: what a handler may do, and what a trapped call prints.
 */
#include "tests/fixtures/sandbox_fixture.h"

/* ---- with a handler ---- */

static int handler_calls(void) {
  struct sockaddr_in to = {.sin_family = AF_INET};
  pthread_t thread;
  int status;
  MUST(open_before() == 0);
  ENTER(SANDBOX_AUTO);
  MUST(sandbox_enter(&sandbox, SANDBOX_WORKER) == 0); /* inherited: nothing more */
  MUST(sandbox_enter(&sandbox, SANDBOX_MAIN) == 0);
  MUST(open("/etc/passwd", O_RDONLY) != -1);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  MUST(fd != -1);
  MUST(bind(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
  MUST(connect(fd, (struct sockaddr *)&listener_addr, sizeof(to)) == 0);
  MUST(pthread_create(&thread, NULL, nothing, NULL) == 0);
  MUST(pthread_join(thread, NULL) == 0);
  pid_t child = fork();
  if (child == 0) {
    execute();
    _exit(1);
  }
  MUST(child != -1 && waitpid(child, &status, 0) == child);
  MUST(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
  MUST(kill(getppid(), 0) == 0);
  return 0;
}

START_TEST(handler_opens_connects_and_makes_threads) {
  kind = SANDBOX_HANDLER;
  make_files();
  succeeds(handler_calls);
  remove_files();
}
END_TEST

static int handler_refused(void) {
  abi_simulated = 0;
  ENTER(SANDBOX_AUTO);
  MUST(FAILS(unshare(CLONE_NEWUSER), EPERM));
  MUST(FAILS(unshare(CLONE_FILES), EPERM));
  MUST(FAILS(setns(0, 0), EPERM));
  MUST(FAILS(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL), EPERM));
  MUST(FAILS(syscall(SYS_clone3, NULL, 0), ENOSYS));
  MUST(FAILS(syscall(SYS_mount, NULL, "/", NULL, 0, NULL), EPERM));
  MUST(FAILS(syscall(SYS_umount2, "/", 0), EPERM));
  MUST(FAILS(syscall(SYS_fsopen, "tmpfs", 0), EPERM));
  MUST(FAILS(syscall(SYS_pivot_root, "/", "/"), EPERM));
  MUST(FAILS(chroot("/"), EPERM));
  MUST(FAILS(syscall(SYS_bpf, 0, NULL, 0), EPERM));
  MUST(FAILS(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0), EPERM));
  MUST(FAILS(syscall(SYS_userfaultfd, 0), EPERM));
  MUST(FAILS(syscall(SYS_keyctl, 0, 0, 0, 0, 0), EPERM));
  MUST(FAILS(syscall(SYS_io_uring_setup, 1, NULL), EPERM));
  MUST(FAILS(syscall(SYS_open_by_handle_at, AT_FDCWD, NULL, 0), EPERM));
  MUST(FAILS(syscall(SYS_setuid, getuid()), EPERM));
  MUST(FAILS(syscall(SYS_setgroups, 0, NULL), EPERM));
  MUST(FAILS(syscall(SYS_finit_module, -1, "", 0), EPERM));
  MUST(FAILS(syscall(SYS_reboot, 0, 0, 0, NULL), EPERM));
  MUST(FAILS(syscall(SYS_swapoff, "/"), EPERM));
  MUST(FAILS(syscall(SYS_personality, 0xffffffff), EPERM));
  return 0;
}

START_TEST(handler_is_refused_what_changes_the_machine) {
  kind = SANDBOX_HANDLER;
  succeeds(handler_refused);
}
END_TEST

/* Landlock refuses every move to another folder unless a rule allows it. */
static int handler_files(void) {
  char moved[ADDR_PATH_MAX + 8];
  seccomp_refused = ENOSYS;
  ENTER(SANDBOX_AUTO);
  MUST(sandbox.facts.landlock_abi > 0);
  MUST(FAILS(execute(), EACCES));
  snprintf(moved, sizeof(moved), "%s/run/moved", folder);
  if (sandbox.facts.landlock_abi >= 2) {
    MUST(rename(other_path, moved) == 0);
    MUST(rename(moved, other_path) == 0);
  }
  MUST(unlink(other_path) == 0);
  MUST(close(creat(other_path, 0600)) == 0);
  return 0;
}

START_TEST(handler_moves_files_and_starts_no_program) {
  kind = SANDBOX_HANDLER;
  make_files();
  succeeds(handler_files);
  remove_files();
}
END_TEST

/* ---- trap ---- */

static int output[2]; /* standard error of the child */

static int traps_open(void) {
  MUST(dup2(output[1], STDERR_FILENO) == STDERR_FILENO);
  ENTER(SANDBOX_TRAP);
  return open("/etc/passwd", O_RDONLY) == -1 ? 1 : 2;
}

static int traps_execve(void) {
  MUST(dup2(output[1], STDERR_FILENO) == STDERR_FILENO);
  ENTER(SANDBOX_TRAP);
  execute();
  return 1;
}

static int traps_unshare(void) {
  MUST(dup2(output[1], STDERR_FILENO) == STDERR_FILENO);
  ENTER(SANDBOX_TRAP);
  return unshare(CLONE_NEWUSER) == -1 ? 1 : 2;
}

/* ${act} aborts and prints ${call}, its number and the kind. */
static void aborts(int (*act)(void), const char *call, long number) {
  char want[128], text[256];
  ck_assert_int_eq(pipe(output), 0);
  int status = status_of(act);
  ck_assert_int_eq(close(output[1]), 0);
  ssize_t size = read(output[0], text, sizeof(text) - 1);
  ck_assert_int_ge(size, 0);
  text[size] = 0;
  ck_assert_int_eq(close(output[0]), 0);
  snprintf(want, sizeof(want), "sandbox: call %ld (%s) is not allowed in thread %s\n", number, call,
           sandbox_kind_name(kind));
  ck_assert_str_eq(text, want);
  ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %#x", status);
}

/* _i: a kind. */
START_TEST(trap_prints_the_call_and_aborts) {
  kind = _i;
  if (kind == SANDBOX_HANDLER) {
    aborts(traps_unshare, "unshare", SYS_unshare);
  } else {
    aborts(traps_open, "?", SYS_openat);
  }
  aborts(traps_execve, "execve", SYS_execve);
}
END_TEST

static int trap_allows(void) {
  pthread_t thread;
  MUST(prepare(SANDBOX_TRAP, true) == 0);
  MUST(sandbox_enter(&sandbox, SANDBOX_HANDLER) == 0);
  MUST(pthread_create(&thread, NULL, nothing, NULL) == 0); /* clone3 must not trap */
  return pthread_join(thread, NULL);
}

START_TEST(trap_lets_a_handler_make_threads) { succeeds(trap_allows); }
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {handler_opens_connects_and_makes_threads, 1},
      {handler_is_refused_what_changes_the_machine, 1},
      {handler_moves_files_and_starts_no_program, 1},
      {trap_prints_the_call_and_aborts, SANDBOX_KINDS},
      {trap_lets_a_handler_make_threads, 1},
  };
  return run_suite("sandbox_handler", tests, count_of(tests));
}
