/*
 * conn_api: what a handler may ask of a connection: the calls of core/xchg.h that take one.
 *
 * Each is a wish: it changes fields of the connection, which its turn carries out, at once where
 * the call comes from within that turn, else in a turn that it asks for.  A call from another
 * thread than the connection's does nothing.  Here is also how an id is made and understood.
 */
#ifndef NET_CONN_API_H
#define NET_CONN_API_H

#include "net/conn_internal.h"

/*
 *   id = worker (10 bits) | slot (24 bits) | generation (30 bits)
 */
#define CONN_ID_GENERATION_BITS 30
#define CONN_ID_SLOT_BITS 24

/** The number of the worker that an id belongs to. */
static inline uint32_t conn_id_worker(uint64_t id) {
  return (uint32_t)(id >> (CONN_ID_GENERATION_BITS + CONN_ID_SLOT_BITS));
}

/** The connection of ${host} that ${id} names, or NULL where it is gone. */
struct xchg_conn *conn_find(struct conn_ctx *ctx, uint64_t id);

/** Let ${conn}'s wishes be carried out: give it a turn, unless this is one of its own. */
void conn_schedule(struct xchg_conn *conn);

/**
 * conn_publish(conn, slow, loan): queue ${loan} to a member of a group, or treat it as ${slow} says
 * where too much waits for it already.
 * Return: was it lent?
 */
bool conn_publish(struct xchg_conn *conn, enum xchg_slow slow, const struct buf_ref *ref);

/** Is the calling thread the one that ${conn} belongs to? Else errno is EPERM. */
bool conn_on_owner_thread(const struct xchg_conn *conn);

/** May something be sent to ${conn} from here? Else errno is EPERM or EPIPE. */
bool conn_can_send(const struct xchg_conn *conn);

#endif
