/*
 * conn_call: see conn_call.h.
 *
 * No call here writes to a socket, closes or calls back: a handler is never re-entered, and a
 * connection never ends under the hands of one.
 */
#include "net/conn_call.h"

#include "core/sys.h"
#include "net/conn_time.h"
#include "net/conn_out.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Memberships or loans of a worker at a time; more than memory holds. */
#define SHARES_MAX (UINT32_C(1) << 28)

/* ---- who may call -------------------------------------------------------------------------- */

bool conn_here(const struct xchg_conn *conn) {
  if (conn->host->thread == conn_thread()) {
    return true;
  }
  errno = EPERM;
  return false;
}

static bool sendable(const struct xchg_conn *conn) {
  return conn->state == CONN_OPEN && !conn->finishing && !conn->aborted;
}

bool conn_takes(const struct xchg_conn *conn) {
  if (!conn_here(conn)) {
    return false;
  }
  if (!sendable(conn)) {
    errno = EPIPE;
    return false;
  }
  return true;
}

void conn_touch(struct xchg_conn *conn) {
  if (conn->host->current != conn && conn->state != CONN_CLOSED) {
    reactor_again(conn->host->reactor, &conn->source);
  }
}

static int invalid(int error) {
  errno = error;
  return -1;
}

/* ---- sending ------------------------------------------------------------------------------- */

/*
 * Something was queued, or (not ${queued}) there was no memory for it, which ends the connection.
 */
static int queued(struct xchg_conn *conn, bool queued) {
  conn_touch(conn);
  if (queued) {
    conn->queued = conn->queued || !outbox_empty(&conn->out); /* 0 bytes are nothing */
    return 0;
  }
  conn->aborted = true;
  conn->reason = XCHG_MEMORY;
  return invalid(ENOMEM);
}

int xchg_send(struct xchg_conn *conn, const void *data, size_t size) {
  if (!conn_takes(conn)) {
    return -1;
  }
  return queued(conn, outbox_append(&conn->host->outs, &conn->out, data, size) == 0);
}

int xchg_sendv(struct xchg_conn *conn, const struct iovec *parts, int count) {
  if (!conn_takes(conn)) {
    return -1;
  }
  if (count < 0) {
    return invalid(EINVAL);
  }
  bool all = true;
  for (int i = 0; i < count && all; i++) {
    all = outbox_append(&conn->host->outs, &conn->out, parts[i].iov_base, parts[i].iov_len) == 0;
  }
  return queued(conn, all);
}

static uint32_t shares_max(const struct conn_host *host) {
  return (uint32_t)min_u64((uint64_t)host->conns_max * CONN_SHARES, SHARES_MAX);
}

/*
 * Queue ${loan}.  A connection has CONN_SHARES of them and no more, so that one that does not read
 * leaves the others theirs; beyond that its bytes are copied.  Return: 0, or -1 without memory.
 */
static int lend(struct xchg_conn *conn, const struct loan *loan) {
  struct conn_host *host = conn->host;
  if (host->outs.cargos.objects_max == 0 &&
      outbox_pool_init(&host->outs, &host->bufs, shares_max(host)) == -1) {
    return -1;
  }
  if (outbox_loans(&conn->out) < CONN_SHARES) {
    return outbox_lend(&host->outs, &conn->out, loan);
  }
  if (outbox_append(&host->outs, &conn->out, loan->data, loan->size) == -1) {
    return -1;
  }
  if (loan->release != NULL) {
    loan->release(loan->argument);
  }
  return 0;
}

int xchg_send_ref(struct xchg_conn *conn, const void *data, size_t size,
                  void (*release)(void *argument), void *argument) {
  const struct loan loan = {.data = data, .size = size, .release = release, .argument = argument};
  if (!conn_takes(conn)) {
    return -1;
  }
  if (size > XCHG_MESSAGE_MAX) {
    return invalid(EINVAL);
  }
  return queued(conn, lend(conn, &loan) == 0);
}

size_t xchg_pending(const struct xchg_conn *conn) {
  return conn_here(conn) ? outbox_size(&conn->out) : 0;
}

/* ---- how it goes on ------------------------------------------------------------------------ */

int xchg_finish(struct xchg_conn *conn) {
  if (!conn_here(conn)) {
    return -1;
  }
  conn->finishing = true;
  conn_touch(conn);
  return 0;
}

int xchg_abort(struct xchg_conn *conn) {
  if (!conn_here(conn)) {
    return -1;
  }
  if (!conn->aborted && conn->state != CONN_CLOSED) {
    conn->aborted = true;
    conn->reason = XCHG_ERROR;
    conn_touch(conn);
  }
  return 0;
}

int xchg_pause(struct xchg_conn *conn) {
  if (!conn_here(conn)) {
    return -1;
  }
  conn->holding = true;
  conn_touch(conn);
  return 0;
}

int xchg_resume(struct xchg_conn *conn) {
  if (!conn_here(conn)) {
    return -1;
  }
  conn->holding = false;
  conn_touch(conn);
  return 0;
}

int xchg_timer(struct xchg_conn *conn, uint64_t after_ns) {
  struct conn_host *host = conn->host;
  if (!conn_here(conn)) {
    return -1;
  }
  if (host->handler->on_timer == NULL) {
    return invalid(EINVAL);
  }
  if (conn->state == CONN_CLOSED) {
    return 0;
  }
  struct conn_more *more = conn_more(conn);
  if (more == NULL) {
    return invalid(ENOMEM);
  }
  uint64_t now_ns = max_u64(host->reactor->now_ns, sys_now_ns()); /* a turn may have lasted */
  more->timer_ns = after_ns == XCHG_NEVER ? NEVER : add_sat_u64(now_ns, after_ns);
  reactor_arm(host->reactor, &conn->source, conn_time_next(conn));
  return 0;
}

/* ---- what it is ---------------------------------------------------------------------------- */

int xchg_address(const struct xchg_conn *conn, char *text, size_t size) {
  char address[ADDR_TEXT_MAX];
  if (!conn_here(conn)) {
    return -1;
  }
  addr_format(&conn->peer, address);
  if (strlen(address) >= size) {
    return invalid(ENOSPC);
  }
  memcpy(text, address, strlen(address) + 1);
  return 0;
}

void *xchg_state(const struct xchg_conn *conn) {
  if (!conn_here(conn) || conn->host->handler->state_size == 0) {
    return NULL;
  }
  return (char *)conn + CONN_STATE_OFFSET;
}

static_assert(CONN_ID_GENERATION_BITS == REACTOR_GENERATION_BITS, "an id holds a generation");

uint64_t xchg_id(const struct xchg_conn *conn) {
  if (!conn_here(conn)) {
    return 0;
  }
  return (uint64_t)conn->host->index << (CONN_ID_GENERATION_BITS + CONN_ID_SLOT_BITS) |
         (uint64_t)conn->source.slot << CONN_ID_GENERATION_BITS | conn->source.generation;
}

struct xchg_conn *conn_find(struct conn_host *host, uint64_t id) {
  uint32_t slot = (uint32_t)(id >> CONN_ID_GENERATION_BITS) & ((1U << CONN_ID_SLOT_BITS) - 1);
  uint32_t generation = (uint32_t)id & ((1U << CONN_ID_GENERATION_BITS) - 1);
  struct source *source = slab_at(host->reactor->slab, slot);
  bool lives = source != NULL && generation != 0 && source->generation == generation;
  return lives ? conn_of(source) : NULL;
}

void *xchg_user(const struct xchg_conn *conn) { return conn->host->handler->user; }

struct xchg_server *xchg_server_of(const struct xchg_conn *conn) {
  return conn->host->server;
}

/* ---- groups -------------------------------------------------------------------------------- */

int xchg_join(struct xchg_conn *conn, uint64_t group, enum xchg_slow slow) {
  struct conn_host *host = conn->host;
  if (!conn_takes(conn)) {
    return -1;
  }
  if (slow != XCHG_SLOW_SKIP && slow != XCHG_SLOW_DROP) {
    return invalid(EINVAL);
  }
  if (host->groups.chains == NULL && groups_init(&host->groups, shares_max(host)) == -1) {
    return invalid(ENOMEM);
  }
  struct conn_more *more = conn_more(conn);
  if (more == NULL || group_join(&host->groups, &more->groups, conn, group, slow) == -1) {
    return invalid(ENOMEM);
  }
  return 0;
}

int xchg_leave(struct xchg_conn *conn, uint64_t group) {
  if (!conn_here(conn)) {
    return -1;
  }
  struct member **mine = &conn->more->groups;
  if (*mine == NULL || group_leave(&conn->host->groups, mine, group) == -1) {
    return invalid(ENOENT);
  }
  return 0;
}

bool conn_publish(struct xchg_conn *conn, enum xchg_slow slow, const struct loan *loan) {
  struct stats *stats = conn->host->stats;
  if (!sendable(conn)) {
    return false; /* it is on its way out */
  }
  if (conn_out_blocked(conn)) {
    stats_add(&stats->skipped, 1);
    if (slow == XCHG_SLOW_DROP) {
      conn->aborted = true;
      conn->reason = XCHG_WRITE;
      conn_touch(conn);
    }
    return false;
  }
  if (queued(conn, lend(conn, loan) == 0) == -1) {
    return false;
  }
  stats_add(&stats->published, 1);
  return true;
}
