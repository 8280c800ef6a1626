/*
 * conn_output: what a connection sends.
 */
#ifndef NET_CONN_OUTPUT_H
#define NET_CONN_OUTPUT_H

#include "net/conn_internal.h"

/**
 * Write what is queued, in one call as a rule; where the kernel takes less, ask for EPOLLOUT. An
 * error requests the close.
 */
void conn_output_flush(struct xchg_conn *conn);

/** Are so many bytes queued that nothing may be parsed or read? */
static inline bool conn_output_blocked(const struct xchg_conn *conn) {
  return send_queue_size(&conn->out) >= conn->ctx->config->max_pending_bytes;
}

#endif
