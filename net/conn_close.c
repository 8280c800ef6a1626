/* conn_close: see conn_close.h. */
#include "net/conn_close.h"

#include "core/sys.h"
#include "net/sock.h"
#include "net/conn_proxy.h"

#include <sys/socket.h>

/* Is a close safe: no reset follows it, and the peer has acknowledged everything? */
static bool is_safe_to_close(const struct xchg_conn *conn, uint32_t unacked) {
  return !conn->half_close && !conn->extra_input && conn->readable == READABLE_NO && unacked == 0;
}

void conn_shutdown(struct xchg_conn *conn) {
  if (conn->eof || conn->ctx->config->linger_ns == 0) {
    conn_request_close(conn, conn->end_reason);
    return;
  }
  uint32_t unacked = sock_unacked(conn->fd);
  if (is_safe_to_close(conn, unacked)) {
    conn_request_close(conn, conn->end_reason);
    return;
  }
  struct conn_cold *cold = conn_cold(conn);
  if (cold == NULL) {
    conn_request_close(conn, XCHG_MEMORY);
    return;
  }
  if (sys_shutdown(conn->fd, SHUT_WR) == -1) {
    conn_request_close(conn, conn->end_reason); /* ENOTCONN: the peer has gone already */
    return;
  }
  conn->state = CONN_LINGERING;
  cold->progress_ns = reactor_fresh_ns(conn->ctx->reactor);
  cold->acknowledged = (uint32_t)conn->bytes_out - unacked;
}

void conn_linger(struct xchg_conn *conn) {
  if (conn->discarded >= LINGER_BYTES_MAX && sock_unacked(conn->fd) == 0) {
    conn_request_close(conn, conn->end_reason);
  }
}

/* Close the descriptor. It is forgotten first: a child that is forked here must not close it. */
static void close_fd(struct xchg_conn *conn) {
  int fd = conn->fd;
  conn->fd = -1;
  sys_close(fd);
}

void conn_release(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  enum xchg_reason reason = conn->end_reason;
  if (ctx->handler->on_close != NULL && ctx->thread != NULL && conn_proxy_opened(conn)) {
    ctx->handler->on_close(conn, reason);
  }
  if (ctx->thread == NULL) {
    conn_end_child();
  }
  stats_add(&ctx->stats->ended[reason], 1);
  buf_release(&ctx->bufs, &conn->in);
  send_queue_release(&ctx->send_queues, &conn->out);
  conn_release_cold(conn);
  reactor_retire(ctx->reactor, &conn->source);
  close_fd(conn);
}
