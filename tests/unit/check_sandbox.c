/*
 * check_sandbox: which calls a filter allows, refuses and kills; who is restricted.
 */
#include "tests/fixtures/sandbox_fixture.h"

/* ---- seccomp: what a built-in kind cannot do ---- */

/* Landlock is left out, so that it is the filter that answers. */
static int unlisted_calls(void) {
  const struct sched_param no_priority = {.sched_priority = 0};
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = 9};
  struct stat st;
  int fds[2];
  abi_simulated = 0;
  ENTER(SANDBOX_AUTO);
  MUST(FAILS(open("/etc/passwd", O_RDONLY), ENOSYS));
  MUST(FAILS(openat(AT_FDCWD, "/", O_PATH), ENOSYS));
  MUST(FAILS(syscall(SYS_openat2, AT_FDCWD, "/", NULL, 0), ENOSYS));
  MUST(FAILS(creat("/tmp/check_sandbox", 0600), ENOSYS));
  MUST(FAILS(socket(AF_INET, SOCK_STREAM, 0), ENOSYS));
  MUST(FAILS(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ENOSYS));
  MUST(FAILS(connect(0, (struct sockaddr *)&to, sizeof(to)), ENOSYS));
  MUST(FAILS(bind(0, (struct sockaddr *)&to, sizeof(to)), ENOSYS));
  MUST(FAILS(listen(0, 1), ENOSYS));
  MUST(FAILS(fork(), ENOSYS));
  MUST(FAILS(kill(getppid(), 0), ENOSYS));
  MUST(FAILS(syscall(SYS_getppid), ENOSYS));
  MUST(FAILS(rename("/tmp/a", "/tmp/b"), ENOSYS));
  MUST(FAILS(mkdir("/tmp/check_sandbox", 0700), ENOSYS));
  MUST(FAILS(chmod("/tmp", 0777), ENOSYS));
  MUST(FAILS(setuid(getuid()), ENOSYS));
  MUST(FAILS(pipe(fds), ENOSYS));
  MUST(FAILS(fcntl(0, F_GETFD), ENOSYS));
  MUST(FAILS(dup(0), ENOSYS));
  MUST(FAILS(syscall(SYS_io_uring_setup, 1, NULL), ENOSYS));
  MUST(FAILS(syscall(SYS_bpf, 0, NULL, 0), ENOSYS));
  MUST(FAILS(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL), ENOSYS));
  MUST(FAILS(ioctl(0, TIOCSTI, "x"), ENOSYS));
  MUST(FAILS(ioctl(0, FIONREAD, fds), ENOSYS));
  MUST(FAILS(prctl(PR_SET_DUMPABLE, 1), ENOSYS));
  MUST(FAILS(prctl(PR_GET_DUMPABLE), ENOSYS));
  MUST(FAILS(syscall(SYS_sched_setscheduler, 1, SCHED_BATCH, &no_priority), ENOSYS));
  if (kind != SANDBOX_MAIN && kind != SANDBOX_ACCEPTOR) {
    MUST(FAILS(unlink(socket_path), ENOSYS));
    MUST(FAILS(stat("/", &st), ENOSYS));
  }
  return 0;
}

/* _i: a kind. */
START_TEST(unlisted_calls_return_enosys) {
  kind = _i;
  make_files();
  succeeds(unlisted_calls);
  ck_assert_int_eq(access(socket_path, F_OK), 0);
  remove_files();
}
END_TEST

/*
 * With MSG_FASTOPEN, sendto connects a listener that was shut down, and a datagram socket sends to
 * any address.  The connection to the service manager is one.
 */
static int sends_to_an_address(void) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  socklen_t size = sizeof(name), unnamed = sizeof(sa_family_t);
  MUST(open_before() == 0);
  int own = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  int stranger = socket(AF_UNIX, SOCK_DGRAM, 0), notify = socket(AF_UNIX, SOCK_DGRAM, 0);
  MUST(listen(own, 1) == 0 && bind(stranger, (struct sockaddr *)&name, unnamed) == 0);
  MUST(getsockname(stranger, (struct sockaddr *)&name, &size) == 0);
  ENTER(SANDBOX_AUTO);
  if (kind != SANDBOX_MAIN && kind != SANDBOX_LOG) {
    MUST(shutdown(own, SHUT_RDWR) == 0);
  }
  MUST(FAILS(sendto(own, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&listener_addr,
                    sizeof(listener_addr)),
             ENOSYS));
  MUST(FAILS(sendto(notify, "x", 1, MSG_NOSIGNAL, (struct sockaddr *)&name, size), ENOSYS));
  MUST(send(pair[0], "x", 1, MSG_NOSIGNAL) == 1);
  return 0;
}

/* _i: a kind. */
START_TEST(nothing_is_sent_to_an_address) {
  kind = _i;
  make_files();
  succeeds(sends_to_an_address);
  remove_files();
}
END_TEST

static int executes(void) {
  ENTER(SANDBOX_AUTO);
  execute();
  return 1;
}

static int executes_at(void) {
  ENTER(SANDBOX_AUTO);
  syscall(SYS_execveat, AT_FDCWD, "/bin/true", NULL, NULL, 0);
  return 1;
}

static int traces(void) {
  ENTER(SANDBOX_AUTO);
  ptrace(PTRACE_TRACEME, 0, NULL, NULL);
  return 1;
}

static int reads_memory(void) {
  ENTER(SANDBOX_AUTO);
  syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0);
  return 1;
}

static int writes_memory(void) {
  ENTER(SANDBOX_AUTO);
  syscall(SYS_process_vm_writev, getpid(), NULL, 0, NULL, 0, 0);
  return 1;
}

static int calls_x32(void) {
  ENTER(SANDBOX_AUTO);
  syscall(0x40000000 | SYS_getpid);
  return 1;
}

/* _i: a kind. The process dies, not only the thread. */
START_TEST(execution_and_tracing_kill) {
  int (*const acts[])(void) = {executes,     executes_at,   traces,
                               reads_memory, writes_memory, calls_x32};
  kind = _i;
  size_t count = count_of(acts) - (MACHINE_AUDIT_ARCH == AUDIT_ARCH_X86_64 ? 0 : 1); /* no x32 */
  for (size_t i = 0; i < count; i++) {
    int status = status_of(acts[i]);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "%zu: status %#x", i, status);
  }
}
END_TEST

static void *execute_on_thread(void *unused) {
  (void)unused;
  if (sandbox_enter(&sandbox, SANDBOX_WORKER) == 0) {
    execute();
  }
  return NULL;
}

static int thread_executes(void) {
  pthread_t thread;
  MUST(prepare(SANDBOX_ON, false) == 0);
  MUST(pthread_create(&thread, NULL, execute_on_thread, NULL) == 0);
  MUST(pthread_join(thread, NULL) == 0);
  return 0;
}

START_TEST(kill_ends_the_process) {
  int status = status_of(thread_executes);
  ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "status %#x", status);
}
END_TEST

/* ---- seccomp: what the kinds can do ---- */

static void on_signal(int number) { (void)number; }

/* What each kind does. */
static int common_calls(void) {
  const struct timespec now = {.tv_sec = 0};
  struct timespec time;
  sigset_t set;
  char byte;
  void *memory = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  MUST(memory != MAP_FAILED);
  MUST((memory = mremap(memory, 1 << 16, 1 << 17, MREMAP_MAYMOVE)) != MAP_FAILED);
  MUST(madvise(memory, 1 << 17, MADV_DONTNEED) == 0);
  MUST(mprotect(memory, 1 << 17, PROT_READ) == 0);
  MUST(munmap(memory, 1 << 17) == 0);
  MUST((memory = malloc(1 << 25)) != NULL);
  memset(memory, 1, 1 << 25);
  free(memory);
  MUST(write(pair[0], "x", 1) == 1);
  MUST(read(pair[1], &byte, 1) == 1);
  MUST(syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &time) == 0);
  MUST(syscall(SYS_gettid) == syscall(SYS_getpid));
  MUST(syscall(SYS_getrandom, &byte, 1, 0) == 1);
  MUST(sched_yield() == 0);
  MUST(sigemptyset(&set) == 0 && sigaddset(&set, SIGUSR1) == 0);
  MUST(raise(SIGUSR1) == 0); /* its handler returns by rt_sigreturn */
  MUST(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
  MUST(raise(SIGUSR1) == 0);
  MUST(sigtimedwait(&set, NULL, &now) == SIGUSR1);
  MUST(prctl(PR_SET_NAME, "x") == 0);
  return 0;
}

static int loop_calls(void) {
  struct epoll_event event = {.events = EPOLLIN};
  MUST(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pair[1], &event) == 0);
  MUST(write(pair[0], "x", 1) == 1);
  MUST(epoll_wait(epoll_fd, &event, 1, 1000) == 1);
  MUST(syscall(SYS_epoll_pwait, epoll_fd, &event, 1, 1000, NULL, 0) == 1);
  if (kind == SANDBOX_ACCEPTOR) {
    const struct sched_param parameters = {.sched_priority = 0};
    MUST(FAILS(accept4(listener_fd, NULL, NULL, SOCK_CLOEXEC), EAGAIN));
    MUST(sched_setscheduler(0, SCHED_BATCH, &parameters) == 0);
  } else {
    char byte;
    int bytes;
    MUST(ioctl(pair[0], TIOCOUTQ, &bytes) == 0);
    MUST(recv(pair[1], &byte, 1, 0) == 1);
    MUST(send(pair[1], "x", 1, MSG_NOSIGNAL) == 1);
  }
  MUST(setsockopt(pair[0], SOL_SOCKET, SO_LINGER, &(struct linger){0}, sizeof(struct linger)) == 0);
  MUST(shutdown(pair[0], SHUT_WR) == 0);
  return 0;
}

static int admin_calls(void) {
  struct ucred peer;
  socklen_t size = sizeof(peer);
  struct rusage usage;
  char text[16];
  MUST(getsockopt(pair[1], SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0);
  MUST(peer.pid == getpid());
  MUST(getrusage(RUSAGE_SELF, &usage) == 0);
  MUST(pread(stat_fd, text, sizeof(text), 0) > 0);
  return 0;
}

static int file_calls(void) {
  struct stat st;
  MUST(fstatat(folder_fd, "x.sock", &st, AT_SYMLINK_NOFOLLOW) == 0);
  MUST(unlinkat(folder_fd, "x.sock", 0) == 0);
  MUST(FAILS(fstatat(folder_fd, "x.sock", &st, AT_SYMLINK_NOFOLLOW), ENOENT));
  MUST(unlinkat(AT_FDCWD, other_path, 0) == -1 || sandbox.ruleset_fd == -1);
  return 0;
}

static int main_calls(void) {
  struct pollfd wait = {.fd = pair[1], .events = POLLIN};
  MUST(poll(&wait, 1, 0) == 0);
  MUST(send(pair[0], "READY=1", 7, MSG_NOSIGNAL) == 7);
  return 0;
}

static int listed_calls(void) {
  int failed = open_before();
  MUST(signal(SIGUSR1, on_signal) != SIG_ERR);
  if (failed == 0) {
    failed = enter(SANDBOX_AUTO);
  }
  if (failed == 0) {
    failed = common_calls();
  }
  if (failed == 0 && kind != SANDBOX_MAIN && kind != SANDBOX_LOG) {
    failed = loop_calls();
  }
  if (failed == 0 && kind == SANDBOX_ADMIN) {
    failed = admin_calls();
  }
  if (failed == 0 && kind == SANDBOX_MAIN) {
    failed = main_calls();
  }
  if (failed == 0 && (kind == SANDBOX_MAIN || kind == SANDBOX_ACCEPTOR)) {
    failed = file_calls();
  }
  return failed;
}

/* _i: a kind. */
START_TEST(listed_calls_succeed) {
  kind = _i;
  make_files();
  succeeds(listed_calls);
  remove_files();
}
END_TEST

static int filter_without_flags(void) {
  flags_refused = EINVAL;
  ENTER(SANDBOX_ON);
  MUST(FAILS(socket(AF_INET, SOCK_STREAM, 0), ENOSYS));
  return 0;
}

START_TEST(kernel_without_flags_takes_the_filter) {
  kind = SANDBOX_WORKER;
  succeeds(filter_without_flags);
}
END_TEST

/* ---- who is restricted ---- */

/* The number after ${key} in the status of the calling thread. */
static int status_number(const char *key) {
  char path[64], line[256];
  int number = -1;
  snprintf(path, sizeof(path), "/proc/self/task/%ld/status", syscall(SYS_gettid));
  FILE *file = fopen(path, "re");
  while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
    if (strncmp(line, key, strlen(key)) == 0) {
      number = atoi(line + strlen(key)); /* rules-ok: the kernel's text is a number */
    }
  }
  return file == NULL || fclose(file) != 0 ? -1 : number;
}

static int filters_before;
static int enter_result, open_result;

static void *restricted(void *argument) {
  enter_result = sandbox_enter(&sandbox, *(enum sandbox_kind *)argument);
  open_result = open("/etc/passwd", O_RDONLY) == -1 ? errno : 0;
  return NULL;
}

/* A thread of ${own} enters, and main does not. Return: 0 if both are as they should be. */
static int only_the_thread(enum sandbox_kind own) {
  pthread_t thread;
  MUST(pthread_create(&thread, NULL, restricted, &own) == 0);
  MUST(pthread_join(thread, NULL) == 0);
  MUST(enter_result == 0 && open_result == ENOSYS);
  MUST(status_number("NoNewPrivs:") == 1);
  MUST(status_number("Seccomp_filters:") == filters_before);
  return 0;
}

static int main_last(void) {
  const enum sandbox_kind kinds[] = {SANDBOX_LOG, SANDBOX_ADMIN, SANDBOX_WORKER, SANDBOX_ACCEPTOR};
  filters_before = status_number("Seccomp_filters:");
  MUST(prepare(SANDBOX_ON, false) == 0);
  for (size_t i = 0; i < count_of(kinds); i++) {
    MUST(only_the_thread(kinds[i]) == 0);
  }
  MUST(sandbox_enter(&sandbox, SANDBOX_MAIN) == 0);
  sandbox_fini(&sandbox); /* the ruleset is not needed any more */
  MUST(FAILS(open("/etc/passwd", O_RDONLY), ENOSYS));
  return 0;
}

START_TEST(each_thread_restricts_itself) { succeeds(main_last); }
END_TEST

static int handler_inherits(void) {
  pthread_t thread;
  enum sandbox_kind own = SANDBOX_WORKER;
  filters_before = status_number("Seccomp_filters:");
  MUST(prepare(SANDBOX_ON, true) == 0);
  MUST(sandbox_enter(&sandbox, SANDBOX_MAIN) == 0); /* too early: it does nothing */
  MUST(status_number("Seccomp_filters:") == filters_before);
  MUST(sandbox_enter(&sandbox, SANDBOX_HANDLER) == 0);
  MUST(pthread_create(&thread, NULL, restricted, &own) == 0);
  MUST(pthread_join(thread, NULL) == 0);
  MUST(enter_result == 0 && open_result == 0);
  MUST(status_number("Seccomp:") == 2 && status_number("Seccomp_filters:") == filters_before + 1);
  return 0;
}

START_TEST(threads_of_a_handler_inherit) { succeeds(handler_inherits); }
END_TEST

/* A main that must execute a program later keeps everything; the other threads do not. */
static int main_keeps_everything(void) {
  const struct sandbox_setup setup = {.mode = SANDBOX_AUTO, .main_open = true, .config = &config};
  filters_before = status_number("Seccomp_filters:");
  MUST(sandbox_prepare(&sandbox, &setup) == 0);
  MUST(sandbox.facts.main_open);
  MUST(only_the_thread(SANDBOX_WORKER) == 0);
  MUST(sandbox_enter(&sandbox, SANDBOX_MAIN) == 0);
  execute();
  return 1;
}

START_TEST(open_main_can_execute) { succeeds(main_keeps_everything); }
END_TEST

static int nothing_done(void) {
  int privileges = status_number("NoNewPrivs:");
  filters_before = status_number("Seccomp_filters:");
  kind = SANDBOX_WORKER;
  ENTER(SANDBOX_OFF);
  MUST(sandbox_enter(NULL, SANDBOX_WORKER) == 0);
  MUST(!sandbox_required(NULL) && !sandbox_required(&sandbox));
  MUST(status_number("NoNewPrivs:") == privileges);
  MUST(status_number("Seccomp_filters:") == filters_before);
  MUST(sandbox.ruleset_fd == -1 && strcmp(sandbox.facts.seccomp, "off") == 0);
  sandbox_fini(&sandbox);
  return 0;
}

START_TEST(off_does_nothing) { succeeds(nothing_done); }
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {unlisted_calls_return_enosys, KINDS_BUILTIN},
      {nothing_is_sent_to_an_address, KINDS_BUILTIN},
      {execution_and_tracing_kill, SANDBOX_KINDS},
      {kill_ends_the_process, 1},
      {listed_calls_succeed, KINDS_BUILTIN},
      {kernel_without_flags_takes_the_filter, 1},
      {each_thread_restricts_itself, 1},
      {threads_of_a_handler_inherit, 1},
      {open_main_can_execute, 1},
      {off_does_nothing, 1},
  };
  return run_suite("sandbox", tests, count_of(tests));
}
