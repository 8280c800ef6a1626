/*
 * conn: see conn.h.
 *
 * A turn makes one read, or several if a short read proves nothing.  It seldom makes more than one
 * write: the replies to all messages of a read leave together.  It reads, delivers and sends at
 * most CONN_TURN_BYTES each.
 */
#include "net/conn.h"

#include "core/sys.h"
#include "net/sock.h"
#include "net/conn_log.h"
#include "net/conn_timeout.h"
#include "net/conn_proxy.h"
#include "net/conn_close.h"
#include "net/conn_input.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

static_assert(sizeof(struct xchg_conn) == 128, "two cache lines; docs/tuning.md counts on it");

#define PAGE_BYTES ((size_t)4096) /* the kernel's pages are multiples of this */
#define ENDS (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)

/* ---- the turn ---- */

/* Is nothing unread, unfinished, queued or held? */
static bool is_idle(const struct xchg_conn *conn) {
  return conn->state == CONN_OPEN && conn->in == NULL && send_queue_empty(&conn->out) &&
         conn->readable == READABLE_NO && !conn_paused(conn);
}

static enum xchg_reason drain_reason(const struct xchg_conn *conn) {
  if (conn->lifetime_over) {
    return XCHG_LIFETIME;
  }
  return conn_counted(conn) ? XCHG_DRAIN : XCHG_FINISHED;
}

/* poll reports a level: ask only for events that this connection can handle now. */
static void ask_for(struct xchg_conn *conn) {
  bool reads = conn->state == CONN_OPEN ? !conn->clock_stopped : conn->discarded < LINGER_BYTES_MAX;
  uint32_t in = reads && !conn->eof ? EPOLLIN | EPOLLRDHUP : 0;
  uint32_t out = send_queue_empty(&conn->out) ? 0 : EPOLLOUT;
  (void)reactor_modify(conn->ctx->reactor, &conn->source, conn->fd, in | out); /* no system call */
}

/* Advance the end of a connection that is not OPEN. */
static void continue_end(struct xchg_conn *conn) {
  if (conn->state == CONN_HEADER || conn->state == CONN_CLOSED) {
    return; /* it has not begun, or is complete */
  }
  conn->extra_input = conn->extra_input || conn->in != NULL;
  buf_release(&conn->ctx->bufs, &conn->in);
  if (conn->state == CONN_ENDING && send_queue_empty(&conn->out)) {
    conn_shutdown(conn);
  }
  if (conn->state == CONN_LINGERING) {
    conn_linger(conn);
  }
}

/* Something is pending: begin or advance the end, ask for another turn, set the timer. */
static void conclude_pending(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  if (conn_must_leave(conn) && is_idle(conn) && conn->messages > 0) { /* all were answered */
    conn->half_close = true;
    conn_begin_end(conn, drain_reason(conn));
  }
  if (conn->state == CONN_OPEN) {
    bool blocked = conn_input_blocked(conn);
    if (conn->clock_stopped && !blocked) {
      reactor_requeue(ctx->reactor,
                      &conn->source); /* the next turn continues where this one stopped */
    }
    conn_stop_clock(conn, conn->clock_stopped || blocked);
  } else {
    continue_end(conn);
  }
  if (conn->state == CONN_CLOSED) {
    return;
  }
  if (conn_input_readable(conn)) {
    reactor_requeue(ctx->reactor, &conn->source);
  }
  reactor_arm(ctx->reactor, &conn->source, conn_timeout_next(conn));
}

/*
 * The last step of a turn.  An idle connection keeps its timer: none of its deadlines has become
 * earlier, except that of a message whose clock runs again, and that has armed it.
 */
static inline void conclude_turn(struct xchg_conn *conn) {
  if (!is_idle(conn) || conn->clock_stopped || conn_must_leave(conn)) {
    conclude_pending(conn);
  }
  if (conn->ctx->reactor->epoll_fd == -1 && conn->state != CONN_CLOSED) {
    ask_for(conn);
  }
}

/* Call on_drain if the kernel has taken everything. */
static void notify_drained(struct xchg_conn *conn) {
  if (!send_queue_empty(&conn->out)) {
    return;
  }
  conn->drain_due = false;
  if (conn->state != CONN_OPEN) {
    return;
  }
  conn->ctx->handler->on_drain(conn);
  if (!send_queue_empty(&conn->out)) {
    reactor_requeue(conn->ctx->reactor, &conn->source); /* other connections come first */
  }
  conn_apply_requests(conn);
  conn_check_complete(conn);
}

/* Serve in this order: waiting output, requests, buffered messages, input, replies. */
static void run_turn(struct xchg_conn *conn, uint32_t events) {
  size_t left = CONN_TURN_BYTES;
  if ((events & EPOLLOUT) != 0 && !send_queue_empty(&conn->out) && conn->state != CONN_CLOSED) {
    left = conn_output_flush(conn, left);
  }
  conn_apply_requests(conn);
  conn_input_work(conn);
  if (!send_queue_empty(&conn->out) && !conn->stalled && conn->state != CONN_CLOSED) {
    (void)conn_output_flush(conn, left); /* the turn sends no more after that */
  }
  if (conn->drain_due) {
    notify_drained(conn);
  }
  conclude_turn(conn);
}

/* ---- deadlines ---- */

/*
 * Close a connection whose peer has stopped reading.  If the peer has not acknowledged everything,
 * close with a reset.  Otherwise the kernel would hold the rest for minutes.
 */
static void abort_unacked(struct xchg_conn *conn, enum xchg_reason reason) {
  if (!send_queue_empty(&conn->out) || sock_unacked(conn->fd) > 0) {
    sock_abort(conn->fd);
  }
  conn_request_close(conn, reason);
}

/* Act on a deadline that has passed although the socket was read once more. */
static void check_deadlines(struct xchg_conn *conn) {
  switch (conn_timeout_expired(conn)) {
    case EXPIRED_NOT:
      reactor_arm(conn->ctx->reactor, &conn->source, conn_timeout_next(conn));
      return;
    case EXPIRED_IDLE:
      abort_unacked(conn, XCHG_IDLE);
      return;
    case EXPIRED_MESSAGE:
      conn_request_close(conn, XCHG_MESSAGE);
      return;
    case EXPIRED_WRITE:
      abort_unacked(conn, XCHG_WRITE);
      return;
    case EXPIRED_LIFETIME:
      abort_unacked(conn, XCHG_LIFETIME);
      return;
    case EXPIRED_SILENT:
      conn->half_close = true;
      conn->state = CONN_OPEN; /* from HEADER it ends in the same way, without callbacks */
      conn_begin_end(conn, conn->lifetime_over ? XCHG_LIFETIME : XCHG_DRAIN);
      conclude_turn(conn);
      return;
    case EXPIRED_LINGER:
      conn_request_close(conn, conn->end_reason);
      return;
    case EXPIRED_HEADER:
      conn_proxy_reject(conn, PROXY_CAUSE_TIMEOUT);
      return;
  }
}

/* The timer of ${conn} in the wheel has fired. */
static void on_timer(struct xchg_conn *conn) {
  uint64_t now_ns = conn->ctx->reactor->now_ns;
  if (conn_timeout_next(conn) > now_ns) {
    reactor_arm(conn->ctx->reactor, &conn->source, conn_timeout_next(conn));
    return; /* armed lazily: the deadline has moved since */
  }
  bool limit = conn_timeout_limit(conn) <= now_ns;
  conn_apply_requests(conn);
  if (conn->state == CONN_CLOSED) {
    return;
  }
  if (conn->state == CONN_OPEN && conn->cold->timer_ns <= now_ns) {
    conn->cold->timer_ns = NEVER;
    conn->ctx->handler->on_timer(conn); /* set, or xchg_timer would have refused */
  }
  conn_timeout_age(conn);
  if (limit) {
    conn_look_again(conn); /* a client whose data has already arrived is not timed out */
  }
  run_turn(conn, EPOLLOUT);
  if (conn->state == CONN_CLOSED) {
    return;
  }
  if (conn_input_readable(conn) && conn->active_ns < now_ns) {
    reactor_arm(conn->ctx->reactor, &conn->source, now_ns); /* kept messages came before the read */
    return;
  }
  check_deadlines(conn);
}

/* ---- from outside ---- */

/* Requests for the current connection need no further turn. */
static void begin_turn(struct xchg_conn *conn) {
  conn->ctx->current = conn;
  watchdog_heartbeat(conn->ctx);
}

/* What the kernel did not take leaves the staging block, which the next connection needs. */
static void unstage(struct xchg_conn *conn) {
  if (send_queue_unstage(&conn->ctx->send_queues, &conn->out) == -1) {
    conn_request_close(conn, XCHG_MEMORY);
  }
}

/* The only place where a connection is closed. */
static inline void end_turn(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  if (conn->out.bytes != NULL && conn->state != CONN_CLOSED) {
    unstage(conn);
  }
  if (conn->state == CONN_CLOSED) {
    conn_release(conn);
  }
  ctx->current = NULL;
}

void conn_on_event(struct source *source, uint32_t events) {
  struct xchg_conn *conn = conn_of(source);
  begin_turn(conn);
  if ((events & EVENT_TIMER) != 0) {
    on_timer(conn);
  } else if ((events & EPOLLERR) != 0 && conn->state == CONN_OPEN && conn_paused(conn)) {
    /* No read would report it, and the peer has gone. */
    conn_request_close(conn, conn_proxy_reason(conn, XCHG_RESET));
  } else {
    if ((events & (EPOLLIN | ENDS)) != 0) {
      conn_look_again(conn);
      if (conn->is_unix || (events & ENDS) != 0) {
        conn->readable = READABLE_UNTIL_EAGAIN;
      }
    }
    run_turn(conn, events);
  }
  end_turn(conn);
}

/* May input of ${conn} be a message? */
static bool is_served(const struct xchg_conn *conn) {
  return conn->state == CONN_OPEN || conn->state == CONN_HEADER;
}

void conn_stop(struct source *source) {
  struct xchg_conn *conn = conn_of(source);
  begin_turn(conn);
  if (is_served(conn)) {
    conn_look_again(conn);
  }
  run_turn(conn, 0);
  end_turn(conn);
}

bool conn_stop_now(struct source *source) {
  struct xchg_conn *conn = conn_of(source);
  begin_turn(conn);
  if (is_served(conn)) {
    conn_look_again(conn); /* a client whose data has already arrived is served */
    run_turn(conn, EPOLLOUT);
  }
  bool live = conn->state != CONN_CLOSED;
  if (live) {
    conn_request_close(conn, XCHG_DRAIN);
  }
  end_turn(conn);
  return live;
}

/* ---- the beginning ---- */

/* Map zeroed memory for an entry of ${entry} bytes for each connection. Return: NULL: no memory. */
static void *map_entries(const struct conn_ctx *ctx, size_t entry) {
  void *entries = sys_map(entry * ctx->conns_max);
  if (entries == MAP_FAILED) {
    return NULL;
  }
  (void)sys_no_huge_pages(entries, entry * ctx->conns_max); /* a failure costs memory only */
  return entries;
}

static void unmap_entries(const struct conn_ctx *ctx, void *entries, size_t entry) {
  if (entries != NULL) {
    (void)sys_unmap(entries, entry * ctx->conns_max); /* a failure leaks it */
  }
}

/*
 * Give back the pages of entries whose slots' chunks the slab of connections has unmapped.
 * ${*used_end} is the end of the slots that were used.
 */
static void trim_entries(const struct conn_ctx *ctx, void *entries, size_t entry,
                         uint32_t *used_end) {
  const struct slab *slab = ctx->reactor->slab;
  uint64_t slots = min_u64((uint64_t)slab->end * slab->per_chunk, ctx->conns_max);
  size_t from = ((size_t)slots * entry + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
  size_t to = (size_t)*used_end * entry;
  if (from < to && sys_discard((uint8_t *)entries + from, to - from) == 0) {
    *used_end = (uint32_t)slots;
  }
}

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
  ctx->max_message = handler->max_message > 0 ? handler->max_message : config->max_message_bytes;
  ctx->send_queues.bufs = &ctx->bufs;
  reactor->on_event = conn_on_event;
  reactor->owner_bits = conn_id_worker_bits(config->workers);
  bool proxied = config_takes_proxy(config);
  ctx->peers = map_entries(ctx, sizeof(*ctx->peers));
  ctx->proxies = proxied ? map_entries(ctx, sizeof(*ctx->proxies)) : NULL;
  if (ctx->peers == NULL || (proxied && ctx->proxies == NULL)) {
    return -1;
  }
  if (conn_log_init(ctx) == -1 ||
      slab_init(&ctx->colds, sizeof(struct conn_cold), conns_max) == -1) {
    return -1;
  }
  /* The longest input and output of a connection. A block is less than twice its content. */
  uint64_t each = 4 * (ctx->max_message + config->max_pending_bytes + BUF_BLOCK_MAX);
  if (proxied) {
    each += 2 * PROXY_HEADER_MAX; /* a header that is kept */
  }
  /* Input, output, header, and the bytes after each reference. Unused metadata costs nothing. */
  uint64_t bufs_max = min_u64((uint64_t)conns_max * (5 + CONN_REFS_MAX), UINT32_C(1) << 30);
  return buf_pool_init(&ctx->bufs, (uint32_t)bufs_max, each * conns_max);
}

void conn_ctx_fini(struct conn_ctx *ctx) {
  groups_fini(&ctx->groups);
  slab_fini(&ctx->colds);
  send_queue_pool_fini(&ctx->send_queues);
  buf_pool_fini(&ctx->bufs);
  conn_log_fini(ctx);
  unmap_entries(ctx, ctx->peers, sizeof(*ctx->peers));
  unmap_entries(ctx, ctx->proxies, sizeof(*ctx->proxies));
  ctx->peers = NULL;
  ctx->proxies = NULL;
}

void conn_ctx_trim(struct conn_ctx *ctx) {
  groups_trim(&ctx->groups);
  slab_trim(&ctx->colds);
  send_queue_pool_trim(&ctx->send_queues);
  buf_pool_trim(&ctx->bufs);
  const struct slab *slab = ctx->reactor->slab;
  conn_log_trim(ctx, min_u64((uint64_t)slab->end * slab->per_chunk, ctx->conns_max));
  trim_entries(ctx, ctx->peers, sizeof(*ctx->peers), &ctx->peers_end);
  trim_entries(ctx, ctx->proxies, sizeof(*ctx->proxies), &ctx->proxies_end);
}

/* Return: 0, or -1 without memory. */
static int init(struct xchg_conn *conn, struct conn_ctx *ctx,
                const struct accepted_conn *accepted) {
  uint32_t slot = source_slot(ctx->reactor, &conn->source);
  /* reactor_alloc has set the source; the other fields begin as 0. */
  memset((char *)conn + sizeof(conn->source), 0, sizeof(*conn) - sizeof(conn->source));
  conn->ctx = ctx;
  conn->cold = &ctx->no_cold;
  conn->fd = accepted->fd;
  conn->is_unix = accepted->addr.family == ADDR_UNIX;
  conn->active_ns = ctx->reactor->now_ns;
  conn->message_clock_ns = accepted->accepted_ns;
  ctx->peers[slot] = (struct conn_peer){.addr = accepted->addr,
                                        .ip_slot = accepted->ip_slot,
                                        .opened_ns = accepted->accepted_ns & CONN_OPENED_MASK,
                                        .listener = accepted->listener & CONN_LISTENER_MASK};
  ctx->peers_end = (uint32_t)max_u64(ctx->peers_end, slot + 1);
  if (ctx->config->max_lifetime_ns != 0) {
    if (conn_cold(conn) == NULL) {
      return -1;
    }
    conn->cold->lifetime_ns = conn_timeout_lifetime(ctx, accepted->accepted_ns);
  }
  if (ctx->handler->state_size > 0) {
    memset((char *)conn + CONN_STATE_OFFSET, 0, ctx->handler->state_size);
  }
  return 0;
}

/* Register the descriptor and wait for a header that ${accepts} allows. */
static void begin_header(struct xchg_conn *conn, enum addr_proxy accepts) {
  conn_proxy_begin(conn, accepts);
  if (reactor_add(conn->ctx->reactor, &conn->source, conn->fd, CONN_WATCHED) == -1) {
    conn_request_close(conn, XCHG_MEMORY);
    return;
  }
  conclude_turn(conn);
}

/* Call on_open, register the descriptor, send the greeting. */
static void begin(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  if (ctx->handler->on_open != NULL) {
    ctx->handler->on_open(conn);
  }
  conn_apply_requests(conn);
  if (conn->state == CONN_CLOSED) {
    return;
  }
  /* Register first: if the kernel has no memory for that, no greeting begins. */
  if (reactor_add(ctx->reactor, &conn->source, conn->fd, CONN_WATCHED) == -1) {
    conn_request_close(conn, XCHG_MEMORY);
    return;
  }
  reactor_arm(ctx->reactor, &conn->source, conn_timeout_next(conn));
  if (!send_queue_empty(&conn->out)) {
    (void)conn_output_flush(conn, CONN_TURN_BYTES); /* the turn sends no more after that */
  }
  if (conn->drain_due) {
    notify_drained(conn);
  }
  conclude_turn(conn);
}

static int refuse(struct conn_ctx *ctx, const struct accepted_conn *accepted) {
  stats_add(&ctx->stats->ended[XCHG_MEMORY], 1);
  probe_refuse(XCHG_MEMORY, &accepted->addr);
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
    reactor_cancel(ctx->reactor, source);
    return refuse(ctx, accepted);
  }
  probe_open(ctx->index, conn_id(conn), accepted->accepted_ns);
  if (conn_log_wanted(ctx)) {
    conn_log_open(conn);
  }
  begin_turn(conn);
  if (accepted->proxy != ADDR_PROXY_OFF) {
    begin_header(conn, (enum addr_proxy)accepted->proxy);
  } else {
    begin(conn);
  }
  end_turn(conn);
  return 0;
}
