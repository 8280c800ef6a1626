/*
 * conn_input: what a connection receives: reads, cuts messages, hands them up.
 *
 * A read goes into the worker's one buffer and messages are cut where they lie; only what must wait
 * (an unfinished message, or whole ones while output is over the mark) is copied into conn->in.
 */
#ifndef NET_CONN_INPUT_H
#define NET_CONN_INPUT_H

#include "net/conn_output.h"

/**
 * conn_input_work(conn):
 * Go on with kept bytes where they had to wait, then read: once, so that a connection that sends
 * without pause gives way to others, or until nothing is left where a short read does not prove
 * that.
 * Return: is the connection still there?
 */
bool conn_input_work(struct xchg_conn *conn);

/**
 * conn_apply_requests(conn): carry out what a callback has asked for: abort, finish.
 * Return: is the connection still there?
 */
static inline bool conn_apply_requests(struct xchg_conn *conn) {
  if (conn->aborted) {
    conn_close(conn, conn->reason);
    return false;
  }
  if (conn->finishing && conn->state == CONN_OPEN) {
    conn_begin_end(conn, XCHG_FINISHED);
  }
  return true;
}

/**
 * The exchange is over with its last message, or with the stream's end, unless an answer is still
 * to come: from who holds the connection, or by on_drain, which follows on whatever was sent.
 */
void conn_check_complete(struct xchg_conn *conn);

/** Is nothing to be cut or read: output is over the mark, or the handler holds the connection? */
static inline bool conn_input_blocked(const struct xchg_conn *conn) {
  return conn_paused(conn) || conn_output_blocked(conn);
}

/**
 * May bytes be read now, and may there be any? Not while output is over the mark, and not more than
 * a drain may.
 */
bool conn_input_readable(const struct xchg_conn *conn);

/**
 * Stop or start the clock of the message under way: it stands while the server itself does not
 * read.
 */
void conn_input_pause(struct xchg_conn *conn, bool paused);

#endif
