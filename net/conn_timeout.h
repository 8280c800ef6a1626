/*
 * conn_timeout: the deadlines of one connection.
 *
 * A connection has one timer in the wheel.  conn_timeout_next computes the earliest deadline from
 * fields that a turn sets with a store.  The timer is moved only to an earlier time.  So a turn
 * that ends with nothing pending does not look at deadlines: those that remain only become later.
 * A timer that fires too early is armed again.  Whether the peer has acknowledged more is a system
 * call, made only when a deadline has passed.
 */
#ifndef NET_CONN_TIMEOUT_H
#define NET_CONN_TIMEOUT_H

#include "net/conn_internal.h"

enum expired {
  EXPIRED_NOT,
  EXPIRED_IDLE,     /* XCHG_IDLE_TIMEOUT */
  EXPIRED_MESSAGE,  /* XCHG_MESSAGE_TIMEOUT */
  EXPIRED_WRITE,    /* XCHG_WRITE_TIMEOUT */
  EXPIRED_LIFETIME, /* XCHG_DRAIN_TIMEOUT after the end of the lifetime */
  EXPIRED_SILENT,   /* it must leave, and no message has begun for a second */
  EXPIRED_LINGER,   /* XCHG_LINGER */
  EXPIRED_HEADER,   /* XCHG_PROXY_TIMEOUT */
};

/**
 * conn_timeout_limit(conn): the earliest deadline of ${conn}; NEVER = none.
 * conn_timeout_next(conn): the same, or the time of the handler's timer if that is earlier.
 */
uint64_t conn_timeout_limit(const struct xchg_conn *conn);
uint64_t conn_timeout_next(const struct xchg_conn *conn);

/**
 * The deadline of ${conn} that has passed at the reactor's time.  If progress of the peer would
 * extend it, asks the kernel, and extends it.
 */
enum expired conn_timeout_expired(struct xchg_conn *conn);

/** Set lifetime_over if the lifetime has passed. */
void conn_timeout_age(struct xchg_conn *conn);

/**
 * The end of the lifetime of a connection accepted at ${accepted_ns}: XCHG_MAX_LIFETIME, less up to
 * 10 % at random; NEVER = no limit.
 */
uint64_t conn_timeout_lifetime(struct conn_ctx *ctx, uint64_t accepted_ns);

#endif
