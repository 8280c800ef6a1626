/*
 * conn_address: the address of a connection's client as text, for the handler, the log and
 * /connections.
 *
 * The client is the peer of the socket, or what a PROXY header announced.  An announced path is
 * read from the kept header each time.  Runs on the thread that owns the context.
 */
#ifndef NET_CONN_ADDRESS_H
#define NET_CONN_ADDRESS_H

#include "core/proxy.h"
#include "net/conn_internal.h"

/** Did a PROXY header announce a path as the client of ${conn}? */
bool conn_address_is_path(const struct xchg_conn *conn);

/**
 * Write the address of the client of ${conn} as xchg_address does. A path is escaped, and shortened
 * if it is too long: then it ends with "...".  Return: ${text}.
 */
const char *conn_address(const struct xchg_conn *conn, char text[XCHG_ADDRESS_MAX]);

/** Write ${addr}, or the path in ${span} of the header ${bytes}, which may be NULL. */
void conn_address_format(const struct addr *addr, const uint8_t *bytes, struct proxy_span span,
                         char text[XCHG_ADDRESS_MAX]);

/** Parse the kept PROXY header of ${conn}. Return: its first byte, or NULL if there is none. */
const uint8_t *conn_address_header(const struct xchg_conn *conn, struct proxy_header *header);

#endif
