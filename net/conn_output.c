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

/* Write up to ${*asked} bytes of the queue, references too, in one call that asks for ${*asked}. */
static enum io transmit_parts(const struct xchg_conn *conn, size_t *asked, size_t *count) {
  struct iovec parts[PARTS_MAX];
  int parts_max = send_queue_parts(&conn->out, parts, PARTS_MAX), parts_count = 0;
  size_t limit = *asked;
  for (*asked = 0; parts_count < parts_max && *asked < limit; parts_count++) {
    struct iovec *part = &parts[parts_count];
    part->iov_len = min_u64(part->iov_len, limit - *asked);
    *asked += part->iov_len;
  }
  return sock_sendv(conn->fd, parts, parts_count, count);
}

/*
 * Make one system call for at most ${*asked} bytes, which becomes the size of the attempt.  An
 * error requests the close.
 */
static void transmit(struct xchg_conn *conn, size_t *asked, size_t *count) {
  struct conn_ctx *ctx = conn->ctx;
  const struct buf *bytes = conn->out.bytes;
  enum io io;
  if (conn->out.last == NULL) {
    *asked = min_u64(buf_size(bytes), *asked);
    io = sock_send(conn->fd, buf_data(bytes), *asked, count);
  } else {
    io = transmit_parts(conn, asked, count);
  }
  if (io == IO_ERROR) {
    conn_request_close(conn, conn_proxy_reason(conn, sock_reason(errno)));
  } else if (*count > 0) {
    conn->bytes_out += *count;
    conn->active_ns = ctx->reactor->now_ns;
    stats_add(&ctx->stats->bytes_out, *count);
    send_queue_consume(&ctx->send_queues, &conn->out, *count);
  }
}

size_t conn_output_flush(struct xchg_conn *conn, size_t limit) {
  size_t asked = 0, count = 0;
  for (int i = 0; i < FLUSHES_MAX && !send_queue_empty(&conn->out) && count == asked && limit > 0;
       i++) {
    asked = limit;
    transmit(conn, &asked, &count);
    limit -= count;
  }
  if (send_queue_empty(&conn->out)) {
    conn->stalled = false;
  } else if (conn->state == CONN_CLOSED) {
    return limit;
  } else if (count == asked) { /* more bytes or parts are queued: other connections come first */
    conn->stalled = false;
    reactor_requeue(conn->ctx->reactor, &conn->source);
  } else if (count > 0 || !conn->stalled) {
    stall(conn);
  }
  return limit;
}
