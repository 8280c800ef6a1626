/*
 * conn: see conn.h.
 *
 * One turn does at most one read (more only where a short read proves nothing) and seldom more than
 * one write: replies of all messages of a read leave together.
 */
#include "net/conn.h"

#include "core/sys.h"
#include "net/sock.h"
#include "net/conn_time.h"
#include "net/conn_out.h"
#include "net/conn_in.h"

#include <assert.h>
#include <string.h>

static_assert(sizeof(struct xchg_conn) <= 144, "docs/tuning.md and docs/SECURITY.md promise it");

#define ENDS (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)

static void turn(struct source *source, uint32_t events);

/* ---- the turn ---- */

/*
 * Nothing is under way: at least one message came, all were dealt with, nothing is unread, begun or
 * queued.
 */
static bool between_messages(const struct xchg_conn *conn) {
  return conn->messages > 0 && conn->in == NULL && outbox_empty(&conn->out) && !conn->unread &&
         !conn_held(conn);
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
  uint32_t out = outbox_empty(&conn->out) ? 0 : EPOLLOUT;
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
    conn->excess = conn->excess || conn->in != NULL;
    buf_release(&host->bufs, &conn->in);
    if (conn->state == CONN_ENDING && outbox_empty(&conn->out) && !conn_out_part(conn)) {
      return;
    }
    if (conn->state == CONN_DRAINING && !conn_out_drain(conn)) {
      return;
    }
  } else {
    if (conn->paused && !conn_in_stands(conn)) {
      reactor_again(host->reactor, &conn->source); /* that turn goes on where this one stopped */
    }
    conn_in_pause(conn, conn->paused || conn_in_stands(conn));
  }
  if (conn_in_readable(conn)) {
    reactor_again(host->reactor, &conn->source);
  }
  if (host->reactor->epoll_fd == -1) {
    ask_for(conn);
  }
  reactor_arm(host->reactor, &conn->source, conn_time_next(conn));
}

/* Tell a handler that cares that the kernel has taken everything. Return: is it still there? */
static bool tell_drained(struct xchg_conn *conn) {
  const struct xchg_handler *handler = conn->host->handler;
  if (!conn->queued || !outbox_empty(&conn->out)) {
    return true;
  }
  conn->queued = false;
  if (handler->on_drain == NULL || conn->state != CONN_OPEN) {
    return true;
  }
  handler->on_drain(conn);
  if (!outbox_empty(&conn->out)) {
    reactor_again(conn->host->reactor, &conn->source); /* others come first */
  }
  if (!conn_in_heed(conn)) {
    return false;
  }
  conn_in_conclude(conn);
  return true;
}

/* Let everything that waits have its way once: output, wishes, kept messages, input, replies. */
static void work(struct xchg_conn *conn, uint32_t events) {
  if ((events & EPOLLOUT) != 0 && !outbox_empty(&conn->out) && !conn_out_flush(conn)) {
    return;
  }
  if (!conn_in_heed(conn) || !conn_in_work(conn)) {
    return;
  }
  if (!outbox_empty(&conn->out) && !conn->stalled && !conn_out_flush(conn)) {
    return;
  }
  if (tell_drained(conn)) {
    settle(conn);
  }
}

/*
 * Close one whose peer takes nothing: by a reset, if there is something that it has not taken,
 * which the kernel would keep otherwise.
 */
static void give_up(struct xchg_conn *conn, enum xchg_reason reason) {
  if (!outbox_empty(&conn->out) || sock_unacked(conn->fd) > 0) {
    sock_abort(conn->fd);
  }
  conn_out_close(conn, reason);
}

/* A deadline has come, and a last look at the socket has changed nothing about it. */
static void timed_out(struct xchg_conn *conn) {
  switch (conn_time_overdue(conn)) {
    case OVERDUE_NOT:
      reactor_arm(conn->host->reactor, &conn->source, conn_time_next(conn));
      return;
    case OVERDUE_IDLE:
      give_up(conn, XCHG_IDLE);
      return;
    case OVERDUE_MESSAGE:
      conn_out_close(conn, XCHG_MESSAGE);
      return;
    case OVERDUE_WRITE:
      give_up(conn, XCHG_WRITE);
      return;
    case OVERDUE_LEAVE:
      give_up(conn, XCHG_LIFETIME);
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

/* The timer of ${conn} in the wheel has fired. */
static void timer_turn(struct xchg_conn *conn) {
  uint64_t now_ns = conn->host->reactor->now_ns;
  uint32_t generation = conn->source.generation;
  if (conn_time_next(conn) > now_ns) {
    reactor_arm(conn->host->reactor, &conn->source, conn_time_next(conn));
    return; /* armed lazily: it was put off meanwhile */
  }
  bool limit = conn_time_limit(conn) <= now_ns;
  if (!conn_in_heed(conn)) {
    return;
  }
  if (conn->state == CONN_OPEN && conn->more->timer_ns <= now_ns) {
    conn->more->timer_ns = NEVER;
    conn->host->handler->on_timer(conn); /* or xchg_timer would have refused */
  }
  conn_time_age(conn);
  conn->unread = conn->unread || limit; /* nobody is cut whose bytes are there */
  work(conn, EPOLLOUT);
  if (conn->source.generation == generation) {
    timed_out(conn);
  }
}

/* ---- from outside ---- */

/*
 * Begin and end a turn of ${conn}: what a callback asks of the connection whose turn it is needs no
 * further turn.
 */
static struct conn_host *enter(struct xchg_conn *conn) {
  conn->host->current = conn;
  conn_beat(conn->host);
  return conn->host;
}
static void leave(struct conn_host *host) { host->current = NULL; }

static void turn(struct source *source, uint32_t events) {
  struct xchg_conn *conn = conn_of(source);
  struct conn_host *host = enter(conn);
  if ((events & TURN_TIMER) != 0) {
    timer_turn(conn);
    leave(host);
    return;
  }
  if ((events & EPOLLERR) != 0 && conn->state == CONN_OPEN && conn_held(conn)) {
    conn_out_close(conn, XCHG_RESET); /* nothing is read that would say so, and nobody hears us */
    leave(host);
    return;
  }
  if ((events & (EPOLLIN | ENDS)) != 0) {
    conn->unread = true;
    conn->to_end = conn->to_end || conn->local || (events & ENDS) != 0;
  }
  work(conn, events);
  leave(host);
}

void conn_stop(struct source *source) {
  struct xchg_conn *conn = conn_of(source);
  struct conn_host *host = enter(conn);
  if (conn->state == CONN_OPEN) {
    conn->unread = true;
  }
  work(conn, 0);
  leave(host);
}

bool conn_stop_now(struct source *source) {
  struct xchg_conn *conn = conn_of(source);
  struct conn_host *host = enter(conn);
  uint32_t generation = source->generation;
  if (conn->state == CONN_OPEN) {
    conn->unread = true; /* nobody is cut whose bytes are there */
    work(conn, EPOLLOUT);
  }
  bool there = source->generation == generation;
  if (there) {
    conn_out_close(conn, XCHG_DRAIN);
  }
  leave(host);
  return there;
}

/* ---- the beginning ---- */

int conn_host_init(struct conn_host *host, const struct config *config,
                   const struct xchg_handler *handler, struct reactor *reactor,
                   uint32_t conns_max) {
  *host = (struct conn_host){.config = config,
                             .handler = handler,
                             .reactor = reactor,
                             .stats = reactor->stats,
                             .conns_max = conns_max,
                             .thread = conn_thread(),
                             .nothing = {.timer_ns = NEVER, .lifetime_ns = NEVER},
                             .random = sys_now_ns() | 1,
                             .stop_ns = NEVER};
  /* in and out of every connection at their longest, a block being less than twice what it holds */
  host->max_message = handler->max_message > 0 ? handler->max_message : config->max_message_bytes;
  host->outs.bufs = &host->bufs;
  reactor->turn = turn;
  if (slab_init(&host->mores, sizeof(struct conn_more), conns_max) == -1) {
    return -1;
  }
  uint64_t each = 4 * (host->max_message + config->max_pending_bytes + BUF_BLOCK_MAX);
  /* in, out and what is queued behind loans; books of what is never used cost nothing */
  uint64_t bufs_max = min_u64((uint64_t)conns_max * (4 + CONN_SHARES), UINT32_C(1) << 30);
  return buf_pool_init(&host->bufs, (uint32_t)bufs_max, each * conns_max);
}

void conn_host_fini(struct conn_host *host) {
  groups_fini(&host->groups);
  slab_fini(&host->mores);
  outbox_pool_fini(&host->outs);
  buf_pool_fini(&host->bufs);
}

void conn_host_trim(struct conn_host *host) {
  groups_trim(&host->groups);
  slab_trim(&host->mores);
  outbox_pool_trim(&host->outs);
  buf_pool_trim(&host->bufs);
}

_Thread_local const char conn_thread_mark = 0;

/* Return: 0, or -1 without memory. */
static int init(struct xchg_conn *conn, struct conn_host *host,
                const struct accepted_conn *accepted) {
  struct source source = conn->source;
  *conn = (struct xchg_conn){.source = source,
                             .host = host,
                             .fd = accepted->fd,
                             .local = accepted->addr.family == ADDR_UNIX,
                             .ip_slot = accepted->ip_slot,
                             .active_ns = host->reactor->now_ns,
                             .begun_ns = accepted->accepted_ns,
                             .more = &host->nothing,
                             .peer = accepted->addr};
  uint64_t lifetime_ns = conn_time_lifetime(host, accepted->accepted_ns);
  if (lifetime_ns != NEVER) {
    if (conn_more(conn) == NULL) {
      return -1;
    }
    conn->more->lifetime_ns = lifetime_ns;
  }
  if (host->handler->state_size > 0) {
    memset((char *)conn + CONN_STATE_OFFSET, 0, host->handler->state_size);
  }
  return 0;
}

/* Greet, watch, serve. */
static void begin(struct xchg_conn *conn) {
  struct conn_host *host = conn->host;
  if (host->handler->on_open != NULL) {
    host->handler->on_open(conn);
  }
  if (!conn_in_heed(conn)) {
    return;
  }
  /* Watched before it is greeted: without memory for that, the greeting is not begun. */
  if (reactor_add(host->reactor, &conn->source, conn->fd, CONN_WATCHED) == -1) {
    conn_out_close(conn, XCHG_MEMORY);
    return;
  }
  if (conn_out_flush(conn) && tell_drained(conn)) {
    settle(conn);
  }
}

static int refuse(struct conn_host *host, const struct accepted_conn *accepted) {
  stats_add(&host->stats->ended[XCHG_MEMORY], 1);
  sys_close(accepted->fd);
  return -1;
}

int conn_open(struct conn_host *host, const struct accepted_conn *accepted) {
  struct source *source = reactor_take(host->reactor);
  if (source == NULL) {
    return refuse(host, accepted);
  }
  struct xchg_conn *conn = conn_of(source);
  if (init(conn, host, accepted) == -1) {
    source->generation = 0;
    reactor_free(host->reactor, source);
    return refuse(host, accepted);
  }
  enter(conn);
  begin(conn);
  leave(host);
  return 0;
}
