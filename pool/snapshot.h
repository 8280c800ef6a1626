/*
 * snapshot: collects the first n connections of a server in some order, without a lock.
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
 * The asker is the connection that requested the walk.  It belongs to another server of the
 * process, the admin endpoint, whose only worker starts and ends all walks.  One walk runs at a
 * time.  A worker that has not answered when the walk is finished is missing: a callback blocks it.
 * It gets no other visit until it has answered, and later walks count it as missing at once.
 *
 * A worker writes only its own part, and stops writing when it has answered.  The asker reads a
 * part only then.  The asker and the workers own the memory together; the last one to leave frees
 * it.  No worker allocates.
 *
 * The workers' threads of the server must end before the asker's server is destroyed.  The server
 * must be closed after that.
 */
#ifndef POOL_SNAPSHOT_H
#define POOL_SNAPSHOT_H

#include "core/proxy.h"
#include "pool/task.h"
#include "pool/server.h"
#include "pool/snapshot_query.h"

/* A connection, as its worker saw it. */
struct snapshot_row {
  uint64_t rank; /* rows with higher ranks come first; of the same rank, the lower id */
  uint64_t id;
  uint64_t opened_ns, active_ns;
  uint64_t messages, bytes_in, bytes_out, pending;
  struct addr peer;
  char path[XCHG_ADDRESS_MAX]; /* the peer as text, if a proxy announced a path; else "" */
  struct addr via;             /* the proxy that announced the peer; ADDR_NONE = there is none */
  uint32_t worker;
  uint8_t listener;
  uint8_t state; /* enum snapshot_state */
  uint8_t unique_id_size;
  uint8_t unique_id[PROXY_UNIQUE_ID_MAX]; /* of the kept PROXY header: any bytes */
  bool paused;
};

struct snapshot;

/**
 * snapshot_start(data, query, asker, ready):
 * Begin to walk all connections of ${data}.  When all workers have answered, ${ready} is called in
 * a task of ${asker}, unless ${asker} has closed or the walk was finished or freed before.
 * Return: the walk, or NULL with errno. EBUSY: another walk is in progress. EINVAL: ${data} does
 * not have the worker of the query. ENOTSUP: its model is not pool. ENOMEM.
 * Own: the walk is the caller's until snapshot_free, which is due before ${asker} has closed.
 * Thread: the asker's, like all that follow.
 */
struct snapshot *snapshot_start(struct xchg_server *data, const struct snapshot_query *query,
                                struct xchg_conn *asker,
                                void (*ready)(struct xchg_conn *asker, struct snapshot *snapshot));

/** The id of the asker. */
uint64_t snapshot_asker(const struct snapshot *snapshot);

/** Merge the parts that have been answered; another walk may start. Later calls do nothing. */
void snapshot_finish(struct snapshot *snapshot);

/** The rows of a finished walk, in order. Return: their number. */
uint32_t snapshot_rows(const struct snapshot *snapshot, const struct snapshot_row **rows);

/** Did ${worker} get a visit that it had not answered when the walk was finished? */
bool snapshot_is_missing(const struct snapshot *snapshot, uint32_t worker);

/** Number of connections that a finished walk has examined, and of those that match the query. */
uint64_t snapshot_seen(const struct snapshot *snapshot);
uint64_t snapshot_matched(const struct snapshot *snapshot);

/**
 * Write a finished walk as one JSON object to the ${size} bytes at ${buffer}. Allocates nothing.
 * Return: the bytes that the text needs; if they are more than ${size}, the text is incomplete.
 */
size_t snapshot_json(const struct snapshot *snapshot, char *buffer, size_t size);

/** Release a walk. ${snapshot} is NULL, in progress, or finished. */
void snapshot_free(struct snapshot *snapshot);

#endif
