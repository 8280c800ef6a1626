/*
 * conn: see conn.h.
 *
 * One turn does at most one read (more only where a short read proves nothing) and seldom more than
 * one write: replies of all messages of a read leave together.
 */
#include "net/conn.h"

#include "core/sys.h"
#include "net/sock.h"
#include "net/conn_timeout.h"
#include "net/conn_output.h"
#include "net/conn_input.h"

#include <assert.h>
#include <string.h>

static_assert(sizeof(struct xchg_conn) <= 144, "docs/tuning.md and docs/SECURITY.md promise it");

#define ENDS (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)

static void on_event(struct source *source, uint32_t events);

/* ---- the turn ---- */

/*
 * Nothing is under way: at least one message came, all were dealt with, nothing is unread, begun or
 * queued.
 */
static bool between_messages(const struct xchg_conn *conn) {
  return conn->messages > 0 && conn->in == NULL && send_queue_empty(&conn->out) && !conn->unread &&
         !conn_paused(conn);
}

static enum xchg_reason drain_reason(const struct xchg_conn *conn) {
  if (conn->lifetime_over) {
    return XCHG_LIFETIME;
  }
  return conn_counted(conn) ? XCHG_DRAIN : XCHG_FINISHED;
}

/* Poll's readiness is a level: what cannot be dealt with now must not be asked for. */
static void ask_for(struct xchg_conn *conn) {
  bool reads = conn->state == CONN_OPEN ? !conn->paused : conn->discarded < LINGER_BYTES_MAX;
  uint32_t in = reads && !conn->eof ? EPOLLIN | EPOLLRDHUP : 0;
  uint32_t out = send_queue_empty(&conn->out) ? 0 : EPOLLOUT;
  (void)reactor_modify(conn->ctx->reactor, &conn->source, conn->fd, in | out); /* no system call */
}

/* Conclude a turn: part, leave, ask for another turn, set the timer. */
static void conclude_turn(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  if (conn->state == CONN_OPEN && conn_timeout_must_leave(conn) && between_messages(conn)) {
    conn->half_close = true;
    conn_begin_end(conn, drain_reason(conn));
  }
  if (conn->state != CONN_OPEN) {
    conn->extra_input = conn->extra_input || conn->in != NULL;
    buf_release(&ctx->bufs, &conn->in);
    if (conn->state == CONN_ENDING && send_queue_empty(&conn->out) && !conn_shutdown(conn)) {
      return;
    }
    if (conn->state == CONN_LINGERING && !conn_linger(conn)) {
      return;
    }
  } else {
    if (conn->paused && !conn_input_blocked(conn)) {
      reactor_requeue(ctx->reactor, &conn->source); /* that turn goes on where this one stopped */
    }
    conn_input_pause(conn, conn->paused || conn_input_blocked(conn));
  }
  if (conn_input_readable(conn)) {
    reactor_requeue(ctx->reactor, &conn->source);
  }
  if (ctx->reactor->epoll_fd == -1) {
    ask_for(conn);
  }
  reactor_arm(ctx->reactor, &conn->source, conn_timeout_next(conn));
}

/* Tell a handler that cares that the kernel has taken everything. Return: is it still there? */
static bool notify_drained(struct xchg_conn *conn) {
  const struct xchg_handler *handler = conn->ctx->handler;
  if (!conn->queued || !send_queue_empty(&conn->out)) {
    return true;
  }
  conn->queued = false;
  if (handler->on_drain == NULL || conn->state != CONN_OPEN) {
    return true;
  }
  handler->on_drain(conn);
  if (!send_queue_empty(&conn->out)) {
    reactor_requeue(conn->ctx->reactor, &conn->source); /* others come first */
  }
  if (!conn_apply_requests(conn)) {
    return false;
  }
  conn_check_complete(conn);
  return true;
}

/* Let everything that waits have its way once: output, wishes, kept messages, input, replies. */
static void run_turn(struct xchg_conn *conn, uint32_t events) {
  if ((events & EPOLLOUT) != 0 && !send_queue_empty(&conn->out) && !conn_output_flush(conn)) {
    return;
  }
  if (!conn_apply_requests(conn) || !conn_input_work(conn)) {
    return;
  }
  if (!send_queue_empty(&conn->out) && !conn->stalled && !conn_output_flush(conn)) {
    return;
  }
  if (notify_drained(conn)) {
    conclude_turn(conn);
  }
}

/*
 * Close one whose peer takes nothing: by a reset, if there is something that it has not taken,
 * which the kernel would keep otherwise.
 */
static void abort_unacked(struct xchg_conn *conn, enum xchg_reason reason) {
  if (!send_queue_empty(&conn->out) || sock_unacked(conn->fd) > 0) {
    sock_abort(conn->fd);
  }
  conn_close(conn, reason);
}

/* A deadline has come, and a last look at the socket has changed nothing about it. */
static void check_deadlines(struct xchg_conn *conn) {
  switch (conn_timeout_expired(conn)) {
    case EXPIRED_NOT:
      reactor_arm(conn->ctx->reactor, &conn->source, conn_timeout_next(conn));
      return;
    case EXPIRED_IDLE:
      abort_unacked(conn, XCHG_IDLE);
      return;
    case EXPIRED_MESSAGE:
      conn_close(conn, XCHG_MESSAGE);
      return;
    case EXPIRED_WRITE:
      abort_unacked(conn, XCHG_WRITE);
      return;
    case EXPIRED_LIFETIME:
      abort_unacked(conn, XCHG_LIFETIME);
      return;
    case EXPIRED_SILENT:
      conn->half_close = true;
      conn_begin_end(conn, conn->lifetime_over ? XCHG_LIFETIME : XCHG_DRAIN);
      conclude_turn(conn);
      return;
    case EXPIRED_LINGER:
      conn_close(conn, conn->reason);
      return;
  }
}

/* The timer of ${conn} in the wheel has fired. */
static void on_timer(struct xchg_conn *conn) {
  uint64_t now_ns = conn->ctx->reactor->now_ns;
  uint32_t generation = conn->source.generation;
  if (conn_timeout_next(conn) > now_ns) {
    reactor_arm(conn->ctx->reactor, &conn->source, conn_timeout_next(conn));
    return; /* armed lazily: it was put off meanwhile */
  }
  bool limit = conn_timeout_limit(conn) <= now_ns;
  if (!conn_apply_requests(conn)) {
    return;
  }
  if (conn->state == CONN_OPEN && conn->cold->timer_ns <= now_ns) {
    conn->cold->timer_ns = NEVER;
    conn->ctx->handler->on_timer(conn); /* or xchg_timer would have refused */
  }
  conn_timeout_age(conn);
  conn->unread = conn->unread || limit; /* nobody is cut whose bytes are there */
  run_turn(conn, EPOLLOUT);
  if (conn->source.generation == generation) {
    check_deadlines(conn);
  }
}

/* ---- from outside ---- */

/*
 * Begin and end a turn of ${conn}: what a callback asks of the connection whose turn it is needs no
 * further turn.
 */
static struct conn_ctx *begin_turn(struct xchg_conn *conn) {
  conn->ctx->current = conn;
  watchdog_heartbeat(conn->ctx);
  return conn->ctx;
}
static void end_turn(struct conn_ctx *ctx) { ctx->current = NULL; }

static void on_event(struct source *source, uint32_t events) {
  struct xchg_conn *conn = conn_of(source);
  struct conn_ctx *ctx = begin_turn(conn);
  if ((events & EVENT_TIMER) != 0) {
    on_timer(conn);
    end_turn(ctx);
    return;
  }
  if ((events & EPOLLERR) != 0 && conn->state == CONN_OPEN && conn_paused(conn)) {
    conn_close(conn, XCHG_RESET); /* nothing is read that would say so, and nobody hears us */
    end_turn(ctx);
    return;
  }
  if ((events & (EPOLLIN | ENDS)) != 0) {
    conn->unread = true;
    conn->to_end = conn->to_end || conn->is_unix || (events & ENDS) != 0;
  }
  run_turn(conn, events);
  end_turn(ctx);
}

void conn_stop(struct source *source) {
  struct xchg_conn *conn = conn_of(source);
  struct conn_ctx *ctx = begin_turn(conn);
  if (conn->state == CONN_OPEN) {
    conn->unread = true;
  }
  run_turn(conn, 0);
  end_turn(ctx);
}

bool conn_stop_now(struct source *source) {
  struct xchg_conn *conn = conn_of(source);
  struct conn_ctx *ctx = begin_turn(conn);
  uint32_t generation = source->generation;
  if (conn->state == CONN_OPEN) {
    conn->unread = true; /* nobody is cut whose bytes are there */
    run_turn(conn, EPOLLOUT);
  }
  bool there = source->generation == generation;
  if (there) {
    conn_close(conn, XCHG_DRAIN);
  }
  end_turn(ctx);
  return there;
}

/* ---- the beginning ---- */

int conn_ctx_init(struct conn_ctx *ctx, const struct config *config,
                  const struct xchg_handler *handler, struct reactor *reactor, uint32_t conns_max) {
  *ctx = (struct conn_ctx){.config = config,
                           .handler = handler,
                           .reactor = reactor,
                           .stats = reactor->stats,
                           .conns_max = conns_max,
                           .thread = conn_thread(),
                           .no_cold = {.timer_ns = NEVER, .lifetime_ns = NEVER},
                           .random = sys_now_ns() | 1,
                           .stop_ns = NEVER};
  /* in and out of every connection at their longest, a block being less than twice what it holds */
  ctx->max_message = handler->max_message > 0 ? handler->max_message : config->max_message_bytes;
  ctx->send_queues.bufs = &ctx->bufs;
  reactor->on_event = on_event;
  if (slab_init(&ctx->colds, sizeof(struct conn_cold), conns_max) == -1) {
    return -1;
  }
  uint64_t each = 4 * (ctx->max_message + config->max_pending_bytes + BUF_BLOCK_MAX);
  /* in, out and what is queued behind loans; books of what is never used cost nothing */
  uint64_t bufs_max = min_u64((uint64_t)conns_max * (4 + CONN_SHARES), UINT32_C(1) << 30);
  return buf_pool_init(&ctx->bufs, (uint32_t)bufs_max, each * conns_max);
}

void conn_ctx_fini(struct conn_ctx *ctx) {
  groups_fini(&ctx->groups);
  slab_fini(&ctx->colds);
  send_queue_pool_fini(&ctx->send_queues);
  buf_pool_fini(&ctx->bufs);
}

void conn_ctx_trim(struct conn_ctx *ctx) {
  groups_trim(&ctx->groups);
  slab_trim(&ctx->colds);
  send_queue_pool_trim(&ctx->send_queues);
  buf_pool_trim(&ctx->bufs);
}

_Thread_local const char conn_thread_mark = 0;

/* Return: 0, or -1 without memory. */
static int init(struct xchg_conn *conn, struct conn_ctx *ctx,
                const struct accepted_conn *accepted) {
  struct source source = conn->source;
  *conn = (struct xchg_conn){.source = source,
                             .ctx = ctx,
                             .fd = accepted->fd,
                             .is_unix = accepted->addr.family == ADDR_UNIX,
                             .ip_slot = accepted->ip_slot,
                             .active_ns = ctx->reactor->now_ns,
                             .message_start_ns = accepted->accepted_ns,
                             .cold = &ctx->no_cold,
                             .peer = accepted->addr};
  uint64_t lifetime_ns = conn_timeout_lifetime(ctx, accepted->accepted_ns);
  if (lifetime_ns != NEVER) {
    if (conn_cold(conn) == NULL) {
      return -1;
    }
    conn->cold->lifetime_ns = lifetime_ns;
  }
  if (ctx->handler->state_size > 0) {
    memset((char *)conn + CONN_STATE_OFFSET, 0, ctx->handler->state_size);
  }
  return 0;
}

/* Greet, watch, serve. */
static void begin(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  if (ctx->handler->on_open != NULL) {
    ctx->handler->on_open(conn);
  }
  if (!conn_apply_requests(conn)) {
    return;
  }
  /* Watched before it is greeted: without memory for that, the greeting is not begun. */
  if (reactor_add(ctx->reactor, &conn->source, conn->fd, CONN_WATCHED) == -1) {
    conn_close(conn, XCHG_MEMORY);
    return;
  }
  if (conn_output_flush(conn) && notify_drained(conn)) {
    conclude_turn(conn);
  }
}

static int refuse(struct conn_ctx *ctx, const struct accepted_conn *accepted) {
  stats_add(&ctx->stats->ended[XCHG_MEMORY], 1);
  sys_close(accepted->fd);
  return -1;
}

int conn_open(struct conn_ctx *ctx, const struct accepted_conn *accepted) {
  struct source *source = reactor_alloc(ctx->reactor);
  if (source == NULL) {
    return refuse(ctx, accepted);
  }
  struct xchg_conn *conn = conn_of(source);
  if (init(conn, ctx, accepted) == -1) {
    source->generation = 0;
    reactor_free(ctx->reactor, source);
    return refuse(ctx, accepted);
  }
  begin_turn(conn);
  begin(conn);
  end_turn(ctx);
  return 0;
}
