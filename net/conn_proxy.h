/*
 * conn_proxy: reads the PROXY header with which a connection of a listener with ;proxy= begins.
 *
 *                       the header is complete and its client allowed
 *   conn_open --> HEADER ---------------------------------------------> OPEN, on_open
 *                   |
 *                   | no header, XCHG_PROXY_TIMEOUT, end of stream, reset: XCHG_PROXY
 *                   | XCHG_ALLOW or XCHG_DENY: XCHG_DENIED; no memory: XCHG_MEMORY
 *                   | stop, if no byte has come for a second: XCHG_DRAIN
 *                   | the command /close: XCHG_FINISHED or XCHG_ERROR
 *                   v
 *                 CLOSED, without on_open and on_close
 *
 * In HEADER nothing is sent and no other timeout runs.  Bytes of the header are read as input, and
 * bytes after it are the connection's first input.  Then all timeouts start as at an accept.
 *
 * The contents of the header are in an array by slot, which exists only if a listener has ;proxy=.
 * The bytes of the header are kept in the cold part, if the handler sets proxy_tlvs or the header
 * announces a path.
 */
#ifndef NET_CONN_PROXY_H
#define NET_CONN_PROXY_H

#include "core/proxy.h"
#include "net/conn_internal.h"

/** ${conn} has been accepted and begins with a header that ${accepts} allows. */
void conn_proxy_begin(struct xchg_conn *conn, enum addr_proxy accepts);

/**
 * conn_proxy_take(conn, data, size):
 * Look for a complete header in the ${size} bytes at ${data}, all bytes of ${conn} in HEADER so
 * far. If there is one, ${conn} is OPEN and on_open was called, or it is CLOSED.
 * Return: the bytes of the header, or 0 if there is none: then ${conn} waits in HEADER or is
 * CLOSED.
 */
size_t conn_proxy_take(struct xchg_conn *conn, const uint8_t *data, size_t size);

/** Close ${conn}, which is in HEADER, as XCHG_PROXY and count ${cause}. */
void conn_proxy_reject(struct xchg_conn *conn, enum proxy_cause cause);

/**
 * The reason of ${conn}, which ends for ${reason}: XCHG_FINISHED instead of XCHG_PEER or XCHG_RESET
 * if its command is LOCAL and no byte came after its header, because it is a health check.
 */
enum xchg_reason conn_proxy_reason(const struct xchg_conn *conn, enum xchg_reason reason);

/** The peer has ended the stream of an OPEN ${conn} too early: begin its end. */
void conn_proxy_end_by_peer(struct xchg_conn *conn);

/** Was on_open called? Otherwise on_close must not be. */
static inline bool conn_proxy_opened(const struct xchg_conn *conn) {
  return !conn->proxied || conn_proxy(conn)->opened;
}

#endif
