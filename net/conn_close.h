/*
 * conn_close: how a connection that has ended is shut down, lingers and is released.
 */
#ifndef NET_CONN_CLOSE_H
#define NET_CONN_CLOSE_H

#include "net/conn_internal.h"

/**
 * conn_shutdown(conn):
 * The kernel has taken everything of an ENDING ${conn}.  Request its close where that destroys
 * nothing (the peer has acknowledged all, and nothing is unread); otherwise half-close: LINGERING.
 */
void conn_shutdown(struct xchg_conn *conn);

/** While LINGERING: request the close once no more may be read and everything is acknowledged. */
void conn_linger(struct xchg_conn *conn);

/**
 * conn_release(conn):
 * Close a CONN_CLOSED ${conn}: call on_close, count the end, free what it owns, close the
 * descriptor.  The object itself is freed by the worker's reap.  Called by conn.c alone, at the end
 * of a turn.
 */
void conn_release(struct xchg_conn *conn);

#endif
