/* signals: see signals.h. */
#include "pool/signals.h"

#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

int signals_open(void) {
  static const int wanted[] = {SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGCHLD};
  static const int ignored[] = {SIGHUP, SIGUSR2, SIGPIPE};
  sigset_t set;
  (void)sigemptyset(&set); /* cannot fail: the set is valid */
  for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
    /* A shell's background job inherits SIGINT as ignored. Neither call fails for these numbers. */
    (void)signal(wanted[i], SIG_DFL);
    (void)sigaddset(&set, wanted[i]); /* likewise, for these numbers */
  }
  for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
    (void)signal(ignored[i], SIG_IGN); /* cannot fail for these numbers */
  }
  if (sigprocmask(SIG_BLOCK, &set, NULL) == -1) {
    return -1;
  }
  return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

void signals_block_all(sigset_t *before) {
  static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
  sigset_t outside;
  (void)sigfillset(&outside); /* cannot fail: the set is valid */
  for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
    (void)sigdelset(&outside, own[i]); /* cannot fail for these numbers */
  }
  (void)pthread_sigmask(SIG_BLOCK, &outside, before); /* cannot fail with these arguments */
}

void signals_restore(const sigset_t *before) {
  (void)pthread_sigmask(SIG_SETMASK, before, NULL); /* cannot fail with these arguments */
}

enum signals_what signals_next(int fd) {
  struct signalfd_siginfo info;
  if (read(fd, &info, sizeof(info)) != sizeof(info)) {
    return SIGNALS_NONE;
  }
  switch (info.ssi_signo) {
    case SIGUSR1:
      return SIGNALS_STATS;
    case SIGCHLD:
      return SIGNALS_CHILD;
    default:
      return SIGNALS_STOP;
  }
}
