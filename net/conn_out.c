/* conn_out: see conn_out.h. */
#include "net/conn_out.h"

#include "core/sys.h"
#include "net/sock.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>

#define PARTS_MAX 64  /* parts of the output given to the kernel at once */
#define FLUSHES_MAX 8 /* times a turn, where there are more */

/* ---- ends ---- */

struct conn_more *conn_more(struct xchg_conn *conn) {
  struct conn_host *host = conn->host;
  uint32_t slot;
  if (conn->more != &host->nothing) {
    return conn->more;
  }
  struct conn_more *more = slab_alloc(&host->mores, &slot);
  if (more != NULL) {
    *more = host->nothing;
    more->slot = slot;
    conn->more = more;
  }
  return more;
}

static void release_more(struct xchg_conn *conn) {
  struct conn_host *host = conn->host;
  if (conn->more != &host->nothing) {
    group_leave_all(&host->groups, &conn->more->groups);
    slab_free(&host->mores, conn->more->slot);
    conn->more = &host->nothing;
  }
}

void conn_out_close(struct xchg_conn *conn, enum xchg_reason reason) {
  struct conn_host *host = conn->host;
  conn->state = CONN_CLOSED;
  if (host->handler->on_close != NULL) {
    host->handler->on_close(conn, reason);
  }
  stats_add(&host->stats->ended[reason], 1);
  buf_release(&host->bufs, &conn->in);
  outbox_release(&host->outs, &conn->out);
  release_more(conn);
  reactor_retire(host->reactor, &conn->source);
  sys_close(conn->fd);
  conn->fd = -1;
}

void conn_out_end(struct xchg_conn *conn, enum xchg_reason reason) {
  assert(conn->state == CONN_OPEN);
  conn->state = CONN_ENDING;
  conn->reason = (uint8_t)reason;
}

/*
 * A limit that begins now: a turn that was held up (the process was stopped, the machine busy) may
 * have begun long ago.
 */
static uint64_t fresh_ns(const struct xchg_conn *conn) {
  return max_u64(conn->host->reactor->now_ns, sys_now_ns());
}

bool conn_out_part(struct xchg_conn *conn) {
  const struct config *config = conn->host->config;
  if (conn->ended || config->linger_ns == 0) {
    conn_out_close(conn, conn->reason);
    return false;
  }
  uint32_t unacked = sock_unacked(conn->fd);
  if (!conn->half_close && !conn->excess && !conn->unread && unacked == 0) {
    conn_out_close(conn, conn->reason);
    return false;
  }
  struct conn_more *more = conn_more(conn);
  if (more == NULL) {
    conn_out_close(conn, XCHG_MEMORY);
    return false;
  }
  if (sys_shutdown(conn->fd, SHUT_WR) == -1) {
    conn_out_close(conn, conn->reason); /* ENOTCONN: the peer is gone, nothing is left to protect */
    return false;
  }
  conn->state = CONN_DRAINING;
  more->progress_ns = fresh_ns(conn);
  more->acknowledged = conn->sent - unacked;
  return true;
}

bool conn_out_drain(struct xchg_conn *conn) {
  if (conn->thrown_away >= DRAIN_BYTES_MAX && sock_unacked(conn->fd) == 0) {
    conn_out_close(conn, conn->reason);
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
  struct conn_host *host = conn->host;
  struct conn_more *more = conn_more(conn);
  if (more == NULL) {
    conn_out_close(conn, XCHG_MEMORY);
    return false;
  }
  more->progress_ns = fresh_ns(conn);
  more->acknowledged = conn->sent - sock_unacked(conn->fd);
  if (conn->stalled) {
    return true;
  }
  conn->stalled = true;
  if (reactor_want(host->reactor, &conn->source, conn->fd, CONN_WATCHED | EPOLLOUT) == -1) {
    conn_out_close(conn, XCHG_MEMORY);
    return false;
  }
  return true;
}

/* Where bytes are lent: give the kernel what it takes of ${*asked} bytes in one call. */
static enum io transmit_parts(const struct xchg_conn *conn, size_t *asked, size_t *count) {
  struct iovec parts[PARTS_MAX];
  int parts_count = outbox_parts(&conn->out, parts, PARTS_MAX);
  *asked = 0;
  for (int i = 0; i < parts_count; i++) {
    *asked += parts[i].iov_len;
  }
  return sock_sendv(conn->fd, parts, parts_count, count);
}

/* One call. Return: is the connection still there? */
static bool transmit(struct xchg_conn *conn, size_t *asked, size_t *count) {
  struct conn_host *host = conn->host;
  const struct buf *bytes = conn->out.bytes;
  enum io io;
  if (conn->out.last == NULL) {
    *asked = buf_size(bytes);
    io = sock_send(conn->fd, buf_data(bytes), *asked, count);
  } else {
    io = transmit_parts(conn, asked, count);
  }
  if (io == IO_ERROR) {
    conn_out_close(conn, sock_reason(errno));
    return false;
  }
  if (*count > 0) {
    conn->sent += (uint32_t)*count;
    conn->active_ns = host->reactor->now_ns;
    stats_add(&host->stats->bytes_out, *count);
    outbox_consume(&host->outs, &conn->out, *count);
  }
  return true;
}

bool conn_out_flush(struct xchg_conn *conn) {
  size_t asked = 0, count = 0;
  for (int i = 0; i < FLUSHES_MAX && !outbox_empty(&conn->out) && count == asked; i++) {
    if (!transmit(conn, &asked, &count)) {
      return false;
    }
  }
  if (outbox_empty(&conn->out)) {
    conn->stalled = false;
    return true;
  }
  if (count == asked) { /* so many parts that others come first */
    conn->stalled = false;
    reactor_again(conn->host->reactor, &conn->source);
    return true;
  }
  return count > 0 || !conn->stalled ? stall(conn) : true;
}
