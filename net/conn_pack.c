/*
 * conn_pack: see conn_pack.h.
 *
 * No event is lost or doubled.  What epoll knows of a descriptor is a level in the kernel: to add
 * it reports an edge for all that is ready, whatever the old set had reported.  What only this
 * process knows (bytes in conn->in, a request) is why every arrival asks for one turn.
 */
#include "net/conn_pack.h"

#include "core/fields.h"
#include "net/conn_timeout.h"
#include "net/conn.h"
#include "net/conn_api.h"

#include <errno.h>
#include <string.h>

enum conn_stays conn_stays(const struct xchg_conn *conn) {
  if (conn->cold->offloads > 0) {
    return CONN_STAYS_OFFLOAD;
  }
  return conn_record_room(conn) > CONN_RECORD_MAX ? CONN_STAYS_LARGE : CONN_MOVES;
}

const char *conn_stays_text(enum conn_stays stays) {
  static const char *const texts[CONN_STAYS_COUNT] = {"they can move",
                                                      "they wait for offloaded work",
                                                      "they have too many bytes",
                                                      "on_save has refused them",
                                                      "the new process has refused them",
                                                      "they cannot be sent"};
  return texts[stays];
}

/* Nothing gives ${conn} a turn, and nothing finds it, until conn_resume. */
static void park(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  conn->state |= CONN_PARKED;
  ctx->parked++;
  reactor_hide(ctx->reactor, &conn->source);
}

/* Free everything of ${conn} but its descriptor and its admission slot. */
static void forget(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  conn->state = CONN_CLOSED; /* a release function may make calls, but not for this connection */
  buf_release(&ctx->bufs, &conn->in);
  send_queue_release(&ctx->send_queues, &conn->out);
  conn_release_cold(conn);
  conn->fd = -1; /* a child that is forked later must not close it */
  reactor_cancel(ctx->reactor, &conn->source);
}

/* A callback has returned.  If it has forked, and this is the child, the child ends. */
static void end_callback(const struct conn_ctx *ctx) {
  if (ctx->thread == NULL) {
    conn_end_child();
  }
}

/* ---- pack ---- */

/* Let the handler begin the record of ${conn}. Return: does it?  ${*size}: of this part. */
static bool save(struct xchg_conn *conn, uint8_t *bytes, size_t *size) {
  const struct xchg_handler *handler = conn->ctx->handler;
  *size = 0;
  if (!conn_record_saves(conn)) {
    return true;
  }
  uint8_t state = conn->state;
  conn->state |= CONN_PARKED; /* calls for it have no effect */
  ssize_t saved = handler->on_save(conn, bytes + CONN_RECORD_SAVED, XCHG_SAVE_MAX);
  conn->state = state;
  end_callback(conn->ctx);
  if (saved < 0 || (size_t)saved > XCHG_SAVE_MAX) {
    return false;
  }
  *size = conn_record_put_saved(bytes, handler->state_version, (size_t)saved);
  return true;
}

size_t conn_pack(struct xchg_conn *conn, uint8_t *bytes) {
  struct conn_ctx *ctx = conn->ctx;
  size_t saved;
  assert(ctx->current == NULL && ctx->reactor->epoll_fd != -1);
  assert(conn->state < CONN_CLOSED && conn->cold->offloads == 0);
  watchdog_heartbeat(ctx);
  if (!save(conn, bytes, &saved)) {
    return 0;
  }
  size_t size = saved + conn_record_write(conn, bytes + saved);
  /* Removed before the descriptor leaves: an old set reports a descriptor that lives elsewhere. */
  reactor_remove(ctx->reactor, &conn->source, conn->fd);
  park(conn);
  return size;
}

struct conn_owned conn_gone(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  struct conn_owned owned = {.fd = conn->fd, .ip_slot = conn_peer(conn)->ip_slot};
  reactor_show(&conn->source); /* a hidden key has another id */
  if (ctx->handler->on_gone != NULL && conn_proxy_opened(conn)) {
    ctx->handler->on_gone(conn);
    end_callback(ctx);
  }
  ctx->parked--;
  forget(conn);
  return owned;
}

/* ---- unpack ---- */

/* Can ${ctx} serve what ${record} holds? Return: 0, or -1 with errno. */
static int check_fit(const struct conn_ctx *ctx, const struct conn_record *record) {
  if (record->proxied && ctx->proxies == NULL) {
    return fail(ENOTSUP);
  }
  if (record->cold.timer_ns != NEVER && ctx->handler->on_timer == NULL) {
    return fail(EBADMSG);
  }
  bool opened = !record->proxied || record->proxy.opened; /* before it there is no state */
  if ((record->state_version != 0) != (ctx->handler->on_restore != NULL && opened)) {
    return fail(EBADMSG);
  }
  /* For a custom frame, scanned is the size that the handler asked for. */
  bool custom = ctx->handler->frame.kind == XCHG_FRAME_CUSTOM;
  return !custom && record->scanned > record->input.size ? fail(EBADMSG) : 0;
}

/* Set the members of ${conn} that need no memory. Times in the future count as ${now_ns}. */
static void set_members(struct xchg_conn *conn, const struct conn_record *record, uint64_t now_ns) {
  struct conn_ctx *ctx = conn->ctx;
  uint32_t slot = source_slot(ctx->reactor, &conn->source);
  conn->active_ns = min_u64(conn->active_ns, now_ns);
  conn->message_clock_ns = min_u64(conn->message_clock_ns, now_ns); /* or a duration, or bytes */
  conn->drain_due = conn->drain_due && ctx->handler->on_drain != NULL;
  ctx->peers[slot] =
      (struct conn_peer){.addr = record->addr,
                         .ip_slot = record->owned.ip_slot,
                         .opened_ns = min_u64(record->peer.opened_ns, now_ns) & CONN_OPENED_MASK,
                         .listener = record->listener & CONN_LISTENER_MASK};
  ctx->peers_end = (uint32_t)max_u64(ctx->peers_end, slot + 1);
  if (record->proxied) {
    ctx->proxies[slot] = record->proxy;
    ctx->proxies[slot].accepted_ns = min_u64(record->proxy.accepted_ns, now_ns);
    ctx->proxies_end = (uint32_t)max_u64(ctx->proxies_end, slot + 1);
  }
  if (ctx->paces != NULL) {
    ctx->paces[slot] = record->pace;
    ctx->paces[slot].message_ns = min_u64(record->pace.message_ns, now_ns);
  }
}

/* Does ${record} need a cold part? */
static bool needs_cold(const struct conn_record *record) {
  const struct conn_cold *cold = &record->cold;
  return cold->progress_ns != 0 || cold->timer_ns != NEVER || cold->lifetime_ns != NEVER ||
         cold->acknowledged != 0 || record->header.size > 0;
}

/* Set the cold part of ${conn}. Return: was there memory? */
static bool set_cold(struct xchg_conn *conn, const struct conn_record *record, uint64_t now_ns) {
  if (!needs_cold(record)) {
    return true;
  }
  struct conn_cold *cold = conn_cold(conn);
  if (cold == NULL) {
    return false;
  }
  cold->progress_ns = min_u64(record->cold.progress_ns, now_ns);
  cold->timer_ns = record->cold.timer_ns;
  cold->lifetime_ns = record->cold.lifetime_ns;
  cold->acknowledged = record->cold.acknowledged;
  return buf_append(&conn->ctx->bufs, &cold->header, record->header.data, record->header.size) == 0;
}

static bool join_groups(struct xchg_conn *conn, const struct conn_bytes *groups) {
  for (uint32_t at = 0; at < groups->size; at += CONN_RECORD_GROUP) {
    const uint8_t *group = groups->data + at;
    if (conn_join(conn, fields_load(group, 8), (enum xchg_slow)group[8]) == -1) {
      return false;
    }
  }
  return true;
}

/* Copy the bytes of ${record}. Return: was there memory? */
static bool set_bytes(struct xchg_conn *conn, const struct conn_record *record) {
  struct conn_ctx *ctx = conn->ctx;
  if (buf_append(&ctx->bufs, &conn->in, record->input.data, record->input.size) == -1 ||
      send_queue_append(&ctx->send_queues, &conn->out, record->output.data, record->output.size) ==
          -1) {
    return false;
  }
  if (conn->in != NULL) {
    conn->in->scanned = record->scanned;
  }
  return true;
}

/* Copy all that ${record} has to ${conn}, which is new. Return: was there memory? */
static bool fill(struct xchg_conn *conn, const struct conn_record *record) {
  struct conn_ctx *ctx = conn->ctx;
  uint64_t now_ns = reactor_fresh_ns(ctx->reactor);
  set_members(conn, record, now_ns);
  memset((char *)conn + CONN_STATE_OFFSET, 0, ctx->handler->state_size);
  return set_cold(conn, record, now_ns) && set_bytes(conn, record) &&
         join_groups(conn, &record->groups);
}

/* Let the handler restore its state of ${conn}. Return: does it? */
static bool restore(struct xchg_conn *conn, const struct conn_record *record) {
  const struct xchg_handler *handler = conn->ctx->handler;
  if (record->state_version == 0) {
    return true;
  }
  watchdog_heartbeat(conn->ctx);
  const void *data = record->saved.size == 0 ? "" : (const void *)record->saved.data; /* not NULL */
  int result = handler->on_restore(conn, record->state_version, data, record->saved.size);
  end_callback(conn->ctx);
  return result != -1;
}

/* Free ${conn}, which is not complete. Return: NULL, and errno is ${error}. */
static struct xchg_conn *refuse(struct xchg_conn *conn, int error) {
  conn_peer(conn)->ip_slot = NO_IP_SLOT; /* the caller's: no offloaded work must keep it */
  forget(conn);
  errno = error;
  return NULL;
}

struct xchg_conn *conn_unpack(struct conn_ctx *ctx, const struct conn_record *record) {
  if (check_fit(ctx, record) == -1) {
    return NULL;
  }
  struct source *source = reactor_alloc(ctx->reactor);
  if (source == NULL) {
    errno = ENOMEM;
    return NULL;
  }
  struct xchg_conn *conn = conn_of(source);
  size_t head = sizeof(conn->source);
  memcpy((char *)conn + head, (const char *)&record->conn + head, sizeof(*conn) - head);
  conn->ctx = ctx;
  conn->cold = &ctx->no_cold;
  conn->fd = record->owned.fd;
  if (!fill(conn, record)) {
    return refuse(conn, ENOMEM);
  }
  if (!restore(conn, record)) {
    return refuse(conn, ECANCELED);
  }
  park(conn);
  return conn;
}

/* ---- resume ---- */

/* ${conn} may have missed any event. */
static void expect_input(struct xchg_conn *conn) {
  if (conn->readable == READABLE_NO) {
    conn->readable = conn->is_unix ? READABLE_UNTIL_EAGAIN : READABLE_MAYBE;
  }
}

void conn_resume(struct xchg_conn *conn) {
  struct reactor *reactor = conn->ctx->reactor;
  conn->ctx->parked--;
  conn->state &= (uint8_t)~CONN_PARKED;
  expect_input(conn);
  reactor_show(&conn->source);
  if (reactor_add(reactor, &conn->source, conn->fd,
                  CONN_WATCHED | (conn->stalled ? (uint32_t)EPOLLOUT : 0)) == -1) {
    conn_request_close(conn, XCHG_MEMORY);
  } else {
    reactor_arm(reactor, &conn->source, conn_timeout_next(conn));
  }
  reactor_requeue(reactor, &conn->source);
}

/* ---- suspend ---- */

/* In place of a turn.  What ${source} has missed is looked up by conn_unsuspend. */
static void ignore_event(struct source *source, uint32_t events) { (void)source, (void)events; }

/* The next live connection from ${*slot} on, which moves behind it; NULL = there is none. */
static struct xchg_conn *next_live(const struct conn_ctx *ctx, uint32_t *slot) {
  const struct reactor *reactor = ctx->reactor;
  while ((*slot = slab_next(reactor->slab, *slot)) != SLAB_NONE) {
    struct source *source = slab_at(reactor->slab, (*slot)++);
    if (source_is_live(reactor, source)) {
      return conn_of(source);
    }
  }
  return NULL;
}

uint32_t conn_suspend(struct conn_ctx *ctx) {
  const struct xchg_conn *conn;
  uint32_t waiting = 0;
  ctx->suspended = true;
  ctx->reactor->on_event = ignore_event;
  for (uint32_t slot = 0; (conn = next_live(ctx, &slot)) != NULL;) {
    waiting += conn->cold->offloads > 0;
  }
  return waiting;
}

void conn_unsuspend(struct conn_ctx *ctx) {
  struct reactor *reactor = ctx->reactor;
  struct xchg_conn *conn;
  if (!ctx->suspended) {
    return;
  }
  ctx->suspended = false;
  reactor->on_event = conn_on_event;
  for (uint32_t slot = 0; (conn = next_live(ctx, &slot)) != NULL;) {
    reactor_requeue(reactor, &conn->source);
    if (conn->state != CONN_CLOSED) {
      expect_input(conn);
      reactor_repeat(reactor, &conn->source, conn->fd);
      reactor_arm(reactor, &conn->source, conn_timeout_next(conn));
    }
  }
}
