/*
 * check_confine: the order of what the process gives up, what is logged, and threads that cannot
 * enter the sandbox. Each restriction happens in a child; sandbox_enter fails on request.
 */
#include "pool/confine.h"

#include "pool/log_writer.h"
#include "pool/server.h"
#include "tests/fixtures/config_fixture.h"
#include "tests/fixtures/run_suite.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Not _exit: before a call that does not return, ASan makes calls that the sandbox refuses. */
static void end_child(int code) { (void)syscall(SYS_exit_group, code); }

/* In a child: end it if ${condition} is false. */
#define WANT(condition)                                    \
  do {                                                     \
    if (!(condition)) {                                    \
      fprintf(stderr, "line %d\n%s", __LINE__, collected); \
      end_child(1);                                        \
    }                                                      \
  } while (0)

static char collected[4096];
static struct log logger;
static struct config config;
static struct sandbox sandbox;

static void collect(void *user, enum xchg_log_level level, const char *line) {
  (void)user;
  (void)level;
  size_t size = strlen(collected);
  snprintf(collected + size, sizeof(collected) - size, "%s\n", line);
}

/* ---- a thread that fails ---- */

static enum sandbox_kind failing = SANDBOX_KINDS;

int __real_sandbox_enter(const struct sandbox *own, enum sandbox_kind kind);
int __wrap_sandbox_enter(const struct sandbox *own, enum sandbox_kind kind);

int __wrap_sandbox_enter(const struct sandbox *own, enum sandbox_kind kind) {
  if (own != NULL && kind == failing) {
    errno = ENOMEM;
    return -1;
  }
  return failing == SANDBOX_KINDS ? __real_sandbox_enter(own, kind) : 0;
}

static void set_up(void) {
  failing = SANDBOX_KINDS;
  collected[0] = 0;
  log_init(&logger, collect, NULL, LOG_INFO, LOG_LOGFMT);
}

/* Start a server whose threads of ${kind} cannot enter. Return: the result; it is closed again. */
static int start_server(enum sandbox_kind kind, enum sandbox_mode mode) {
  const struct sandbox own = {.mode = mode, .ruleset_fd = -1};
  const struct server_setup setup = {.config = &config, .log = &logger, .sandbox = &own};
  size_t size = (sizeof(struct xchg_server) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
  struct xchg_server *server = aligned_alloc(CACHE_LINE, size);
  GOOD(&config, "XCHG_LISTEN=127.0.0.1:0", "XCHG_WORKERS=2", "XCHG_STOP_GRACE=0",
       "XCHG_MAX_CONNECTIONS=10");
  failing = kind;
  ck_assert_int_eq(server_open(server, &setup), 0);
  int code = server_start(server);
  int error = errno;
  if (code == 0) {
    server_drain(server);
  }
  server_close(server);
  free(server);
  config_fini(&config);
  errno = error;
  return code;
}

START_TEST(a_server_does_not_start_without_a_sandbox_that_is_required) {
  static const struct {
    enum sandbox_kind kind;
    const char *refused, *warned;
  } cases[] = {
      {SANDBOX_ACCEPTOR, "the acceptor cannot enter the sandbox",
       "the acceptor runs without a part of the sandbox"},
      {SANDBOX_WORKER, "cannot start the workers", "a worker runs without a part of the sandbox"},
  };
  for (size_t i = 0; i < count_of(cases); i++) {
    for (int mode = SANDBOX_ON; mode <= SANDBOX_TRAP; mode++) {
      set_up();
      ck_assert_int_eq(start_server(cases[i].kind, (enum sandbox_mode)mode), SERVER_OSERR);
      ck_assert_int_eq(errno, ENOMEM);
      ck_assert_ptr_nonnull(strstr(collected, cases[i].refused));
    }
    set_up();
    ck_assert_int_eq(start_server(cases[i].kind, SANDBOX_AUTO), 0);
    ck_assert_ptr_nonnull(strstr(collected, cases[i].warned));
  }
}
END_TEST

/* A file gets its lines from a thread. */
START_TEST(neither_does_the_log) {
  char path[] = "/tmp/check_confine.XXXXXX";
  int fd = mkstemp(path);
  ck_assert_int_ne(fd, -1);
  ck_assert_int_eq(unlink(path), 0);
  for (int mode = SANDBOX_AUTO; mode <= SANDBOX_TRAP; mode++) {
    const struct sandbox own = {.mode = (enum sandbox_mode)mode, .ruleset_fd = -1};
    struct log_writer *writer = log_writer_create(fd, LOG_LOGFMT, false);
    ck_assert_ptr_nonnull(writer);
    failing = SANDBOX_LOG;
    log_writer_put(writer, XCHG_LOG_INFO, "a line");
    int result = log_writer_start(writer, &own);
    ck_assert_int_eq(result, mode == SANDBOX_AUTO ? 1 : -1);
    ck_assert_int_eq(errno, ENOMEM);
    log_writer_destroy(writer);
    ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), (mode - SANDBOX_OFF) * (long)strlen("a line\n"));
  }
  close(fd);
}
END_TEST

/* ---- the process ---- */

static void in_child(void (*run)(void)) {
  int status;
  pid_t child = fork();
  ck_assert_int_ne(child, -1);
  if (child == 0) {
    set_up();
    run();
    end_child(0);
  }
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %d", status);
}

/* Return: the exit code. */
static int begin(bool handler, const char *first, const char *second) {
  const char *const entries[] = {first, second, NULL};
  const struct confine_setup setup = {
      .config = &config, .facts = &plenty, .handler = handler, .log = &logger};
  WANT(load(&config, entries, &plenty) == 0);
  return confine_begin(&sandbox, &setup);
}

/* Let the calls of Landlock fail. */
static void without_landlock(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_landlock_create_ruleset, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const struct sock_fprog program = {.len = count_of(code), .filter = code};
  WANT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  WANT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void off(void) {
  WANT(begin(false, "XCHG_SANDBOX=off", NULL) == 0);
  WANT(collected[0] == 0);
  WANT(confine_main(&sandbox, &logger) == 0);
  WANT(strstr(collected, "msg=sandbox user=") != NULL);
  WANT(strstr(collected, " landlock=0 seccomp=off caps=") != NULL);
  WANT(open("/dev/null", O_RDONLY) != -1);
  WANT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 || geteuid() != 0);
}

static void other_model(void) {
  WANT(begin(true, "XCHG_MODEL=thread", NULL) == 0);
  WANT(confine_main(&sandbox, &logger) == 0);
  WANT(strstr(collected, " landlock=0 seccomp=off caps=0") != NULL);
  WANT(open("/dev/null", O_RDONLY) != -1);
}

/* A kernel without Landlock makes no difference here. */
static void built_in(void) {
  WANT(begin(false, "XCHG_SANDBOX=auto", NULL) == 0);
  WANT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
  WANT(open("/dev/null", O_RDONLY) != -1); /* main is restricted last */
  WANT(confine_main(&sandbox, &logger) == 0);
  WANT(sandbox.ruleset_fd == -1);
  WANT(open("/dev/null", O_RDONLY) == -1 && errno == ENOSYS);
  WANT(strstr(collected, " seccomp=pool caps=0") != NULL);
}

static void with_handler(void) {
  WANT(begin(true, "XCHG_SANDBOX=auto", NULL) == 0);
  WANT(unshare(0) == -1 && errno == EPERM); /* before on_start */
  WANT(open("/dev/null", O_RDONLY) != -1);
  WANT(confine_main(&sandbox, &logger) == 0);
  WANT(strstr(collected, " seccomp=handler caps=0") != NULL);
}

static void missing(void) {
  without_landlock();
  WANT(begin(false, "XCHG_SANDBOX=auto", NULL) == 0);
  WANT(strstr(collected,
              "level=warn msg=\"the kernel lacks a part of the sandbox\" "
              "landlock=\"Function not implemented\"\n") != NULL);
}

static void missing_and_required(void) {
  without_landlock();
  WANT(begin(false, "XCHG_SANDBOX=on", NULL) == SERVER_OSERR);
  WANT(strstr(collected,
              "level=error msg=\"the kernel lacks what XCHG_SANDBOX asks for\" "
              "landlock=\"Function not implemented\" fix=") != NULL);
  sandbox_fini(&sandbox);
}

static void *wait_forever(void *unused) {
  for (;;) {
    pause();
  }
  return unused;
}

/* A plug-in may have started a thread when it was loaded. */
static void thread_that_runs(void) {
  pthread_t thread;
  WANT(pthread_create(&thread, NULL, wait_forever, NULL) == 0);
  WANT(begin(true, "XCHG_SANDBOX=off", NULL) == 0);
  WANT(collected[0] == 0);
  WANT(begin(true, "XCHG_SANDBOX=on", NULL) == SERVER_OSERR);
  WANT(strstr(collected,
              "level=error msg=\"threads that already run stay outside of the sandbox\" "
              "threads=1\n") != NULL);
  set_up();
  WANT(begin(true, "XCHG_SANDBOX=auto", NULL) == 0);
  WANT(strstr(collected, "level=warn msg=\"threads that already run") != NULL);
}

static void main_fails(void) {
  failing = SANDBOX_MAIN;
  sandbox = (struct sandbox){.mode = SANDBOX_AUTO, .ruleset_fd = -1, .facts = {.seccomp = "off"}};
  WANT(confine_main(&sandbox, &logger) == 0);
  WANT(strstr(collected, "the main thread runs without a part of the sandbox") != NULL);
  WANT(strstr(collected, " main=incomplete\n") != NULL);
  sandbox.mode = SANDBOX_ON;
  WANT(confine_main(&sandbox, &logger) == SERVER_OSERR);
  WANT(strstr(collected, "cannot enter the sandbox") != NULL);
  failing = SANDBOX_HANDLER;
  WANT(begin(true, "XCHG_SANDBOX=on", NULL) == SERVER_OSERR);
}

static void file_that_stays(void) {
  WANT(begin(false, "XCHG_LISTEN=unix:/no/such/folder/a,unix:/no/such/folder/b", NULL) == 0);
  const char *first = strstr(collected, "the stop cannot remove a socket file");
  WANT(first != NULL && strstr(first, "addr=unix:/no/such/folder/a\n") != NULL);
  WANT(strstr(first + 1, "the stop cannot remove a socket file") == NULL);
}

START_TEST(the_process_gives_up_what_was_asked) {
  in_child(off);
  in_child(other_model);
  in_child(built_in);
  in_child(with_handler);
}
END_TEST

START_TEST(what_the_kernel_lacks_is_a_warning_or_the_end) {
  in_child(missing);
  in_child(missing_and_required);
  in_child(main_fails);
  in_child(thread_that_runs);
}
END_TEST

START_TEST(files_that_stay_are_one_warning) { in_child(file_that_stays); }
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {a_server_does_not_start_without_a_sandbox_that_is_required, 1},
      {neither_does_the_log, 1},
      {the_process_gives_up_what_was_asked, 1},
      {what_the_kernel_lacks_is_a_warning_or_the_end, 1},
      {files_that_stay_are_one_warning, 1},
  };
  return run_suite_fixture("confine", tests, count_of(tests), set_up, NULL);
}
