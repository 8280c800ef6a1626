/* conn_log: see conn_log.h. */
#include "net/conn_log.h"

#include "core/sys.h"
#include "net/conn_address.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

#define SLOW_LINES 10             /* a second, of each worker */
#define LIFE_LINES 100            /* likewise */
#define PAGE_BYTES ((size_t)4096) /* the kernel's pages are multiples of this */

static size_t paces_bytes(const struct conn_ctx *ctx) {
  return ctx->conns_max * sizeof(struct conn_pace);
}

int conn_log_init(struct conn_ctx *ctx) {
  ctx->no_log = (struct log){.level = LOG_ERROR};
  ctx->log = &ctx->no_log;
  ctx->log_from = LOG_DEBUG;
  token_bucket_init(&ctx->slow_lines, SLOW_LINES);
  token_bucket_init(&ctx->life_lines, LIFE_LINES);
  if (ctx->config->slow_log_ns == 0) {
    return 0;
  }
  void *paces = sys_map(paces_bytes(ctx));
  if (paces == MAP_FAILED) {
    return -1;
  }
  (void)sys_no_huge_pages(paces, paces_bytes(ctx)); /* a failure costs memory only */
  ctx->paces = paces;
  ctx->log_from = LOG_ERROR; /* the level of the log does not matter then */
  return 0;
}

void conn_log_fini(struct conn_ctx *ctx) {
  if (ctx->paces != NULL) {
    (void)sys_unmap(ctx->paces, paces_bytes(ctx)); /* a failure leaks it */
    ctx->paces = NULL;
  }
}

void conn_log_trim(struct conn_ctx *ctx, uint64_t slot) {
  size_t from = (slot * sizeof(struct conn_pace) + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
  size_t to = ctx->peers_end * sizeof(struct conn_pace);
  if (ctx->paces != NULL && from < to) {
    (void)sys_discard((uint8_t *)ctx->paces + from, to - from); /* a failure costs memory only */
  }
}

/* ---- lines ---- */

static struct conn_pace *pace_of(const struct xchg_conn *conn) {
  return &conn->ctx->paces[source_slot(conn->ctx->reactor, &conn->source)];
}

static uint64_t now_of(const struct xchg_conn *conn) { return conn->ctx->reactor->now_ns; }

/* Begin a line about ${conn}, if ${bucket} has a token. Return: has it begun? */
static bool line_begin(struct log_line *line, const struct xchg_conn *conn, enum log_level level,
                       struct token_bucket *bucket, const char *msg) {
  char id[17], peer[XCHG_ADDRESS_MAX];
  uint64_t suppressed;
  line->log = NULL;
  if (!log_wants(conn->ctx->log, level) || !token_bucket_take(bucket, now_of(conn), &suppressed)) {
    return false;
  }
  log_begin(line, conn->ctx->log, level, msg);
  if (suppressed > 0) {
    log_u64(line, "suppressed", suppressed);
  }
  snprintf(id, sizeof(id), "%016" PRIx64, conn_id(conn));
  log_str(line, "id", id);
  log_u64(line, "worker", conn->ctx->index);
  log_str(line, "peer", conn_address(conn, peer));
  return true;
}

void conn_log_begin(struct log_line *line, struct xchg_conn *conn, const char *msg) {
  (void)line_begin(line, conn, LOG_DEBUG, &conn->ctx->life_lines, msg); /* line->log says it */
}

static void log_counts(struct log_line *line, const struct xchg_conn *conn) {
  log_u64(line, "messages", conn->messages);
  log_u64(line, "bytes_in", conn->bytes_in);
  log_u64(line, "bytes_out", conn->bytes_out);
}

/* ---- slow ---- */

/* Something took ${took_ns}; ${reason} is NULL unless the connection ends. */
static void note(struct xchg_conn *conn, uint64_t took_ns, const char *reason) {
  struct conn_ctx *ctx = conn->ctx;
  struct log_line line;
  if (took_ns <= ctx->config->slow_log_ns) {
    return;
  }
  stats_add(&ctx->stats->slow, 1);
  if (!line_begin(&line, conn, LOG_WARN, &ctx->slow_lines, "slow")) {
    return;
  }
  log_u64(&line, "took_ms", took_ns / NS_PER_MS);
  log_u64(&line, "handoff_us", pace_of(conn)->handoff_us);
  log_counts(&line, conn);
  if (reason != NULL) {
    log_str(&line, "reason", reason);
  }
  log_end(&line);
}

/* Does the handler hold the message that was delivered last? */
static bool holds(const struct xchg_conn *conn) {
  return (conn->hold_reasons & (HOLD_HANDLER | HOLD_OFFLOADS)) != 0 && conn->messages > 0;
}

/* The message of ${pace} is over. */
static void message_over(struct xchg_conn *conn, struct conn_pace *pace) {
  uint64_t start_ns = pace->message_ns;
  pace->message_ns = 0;
  pace->held = false;
  note(conn, sub_sat_u64(now_of(conn), start_ns), NULL);
}

void conn_log_begun(struct xchg_conn *conn) {
  struct conn_pace *pace = pace_of(conn);
  if (!conn_counted(conn) && pace->message_ns == 0) {
    pace->message_ns = conn->message_clock_ns;
  }
}

void conn_log_delivered(struct xchg_conn *conn) {
  struct conn_pace *pace = pace_of(conn);
  if (pace->message_ns == 0) {
    return;
  }
  pace->held = holds(conn);
  if (!pace->held) {
    message_over(conn, pace);
  }
}

void conn_log_clock(struct xchg_conn *conn, bool stopped) {
  struct conn_pace *pace = pace_of(conn);
  if (conn_counted(conn)) {
    return;
  }
  if (stopped && holds(conn) && pace->message_ns == 0) {
    pace->message_ns = now_of(conn);
    pace->held = true;
  } else if (!stopped && pace->held) {
    message_over(conn, pace);
  }
}

/* When what ${conn} has not finished began; NEVER = there is nothing. */
static uint64_t unfinished_ns(const struct xchg_conn *conn) {
  const struct conn_pace *pace = pace_of(conn);
  if (conn_counted(conn)) {
    return conn_peer(conn)->opened_ns;
  }
  if (pace->message_ns != 0) {
    return pace->message_ns;
  }
  bool header = conn->proxied && !conn_proxy(conn)->opened; /* it has no clock, and is no message */
  bool over = conn->request == REQUEST_FINISH;              /* its end has stopped the clock */
  if (conn->in == NULL || header || over) {
    return NEVER;
  }
  return conn->clock_stopped ? now_of(conn) - conn->message_clock_ns : conn->message_clock_ns;
}

/* ---- the life of a connection ---- */

void conn_log_open(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  uint64_t handoff_ns = sub_sat_u64(reactor_fresh_ns(ctx->reactor), conn_peer(conn)->opened_ns);
  uint32_t handoff_us = (uint32_t)min_u64(handoff_ns / NS_PER_US, UINT32_MAX);
  struct log_line line;
  if (ctx->paces != NULL) {
    *pace_of(conn) = (struct conn_pace){.handoff_us = handoff_us};
  }
  if (line_begin(&line, conn, LOG_DEBUG, &ctx->life_lines, "opened")) {
    log_u64(&line, "listener", conn_peer(conn)->listener);
    log_u64(&line, "handoff_us", handoff_us);
    log_end(&line);
  }
}

void conn_log_end(struct xchg_conn *conn, enum xchg_reason reason) {
  struct conn_ctx *ctx = conn->ctx;
  uint64_t age_ns = sub_sat_u64(now_of(conn), conn_peer(conn)->opened_ns);
  struct log_line line;
  if (ctx->paces != NULL) {
    note(conn, sub_sat_u64(now_of(conn), unfinished_ns(conn)), xchg_reason_name(reason));
  }
  if (line_begin(&line, conn, LOG_DEBUG, &ctx->life_lines, "closed")) {
    log_str(&line, "reason", xchg_reason_name(reason));
    log_u64(&line, "age_ms", age_ns / NS_PER_MS);
    log_counts(&line, conn);
    log_end(&line);
  }
}
