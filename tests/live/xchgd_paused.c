/*
 * xchgd_paused: xchgd with an action at a point of an upgrade, in place of pool/upgrade_point.
 *
 *   UPGRADE_TEST="old 5 1 pause"     main of the old process waits at point 5, the first time
 *   UPGRADE_TEST="old 9 1 stop"      SIGSTOP: all threads stop until SIGCONT
 *   UPGRADE_TEST="new 4 2 exit 78"   the new process ends at point 4, the second time
 *   UPGRADE_TEST="new 7 20 crash"    by SIGSEGV
 *   UPGRADE_TEST="new 7 1 orphan"    it kills the old process, awaits its end, and goes on
 *   UPGRADE_TEST="child 7 1 stop"    the child gives connections back to its parent, and stops
 *   UPGRADE_TEST="parent 1 1 stop"   the parent has executed the program, and stops
 *   UPGRADE_FIFO=/path               a paused process goes on when the test has opened this FIFO
 *   UPGRADE_ONCE=/path               nothing happens without this file, which the point removes
 *
 * At the point it writes msg=point with its id to the log.
 */
#include "pool/upgrade_point.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void pause_here(void) {
  char byte;
  int fd = open(getenv("UPGRADE_FIFO"), O_RDONLY | O_CLOEXEC);
  while (fd != -1 && read(fd, &byte, 1) == 1) {
  }
  close(fd);
}

static void orphan(void) {
  pid_t parent = getppid();
  kill(parent, SIGKILL);
  while (getppid() == parent) { /* its descriptors close before that */
    sched_yield();
  }
}

void upgrade_point(enum upgrade_point point, enum upgrade_side on) {
  static const char *const sides[] = {"old", "new", "child", "parent"};
  static int seen;
  char side[8], action[16];
  int at, nth, code = 0;
  const char *test = getenv("UPGRADE_TEST"), *once = getenv("UPGRADE_ONCE");
  if (test == NULL || sscanf(test, "%7s %d %d %15s %d", side, &at, &nth, action, &code) < 4 ||
      strcmp(side, sides[on]) != 0 || at != (int)point || ++seen != nth ||
      (once != NULL && unlink(once) == -1)) {
    return;
  }
  dprintf(STDERR_FILENO, "msg=point side=%s point=%d pid=%d\n", side, at, (int)getpid());
  if (strcmp(action, "pause") == 0) {
    pause_here();
  } else if (strcmp(action, "crash") == 0) {
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
  } else if (strcmp(action, "stop") == 0) {
    kill(getpid(), SIGSTOP);
  } else if (strcmp(action, "orphan") == 0) {
    orphan();
  } else {
    _exit(code);
  }
}
