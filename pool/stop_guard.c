/*
 * stop_guard: see stop_guard.h.
 *
 * Owns its thread and an eventfd.  No signal is lost or heard twice: both threads read the same
 * signalfd, one after the other.
 */
#include "pool/stop_guard.h"

#include "core/base.h"
#include "core/sys.h"
#include "pool/thread.h"

#include <poll.h>

static void *guard_main(void *argument) {
  struct stop_guard *guard = argument;
  thread_set_name("xchg-signals");
  for (;;) {
    struct pollfd fds[] = {{.fd = guard->signals->fd, .events = POLLIN},
                           {.fd = guard->wake.fd, .events = POLLIN}};
    (void)sys_poll(fds, count_of(fds), -1); /* EINTR and the like: look again */
    if (fds[1].revents != 0) {
      return NULL;
    }
    if (fds[0].revents != 0 && signals_next(guard->signals) == SIGNALS_STOP) {
      guard->on_signal(guard->argument);
      return NULL;
    }
  }
}

void stop_guard_begin(struct stop_guard *guard, struct signals *signals,
                      void (*on_signal)(void *argument), void *argument) {
  *guard = (struct stop_guard){.signals = signals, .on_signal = on_signal, .argument = argument};
  if (wake_open(&guard->wake) == -1) {
    return;
  }
  guard->runs = pthread_create(&guard->thread, NULL, guard_main, guard) == 0;
}

void stop_guard_end(struct stop_guard *guard) {
  if (guard->runs) {
    wake_signal(&guard->wake);
    (void)pthread_join(guard->thread, NULL); /* cannot fail: joined once, by another */
    guard->runs = false;
  }
  wake_close(&guard->wake);
}
