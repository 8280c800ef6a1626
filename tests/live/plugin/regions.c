/*
 * regions: a plug-in that echoes, for a memory trace of one message.
 *
 * The first message of a connection writes one line for each region of memory that may matter to
 * standard error: region=NAME from=ADDRESS to=ADDRESS, a region inside another one first.  Every
 * message stores to the region "mark", so that a trace of stores shows where a message begins.
 */
#include "pool/worker.h"

#include <stdio.h>

#define STACK_BYTES 8192 /* more than a turn of the worker needs */

static uint64_t mark CACHE_ALIGNED;

static void tell(const char *name, const void *from, size_t size) {
  fprintf(stderr, "region=%s from=%#zx to=%#zx\n", name, (size_t)from, (size_t)from + size);
}

#define TELL(name, object) tell(name, &(object), sizeof(object))

static void tell_worker(struct worker *worker) {
  struct reactor *reactor = &worker->reactor;
  tell("conn_ctx.bufs", &worker->ctx.bufs, sizeof(worker->ctx.bufs));
  TELL("conn_ctx", worker->ctx);
  TELL("reactor.wheel", reactor->wheel);
  tell("reactor", reactor, offsetof(struct reactor, events));
  TELL("reactor.events", reactor->events);
  TELL("slab", worker->conns);
  TELL("inbox", worker->inbox);
  TELL("stats", worker->stats);
  TELL("worker", *worker);
  tell("slab.chunks", worker->conns.chunks,
       worker->conns.chunks_max * 2 * sizeof(void *)); /* 16 bytes a chunk */
  tell("input", worker->input, CONN_INPUT_FRONT + worker->ctx.input_bytes);
  tell("config", worker->config, sizeof(*worker->config));
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  (void)xchg_send(conn, message->frame, message->frame_size);
  mark++;
  if (conn->messages == 1) {
    TELL("mark", mark);
    TELL("xchg_conn", *conn);
    tell("output_buf", conn->out.bytes, conn->out.bytes->block);
    tell("conn_peer", conn_peer(conn), sizeof(*conn_peer(conn)));
    tell("handler", conn->ctx->handler, sizeof(*conn->ctx->handler));
    tell_worker(container_of(conn->ctx, struct worker, ctx));
    tell("stack", (const char *)__builtin_frame_address(0) - STACK_BYTES, 2 * STACK_BYTES);
  }
}

static const struct xchg_handler handler = {.size = sizeof(handler), .on_message = on_message};

XCHG_PLUGIN(handler)
