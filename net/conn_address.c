/* conn_address: see conn_address.h. */
#include "net/conn_address.h"

#include <stdio.h>

const uint8_t *conn_address_header(const struct xchg_conn *conn, struct proxy_header *header) {
  const struct buf *bytes = conn->cold->header;
  if (bytes == NULL ||
      proxy_parse(PROXY_ANY, buf_data(bytes), buf_size(bytes), header) != PROXY_DONE) {
    return NULL;
  }
  return buf_data(bytes);
}

/* Write "unix:" and the ${size} bytes of a path. */
static void format_path(const uint8_t *path, size_t size, char text[XCHG_ADDRESS_MAX]) {
  char *at = text + snprintf(text, XCHG_ADDRESS_MAX, "unix:");
  for (size_t i = 0; i < size; i++) {
    bool plain = path[i] > ' ' && path[i] < 0x7f && path[i] != '\\';
    size_t room = (size_t)(text + XCHG_ADDRESS_MAX - at);
    if (room <= (plain ? 1 : 4) + (i + 1 < size ? sizeof("...") - 1 : 0)) {
      snprintf(at, room, "...");
      return;
    }
    at += snprintf(at, room, plain ? "%c" : "\\x%02x", path[i]);
  }
}

void conn_address_format(const struct addr *addr, const uint8_t *bytes, struct proxy_span span,
                         char text[XCHG_ADDRESS_MAX]) {
  char address[ADDR_TEXT_MAX];
  if (addr->family == ADDR_UNIX && bytes != NULL) {
    format_path(bytes + span.offset, span.size, text);
  } else {
    snprintf(text, XCHG_ADDRESS_MAX, "%s", addr_format(addr, address));
  }
}

bool conn_address_is_path(const struct xchg_conn *conn) {
  return conn_peer(conn)->addr.family == ADDR_UNIX && conn->proxied && conn_proxy(conn)->announced;
}

const char *conn_address(const struct xchg_conn *conn, char text[XCHG_ADDRESS_MAX]) {
  struct proxy_header header = {.size = 0};
  const uint8_t *bytes = conn_address_is_path(conn) ? conn_address_header(conn, &header) : NULL;
  conn_address_format(&conn_peer(conn)->addr, bytes, header.source_path, text);
  return text;
}
