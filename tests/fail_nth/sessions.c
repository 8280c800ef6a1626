/* sessions: see sessions.h. */
#include "tests/fail_nth/sessions.h"

#include "tests/fail_nth/ledger.h"
#include "tests/fail_nth/real.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

const struct session sessions[] = {
    {.name = "library", .main = library_main},
    {.name = "greet", .main = greet_main, .tcp = true},
    {.name = "admin", .main = greet_admin_main, .tcp = true},
    {.name = "library-tcp", .main = library_tcp_main, .tcp = true, .no_file = true},
    {.name = "thread", .main = greet_thread_main, .tcp = true},
    {.name = "iterative", .main = greet_iterative_main, .tcp = true, .one_by_one = true},
    {.name = "passed", .main = passed_main, .tcp = true, .no_file = true},
};
const unsigned sessions_count = sizeof(sessions) / sizeof(sessions[0]);

#define NOWHERE_FD 100 /* apart from a server's descriptors */

static struct {
  char path[100];
  bool started;
  FILE *nowhere;
} state;

const char *sessions_path(void) { return state.path; }

void sessions_set_folder(const char *folder) {
  snprintf(state.path, sizeof(state.path), "%s/socket", folder);
  int fd = real_open("/dev/null", O_WRONLY | O_CLOEXEC);
  state.nowhere = fdopen(real_fcntl(fd, F_DUPFD_CLOEXEC, NOWHERE_FD), "w");
  close(fd);
}

void sessions_leave_stale_file(void) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  memcpy(at.sun_path, state.path, sizeof(state.path));
  (void)unlink(state.path);
  int fd = real_socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd == -1 || real_bind(fd, (const struct sockaddr *)&at, sizeof(at)) == -1) {
    ledger_fault("no stale socket file: %s", strerror(errno));
  }
  close(fd);
}

bool sessions_looks_for_stale(enum nth_call call) {
  return call == CALL_SOCKET || call == CALL_CONNECT || call == CALL_FSTATAT ||
         call == CALL_UNLINKAT;
}

FILE *sessions_nowhere(void) { return state.nowhere; }

bool sessions_started(void) { return state.started; }

void sessions_set_started(bool started) { state.started = started; }

void sessions_check_refusal(int error) {
  const struct spec *spec = ledger_spec();
  if (ledger_hits() == 0 || spec->mode == MODE_SABOTAGE) {
    ledger_fault("the start is refused: %s", strerror(error));
  } else if (call_optional(spec->call)) {
    ledger_fault("the start is refused although that call is optional: %s", strerror(error));
  } else if (error != 0 && error != spec->error && !(error == ENOMEM && spec->call == CALL_MMAP) &&
             !(error == EADDRINUSE && sessions_looks_for_stale(spec->call)) &&
             !(error == EOPNOTSUPP && spec->call == CALL_CHMOD && spec->error == ENOENT)) {
    ledger_fault("the start is refused with another error: %s", strerror(error));
  }
}
