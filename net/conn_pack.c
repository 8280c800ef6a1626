/*
 * conn_pack: see conn_pack.h.
 *
 * No event is lost or doubled.  What epoll knows of a descriptor is a level in the kernel: to add
 * it reports an edge for all that is ready, whatever the old set had reported.  What only this
 * process knows (bytes in conn->in, a request) is why every arrival asks for one turn.
 */
#include "net/conn_pack.h"

#include "core/sys.h"
#include "core/fields.h"
#include "net/conn_timeout.h"
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
  static const char *const texts[CONN_STAYS_COUNT] = {
      "they can move", "they wait for offloaded work", "they have too many bytes",
      "the new process has refused them", "they cannot be sent"};
  return texts[stays];
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

/* ---- pack ---- */

size_t conn_pack(struct xchg_conn *conn, uint8_t *bytes, struct conn_owned *owned) {
  struct conn_ctx *ctx = conn->ctx;
  assert(ctx->current == NULL && ctx->reactor->epoll_fd != -1 && conn->cold->offloads == 0);
  size_t size = conn_record_write(conn, bytes);
  *owned = (struct conn_owned){.fd = conn->fd, .ip_slot = conn_peer(conn)->ip_slot};
  /* Removed before the descriptor leaves: an old set reports a descriptor that lives elsewhere. */
  reactor_remove(ctx->reactor, &conn->source, conn->fd);
  forget(conn);
  return size;
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
  if (conn->readable == READABLE_NO) {
    conn->readable = conn->is_unix ? READABLE_UNTIL_EAGAIN : READABLE_MAYBE;
  }
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

struct xchg_conn *conn_unpack(struct conn_ctx *ctx, const struct conn_record *record) {
  if (check_fit(ctx, record) == -1) {
    return NULL;
  }
  struct source *source = reactor_alloc(ctx->reactor);
  if (source == NULL) {
    errno = ENOMEM;
    return NULL;
  }
  reactor_hide(ctx->reactor, source);
  struct xchg_conn *conn = conn_of(source);
  uint64_t now_ns = reactor_fresh_ns(ctx->reactor);
  size_t head = sizeof(conn->source);
  memcpy((char *)conn + head, (const char *)&record->conn + head, sizeof(*conn) - head);
  conn->ctx = ctx;
  conn->cold = &ctx->no_cold;
  conn->fd = record->owned.fd;
  conn->state = CONN_CLOSED; /* until conn_resume: nothing can be queued */
  set_members(conn, record, now_ns);
  memset((char *)conn + CONN_STATE_OFFSET, 0, ctx->handler->state_size);
  if (!set_cold(conn, record, now_ns) || !set_bytes(conn, record) ||
      !join_groups(conn, &record->groups)) {
    forget(conn);
    errno = ENOMEM;
    return NULL;
  }
  return conn;
}

void conn_resume(struct xchg_conn *conn, const struct conn_record *record) {
  struct reactor *reactor = conn->ctx->reactor;
  conn->state = record->conn.state;
  reactor_show(reactor, &conn->source);
  if (reactor_add(reactor, &conn->source, conn->fd,
                  CONN_WATCHED | (conn->stalled ? (uint32_t)EPOLLOUT : 0)) == -1) {
    conn_request_close(conn, XCHG_MEMORY);
  } else {
    reactor_arm(reactor, &conn->source, conn_timeout_next(conn));
  }
  reactor_requeue(reactor, &conn->source);
}

void conn_record_close(struct conn_ctx *ctx, const struct conn_record *record,
                       enum xchg_reason reason) {
  uint64_t now_ns = reactor_fresh_ns(ctx->reactor);
  stats_add(&ctx->stats->ended[reason], 1);
  stats_lived(ctx->stats, sub_sat_u64(now_ns, record->peer.opened_ns));
  sys_close(record->owned.fd);
}
