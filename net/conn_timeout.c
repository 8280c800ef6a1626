/*
 * conn_timeout: see conn_timeout.h.
 *
 * Each deadline is one function of the connection's fields.  conn_timeout_next takes the earliest,
 * conn_timeout_expired the first that has passed.
 */
#include "net/conn_timeout.h"

#include "core/sys.h"
#include "net/sock.h"

/* How long a connection of an endless exchange that must leave may take to begin a message. */
#define SILENCE_NS NS_PER_S

/*
 * An event is recorded with the time at which the iteration of the event loop began, so it happened
 * up to an iteration later.  Deadlines are later by this much, so that none fires early.
 */
#define SLACK_NS (4 * NS_PER_MS)

static uint64_t after(uint64_t from_ns, uint64_t limit_ns) {
  return limit_ns == 0 ? NEVER : add_sat_u64(from_ns, limit_ns + SLACK_NS);
}

/* The time since which the connection must leave. */
static uint64_t leave_ns(const struct xchg_conn *conn) {
  uint64_t lifetime_ns = conn->lifetime_over ? conn->cold->lifetime_ns : NEVER;
  return min_u64(lifetime_ns, conn->ctx->stop_ns);
}

static uint64_t idle_at(const struct xchg_conn *conn) {
  return after(max_u64(conn->active_ns, conn->cold->progress_ns),
               conn->ctx->config->idle_timeout_ns);
}

static uint64_t message_at(const struct xchg_conn *conn) {
  bool runs = conn->in != NULL || (conn_counted(conn) && conn->messages == 0);
  return runs && !conn->clock_stopped
             ? after(conn->message_clock_ns, conn->ctx->config->message_timeout_ns)
             : NEVER;
}

static uint64_t write_at(const struct xchg_conn *conn) {
  return conn->stalled ? after(conn->cold->progress_ns, conn->ctx->config->write_timeout_ns)
                       : NEVER;
}

/*
 * When a connection whose lifetime has ended is closed, even in ENDING or LINGERING.  The worker
 * closes connections whose time after a stop is over.
 */
static uint64_t lifetime_cut_at(const struct xchg_conn *conn) {
  return add_sat_u64(conn->cold->lifetime_ns, conn->ctx->config->drain_timeout_ns);
}

/*
 * When a connection that must leave and has begun no message is ended.  Never while the input is
 * blocked: a message may wait in the socket.
 */
static uint64_t silent_at(const struct xchg_conn *conn) {
  bool spoken = conn->messages > 0 || conn->in != NULL;
  if (!conn_must_leave(conn) || conn_counted(conn) || spoken || conn->clock_stopped) {
    return NEVER;
  }
  return add_sat_u64(max_u64(leave_ns(conn), conn->message_clock_ns), SILENCE_NS);
}

static uint64_t linger_at(const struct xchg_conn *conn) {
  return after(conn->cold->progress_ns, conn->ctx->config->linger_ns);
}

/* When a PROXY header must be complete. */
static uint64_t header_at(const struct xchg_conn *conn) {
  return after(conn_proxy(conn)->accepted_ns, conn->ctx->config->proxy_timeout_ns);
}

/* The same as silent_at for a connection that waits for its header and has read no byte of it. */
static uint64_t headerless_at(const struct xchg_conn *conn) {
  uint64_t stop_ns = conn->ctx->stop_ns;
  return conn->in != NULL || stop_ns == NEVER
             ? NEVER
             : add_sat_u64(max_u64(stop_ns, conn_proxy(conn)->accepted_ns), SILENCE_NS);
}

/* In LINGERING or HEADER. */
static uint64_t special_limit_at(const struct xchg_conn *conn) {
  return conn->state == CONN_LINGERING ? min_u64(linger_at(conn), lifetime_cut_at(conn))
                                       : min_u64(header_at(conn), headerless_at(conn));
}

static uint64_t limit_at(const struct xchg_conn *conn) {
  if (conn->state >= CONN_LINGERING) {
    return special_limit_at(conn);
  }
  uint64_t at = min_u64(idle_at(conn), write_at(conn));
  at = min_u64(at, lifetime_cut_at(conn));
  if (conn->state == CONN_OPEN) {
    at = min_u64(at, message_at(conn));
    at = min_u64(at, silent_at(conn));
    at = min_u64(at, conn->lifetime_over ? NEVER : conn->cold->lifetime_ns);
  }
  return at;
}

uint64_t conn_timeout_limit(const struct xchg_conn *conn) { return limit_at(conn); }

uint64_t conn_timeout_next(const struct xchg_conn *conn) {
  uint64_t at = limit_at(conn);
  return conn->state == CONN_OPEN ? min_u64(at, conn->cold->timer_ns) : at;
}

/*
 * Has the peer acknowledged more since the last call, and how much is left?  Under TCP the number
 * of acknowledged bytes never decreases, so a different number, modulo 2^32, is a larger one.  A
 * UNIX socket reports memory instead of bytes, so only a number that looks larger counts.  Without
 * memory to record the number, the answer is no.
 */
static bool progressed(struct xchg_conn *conn, uint32_t *unacked) {
  *unacked = sock_unacked(conn->fd);
  if (conn->state == CONN_LINGERING && !conn->is_unix && *unacked > 0) {
    (*unacked)--; /* the FIN of the half-close counts as one byte */
  }
  uint32_t acknowledged = (uint32_t)conn->bytes_out - *unacked;
  int32_t advance = (int32_t)(acknowledged - conn->cold->acknowledged);
  if (conn->is_unix ? advance <= 0 : advance == 0) {
    return false;
  }
  struct conn_cold *cold = conn_cold(conn);
  if (cold == NULL) {
    return false;
  }
  cold->acknowledged = acknowledged;
  return true;
}

/* Restart the deadline. */
static enum expired extend(struct xchg_conn *conn) {
  conn_cold(conn)->progress_ns =
      reactor_fresh_ns(conn->ctx->reactor); /* progressed() has allocated it */
  return EXPIRED_NOT;
}

enum expired conn_timeout_expired(struct xchg_conn *conn) {
  uint64_t now_ns = conn->ctx->reactor->now_ns;
  uint32_t unacked;
  if (conn->state == CONN_HEADER) {
    return header_at(conn) <= now_ns       ? EXPIRED_HEADER
           : headerless_at(conn) <= now_ns ? EXPIRED_SILENT
                                           : EXPIRED_NOT;
  }
  if (lifetime_cut_at(conn) <= now_ns) {
    return EXPIRED_LIFETIME;
  }
  if (conn->state == CONN_LINGERING) {
    if (linger_at(conn) > now_ns) {
      return EXPIRED_NOT;
    }
    if (!progressed(conn, &unacked)) {
      return EXPIRED_LINGER;
    }
    return extend(conn);
  }
  if (conn->state == CONN_OPEN && message_at(conn) <= now_ns) {
    return EXPIRED_MESSAGE;
  }
  if (conn->state == CONN_OPEN && silent_at(conn) <= now_ns) {
    return EXPIRED_SILENT;
  }
  bool write = write_at(conn) <= now_ns;
  if (write || idle_at(conn) <= now_ns) {
    bool more = progressed(conn, &unacked);
    if (!more || (!write && unacked == 0)) {
      return write ? EXPIRED_WRITE : EXPIRED_IDLE;
    }
    return extend(conn);
  }
  return EXPIRED_NOT;
}

void conn_timeout_age(struct xchg_conn *conn) {
  if (conn->state == CONN_OPEN && !conn->lifetime_over &&
      conn->cold->lifetime_ns <= conn->ctx->reactor->now_ns) {
    conn->lifetime_over = true;
  }
}

uint64_t conn_timeout_lifetime(struct conn_ctx *ctx, uint64_t accepted_ns) {
  uint64_t lifetime_ns = ctx->config->max_lifetime_ns;
  if (lifetime_ns == 0) {
    return NEVER;
  }
  ctx->random ^=
      ctx->random << 13; /* xorshift64 (Marsaglia, 2003): spreads lifetimes, hides nothing */
  ctx->random ^= ctx->random >> 7;
  ctx->random ^= ctx->random << 17;
  return add_sat_u64(accepted_ns, lifetime_ns - ctx->random % (lifetime_ns / 10 + 1));
}
