/*
 * conn: opens a connection and gives it its turns; the coordinator of conn_in, conn_out, conn_time.
 *
 * Everything that happens to a connection is a turn: events, timers, the stop.  Every end goes
 * through one function (conn_close) and counts under one reason.  Runs on the thread that owns
 * the host.
 */
#ifndef NET_CONN_H
#define NET_CONN_H

#include "core/sys.h"
#include "net/conn_internal.h"

#define HEARTBEAT_STEPS 64

/**
 * conn_ctx_init(host, config, handler, reactor, conns_max):
 * Prepare ${host} for at most ${conns_max} connections; its input must be set by the caller. Counts
 * go where ${reactor}'s do.
 * Return: 0, or -1 (ENOMEM).
 */
int conn_ctx_init(struct conn_ctx *ctx, const struct config *config,
                  const struct xchg_handler *handler, struct reactor *reactor, uint32_t conns_max);
void conn_ctx_fini(struct conn_ctx *ctx);

/** Give memory that is not used back to the kernel. */
void conn_ctx_trim(struct conn_ctx *ctx);

/**
 * A step of a long turn, one connection's or one letter's: now and then the turn counts as begun
 * anew, so that a watchdog sees what one step takes and not many.
 */
static inline void watchdog_heartbeat(struct conn_ctx *ctx) {
  if (++ctx->heartbeats % HEARTBEAT_STEPS == 0 && ctx->turn_ns != NULL) {
    atom_store_relaxed_u64(ctx->turn_ns, sys_now_ns());
  }
}

/** Bytes of a connection's object, its handler's state included. */
static inline size_t conn_bytes(const struct xchg_handler *handler) {
  return CONN_STATE_OFFSET + handler->state_size;
}

/**
 * conn_open(host, guest):
 * Take over the descriptor of ${guest}: greet, watch, serve.  Without memory it is closed and
 * counted.
 * Return: 0, or -1 where it is closed already and will not be reaped (the ticket is still the
 * caller's).
 */
int conn_open(struct conn_ctx *ctx, const struct accepted_conn *accepted);

/** The server stops (host->stop_ns is set): finish what has begun. */
void conn_stop(struct source *source);

/**
 * The server's patience is over: one last look, then close, counted as XCHG_DRAIN. Return: was it
 * cut, or did the look end it?
 */
bool conn_stop_now(struct source *source);

#endif
