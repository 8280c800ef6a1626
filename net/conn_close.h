/*
 * conn_close: the shutdown, the linger and the release of a connection that ends.
 */
#ifndef NET_CONN_CLOSE_H
#define NET_CONN_CLOSE_H

#include "net/conn_internal.h"

/**
 * conn_shutdown(conn):
 * Call when the kernel has taken all output of an ENDING ${conn}.  If the peer has acknowledged it
 * and nothing is unread, request the close.  Otherwise half-close: LINGERING.
 */
void conn_shutdown(struct xchg_conn *conn);

/** While LINGERING: request the close after LINGER_BYTES_MAX if everything is acknowledged. */
void conn_linger(struct xchg_conn *conn);

/**
 * conn_release(conn):
 * Release a CONN_CLOSED ${conn}: call on_close, count the end, free its memory, close the
 * descriptor.  The worker's reap frees the object.  Only conn.c calls this, at the end of a turn.
 */
void conn_release(struct xchg_conn *conn);

#endif
