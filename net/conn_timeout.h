/*
 * conn_timeout: the clocks of one connection.
 *
 * A connection has one timer in the wheel.  conn_timeout_next says when it must be looked at next,
 * from fields that cost a turn nothing but a store; the timer is moved only to come earlier, and
 * one that comes too early is armed anew.  What the kernel must be asked (has the peer acknowledged
 * more?) is asked when a deadline comes, never before.
 */
#ifndef NET_CONN_TIMEOUT_H
#define NET_CONN_TIMEOUT_H

#include "net/conn_internal.h"

enum expired {
  EXPIRED_NOT,
  EXPIRED_IDLE,     /* XCHG_IDLE_TIMEOUT */
  EXPIRED_MESSAGE,  /* XCHG_MESSAGE_TIMEOUT */
  EXPIRED_WRITE,    /* XCHG_WRITE_TIMEOUT */
  EXPIRED_LIFETIME, /* it had to leave and has used up its time */
  EXPIRED_SILENT,   /* it had to leave and has not spoken */
  EXPIRED_LINGER,   /* the drain is over */
};

/**
 * conn_timeout_limit(conn): when a limit of ${conn} must be looked at; NEVER where nothing limits
 * it. conn_timeout_next(conn): the same, or its handler's timer where that comes first.
 */
uint64_t conn_timeout_limit(const struct xchg_conn *conn);
uint64_t conn_timeout_next(const struct xchg_conn *conn);

/**
 * What of ${conn} is due at the reactor's present time. Asks the kernel about progress, and notes
 * it, where that decides.
 */
enum expired conn_timeout_expired(struct xchg_conn *conn);

/** Note that the lifetime is over, if it is. */
void conn_timeout_age(struct xchg_conn *conn);

/** Must ${conn} end as soon as nothing is under way: the server stops, or its lifetime is over? */
bool conn_timeout_must_leave(const struct xchg_conn *conn);

/**
 * When the lifetime of a connection accepted at ${accepted_ns} ends: XCHG_MAX_LIFETIME less up to a
 * tenth at random; NEVER where there is none.
 */
uint64_t conn_timeout_lifetime(struct conn_ctx *ctx, uint64_t accepted_ns);

#endif
