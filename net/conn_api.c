/*
 * conn_api: see conn_api.h.
 *
 * No call here writes to a socket, closes a connection or calls back.  So a handler is never
 * re-entered, and a connection never closes within a callback.
 */
#include "net/conn_api.h"

#include "core/sys.h"
#include "net/conn_address.h"
#include "net/conn_timeout.h"
#include "net/conn_output.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Most references, and most memberships, of a worker. Memory ends before that. */
#define REFS_MAX (UINT32_C(1) << 28)
#define MEMBERSHIPS_MAX (UINT32_C(1) << 26)

/* ---- who may call ---- */

bool conn_on_owner_thread(const struct xchg_conn *conn) {
  if (conn->ctx->thread == conn_thread()) {
    return true;
  }
  errno = EPERM;
  return false;
}

static bool sendable(const struct xchg_conn *conn) {
  return conn->state == CONN_OPEN && conn->request == REQUEST_NONE;
}

bool conn_can_send(const struct xchg_conn *conn) {
  if (!conn_on_owner_thread(conn)) {
    return false;
  }
  if (!sendable(conn)) {
    errno = EPIPE;
    return false;
  }
  return true;
}

void conn_schedule(struct xchg_conn *conn) {
  if (conn->ctx->current != conn && conn->state < CONN_CLOSED) {
    reactor_requeue(conn->ctx->reactor, &conn->source);
  }
}

/* The connection closes as ${reason} once the callback has returned. */
static void request_abort(struct xchg_conn *conn, enum xchg_reason reason) {
  conn->request = REQUEST_ABORT;
  conn->end_reason = (uint8_t)reason;
}

/* ---- sending ---- */

/* Output was queued, or (not ${queued}) there was no memory for it, which ends the connection. */
static int note_queued(struct xchg_conn *conn, bool queued) {
  conn_schedule(conn);
  if (queued) {
    return 0;
  }
  request_abort(conn, XCHG_MEMORY);
  return fail(ENOMEM);
}

/* Queue a copy; in the turn of ${conn} itself by way of the staging block, which is sent from. */
static inline int append(struct xchg_conn *conn, const void *data, size_t size) {
  struct conn_ctx *ctx = conn->ctx;
  return ctx->current == conn ? send_queue_stage(&ctx->send_queues, &conn->out, data, size)
                              : send_queue_append(&ctx->send_queues, &conn->out, data, size);
}

int xchg_send(struct xchg_conn *conn, const void *data, size_t size) {
  if (!conn_can_send(conn)) {
    return -1;
  }
  return note_queued(conn, append(conn, data, size) == 0);
}

int xchg_sendv(struct xchg_conn *conn, const struct iovec *parts, int count) {
  if (!conn_can_send(conn)) {
    return -1;
  }
  if (count < 0) {
    return fail(EINVAL);
  }
  bool all = true;
  for (int i = 0; i < count && all; i++) {
    all = append(conn, parts[i].iov_base, parts[i].iov_len) == 0;
  }
  return note_queued(conn, all);
}

/* ${each} for every connection that the worker may have, ${most} at most. */
static uint32_t pool_size(const struct conn_ctx *ctx, uint32_t each, uint32_t most) {
  return (uint32_t)min_u64((uint64_t)ctx->conns_max * each, most);
}

/*
 * Queue ${ref}.  A connection has at most CONN_REFS_MAX references, so that a peer that does not
 * read leaves enough to the others.  Further ones are copied.  Return: 0, or -1 without memory.
 */
static int append_ref(struct xchg_conn *conn, const struct buf_ref *ref) {
  struct conn_ctx *ctx = conn->ctx;
  if (ctx->send_queues.segments.objects_max == 0 &&
      send_queue_pool_init(&ctx->send_queues, &ctx->bufs,
                           pool_size(ctx, CONN_REFS_MAX, REFS_MAX)) == -1) {
    return -1;
  }
  if (send_queue_refs(&conn->out) < CONN_REFS_MAX) {
    return send_queue_append_ref(&ctx->send_queues, &conn->out, ref);
  }
  if (append(conn, ref->data, ref->size) == -1) {
    return -1;
  }
  if (ref->release != NULL) {
    ref->release(ref->argument);
  }
  return 0;
}

int xchg_send_ref(struct xchg_conn *conn, const void *data, size_t size,
                  void (*release)(void *argument), void *argument) {
  const struct buf_ref ref = {.data = data, .size = size, .release = release, .argument = argument};
  if (!conn_can_send(conn)) {
    return -1;
  }
  if (size > XCHG_MESSAGE_MAX) {
    return fail(EINVAL);
  }
  return note_queued(conn, append_ref(conn, &ref) == 0);
}

size_t xchg_pending(const struct xchg_conn *conn) {
  return conn_on_owner_thread(conn) ? send_queue_size(&conn->out) : 0;
}

/* ---- requests ---- */

int xchg_finish(struct xchg_conn *conn) {
  if (!conn_on_owner_thread(conn)) {
    return -1;
  }
  if (conn->request == REQUEST_NONE && conn->state < CONN_CLOSED) {
    conn->request = REQUEST_FINISH;
  }
  conn_schedule(conn);
  return 0;
}

int xchg_abort(struct xchg_conn *conn) {
  if (!conn_on_owner_thread(conn)) {
    return -1;
  }
  if (conn->request != REQUEST_ABORT && conn->state < CONN_CLOSED) {
    request_abort(conn, XCHG_ERROR);
    conn_schedule(conn);
  }
  return 0;
}

int xchg_pause(struct xchg_conn *conn) {
  if (!conn_on_owner_thread(conn)) {
    return -1;
  }
  if (conn->state < CONN_CLOSED) {
    conn->hold_reasons |= HOLD_HANDLER;
    conn_schedule(conn);
  }
  return 0;
}

int xchg_resume(struct xchg_conn *conn) {
  if (!conn_on_owner_thread(conn)) {
    return -1;
  }
  if (conn->state < CONN_CLOSED) {
    conn->hold_reasons &= HOLD_ALL & ~HOLD_HANDLER;
    conn_schedule(conn);
  }
  return 0;
}

int xchg_timer(struct xchg_conn *conn, uint64_t after_ns) {
  struct conn_ctx *ctx = conn->ctx;
  if (!conn_on_owner_thread(conn)) {
    return -1;
  }
  if (ctx->handler->on_timer == NULL) {
    return fail(EINVAL);
  }
  if (conn->state >= CONN_CLOSED) {
    return 0;
  }
  struct conn_cold *cold = conn_cold(conn);
  if (cold == NULL) {
    return fail(ENOMEM);
  }
  uint64_t now_ns = reactor_fresh_ns(ctx->reactor);
  cold->timer_ns = after_ns == XCHG_NEVER ? NEVER : add_sat_u64(now_ns, after_ns);
  reactor_arm(ctx->reactor, &conn->source, conn_timeout_next(conn));
  return 0;
}

/* ---- properties ---- */

int xchg_address(const struct xchg_conn *conn, char *text, size_t size) {
  char address[XCHG_ADDRESS_MAX];
  if (!conn_on_owner_thread(conn)) {
    return -1;
  }
  conn_address(conn, address);
  if (strlen(address) >= size) {
    return fail(ENOSPC);
  }
  memcpy(text, address, strlen(address) + 1);
  return 0;
}

void *xchg_state(const struct xchg_conn *conn) {
  if (!conn_on_owner_thread(conn) || conn->ctx->handler->state_size == 0) {
    return NULL;
  }
  return (char *)conn + CONN_STATE_OFFSET;
}

uint64_t xchg_id(const struct xchg_conn *conn) {
  return conn_on_owner_thread(conn) ? conn_id(conn) : 0;
}

struct xchg_conn *conn_find(struct conn_ctx *ctx, uint64_t id) {
  struct source *source = reactor_find(ctx->reactor, id & UINT64_MAX >> ctx->reactor->owner_bits);
  return source == NULL ? NULL : conn_of(source);
}

void *xchg_user(const struct xchg_conn *conn) { return conn->ctx->handler->user; }

struct xchg_server *xchg_server_of(const struct xchg_conn *conn) {
  return conn->ctx->server;
}

/* ---- groups ---- */

int conn_join(struct xchg_conn *conn, uint64_t group, enum xchg_slow slow) {
  struct conn_ctx *ctx = conn->ctx;
  if (ctx->groups.groups.buckets == NULL &&
      groups_init(&ctx->groups, pool_size(ctx, XCHG_GROUPS_MAX, MEMBERSHIPS_MAX)) == -1) {
    return -1;
  }
  struct conn_cold *cold = conn_cold(conn);
  if (cold == NULL) {
    return fail(ENOMEM);
  }
  return group_join(&ctx->groups, &cold->memberships, conn, group, slow);
}

int xchg_join(struct xchg_conn *conn, uint64_t group, enum xchg_slow slow) {
  if (!conn_can_send(conn)) {
    return -1;
  }
  if (slow != XCHG_SLOW_SKIP && slow != XCHG_SLOW_DROP) {
    return fail(EINVAL);
  }
  return conn_join(conn, group, slow);
}

int xchg_leave(struct xchg_conn *conn, uint64_t group) {
  if (!conn_on_owner_thread(conn)) {
    return -1;
  }
  struct member **memberships = &conn->cold->memberships;
  if (*memberships == NULL || (conn->state & CONN_PARKED) != 0 ||
      group_leave(&conn->ctx->groups, memberships, group) == -1) {
    return fail(ENOENT);
  }
  return 0;
}

bool conn_publish(struct xchg_conn *conn, enum xchg_slow slow, const struct buf_ref *ref) {
  struct stats *stats = conn->ctx->stats;
  if (!sendable(conn)) {
    return false; /* it is ending */
  }
  if (conn_output_blocked(conn)) {
    stats_add(&stats->skipped, 1);
    if (slow == XCHG_SLOW_DROP) {
      request_abort(conn, XCHG_WRITE);
      conn_schedule(conn);
    }
    return false;
  }
  if (note_queued(conn, append_ref(conn, ref) == 0) == -1) {
    return false;
  }
  stats_add(&stats->published, 1);
  return true;
}
