/* poll_set: the descriptors that main waits for, without those that are closed. */
#ifndef POOL_POLL_SET_H
#define POOL_POLL_SET_H

#include "core/sys.h"

#include <assert.h>
#include <poll.h>

#define POLL_SET_MAX 8

struct poll_set {
  struct pollfd fds[POLL_SET_MAX];
  unsigned count;
};

/**
 * Add ${fd}, unless it is -1.  poll refuses more entries than RLIMIT_NOFILE, which may be lowered
 * while the process runs, so an entry without a descriptor is left out.
 */
static inline void poll_set_add(struct poll_set *set, int fd, short events) {
  if (fd != -1) {
    assert(set->count < POLL_SET_MAX);
    set->fds[set->count++] = (struct pollfd){.fd = fd, .events = events};
  }
}

#endif
