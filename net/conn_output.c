/* conn_output: see conn_output.h. */
#include "net/conn_output.h"

#include "net/sock.h"
#include "net/conn_proxy.h"

#include <errno.h>

#define PARTS_MAX 64  /* parts of the output per system call */
#define FLUSHES_MAX 8 /* system calls per turn, if there are more parts */

/*
 * The kernel took less than was queued.  Register for EPOLLOUT, and record what the peer has
 * acknowledged so far, so that it does not count as progress later.
 */
static void stall(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  struct conn_cold *cold = conn_cold(conn);
  if (cold == NULL) {
    conn_request_close(conn, XCHG_MEMORY);
    return;
  }
  cold->progress_ns = reactor_fresh_ns(ctx->reactor);
  cold->acknowledged = (uint32_t)conn->bytes_out - sock_unacked(conn->fd);
  if (conn->stalled) {
    return;
  }
  conn->stalled = true;
  if (reactor_modify(ctx->reactor, &conn->source, conn->fd, CONN_WATCHED | EPOLLOUT) == -1) {
    conn_request_close(conn, XCHG_MEMORY);
  }
}

/* One system call: the bytes that it asked for, and those that the kernel took. */
struct attempt {
  size_t asked, count;
};

/* The kernel took ${count} bytes, or (IO_ERROR) the connection has failed: request the close. */
static inline void note_sent(struct xchg_conn *conn, enum io io, size_t count) {
  struct conn_ctx *ctx = conn->ctx;
  if (io == IO_ERROR) {
    conn_request_close(conn, conn_proxy_reason(conn, sock_reason(errno)));
  } else if (count > 0) {
    conn->bytes_out += count;
    conn->active_ns = ctx->reactor->now_ns;
    stats_add(&ctx->stats->bytes_out, count);
    probe_sent(ctx->index, conn_id(conn), count);
    send_queue_consume(&ctx->send_queues, &conn->out, count);
  }
}

/* Write up to ${limit} bytes of a queue without references. */
static inline struct attempt transmit_bytes(struct xchg_conn *conn, size_t limit) {
  const struct buf *bytes = conn->out.bytes;
  struct attempt attempt = {.asked = min_u64(buf_size(bytes), limit)};
  enum io io = sock_send(conn->fd, buf_data(bytes), attempt.asked, &attempt.count);
  note_sent(conn, io, attempt.count);
  return attempt;
}

/* Write up to ${limit} bytes of the queue, references too. */
static struct attempt transmit_parts(struct xchg_conn *conn, size_t limit) {
  struct iovec parts[PARTS_MAX];
  int parts_max = send_queue_parts(&conn->out, parts, PARTS_MAX), parts_count = 0;
  struct attempt attempt = {.asked = 0};
  for (; parts_count < parts_max && attempt.asked < limit; parts_count++) {
    struct iovec *part = &parts[parts_count];
    part->iov_len = min_u64(part->iov_len, limit - attempt.asked);
    attempt.asked += part->iov_len;
  }
  enum io io = sock_sendv(conn->fd, parts, parts_count, &attempt.count);
  note_sent(conn, io, attempt.count);
  return attempt;
}

/* The last ${attempt} of a turn has left bytes in the queue. */
static void note_rest(struct xchg_conn *conn, struct attempt attempt) {
  if (conn->state == CONN_CLOSED) {
    return;
  }
  if (attempt.count == attempt.asked) { /* more is queued: other connections come first */
    conn->stalled = false;
    reactor_requeue(conn->ctx->reactor, &conn->source);
  } else if (attempt.count > 0 || !conn->stalled) {
    stall(conn);
  }
}

size_t conn_output_flush(struct xchg_conn *conn, size_t limit) {
  struct attempt last = {.asked = 0};
  for (int i = 0;
       i < FLUSHES_MAX && !send_queue_empty(&conn->out) && last.count == last.asked && limit > 0;
       i++) {
    last = conn->out.last == NULL ? transmit_bytes(conn, limit) : transmit_parts(conn, limit);
    limit -= last.count;
  }
  conn->drain_due = conn->ctx->handler->on_drain != NULL;
  if (send_queue_empty(&conn->out)) {
    conn->stalled = false;
  } else {
    note_rest(conn, last);
  }
  return limit;
}
