/*
 * proxy: a plug-in that answers each line with what the PROXY header of the connection said:
 * version, command, the three addresses, authority, unique id, TLS version, size of the TLV 0xea.
 */
#include "core/xchg.h"

#include <stdio.h>

#define TEXT_MAX 1024

/* For "%.*s"; the tests send printable bytes. */
#define SHOWN(bytes) (int)(bytes).size, (bytes).data == NULL ? "" : (const char *)(bytes).data

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  struct xchg_proxy proxy = {.size = sizeof(proxy)};
  char address[XCHG_ADDRESS_MAX], text[TEXT_MAX];
  const void *data;
  size_t size = 0;
  (void)message;
  if (xchg_address(conn, address, sizeof(address)) == -1 || xchg_proxy(conn, &proxy) == -1) {
    (void)xchg_send(conn, "none\n", 5);
    return;
  }
  bool found = xchg_proxy_tlv(conn, 0xea, &data, &size) == 0;
  int length = snprintf(text, sizeof(text), "%u %d %s %s %s %s [%.*s] [%.*s] %d [%.*s] %d %zu\n",
                        proxy.version, (int)proxy.command, address, proxy.via, proxy.source,
                        proxy.destination, SHOWN(proxy.authority), SHOWN(proxy.unique_id),
                        proxy.tls, SHOWN(proxy.tls_version), found, size);
  (void)xchg_send(conn, text, (size_t)length);
}

static const struct xchg_handler handler = {.size = sizeof(handler),
                                            .frame = {.kind = XCHG_FRAME_LINE},
                                            .proxy_tlvs = true,
                                            .on_message = on_message};

XCHG_PLUGIN(handler)
