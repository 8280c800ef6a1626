/*
 * conn: opens connections and gives them their turns; coordinates conn_input, conn_output,
 * conn_close and conn_timeout.
 *
 * A connection gets a turn for an event, a timer, a request for another turn, or a stop.  A
 * connection that must close is closed at one place, at the end of its turn, and counted under one
 * reason.  Runs on the thread that owns the context.
 */
#ifndef NET_CONN_H
#define NET_CONN_H

#include "core/sys.h"
#include "net/conn_internal.h"

/**
 * conn_ctx_init(ctx, config, handler, reactor, conns_max):
 * Prepare ${ctx} for at most ${conns_max} connections.  The caller must set its input and
 * input_bytes, and may give its bufs a staging block.  Counts go to ${reactor}'s counters.
 * Return: 0, or -1 (ENOMEM).
 */
int conn_ctx_init(struct conn_ctx *ctx, const struct config *config,
                  const struct xchg_handler *handler, struct reactor *reactor, uint32_t conns_max);
void conn_ctx_fini(struct conn_ctx *ctx);

/** Give unused memory back to the kernel. The slab of connections must be trimmed before. */
void conn_ctx_trim(struct conn_ctx *ctx);

/** Call at the beginning of a connection's turn and of a task: the worker makes progress. */
static inline void watchdog_heartbeat(struct conn_ctx *ctx) { stats_add(&ctx->steps, 1); }

/** Bytes of a connection's object, including the handler's state. */
static inline size_t conn_bytes(const struct xchg_handler *handler) {
  return CONN_STATE_OFFSET + handler->state_size;
}

/**
 * conn_open(ctx, accepted):
 * Take over the descriptor of ${accepted}, register it and send the greeting.
 * Return: 0, or -1 without memory: then the descriptor is closed and counted, no connection will be
 * reaped, and the caller returns the ip_slot.
 */
int conn_open(struct conn_ctx *ctx, const struct accepted_conn *accepted);

/** A turn of the connection that contains ${source}; conn_ctx_init sets it as the reactor's. */
void conn_on_event(struct source *source, uint32_t events);

/** The server stops (ctx->stop_ns is set): end once no message is in progress. */
void conn_stop(struct source *source);

/**
 * XCHG_DRAIN_TIMEOUT is over: serve what has arrived, then close as XCHG_DRAIN.
 * Return: was it closed by this call? Otherwise serving has closed it for another reason.
 */
bool conn_stop_now(struct source *source);

#endif
