/*
 * stall: finds a thread of a server whose turn lasts longer than XCHG_STALL, for /livez and for the
 * watchdog of a service manager.
 *
 * A thread that waits for events is not stalled.  After a SIGSTOP every turn looks old once, so a
 * caller looks again after STALL_LOOK_AGAIN_NS before it reports a stalled thread.  Only
 * XCHG_MODEL=pool has such turns: in the other models no thread is stalled.
 */
#ifndef POOL_STALL_H
#define POOL_STALL_H

#include "pool/server.h"

#define STALL_LOOK_AGAIN_NS NS_PER_S
#define STALL_TEXT_MAX 64

struct stall {
  char thread[32]; /* "xchg-accept" or "xchg-work-N" */
  uint64_t age_ns; /* of its turn */
};

/** Find a stalled thread. Return: is there one? Thread: any, from server_start to server_close. */
bool stall_find(struct xchg_server *server, struct stall *stall);

/** Write "xchg-work-1 31s". Return: ${text}. */
const char *stall_format(const struct stall *stall, char text[STALL_TEXT_MAX]);

#endif
