/*
 * conn_input: what a connection receives: it reads, parses messages and delivers them.
 *
 * A read goes into the worker's one buffer, and messages are parsed where they lie.  Only what must
 * wait (an unfinished message, or whole ones while input is blocked) is copied into conn->in.
 */
#ifndef NET_CONN_INPUT_H
#define NET_CONN_INPUT_H

#include "net/conn_output.h"

/**
 * conn_input_work(conn):
 * Continue with buffered bytes that had to wait, then read.  One read a turn, so that a connection
 * that sends without pause gives way to others; several where a short read proves nothing.
 */
void conn_input_work(struct xchg_conn *conn);

/** Carry out what a callback has asked for: abort or finish. */
void conn_apply_requests(struct xchg_conn *conn);

/**
 * Begin the end where the exchange is complete: after its last message, or after the end of the
 * stream.  Not while an answer is still to come: from the handler, from offloaded work, or from
 * on_drain, which follows whatever was sent.
 */
void conn_check_complete(struct xchg_conn *conn);

/** May nothing be parsed or read: is output over the mark, or an answer still to come? */
static inline bool conn_input_blocked(const struct xchg_conn *conn) {
  return conn_paused(conn) || conn_output_blocked(conn);
}

/** May bytes be read now, and may there be any? */
bool conn_input_readable(const struct xchg_conn *conn);

/** Stop or start the clock of the message under way.  It stands while the server does not read. */
void conn_stop_clock(struct xchg_conn *conn, bool stop);

#endif
