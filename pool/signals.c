/* signals: see signals.h. */
#include "pool/signals.h"

#include "core/base.h"
#include "core/sys.h"

#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A stop signal that comes again within this time is the same one. */
#define REPEAT_NS (100 * NS_PER_MS)

int signals_open(struct signals *signals, bool upgrades) {
  /* SIGUSR2 is the last of the former and the first of the latter. */
  static const int wanted[] = {SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGCHLD, SIGUSR2};
  static const int ignored[] = {SIGUSR2, SIGHUP, SIGPIPE};
  const size_t wanted_count = count_of(wanted) - (upgrades ? 0 : 1);
  sigset_t set;
  *signals = (struct signals){.fd = -1};
  (void)sigemptyset(&set); /* cannot fail: the set is valid */
  for (size_t i = 0; i < wanted_count; i++) {
    /* A shell's background job inherits SIGINT as ignored. Neither call fails for these numbers. */
    (void)signal(wanted[i], SIG_DFL);
    (void)sigaddset(&set, wanted[i]); /* likewise, for these numbers */
  }
  for (size_t i = upgrades ? 1 : 0; i < count_of(ignored); i++) {
    (void)signal(ignored[i], SIG_IGN); /* cannot fail for these numbers */
  }
  if (sigprocmask(SIG_BLOCK, &set, NULL) == -1) {
    return -1;
  }
  signals->fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  return signals->fd == -1 ? -1 : 0;
}

void signals_close(struct signals *signals) {
  if (signals->fd != -1) {
    sys_close(signals->fd);
    signals->fd = -1;
  }
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

void signals_restore_without(const sigset_t *before, int signum) {
  static const struct timespec now = {.tv_sec = 0};
  if (sigismember(before, signum) == 0) {
    sigset_t set;
    (void)sigemptyset(&set);              /* cannot fail: the set is valid */
    (void)sigaddset(&set, signum);        /* cannot fail for a signal of the C library */
    (void)sigtimedwait(&set, NULL, &now); /* EAGAIN: there is none */
  }
  signals_restore(before);
}

void signals_reap_children(struct signals *signals) {
  signals->reaps = true;
  (void)signal(SIGCHLD, SIG_IGN); /* cannot fail for a signal that exists */
  while (waitpid(-1, NULL, WNOHANG) > 0) {
  }
}

/* Does the kernel reap children? */
static bool reaps(const struct sigaction *action) {
  return action->sa_handler == SIG_IGN || (action->sa_flags & SA_NOCLDWAIT) != 0;
}

void signals_keep_children(struct sigaction *before) {
  (void)sigaction(SIGCHLD, NULL, before); /* cannot fail for a signal that exists */
  if (reaps(before)) {
    (void)signal(SIGCHLD, SIG_DFL); /* cannot fail for such a signal */
  }
}

void signals_restore_children(const struct sigaction *before) {
  if (reaps(before)) {
    (void)sigaction(SIGCHLD, before, NULL); /* cannot fail for a signal that exists */
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
  }
}

enum signals_what signals_note(struct signals *signals, int number, enum signals_way way) {
  uint64_t now_ns = sys_now_ns();
  bool is_new = false;
  if (way == SIGNALS_PASSED) {
    is_new = ++signals->passed > signals->sent;
  } else if (number != signals->last_sent || now_ns - signals->stop_ns >= REPEAT_NS) {
    is_new = ++signals->sent > signals->passed;
    signals->last_sent = number;
    signals->stop_ns = now_ns;
  }
  signals->stop = number;
  return is_new ? SIGNALS_STOP : SIGNALS_NONE;
}

enum signals_what signals_next(struct signals *signals) {
  struct signalfd_siginfo info;
  if (read(signals->fd, &info, sizeof(info)) != sizeof(info)) {
    return SIGNALS_NONE;
  }
  switch (info.ssi_signo) {
    case SIGUSR1:
      return SIGNALS_STATS;
    case SIGCHLD:
      return SIGNALS_CHILD;
    case SIGUSR2:
      return SIGNALS_UPGRADE;
    default:
      break;
  }
  bool passed = info.ssi_code == SI_QUEUE && info.ssi_int == SIGNALS_PASSED_VALUE;
  return signals_note(signals, (int)info.ssi_signo, passed ? SIGNALS_PASSED : SIGNALS_SENT);
}
