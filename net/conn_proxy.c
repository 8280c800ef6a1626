/*
 * conn_proxy: see conn_proxy.h.
 *
 * The parser looks at all bytes of a header again whenever more have come.  A header has
 * PROXY_HEADER_MAX bytes at most, and only a trusted proxy sends one.  A kept header is parsed
 * again for each call that asks for it, so that nothing of it is stored twice.
 */
#include "net/conn_proxy.h"

#include "net/conn_address.h"
#include "net/conn_log.h"
#include "net/conn_timeout.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static_assert((int)ADDR_PROXY_V1 == (int)PROXY_V1 && (int)ADDR_PROXY_V2 == (int)PROXY_V2 &&
                  (int)ADDR_PROXY_ANY == (int)PROXY_ANY,
              "one set of versions");
static_assert((int)XCHG_COMMAND_PROXY == (int)PROXY_COMMAND_PROXY &&
                  (int)XCHG_COMMAND_LOCAL == (int)PROXY_COMMAND_LOCAL &&
                  (int)XCHG_COMMAND_UNKNOWN == (int)PROXY_COMMAND_UNKNOWN &&
                  (int)STATS_PROXY_PROXY == (int)PROXY_COMMAND_PROXY &&
                  (int)STATS_PROXY_LOCAL == (int)PROXY_COMMAND_LOCAL &&
                  (int)STATS_PROXY_UNKNOWN == (int)PROXY_COMMAND_UNKNOWN,
              "one order of commands");
/* A cause is counted under its number less one: the first is that there is none. */
#define COUNTED(cause) ((int)PROXY_CAUSE_##cause - 1 == (int)STATS_PROXY_##cause)
static_assert(COUNTED(UNTRUSTED) && COUNTED(NOT_HEADER) && COUNTED(VERSION) && COUNTED(BAD) &&
                  COUNTED(TRUNCATED) && COUNTED(TOO_LONG) && COUNTED(CHECKSUM) &&
                  COUNTED(TIMEOUT) && (int)PROXY_CAUSES - 1 == (int)STATS_PROXY_CAUSES,
              "one order of causes");
static_assert(PROXY_HEADER_MAX <= CONN_INPUT_FRONT, "an unfinished header fits before a read");

/* ---- the header arrives ---- */

void conn_proxy_begin(struct xchg_conn *conn, enum addr_proxy accepts) {
  struct conn_ctx *ctx = conn->ctx;
  conn->state = CONN_HEADER;
  conn->proxied = true;
  *conn_proxy(conn) = (struct conn_proxy){.accepted_ns = conn->message_clock_ns,
                                          .via = conn_peer(conn)->addr,
                                          .accepts = (uint8_t)accepts};
  conn->discarded = 0; /* of all that was read: nothing is, so it may be read */
  ctx->proxies_end =
      (uint32_t)max_u64(ctx->proxies_end, source_slot(ctx->reactor, &conn->source) + 1);
}

void conn_proxy_reject(struct xchg_conn *conn, enum proxy_cause cause) {
  stats_add(&conn->ctx->stats->proxy_rejected[cause - 1], 1);
  probe_proxy(conn->ctx->index, conn_id(conn), conn_proxy(conn)->version, cause);
  conn_request_close(conn, XCHG_PROXY);
}

/* Keep the ${header} at ${data} if a later call may need it. Return: was there memory? */
static bool keep(struct xchg_conn *conn, const struct proxy_header *header, const uint8_t *data) {
  bool path = header->source.family == ADDR_UNIX || header->destination.family == ADDR_UNIX;
  if (!path && !conn->ctx->handler->proxy_tlvs) {
    return true;
  }
  struct conn_cold *cold = conn_cold(conn);
  return cold != NULL && buf_append(&conn->ctx->bufs, &cold->header, data, header->size) == 0;
}

/*
 * Is the client allowed?  The lists do not apply to a UNIX socket, but an announced path is an
 * address like any other: no block contains it.
 */
static bool is_allowed(const struct xchg_conn *conn) {
  const struct addr *addr = &conn_peer(conn)->addr;
  bool exempt = addr->family == ADDR_UNIX && !conn_proxy(conn)->announced;
  return exempt || config_admits(conn->ctx->config, addr);
}

/* The connection begins: its clocks start, and the handler learns of it. */
static void open_conn(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  conn->state = CONN_OPEN;
  conn->active_ns = conn->message_clock_ns = ctx->reactor->now_ns;
  if (conn->cold->lifetime_ns != NEVER) {
    conn->cold->lifetime_ns = conn_timeout_lifetime(ctx, ctx->reactor->now_ns);
  }
  reactor_arm(ctx->reactor, &conn->source, conn_timeout_next(conn));
  conn_proxy(conn)->opened = true;
  if (ctx->handler->on_open != NULL) {
    ctx->handler->on_open(conn);
  }
}

/* Log the complete ${header} at level debug. */
static void log_header(struct xchg_conn *conn, const struct proxy_header *header) {
  static const char *const commands[] = {"proxy", "local", "unknown"};
  char via[ADDR_TEXT_MAX];
  struct log_line line;
  conn_log_begin(&line, conn, "proxy");
  log_str(&line, "via", addr_format(&conn_proxy(conn)->via, via));
  log_u64(&line, "version", header->version);
  log_str(&line, "command", commands[header->command]);
  log_end(&line);
}

/* The ${header} at ${data} is complete. */
static void apply(struct xchg_conn *conn, const struct proxy_header *header, const uint8_t *data) {
  struct conn_proxy *proxy = conn_proxy(conn);
  stats_add(&conn->ctx->stats->proxy_headers[header->version - 1][header->command], 1);
  proxy->version = header->version;
  proxy->command = header->command;
  if (header->source.family != ADDR_NONE) {
    proxy->announced = true;
    proxy->destination = header->destination;
    conn_peer(conn)->addr = header->source;
  }
  probe_proxy(conn->ctx->index, conn_id(conn), header->version, PROXY_CAUSE_NONE);
  bool kept = keep(conn, header, data); /* before the line, which shows an announced path */
  if (conn_log_wanted(conn->ctx)) {
    log_header(conn, header);
  }
  if (!is_allowed(conn)) {
    conn_request_close(conn, XCHG_DENIED);
  } else if (!kept) {
    conn_request_close(conn, XCHG_MEMORY);
  } else {
    open_conn(conn);
  }
}

size_t conn_proxy_take(struct xchg_conn *conn, const uint8_t *data, size_t size) {
  struct proxy_header header;
  switch (proxy_parse((enum proxy_accepts)conn_proxy(conn)->accepts, data, size, &header)) {
    case PROXY_MORE:
      return 0;
    case PROXY_BAD:
      conn_proxy_reject(conn, (enum proxy_cause)header.cause);
      return 0;
    case PROXY_DONE:
      apply(conn, &header, data);
      return header.size;
  }
  return 0;
}

enum xchg_reason conn_proxy_reason(const struct xchg_conn *conn, enum xchg_reason reason) {
  bool by_peer = reason == XCHG_PEER || reason == XCHG_RESET;
  bool silent = conn->messages == 0 && conn->in == NULL && !conn->extra_input;
  bool local = conn->proxied && conn_proxy(conn)->command == PROXY_COMMAND_LOCAL;
  return by_peer && local && silent ? XCHG_FINISHED : reason;
}

void conn_proxy_end_by_peer(struct xchg_conn *conn) {
  conn_begin_end(conn, conn_proxy_reason(conn, XCHG_PEER));
}

/* ---- what the header said ---- */

/* May the calling thread ask for the header of ${conn}? Return: 0, or -1 with errno. */
static int check_asked(const struct xchg_conn *conn) {
  if (conn->ctx->thread != conn_thread()) {
    return fail(EPERM);
  }
  return conn->proxied && conn_proxy(conn)->opened ? 0 : fail(ENOENT);
}

static struct xchg_bytes bytes_of(const uint8_t *bytes, struct proxy_span span) {
  const struct xchg_bytes found = {.data = span.offset == 0 ? NULL : bytes + span.offset,
                                   .size = span.size};
  return found;
}

int xchg_proxy(const struct xchg_conn *conn, struct xchg_proxy *proxy) {
  if (check_asked(conn) == -1) {
    return -1;
  }
  if (proxy->size != sizeof(*proxy)) {
    return fail(EINVAL);
  }
  const struct conn_proxy *known = conn_proxy(conn);
  struct proxy_header header = {.size = 0};
  const uint8_t *bytes = conn_address_header(conn, &header);
  *proxy = (struct xchg_proxy){.size = sizeof(*proxy),
                               .version = known->version,
                               .command = (enum xchg_command)known->command};
  conn_address_format(&known->via, NULL, header.source_path, proxy->via);
  if (known->announced) {
    conn_address_format(&conn_peer(conn)->addr, bytes, header.source_path, proxy->source);
    conn_address_format(&known->destination, bytes, header.destination_path, proxy->destination);
  }
  if (bytes != NULL && conn->ctx->handler->proxy_tlvs) {
    proxy->authority = bytes_of(bytes, header.authority);
    proxy->alpn = bytes_of(bytes, header.alpn);
    proxy->unique_id = bytes_of(bytes, header.unique_id);
    proxy->tls = header.tls.present;
    proxy->tls_bits = header.tls.bits;
    proxy->tls_verify = header.tls.verify;
    proxy->tls_version = bytes_of(bytes, header.tls.version);
    proxy->tls_cn = bytes_of(bytes, header.tls.cn);
    proxy->tls_cipher = bytes_of(bytes, header.tls.cipher);
  }
  return 0;
}

int xchg_proxy_tlv(const struct xchg_conn *conn, uint8_t type, const void **data, size_t *size) {
  if (check_asked(conn) == -1) {
    return -1;
  }
  struct proxy_header header;
  const uint8_t *bytes = conn->ctx->handler->proxy_tlvs ? conn_address_header(conn, &header) : NULL;
  if (bytes == NULL) {
    return fail(ENOENT);
  }
  struct proxy_span span = proxy_find_tlv(bytes, &header, type);
  if (span.offset == 0) {
    return fail(ENOENT);
  }
  *data = bytes + span.offset;
  *size = span.size;
  return 0;
}
