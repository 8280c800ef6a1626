/*
 * fault: what a test orders from the system calls behind core/sys.h, and what it learns of them.
 *
 * Orders and counters are atomic, so that threads may run into them; giving orders is the test's
 * own thread's alone.
 */
#ifndef TESTS_FAULT_FAULT_H
#define TESTS_FAULT_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/** Forget all orders and counts. While no other thread runs. */
void fault_reset(void);

/** Forget all orders. */
void fault_heal(void);

/**
 * fault_fail(call, nth, error, times):
 * Fail the ${nth} call from now on (1 = the next one) and the ${times} - 1 behind it with errno
 * ${error}.  A close that fails has closed all the same, as on Linux; an epoll_wait that fails with
 * 0 returns no event.
 */
void fault_fail(enum fault_call call, uint64_t nth, int error, uint64_t times);

/**
 * Let each ${call} (FAULT_RECV, FAULT_SEND, FAULT_SENDMSG) move ${bytes} at most; 0 = as many as
 * asked for.
 */
void fault_shorten(enum fault_call call, size_t bytes);

/**
 * fault_follow(on):
 * After a recv, send or sendmsg that was cut or failed with EAGAIN by order, raise the edge that a
 * kernel would have raised.  For tests of one thread.
 */
void fault_follow(bool on);

/** Calls so far, failed ones included. */
uint64_t fault_count(enum fault_call call);

/** Calls of all kinds that an order made fail. */
uint64_t fault_hits(void);

/** Closes of what was not open. */
uint64_t fault_bad_closes(void);

/** The call's word, for a test's message. */
const char *fault_name(enum fault_call call);

#endif
