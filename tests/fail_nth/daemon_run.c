/*
 * daemon_run: see daemon_run.h.
 *
 * The clients and the sender of the signals are threads next to the daemon's main thread.
 */
#include "tests/fail_nth/daemon_run.h"

#include "core/xchg.h"
#include "core/base.h"
#include "pool/daemon.h"
#include "tests/fail_nth/clients.h"
#include "tests/fail_nth/scheduler.h"
#include "tests/fail_nth/log.h"
#include "tests/fail_nth/ledger.h"
#include "tests/fail_nth/real.h"
#include "tests/fail_nth/sessions.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define ENTRIES_MAX 24

extern char **environ; /* environ(7): no header declares it */

/* ---- the attendant ---- */

struct daemon {
  void (*start_clients)(void);
  unsigned others; /* listeners of the admin endpoint, which come first */
  bool over;       /* daemon_main has returned */
  bool told;       /* the signals were sent */
  int code;
};

static void *attendant_run(void *argument) {
  struct daemon *run = argument;
  while (!run->over && (ledger_find_nth(KIND_LISTENER, run->others) == -1 ||
                        ledger_find_nth(KIND_EPOLL, 2 * run->others) == -1)) {
    scheduler_pause(NEVER);
  }
  client_wait_ms(1); /* listen has returned; wait until the start has ended */
  if (run->over) {
    return NULL;
  }
  clients_aim(ledger_find_nth(KIND_LISTENER, run->others));
  run->start_clients();
  clients_await(false);
  client_wait_ms(10);
  if (!run->over) {
    run->told = true;
    (void)kill(getpid(), SIGUSR1);
    scheduler_progress();
    client_wait_ms(1);
    (void)kill(getpid(), SIGTERM);
    scheduler_progress();
  }
  clients_await(true);
  return NULL;
}

/* Discard signals that a run has left and messages to the service manager. */
static void forget(int notify_fd) {
  static const struct timespec now = {.tv_sec = 0};
  sigset_t set;
  char mail[64];
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGTERM);
  while (sigtimedwait(&set, NULL, &now) > 0) {
  }
  while (recv(notify_fd, mail, sizeof(mail), MSG_DONTWAIT) > 0) {
  }
}

/* ---- checks ---- */

/* The totals must be right where the line was logged; it may be missing where the log failed. */
static void check_stopped(void) {
  uint64_t accepted, ended, sum;
  if (!log_number("stopped", "accepted", &accepted) || !log_number("stopped", "finished", &sum)) {
    if (ledger_spec()->call != CALL_WRITE_LOG && ledger_spec()->call != CALL_FSTAT) {
      ledger_fault("no line msg=stopped");
    }
    return;
  }
  for (int reason = XCHG_FINISHED + 1; reason < XCHG_REASONS; reason++) {
    char key[32];
    snprintf(key, sizeof(key), "closed_%s", xchg_reason_name((enum xchg_reason)reason));
    sum += log_number("stopped", key, &ended) ? ended : 0;
  }
  if (accepted != sum || accepted != ledger_accepts()) {
    ledger_fault("totals: accepted=%llu of %u, ended=%llu", (unsigned long long)accepted,
                 ledger_accepts(), (unsigned long long)sum);
  }
}

static void check_code(const struct daemon *run) {
  const struct spec *spec = ledger_spec();
  bool broken = spec->call == CALL_ACCEPT4 && spec->error == EINVAL && ledger_hits() > 0;
  if (run->code != (broken ? 71 : 0) && !(broken && run->told && run->code == 0)) {
    ledger_fault("exit code %d", run->code);
  }
}

/* The codes are those of sysexits.h: 69 = the address is unavailable, 71 = the system refused. */
static void check_refused(int code) {
  const struct spec *spec = ledger_spec();
  bool stale = sessions_looks_for_stale(spec->call);
  bool address = spec->call == CALL_SOCKET_OPTION || spec->call == CALL_BIND ||
                 spec->call == CALL_LISTEN || spec->call == CALL_OPENAT || spec->call == CALL_CHMOD;
  bool exhausted = spec->error == EMFILE || spec->error == ENFILE || spec->error == ENOMEM ||
                   spec->error == ENOBUFS;
  sessions_check_refusal(0);
  bool fits = stale ? code == 71 || code == 69 : code == (address && !exhausted ? 69 : 71);
  if (!fits) {
    ledger_fault("exit code %d for %s", code, injected_name(spec->error));
  }
}

static int open_notify(char *name, size_t size) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  int fd = real_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  socklen_t length = sizeof(at);
  (void)real_bind(fd, (const struct sockaddr *)&at,
                  sizeof(at.sun_family)); /* autobind: the kernel chooses a name */
  (void)real_getsockname(fd, (struct sockaddr *)&at, &length);
  snprintf(name, size, "NOTIFY_SOCKET=@%.5s", at.sun_path + 1);
  return fd;
}

/* Run daemon_main in an environment of ${count} ${entries}. */
static void run_daemon(struct daemon *run, const char *const *entries, size_t count) {
  const char *environment[ENTRIES_MAX + 3] = {"XCHG_SANDBOX=off"}; /* this process goes on */
  char notify[32], name[] = "xchgd";
  int notify_fd = open_notify(notify, sizeof(notify));
  memcpy(environment + 1, entries, min_u64(count, ENTRIES_MAX) * sizeof(entries[0]));
  environment[1 + min_u64(count, ENTRIES_MAX)] = notify;
  FILE *errors = stderr;
  char **before = environ;
  char *arguments[] = {name, NULL};
  environ = (char **)(uintptr_t)environment;
  stderr = sessions_nowhere(); /* glibc lets stderr be assigned; the log writes to the descriptor */
  forget(notify_fd);
  run->code = daemon_main(NULL, 1, arguments);
  environ = before;
  stderr = errors;
  forget(notify_fd);
  close(notify_fd);
}

void daemon_run(const char *const *entries, size_t count, void (*start_clients)(void)) {
  struct daemon run = {.start_clients = start_clients, .code = -1};
  for (size_t i = 0; i < count; i++) {
    run.others += strncmp(entries[i], "XCHG_ADMIN=1", strlen("XCHG_ADMIN=1")) == 0;
  }
  const struct thread *attendant = scheduler_start(attendant_run, &run);
  run_daemon(&run, entries, count);
  run.over = true;
  scheduler_progress();
  while (!scheduler_is_over(attendant)) {
    scheduler_pause(NEVER);
  }
  sessions_set_started(log_has("stopped") || run.told);
  if (sessions_started()) {
    check_code(&run);
    check_stopped();
  } else {
    check_refused(run.code);
  }
}
