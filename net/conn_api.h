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
 *   id = worker (10 bits) | slot (24 bits) | generation (30 bits)
 */
#define CONN_ID_GENERATION_BITS 30
#define CONN_ID_SLOT_BITS 24

/** The index of the worker that ${id} belongs to. */
static inline uint32_t conn_id_worker(uint64_t id) {
  return (uint32_t)(id >> (CONN_ID_GENERATION_BITS + CONN_ID_SLOT_BITS));
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

/** Does ${conn} belong to the calling thread of this process? Otherwise errno is EPERM. */
bool conn_on_owner_thread(const struct xchg_conn *conn);

/** May the caller send to ${conn}? Otherwise errno is EPERM or EPIPE. */
bool conn_can_send(const struct xchg_conn *conn);

#endif
