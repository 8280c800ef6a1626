/*
 * conn: see conn.h.
 *
 * One turn does at most one read (more only where a short read proves nothing) and seldom more than
 * one write: replies of all messages of a read leave together.
 */
#include "net/conn.h"

#include "core/sys.h"
#include "net/conn_time.h"
#include "net/conn_out.h"
#include "net/conn_in.h"

#include <assert.h>

static_assert(sizeof(struct xchg_conn) <= 256, "docs/tuning.md and docs/SECURITY.md promise it");

#define ENDS (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)

static void turn(struct source *source, uint32_t events);

/* ---- the turn ---- */

/*
 * Nothing is under way: at least one message came, all were dealt with, nothing is unread, begun or
 * queued.
 */
static bool between_messages(const struct xchg_conn *conn) {
  return conn->messages > 0 && conn->in == NULL && conn->out == NULL && !conn->unread;
}

static enum xchg_reason leave_reason(const struct xchg_conn *conn) {
  if (conn->leaving) {
    return XCHG_LIFETIME;
  }
  return conn_counted(conn) ? XCHG_DRAIN : XCHG_FINISHED;
}

/* Poll's readiness is a level: what cannot be dealt with now must not be asked for. */
static void ask_for(struct xchg_conn *conn) {
  bool reads = conn->state == CONN_OPEN ? !conn->paused : conn->thrown_away < DRAIN_BYTES_MAX;
  uint32_t in = reads && !conn->ended ? EPOLLIN | EPOLLRDHUP : 0;
  uint32_t out = conn->out != NULL ? EPOLLOUT : 0;
  (void)reactor_want(conn->host->reactor, &conn->source, conn->fd, in | out); /* no system call */
}

/* Conclude a turn: part, leave, ask for another turn, set the timer. */
static void settle(struct xchg_conn *conn) {
  struct conn_host *host = conn->host;
  if (conn->state == CONN_OPEN && conn_time_must_leave(conn) && between_messages(conn)) {
    conn->half_close = true;
    conn_out_end(conn, leave_reason(conn));
  }
  if (conn->state != CONN_OPEN) {
    buf_release(&host->bufs, &conn->in);
    if (conn->state == CONN_ENDING && conn->out == NULL && !conn_out_part(conn)) {
      return;
    }
    if (conn->state == CONN_DRAINING && !conn_out_drain(conn)) {
      return;
    }
  } else {
    if (conn->paused && !conn_out_blocked(conn)) {
      reactor_again(host->reactor, &conn->source); /* that turn goes on where this one stopped */
    }
    conn_in_pause(conn, conn->paused || conn_out_blocked(conn));
  }
  if (conn_in_readable(conn)) {
    reactor_again(host->reactor, &conn->source);
  }
  if (host->reactor->epoll_fd == -1) {
    ask_for(conn);
  }
  reactor_arm(host->reactor, &conn->source, conn_time_next(conn));
}

/* Let everything that waits have its way once: output, kept messages, input, replies. */
static void work(struct xchg_conn *conn, uint32_t events) {
  if ((events & EPOLLOUT) != 0 && conn->out != NULL && !conn_out_flush(conn)) {
    return;
  }
  if (!conn_in_work(conn)) {
    return;
  }
  if (conn->out != NULL && !conn->stalled && !conn_out_flush(conn)) {
    return;
  }
  settle(conn);
}

/* A deadline has come, and a last look at the socket has changed nothing about it. */
static void timed_out(struct xchg_conn *conn) {
  switch (conn_time_overdue(conn)) {
    case OVERDUE_NOT:
      reactor_arm(conn->host->reactor, &conn->source, conn_time_next(conn));
      return;
    case OVERDUE_IDLE:
      conn_out_close(conn, XCHG_IDLE);
      return;
    case OVERDUE_MESSAGE:
      conn_out_close(conn, XCHG_MESSAGE);
      return;
    case OVERDUE_WRITE:
      conn_out_close(conn, XCHG_WRITE);
      return;
    case OVERDUE_LEAVE:
      conn_out_close(conn, conn->leaving ? XCHG_LIFETIME : XCHG_DRAIN);
      return;
    case OVERDUE_SILENT:
      conn->half_close = true;
      conn_out_end(conn, conn->leaving ? XCHG_LIFETIME : XCHG_DRAIN);
      settle(conn);
      return;
    case OVERDUE_LINGER:
      conn_out_close(conn, conn->reason);
      return;
  }
}

static void turn(struct source *source, uint32_t events) {
  struct xchg_conn *conn = conn_of(source);
  if ((events & TURN_TIMER) != 0) {
    if (conn_time_next(conn) > conn->host->reactor->now_ns) {
      reactor_arm(conn->host->reactor, source, conn_time_next(conn));
      return; /* armed lazily: it was put off meanwhile */
    }
    uint32_t generation = source->generation;
    conn_time_age(conn);
    conn->unread = true; /* nobody is cut whose bytes are there */
    work(conn, EPOLLOUT);
    if (source->generation == generation) {
      timed_out(conn);
    }
    return;
  }
  if ((events & (EPOLLIN | ENDS)) != 0) {
    conn->unread = true;
    conn->to_end = conn->to_end || conn->local || (events & ENDS) != 0;
  }
  work(conn, events);
}

void conn_stop(struct source *source) {
  struct xchg_conn *conn = conn_of(source);
  if (conn->state == CONN_OPEN) {
    conn->unread = true;
  }
  work(conn, 0);
}

/* ---- the beginning ---- */

int conn_host_init(struct conn_host *host, const struct config *config,
                   const struct xchg_handler *handler, struct reactor *reactor,
                   uint32_t conns_max) {
  *host = (struct conn_host){.config = config,
                             .handler = handler,
                             .reactor = reactor,
                             .stats = reactor->stats,
                             .random = sys_now_ns() | 1,
                             .stop_ns = NEVER};
  /* in and out of every connection at their longest, a block being less than twice what it holds */
  uint64_t each = 4 * (handler->max_message + config->max_pending_bytes + BUF_BLOCK_MAX);
  return buf_pool_init(&host->bufs, 2 * conns_max, each * conns_max);
}

void conn_host_fini(struct conn_host *host) { buf_pool_fini(&host->bufs); }

static void init(struct xchg_conn *conn, struct conn_host *host, const struct guest *guest) {
  struct source source = conn->source;
  *conn = (struct xchg_conn){.source = source,
                             .host = host,
                             .fd = guest->fd,
                             .local = guest->addr.family == ADDR_UNIX,
                             .ticket = guest->ticket,
                             .active_ns = host->reactor->now_ns,
                             .begun_ns = guest->accepted_ns,
                             .accepted_ns = guest->accepted_ns,
                             .peer = guest->addr};
  conn->source.turn = turn;
  conn->lifetime_ns = conn_time_lifetime(host, guest->accepted_ns);
}

int conn_open(struct conn_host *host, const struct guest *guest) {
  struct source *source = reactor_take(host->reactor);
  if (source == NULL) {
    stats_add(&host->stats->ended[XCHG_MEMORY], 1);
    sys_close(guest->fd);
    return -1;
  }
  struct xchg_conn *conn = conn_of(source);
  init(conn, host, guest);
  if (host->handler->on_open != NULL) {
    host->handler->on_open(conn);
  }
  if (conn->aborted) {
    conn_out_close(conn, conn->reason);
    return 0;
  }
  if (conn->finishing) {
    conn_out_end(conn, XCHG_FINISHED);
  }
  /* Watched before it is greeted: without memory for that, the greeting is not begun. */
  if (reactor_add(host->reactor, source, conn->fd, CONN_WATCHED) == -1) {
    conn_out_close(conn, XCHG_MEMORY);
    return 0;
  }
  if (conn_out_flush(conn)) {
    settle(conn);
  }
  return 0;
}

void conn_cut(struct source *source) { conn_out_close(conn_of(source), XCHG_DRAIN); }

/* ---- what a handler may ask for ---- */

int xchg_send(struct xchg_conn *conn, const void *data, size_t size) {
  if (conn->state != CONN_OPEN || conn->finishing || conn->aborted) {
    return -1;
  }
  if (buf_append(&conn->host->bufs, &conn->out, data, size) == -1) {
    conn->aborted = true;
    conn->reason = XCHG_MEMORY;
    return -1;
  }
  return 0;
}

int xchg_finish(struct xchg_conn *conn) {
  conn->finishing = true;
  return 0;
}

int xchg_abort(struct xchg_conn *conn) {
  if (!conn->aborted) {
    conn->aborted = true;
    conn->reason = XCHG_ERROR;
  }
  return 0;
}

void *xchg_user(const struct xchg_conn *conn) { return conn->host->handler->user; }
