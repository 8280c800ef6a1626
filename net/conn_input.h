/*
 * conn_input: reads from a connection, parses messages and delivers them to the handler.
 *
 * Every read goes into the worker's one input buffer, and messages are parsed there.  Only bytes
 * that must wait are copied into conn->in: an unfinished message, or messages while the input is
 * blocked.
 */
#ifndef NET_CONN_INPUT_H
#define NET_CONN_INPUT_H

#include "net/conn_output.h"

/**
 * conn_input_work(conn):
 * Parse buffered bytes that had to wait, then read: once, or several times if a short read proves
 * nothing.  All that is read and delivered counts against CONN_TURN_BYTES, so that other
 * connections proceed.
 */
void conn_input_work(struct xchg_conn *conn);

/* What the next two functions do where there is something to do. */
void conn_input_apply(struct xchg_conn *conn);
void conn_input_check(struct xchg_conn *conn);

/** Carry out the request of a callback or call: finish or abort. */
static inline void conn_apply_requests(struct xchg_conn *conn) {
  if (conn->request != REQUEST_NONE) {
    conn_input_apply(conn);
  }
}

/**
 * Begin the end if the exchange is complete: after its last message, or after the end of the
 * stream.  The end waits while the handler pauses and while an offloaded job is out.  If output was
 * queued, it also waits for on_drain.
 */
static inline void conn_check_complete(struct xchg_conn *conn) {
  if (conn->eof || conn_counted(conn)) {
    conn_input_check(conn);
  }
}

/** Must parsing and reading wait: for the handler, a job or on_drain, or for the peer to read? */
static inline bool conn_input_blocked(const struct xchg_conn *conn) {
  return conn_paused(conn) || conn_output_blocked(conn);
}

/** Is a read allowed now, and may it find something? */
bool conn_input_readable(const struct xchg_conn *conn);

/** Stop or start the clock of the message in progress. It stands while input is blocked. */
void conn_stop_clock(struct xchg_conn *conn, bool stop);

#endif
