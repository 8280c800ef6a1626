/*
 * conn_api: the calls of core/xchg.h that take a connection, and ids of connections.
 *
 * A call queues output or changes fields of the connection.  A turn of the connection carries this
 * out: the current one if the call comes from it, else one that the call requests.  A call from
 * another thread than the connection's fails with EPERM.
 */
#ifndef NET_CONN_API_H
#define NET_CONN_API_H

#include "net/conn_internal.h"

/*
 *   id = worker | generation | slot           the last two are the key of net/reactor.h
 *
 * Worker and slot have as many bits as XCHG_WORKERS and XCHG_MAX_CONNECTIONS need, the worker at
 * least one.  All others are the generation's: 40 at least with up to 16 workers and 2^20
 * connections, 30 at least with the largest values.
 */

/** The index of the one among ${workers} workers that ${id} belongs to. */
static inline uint32_t conn_id_worker(uint64_t id, uint32_t workers) {
  return (uint32_t)(id >> (64 - conn_id_worker_bits(workers)));
}

/** The connection of ${ctx} with this ${id}, or NULL if it has closed. */
struct xchg_conn *conn_find(struct conn_ctx *ctx, uint64_t id);

/** Request a turn for ${conn}, unless this is one of its own turns. */
void conn_schedule(struct xchg_conn *conn);

/**
 * conn_publish(conn, slow, ref): queue ${ref} to a member of a group.  If XCHG_MAX_PENDING bytes
 * are queued already, treat ${conn} as ${slow} says.
 * Return: was ${ref} queued?
 */
bool conn_publish(struct xchg_conn *conn, enum xchg_slow slow, const struct buf_ref *ref);

/**
 * conn_join(conn, group, slow): what xchg_join does after its checks.
 * Return: 0, or -1 as group_join.
 */
int conn_join(struct xchg_conn *conn, uint64_t group, enum xchg_slow slow);

/** Does ${conn} belong to the calling thread of this process? Otherwise errno is EPERM. */
bool conn_on_owner_thread(const struct xchg_conn *conn);

/** May the caller send to ${conn}? Otherwise errno is EPERM or EPIPE. */
bool conn_can_send(const struct xchg_conn *conn);

#endif
