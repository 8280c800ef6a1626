/*
 * conn_output: what a connection sends, and how it ends.
 *
 * A bool result says whether the connection is still there; after false nothing of it may be
 * touched.
 */
#ifndef NET_CONN_OUTPUT_H
#define NET_CONN_OUTPUT_H

#include "net/conn_internal.h"

/**
 * Close at once, counted as ${reason}; queued bytes are lost. The object is freed at the end of the
 * turn.
 */
void conn_close(struct xchg_conn *conn, enum xchg_reason reason);

/**
 * CONN_OPEN -> CONN_ENDING: only what is queued is sent, then the connection parts as ${reason}.
 */
void conn_begin_end(struct xchg_conn *conn, enum xchg_reason reason);

/**
 * conn_shutdown(conn):
 * Everything is given to the kernel: close where that cannot destroy any of it (the peer has
 * acknowledged all, and nothing is unread), else half-close and drain.
 */
bool conn_shutdown(struct xchg_conn *conn);

/** While draining: close where the drain may read no more and nothing of ours is on its way. */
bool conn_linger(struct xchg_conn *conn);

/** One write of what is queued; where the kernel takes less, ask to be told when it takes more. */
bool conn_output_flush(struct xchg_conn *conn);

/** Is so much queued that nothing may be cut or read? */
static inline bool conn_output_blocked(const struct xchg_conn *conn) {
  return send_queue_size(&conn->out) >= conn->ctx->config->max_pending_bytes;
}

#endif
