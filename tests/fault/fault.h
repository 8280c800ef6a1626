/*
 * fault: the system calls of core/sys.h that a test can make fail, by tests/fixtures/orders.h.
 *
 * A close that fails has nevertheless closed, as on Linux.  An epoll_wait that fails with 0 returns
 * no event.
 */
#ifndef TESTS_FAULT_FAULT_H
#define TESTS_FAULT_FAULT_H

#include "tests/fixtures/orders.h"

enum fault_call {
  FAULT_ACCEPT,
  FAULT_RECV,
  FAULT_SEND,
  FAULT_SENDMSG,
  FAULT_WRITE,
  FAULT_SHUTDOWN,
  FAULT_CLOSE,
  FAULT_IOCTL,
  FAULT_SETSOCKOPT,
  FAULT_EPOLL_CTL,
  FAULT_EPOLL_WAIT,
  FAULT_POLL,
  FAULT_MAP,
  FAULT_REMAP,
  FAULT_UNMAP,
  FAULT_CALLS
};

/** Reset the orders and the count of bad closes. */
void fault_reset(void);

/** Closes of descriptors that were not open. */
uint64_t fault_bad_closes(void);

/** The name of the call, for a message. */
const char *fault_name(enum fault_call call);

#endif
