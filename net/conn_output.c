/* conn_output: see conn_output.h. */
#include "net/conn_output.h"

#include "core/sys.h"
#include "net/sock.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>

#define PARTS_MAX 64  /* parts of the output given to the kernel at once */
#define FLUSHES_MAX 8 /* times a turn, where there are more */

/* ---- ends ---- */

struct conn_cold *conn_cold(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  uint32_t slot;
  if (conn->cold != &ctx->no_cold) {
    return conn->cold;
  }
  struct conn_cold *cold = slab_alloc(&ctx->colds, &slot);
  if (cold != NULL) {
    *cold = ctx->no_cold;
    cold->slot = slot;
    conn->cold = cold;
  }
  return cold;
}

static void release_cold(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  if (conn->cold != &ctx->no_cold) {
    group_leave_all(&ctx->groups, &conn->cold->groups);
    slab_free(&ctx->colds, conn->cold->slot);
    conn->cold = &ctx->no_cold;
  }
}

void conn_close(struct xchg_conn *conn, enum xchg_reason reason) {
  struct conn_ctx *ctx = conn->ctx;
  conn->state = CONN_CLOSED;
  if (ctx->handler->on_close != NULL) {
    ctx->handler->on_close(conn, reason);
  }
  stats_add(&ctx->stats->ended[reason], 1);
  buf_release(&ctx->bufs, &conn->in);
  send_queue_release(&ctx->send_queues, &conn->out);
  release_cold(conn);
  reactor_retire(ctx->reactor, &conn->source);
  sys_close(conn->fd);
  conn->fd = -1;
}

void conn_begin_end(struct xchg_conn *conn, enum xchg_reason reason) {
  assert(conn->state == CONN_OPEN);
  conn->state = CONN_ENDING;
  conn->reason = (uint8_t)reason;
}

/*
 * A limit that begins now: a turn that was held up (the process was stopped, the machine busy) may
 * have begun long ago.
 */
static uint64_t fresh_ns(const struct xchg_conn *conn) {
  return max_u64(conn->ctx->reactor->now_ns, sys_now_ns());
}

bool conn_shutdown(struct xchg_conn *conn) {
  const struct config *config = conn->ctx->config;
  if (conn->eof || config->linger_ns == 0) {
    conn_close(conn, conn->reason);
    return false;
  }
  uint32_t unacked = sock_unacked(conn->fd);
  if (!conn->half_close && !conn->extra_input && !conn->unread && unacked == 0) {
    conn_close(conn, conn->reason);
    return false;
  }
  struct conn_cold *cold = conn_cold(conn);
  if (cold == NULL) {
    conn_close(conn, XCHG_MEMORY);
    return false;
  }
  if (sys_shutdown(conn->fd, SHUT_WR) == -1) {
    conn_close(conn, conn->reason); /* ENOTCONN: the peer is gone, nothing is left to protect */
    return false;
  }
  conn->state = CONN_LINGERING;
  cold->progress_ns = fresh_ns(conn);
  cold->acknowledged = conn->sent - unacked;
  return true;
}

bool conn_linger(struct xchg_conn *conn) {
  if (conn->discarded >= LINGER_BYTES_MAX && sock_unacked(conn->fd) == 0) {
    conn_close(conn, conn->reason);
    return false;
  }
  return true;
}

/* ---- output ---- */

/*
 * The kernel took less than there was: ask to be told, and note where the peer stands, each time:
 * what it acknowledged before now must not prolong anything later.
 */
static bool stall(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  struct conn_cold *cold = conn_cold(conn);
  if (cold == NULL) {
    conn_close(conn, XCHG_MEMORY);
    return false;
  }
  cold->progress_ns = fresh_ns(conn);
  cold->acknowledged = conn->sent - sock_unacked(conn->fd);
  if (conn->stalled) {
    return true;
  }
  conn->stalled = true;
  if (reactor_modify(ctx->reactor, &conn->source, conn->fd, CONN_WATCHED | EPOLLOUT) == -1) {
    conn_close(conn, XCHG_MEMORY);
    return false;
  }
  return true;
}

/* Where bytes are lent: give the kernel what it takes of ${*asked} bytes in one call. */
static enum io transmit_parts(const struct xchg_conn *conn, size_t *asked, size_t *count) {
  struct iovec parts[PARTS_MAX];
  int parts_count = send_queue_parts(&conn->out, parts, PARTS_MAX);
  *asked = 0;
  for (int i = 0; i < parts_count; i++) {
    *asked += parts[i].iov_len;
  }
  return sock_sendv(conn->fd, parts, parts_count, count);
}

/* One call. Return: is the connection still there? */
static bool transmit(struct xchg_conn *conn, size_t *asked, size_t *count) {
  struct conn_ctx *ctx = conn->ctx;
  const struct buf *bytes = conn->out.bytes;
  enum io io;
  if (conn->out.last == NULL) {
    *asked = buf_size(bytes);
    io = sock_send(conn->fd, buf_data(bytes), *asked, count);
  } else {
    io = transmit_parts(conn, asked, count);
  }
  if (io == IO_ERROR) {
    conn_close(conn, sock_reason(errno));
    return false;
  }
  if (*count > 0) {
    conn->sent += (uint32_t)*count;
    conn->active_ns = ctx->reactor->now_ns;
    stats_add(&ctx->stats->bytes_out, *count);
    send_queue_consume(&ctx->send_queues, &conn->out, *count);
  }
  return true;
}

bool conn_output_flush(struct xchg_conn *conn) {
  size_t asked = 0, count = 0;
  for (int i = 0; i < FLUSHES_MAX && !send_queue_empty(&conn->out) && count == asked; i++) {
    if (!transmit(conn, &asked, &count)) {
      return false;
    }
  }
  if (send_queue_empty(&conn->out)) {
    conn->stalled = false;
    return true;
  }
  if (count == asked) { /* so many parts that others come first */
    conn->stalled = false;
    reactor_requeue(conn->ctx->reactor, &conn->source);
    return true;
  }
  return count > 0 || !conn->stalled ? stall(conn) : true;
}
