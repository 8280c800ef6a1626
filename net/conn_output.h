/* conn_output: gives queued output to the kernel. */
#ifndef NET_CONN_OUTPUT_H
#define NET_CONN_OUTPUT_H

#include "net/conn_internal.h"

/**
 * conn_output_flush(conn, limit):
 * Write at most ${limit} of the queued bytes (1 at least), usually in one call.  If the kernel
 * takes less, register for EPOLLOUT.  If more is queued, request another turn.  An error requests
 * the close.
 * Return: how many of the ${limit} bytes are left.
 */
size_t conn_output_flush(struct xchg_conn *conn, size_t limit);

/** Are XCHG_MAX_PENDING bytes queued, so that parsing and reading must wait? */
static inline bool conn_output_blocked(const struct xchg_conn *conn) {
  return !send_queue_empty(&conn->out) &&
         send_queue_size(&conn->out) >= conn->ctx->config->max_pending_bytes;
}

#endif
