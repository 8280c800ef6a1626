/*
 * snapshot: the first n connections of a server in some order, from all workers, without a lock.
 *
 *   snapshot_start --> each worker walks its connections (pool/task: a visit) and keeps its first n
 *        |                  | the last one to end
 *        |                  v
 *        |             ready(asker, snapshot), a posted call on the asker's thread
 *        v                  |
 *   the asker's timer       |
 *        `------------------+--> snapshot_finish merges what has come --> snapshot_json
 *                                                                     --> snapshot_free
 *
 * The asker is a connection of another server of the process, whose one worker starts and ends all
 * walks of the server.  One walk at a time is in progress.  A worker that has not answered when the
 * walk is finished is missing: a callback blocks it.  Until it has answered it gets no other visit,
 * and is missing in later walks at once.
 *
 * A worker writes to its own part, and no more once it has ended it.  The asker reads a part only
 * then.  The memory belongs to the asker, and to the workers together; the last one to leave frees
 * it.  No worker allocates.
 *
 * The workers' threads of the server must end before the asker's server is destroyed.  The server
 * must be closed after that.
 */
#ifndef POOL_SNAPSHOT_H
#define POOL_SNAPSHOT_H

#include "pool/task.h"
#include "pool/server.h"
#include "pool/snapshot_query.h"

/* A connection, as its worker saw it. */
struct snapshot_row {
  uint64_t rank; /* rows with higher ranks come first, and of the same rank those with lower ids */
  uint64_t id;
  uint64_t opened_ns, active_ns;
  uint64_t messages, bytes_in, bytes_out, pending;
  struct addr peer;
  char path[XCHG_ADDRESS_MAX]; /* the peer as text, if a proxy announced a path; else "" */
  struct addr via;             /* the proxy that announced the peer; ADDR_NONE = there is none */
  uint32_t worker;
  uint8_t listener;
  uint8_t state; /* enum snapshot_state */
  bool paused;
};

struct snapshot;

/**
 * snapshot_start(data, query, asker, ready):
 * Begin to walk all connections of ${data}.  ${ready} is called in a task of ${asker}, if that
 * lives, when all workers have answered, unless the walk was finished or freed before.
 * Return: the walk, or NULL with errno. EBUSY: another one is in progress. EINVAL: ${data} has no
 * such worker. ENOTSUP: it has none, because its model is not pool. ENOMEM.
 * Own: the walk is the caller's until snapshot_free, which is due before ${asker} has closed.
 * Thread: the asker's, like all that follow.
 */
struct snapshot *snapshot_start(struct xchg_server *data, const struct snapshot_query *query,
                                struct xchg_conn *asker,
                                void (*ready)(struct xchg_conn *asker, struct snapshot *snapshot));

/** The id of the connection that has asked. */
uint64_t snapshot_asker(const struct snapshot *snapshot);

/** Merge what the workers have answered; another walk may start. Later calls do nothing. */
void snapshot_finish(struct snapshot *snapshot);

/** The rows of a finished walk, in order. Return: how many. */
uint32_t snapshot_rows(const struct snapshot *snapshot, const struct snapshot_row **rows);

/** Was ${worker} asked, and had not answered when the walk was finished? */
bool snapshot_is_missing(const struct snapshot *snapshot, uint32_t worker);

/** Connections that a finished walk has looked at, and those of them that the query describes. */
uint64_t snapshot_seen(const struct snapshot *snapshot);
uint64_t snapshot_matched(const struct snapshot *snapshot);

/**
 * Write a finished walk as one JSON object to the ${size} bytes at ${buffer}. Allocates nothing.
 * Return: the bytes that it needs; if they are more than ${size}, the text is incomplete.
 */
size_t snapshot_json(const struct snapshot *snapshot, char *buffer, size_t size);

/** The walk is not needed any more: ${snapshot} is NULL, in progress, or finished. */
void snapshot_free(struct snapshot *snapshot);

#endif
