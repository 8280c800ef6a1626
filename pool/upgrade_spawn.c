/* upgrade_spawn: see upgrade_spawn.h. */
#include "pool/upgrade_spawn.h"

#include "core/sys.h"
#include "pool/signals.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_NOT_EXECUTED 127

/* P_PIDFD, which older headers do not have. */
#define WAIT_PIDFD ((idtype_t)3)

int upgrade_watch(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int upgrade_spawn(struct upgrade_image *image, int channel, pid_t *child) {
  upgrade_image_set_channel(image, channel, 0);
  /* Fork would copy the tables of a large process.  The child makes system calls only. */
  /* NOLINTBEGIN(clang-analyzer-*) */
  pid_t pid = vfork();
  if (pid == 0) {
    upgrade_image_execute(image, channel); /* its table of descriptors is its own */
    _exit(EXIT_NOT_EXECUTED);
  }
  /* NOLINTEND(clang-analyzer-*) */
  if (pid == -1) {
    return -1;
  }
  *child = pid;
  int fd = upgrade_watch(pid);
  if (fd == -1) {
    int error = errno;
    (void)kill(pid, SIGKILL);    /* ESRCH: the program has waited for it */
    (void)waitpid(pid, NULL, 0); /* a failure has the same reason */
    errno = error;
  }
  return fd;
}

void upgrade_signal(int fd, int number) {
  (void)syscall(SYS_pidfd_send_signal, fd, number, NULL, 0); /* ESRCH: it has ended */
}

void upgrade_pass(int fd, int number) {
  siginfo_t info = {.si_signo = number, .si_code = SI_QUEUE};
  info.si_pid = getpid();
  info.si_uid = getuid();
  info.si_value.sival_int = SIGNALS_PASSED_VALUE;
  (void)syscall(SYS_pidfd_send_signal, fd, number, &info, 0); /* as in upgrade_signal */
}

void upgrade_forget(int *fd) {
  if (*fd != -1) {
    sys_close(*fd);
    *fd = -1;
  }
}

bool upgrade_ended(int fd) {
  struct pollfd fds[] = {{.fd = fd, .events = POLLIN}};
  return sys_poll(fds, 1, 0) == 1;
}

bool upgrade_is_child(int fd) {
  siginfo_t info;
  return waitid(WAIT_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static bool wait_for(int fd, int options, int *status) {
  siginfo_t info = {.si_pid = 0};
  *status = UPGRADE_UNKNOWN;
  if (!upgrade_ended(fd)) {
    return false;
  }
  if (waitid(WAIT_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG | options) == 0 && info.si_pid != 0) {
    *status = info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status;
  } /* else ECHILD: another one waits or has waited for it */
  return true;
}

bool upgrade_reap(int fd, int *status) { return wait_for(fd, 0, status); }

bool upgrade_peek(int fd, int *status) { return wait_for(fd, WNOWAIT, status); }
