/* conn_output: gives queued output to the kernel. */
#ifndef NET_CONN_OUTPUT_H
#define NET_CONN_OUTPUT_H

#include "net/conn_internal.h"

/**
 * Write the queued bytes, usually in one call.  If the kernel takes less, register for EPOLLOUT.
 * An error requests the close.
 */
void conn_output_flush(struct xchg_conn *conn);

/** Are XCHG_MAX_PENDING bytes queued, so that parsing and reading must wait? */
static inline bool conn_output_blocked(const struct xchg_conn *conn) {
  return send_queue_size(&conn->out) >= conn->ctx->config->max_pending_bytes;
}

#endif
