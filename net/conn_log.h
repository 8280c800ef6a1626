/*
 * conn_log: the debug lines of a connection, and the slow log.
 *
 *   level debug   opened, closed: the life of a connection; 100 lines a second of a worker
 *   level warn    slow: exceeded XCHG_SLOW_LOG; 10 lines a second of a worker
 *
 * A counted exchange lasts from the accept to the close.  A message of an endless exchange lasts
 * from its first byte until it is delivered.  If the handler then pauses the connection or offloads
 * work, the message lasts until both are over.  All times are start times of turns, so they do not
 * include the callback itself: the watchdog reports a callback that blocks.
 *
 * While neither level debug nor XCHG_SLOW_LOG is on, a connection costs one comparison at its
 * beginning and one at its end, see conn_log_wanted.  Runs on the thread that owns the context.
 */
#ifndef NET_CONN_LOG_H
#define NET_CONN_LOG_H

#include "net/conn_internal.h"

/* The data of XCHG_SLOW_LOG for a connection; in an array by slot. */
struct conn_pace {
  uint64_t message_ns; /* start of the message that is not over; 0 = none */
  uint32_t handoff_us; /* from the accept to the beginning of its first turn */
  bool held;           /* that message was delivered, and the handler holds the connection */
  uint8_t unused[3];
};

/** Allocate what the configuration of ${ctx} needs. Return: 0, or -1 (ENOMEM). */
int conn_log_init(struct conn_ctx *ctx);
void conn_log_fini(struct conn_ctx *ctx);

/** Give back the memory of the slots from ${slot} to peers_end, which are not in use. */
void conn_log_trim(struct conn_ctx *ctx, uint64_t slot);

/** Must conn_log_open and conn_log_end be called? */
static inline bool conn_log_wanted(const struct conn_ctx *ctx) {
  return log_wants(ctx->log, ctx->log_from);
}

/** ${conn} was opened; no callback was called and nothing was sent. */
void conn_log_open(struct xchg_conn *conn);

/** ${conn} ends as ${reason}. Its input and its clock are still those of its last turn. */
void conn_log_end(struct xchg_conn *conn, enum xchg_reason reason);

/**
 * With XCHG_SLOW_LOG only (ctx->paces is not NULL):
 * conn_log_begun(conn): more bytes came of a message whose clock runs.
 * conn_log_delivered(conn): that message was delivered.
 * conn_log_clock(conn, stopped): the clock of the message was stopped, or runs again.
 */
void conn_log_begun(struct xchg_conn *conn);
void conn_log_delivered(struct xchg_conn *conn);
void conn_log_clock(struct xchg_conn *conn, bool stopped);

/**
 * conn_log_begin(line, conn, msg):
 * Begin a line of level debug with id, worker and peer, if the level is on and the worker may still
 * log in this second. log_end ends it in any case.
 */
void conn_log_begin(struct log_line *line, struct xchg_conn *conn, const char *msg);

#endif
