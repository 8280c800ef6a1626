/*
 * remote: what reaches a connection from elsewhere: the calls of core/xchg.h for posts,
 * publications and work on other threads.
 *
 * All of it travels as letters (pool/task) to the workers, which exist under XCHG_MODEL=pool alone;
 * elsewhere the calls fail with ENOTSUP.
 */
#ifndef POOL_REMOTE_H
#define POOL_REMOTE_H

#include "core/xchg.h"

/** Fill ${stats} from ${server}'s counters; its size is the caller's affair. Thread: any. */
void remote_stats(struct xchg_server *server, struct xchg_stats *stats);

#endif
