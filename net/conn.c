/*
 * conn: the coordinator of one connection; see conn.h for its states and invariants.
 *
 * One turn does at most one read (more only where a short read proves nothing) and one write, so
 * that a connection that sends without pause gives way to the others after host->input_bytes.  A
 * read goes into the worker's one buffer and messages are cut where they lie; only what must wait
 * is copied into a buf of the connection's own.
 */
#include "net/conn.h"

#include "core/sys.h"
#include "net/conn_time.h"
#include "net/frame.h"
#include "net/sock.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define READS_MAX 16 /* a turn, where each read must be followed by another */
#define WATCHED (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET)
#define ENDS (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)

static void conn_turn(struct source *source, uint32_t events);

/* ---- ends ---- */

void conn_close(struct xchg_conn *conn, enum xchg_reason reason) {
  struct conn_host *host = conn->host;
  if (host->handler->on_close != NULL) {
    host->handler->on_close(conn, reason);
  }
  stats_add(&host->stats->ended[reason], 1);
  buf_release(&host->bufs, &conn->in);
  buf_release(&host->bufs, &conn->out);
  reactor_retire(host->reactor, &conn->source);
  sys_close(conn->fd);
  conn->fd = -1;
}

/* From here on only what is queued is sent, and then the connection parts. */
static void conn_end(struct xchg_conn *conn, enum xchg_reason reason) {
  assert(conn->state == CONN_OPEN);
  conn->state = CONN_ENDING;
  conn->reason = (uint8_t)reason;
}

/*
 * Everything is given to the kernel: close where that cannot destroy any of it, else half-close and
 * drain.
 */
static bool conn_part(struct xchg_conn *conn) {
  const struct xchg_config *config = conn->host->config;
  if (conn->ended || config->linger_ns == 0) {
    conn_close(conn, conn->reason);
    return false;
  }
  uint32_t unacked = sock_unacked(conn->fd);
  if (!conn->half_close && !conn->excess && !conn->unread && unacked == 0) {
    conn_close(conn, conn->reason);
    return false;
  }
  if (sys_shutdown(conn->fd, SHUT_WR) == -1) {
    conn_close(conn,
               conn->reason); /* ENOTCONN: the peer is gone, there is nothing left to protect */
    return false;
  }
  conn->state = CONN_DRAINING;
  conn->progress_ns = conn->host->reactor->now_ns;
  conn->acknowledged = (int64_t)conn->sent - unacked;
  return true;
}

/* ---- output ---- */

/* The kernel took less than there was: ask to be told, and note where the peer stands. */
static bool conn_stall(struct xchg_conn *conn) {
  struct conn_host *host = conn->host;
  conn->progress_ns = host->reactor->now_ns;
  if (conn->stalled) {
    return true;
  }
  conn->stalled = true;
  conn->acknowledged = (int64_t)conn->sent - sock_unacked(conn->fd);
  if (reactor_want(host->reactor, &conn->source, conn->fd, WATCHED | EPOLLOUT) == -1) {
    conn_close(conn, XCHG_MEMORY);
    return false;
  }
  return true;
}

/* One write. Return: is the connection still there? */
static bool conn_flush(struct xchg_conn *conn) {
  struct conn_host *host = conn->host;
  if (conn->out == NULL) {
    return true;
  }
  size_t count;
  enum io io = sock_send(conn->fd, buf_data(conn->out), buf_size(conn->out), &count);
  if (io == IO_ERROR) {
    conn_close(conn, sock_reason(errno));
    return false;
  }
  if (count > 0) {
    conn->sent += count;
    conn->active_ns = host->reactor->now_ns;
    stats_add(&host->stats->bytes_out, count);
    buf_consume(&host->bufs, &conn->out, count);
  }
  if (conn->out == NULL) {
    conn->stalled = false;
    return true;
  }
  return count > 0 || !conn->stalled ? conn_stall(conn) : true;
}

static bool blocked(const struct xchg_conn *conn) {
  return buf_size(conn->out) >= conn->host->config->max_pending_bytes;
}

/* ---- input ---- */

static bool counted(const struct xchg_conn *conn) { return conn->host->handler->messages != 0; }

/* Hand one message up. Return: is the connection still there? */
static bool conn_message(struct xchg_conn *conn, const uint8_t *data, const struct frame_cut *cut) {
  const struct xchg_handler *handler = conn->host->handler;
  const struct xchg_message message = {.data = data + cut->head,
                                       .size = cut->size,
                                       .frame = data,
                                       .frame_size = cut->head + cut->size + cut->tail};
  conn->messages++;
  stats_add(&conn->host->stats->messages, 1);
  if (handler->on_message != NULL) {
    handler->on_message(conn, &message);
  }
  if (conn->aborted) {
    conn_close(conn, conn->reason);
    return false;
  }
  if (conn->finishing || conn->messages == handler->messages) {
    conn_end(conn, XCHG_FINISHED);
  }
  return true;
}

/*
 * Cut and hand up the messages in ${size} bytes at ${data}; ${*used} says how many of them are
 * dealt with.  What comes behind the end of the exchange is dealt with by being ignored.  Return:
 * is the connection still there?
 */
static bool conn_cut(struct xchg_conn *conn, const uint8_t *data, size_t size, size_t *used) {
  const struct xchg_handler *handler = conn->host->handler;
  size_t none = 0;
  size_t *scanned = conn->in != NULL ? &conn->in->scanned : &none;
  size_t at = 0;
  while (at < size && conn->state == CONN_OPEN && !blocked(conn)) {
    struct frame_cut cut;
    enum frame_result result =
        frame_cut(&handler->frame, handler->max_message, data + at, size - at, scanned, &cut);
    if (result == FRAME_MORE) {
      break;
    }
    if (result == FRAME_TOO_LONG) {
      conn_end(conn, XCHG_TOO_LONG);
      break;
    }
    if (!conn_message(conn, data + at, &cut)) {
      return false;
    }
    at += cut.head + cut.size + cut.tail;
  }
  if (conn->state != CONN_OPEN && at < size) {
    conn->excess = true;
    at = size;
  }
  *used = at;
  return true;
}

/*
 * The remaining bytes of a read are kept: the message that they begin began now, unless the clock
 * runs from the accept.
 */
static void conn_begun(struct xchg_conn *conn) {
  if (!(counted(conn) && conn->messages == 0)) {
    conn->begun_ns = conn->host->reactor->now_ns;
  }
}

/* Deal with what conn->in holds. Return: is the connection still there? */
static bool conn_cut_kept(struct xchg_conn *conn) {
  size_t used;
  if (!conn_cut(conn, buf_data(conn->in), buf_size(conn->in), &used)) {
    return false;
  }
  if (used > 0) {
    buf_consume(&conn->host->bufs, &conn->in, used);
    if (conn->in != NULL) {
      conn_begun(conn);
    }
  }
  return true;
}

static bool conn_keep(struct xchg_conn *conn, const uint8_t *data, size_t size) {
  if (buf_append(&conn->host->bufs, &conn->in, data, size) == 0) {
    return true;
  }
  conn_close(conn, XCHG_MEMORY);
  return false;
}

/* Deal with ${size} bytes that have just been read into the worker's buffer. */
static bool conn_received(struct xchg_conn *conn, size_t size) {
  struct conn_host *host = conn->host;
  stats_add(&host->stats->bytes_in, size);
  conn->active_ns = host->reactor->now_ns;
  if (conn->state != CONN_OPEN) {
    conn->excess = true;
    conn->thrown_away += (uint32_t)min_u64(size, DRAIN_BYTES_MAX);
    return true;
  }
  if (conn->in != NULL) {
    return conn_keep(conn, host->input, size) && conn_cut_kept(conn);
  }
  size_t used;
  if (!conn_cut(conn, host->input, size, &used)) {
    return false;
  }
  if (used == size) {
    return true;
  }
  conn_begun(conn);
  return conn_keep(conn, host->input + used, size - used);
}

/* The stream has ended: so does a message that it may end, and the exchange. */
static bool conn_received_end(struct xchg_conn *conn) {
  const struct xchg_handler *handler = conn->host->handler;
  conn->ended = true;
  if (conn->state == CONN_DRAINING) {
    conn_close(conn, conn->reason);
    return false;
  }
  if (conn->state == CONN_ENDING) {
    return true;
  }
  if (conn->in != NULL) {
    struct frame_cut cut;
    enum frame_result result = frame_cut_last(&handler->frame, handler->max_message,
                                              buf_data(conn->in), buf_size(conn->in), &cut);
    if (result != FRAME_MESSAGE) {
      conn_end(conn, result == FRAME_TOO_LONG ? XCHG_TOO_LONG : XCHG_TRUNCATED);
    } else if (!conn_message(conn, buf_data(conn->in), &cut)) {
      return false;
    }
  }
  if (conn->state == CONN_OPEN) {
    conn_end(conn, counted(conn) ? XCHG_PEER : XCHG_FINISHED);
  }
  return true;
}

/* One read and what follows from it. Return: is the connection still there? */
static bool conn_fill(struct xchg_conn *conn) {
  struct conn_host *host = conn->host;
  size_t asked = host->input_bytes;
  if (host->handler->frame.kind == XCHG_FRAME_RAW && conn->state == CONN_OPEN) {
    asked = min_u64(asked, host->handler->max_message);
  }
  size_t count;
  switch (sock_recv(conn->fd, host->input, asked, &count)) {
    case IO_OK:
      conn->unread = conn->to_end || count == asked;
      return conn_received(conn, count);
    case IO_AGAIN:
      conn->unread = conn->to_end = false;
      return true;
    case IO_EOF:
      conn->unread = conn->to_end = false;
      return conn_received_end(conn);
    default:
      conn_close(conn, conn->state == CONN_DRAINING ? conn->reason : sock_reason(errno));
      return false;
  }
}

/* May bytes be read now? Not while output is over the mark, and not more than a drain may. */
static bool readable(const struct xchg_conn *conn) {
  if (!conn->unread) {
    return false;
  }
  return conn->state == CONN_OPEN ? !blocked(conn) : conn->thrown_away < DRAIN_BYTES_MAX;
}

/* The message's clock stands while the server itself does not read. */
static void conn_pause(struct xchg_conn *conn, bool paused) {
  if (conn->paused != paused) {
    conn->paused = paused;
    conn->begun_ns = conn->host->reactor->now_ns - conn->begun_ns;
  }
}

/*
 * Cut what was kept, then read: once, or until nothing is left where a short read does not prove
 * that.
 */
static bool conn_input(struct xchg_conn *conn) {
  if (conn->state == CONN_OPEN && conn->paused && !blocked(conn)) {
    conn_pause(conn, false);
    if (conn->in != NULL && !conn_cut_kept(conn)) {
      return false;
    }
  }
  for (int i = 0; i < READS_MAX && readable(conn); i++) {
    if (!conn_fill(conn)) {
      return false;
    }
    if (!conn->to_end) {
      break;
    }
  }
  return true;
}

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
  return counted(conn) ? XCHG_DRAIN : XCHG_FINISHED;
}

/* Conclude a turn: part, leave, ask for another turn, set the timer. */
static void conn_settle(struct xchg_conn *conn) {
  struct conn_host *host = conn->host;
  if (conn->state == CONN_OPEN && conn_must_leave(conn) && between_messages(conn)) {
    conn->half_close = true;
    conn_end(conn, leave_reason(conn));
  }
  if (conn->state != CONN_OPEN) {
    buf_release(&host->bufs, &conn->in);
    if (conn->state == CONN_ENDING && conn->out == NULL && !conn_part(conn)) {
      return;
    }
    if (conn->state == CONN_DRAINING && conn->thrown_away >= DRAIN_BYTES_MAX &&
        sock_unacked(conn->fd) == 0) {
      conn_close(conn, conn->reason);
      return;
    }
  } else {
    if (conn->paused && !blocked(conn)) {
      reactor_again(host->reactor, &conn->source); /* that turn goes on where this one stopped */
    }
    conn_pause(conn, conn->paused || blocked(conn));
  }
  if (readable(conn)) {
    reactor_again(host->reactor, &conn->source);
  }
  if (host->reactor->epoll_fd ==
      -1) { /* poll's readiness is a level: do not ask for what is not wanted */
    bool reads = conn->state == CONN_OPEN ? !conn->paused : conn->thrown_away < DRAIN_BYTES_MAX;
    uint32_t events =
        (reads && !conn->ended ? EPOLLIN | EPOLLRDHUP : 0) | (conn->out != NULL ? EPOLLOUT : 0);
    (void)reactor_want(host->reactor, &conn->source, conn->fd, events);
  }
  reactor_arm(host->reactor, &conn->source, conn_deadline(conn));
}

/* Let everything that waits have its way once: output, kept messages, input, replies. */
static void conn_work(struct xchg_conn *conn, uint32_t events) {
  if ((events & EPOLLOUT) != 0 && conn->out != NULL && !conn_flush(conn)) {
    return;
  }
  if (!conn_input(conn)) {
    return;
  }
  if (conn->out != NULL && !conn->stalled && !conn_flush(conn)) {
    return;
  }
  conn_settle(conn);
}

/* A deadline has come, and a last look at the socket has changed nothing about it. */
static void conn_timed_out(struct xchg_conn *conn) {
  switch (conn_overdue(conn)) {
    case OVERDUE_NOT:
      reactor_arm(conn->host->reactor, &conn->source, conn_deadline(conn));
      return;
    case OVERDUE_IDLE:
      conn_close(conn, XCHG_IDLE);
      return;
    case OVERDUE_MESSAGE:
      conn_close(conn, XCHG_MESSAGE);
      return;
    case OVERDUE_WRITE:
      conn_close(conn, XCHG_WRITE);
      return;
    case OVERDUE_LEAVE:
      conn_close(conn, conn->leaving ? XCHG_LIFETIME : XCHG_DRAIN);
      return;
    case OVERDUE_SILENT:
      conn->half_close = true;
      conn_end(conn, conn->leaving ? XCHG_LIFETIME : XCHG_DRAIN);
      conn_settle(conn);
      return;
    case OVERDUE_LINGER:
      conn_close(conn, conn->reason);
      return;
  }
}

static void conn_turn(struct source *source, uint32_t events) {
  struct xchg_conn *conn = conn_of(source);
  if ((events & TURN_TIMER) != 0) {
    if (conn_deadline(conn) > conn->host->reactor->now_ns) {
      reactor_arm(conn->host->reactor, source, conn_deadline(conn));
      return; /* armed lazily: it was put off meanwhile */
    }
    uint32_t generation = source->generation;
    conn_age(conn);
    conn->unread = true; /* nobody is cut whose bytes are there */
    conn_work(conn, EPOLLOUT);
    if (source->generation == generation) {
      conn_timed_out(conn);
    }
    return;
  }
  if ((events & (EPOLLIN | ENDS)) != 0) {
    conn->unread = true;
    conn->to_end = conn->to_end || conn->local || (events & ENDS) != 0;
  }
  conn_work(conn, events);
}

void conn_stop(struct source *source) {
  struct xchg_conn *conn = conn_of(source);
  if (conn->state == CONN_OPEN) {
    conn->unread = true;
  }
  conn_work(conn, 0);
}

/* ---- the beginning ---- */

int conn_host_init(struct conn_host *host, const struct xchg_config *config,
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

static void conn_init(struct xchg_conn *conn, struct conn_host *host, const struct guest *guest) {
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
  conn->source.turn = conn_turn;
  conn->lifetime_ns = conn_lifetime(host, guest->accepted_ns);
}

int conn_open(struct conn_host *host, const struct guest *guest) {
  struct source *source = reactor_take(host->reactor);
  if (source == NULL) {
    stats_add(&host->stats->ended[XCHG_MEMORY], 1);
    sys_close(guest->fd);
    return -1;
  }
  struct xchg_conn *conn = conn_of(source);
  conn_init(conn, host, guest);
  if (host->handler->on_open != NULL) {
    host->handler->on_open(conn);
  }
  if (conn->aborted) {
    conn_close(conn, conn->reason);
    return 0;
  }
  if (conn->finishing) {
    conn_end(conn, XCHG_FINISHED);
  }
  /*
   * Greet before the kernel is asked to watch: what the peer sends meanwhile is reported all the
   * same.
   */
  if (reactor_add(host->reactor, source, conn->fd, WATCHED) == -1) {
    conn_close(conn, XCHG_MEMORY);
    return 0;
  }
  if (conn_flush(conn)) {
    conn_settle(conn);
  }
  return 0;
}

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

void xchg_finish(struct xchg_conn *conn) { conn->finishing = true; }

void xchg_abort(struct xchg_conn *conn) {
  if (!conn->aborted) {
    conn->aborted = true;
    conn->reason = XCHG_ERROR;
  }
}

const void *xchg_user(const struct xchg_conn *conn) { return conn->host->handler->user; }
