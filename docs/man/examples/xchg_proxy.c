/* Refuse clients whose certificate the proxy has not verified. */
#include <xchg.h>

void on_open(struct xchg_conn *conn) {
  struct xchg_proxy proxy = {.size = sizeof(proxy)};
  if (xchg_proxy(conn, &proxy) == -1) {
    return; /* the listener has no ;proxy= */
  }
  bool client = proxy.command == XCHG_COMMAND_PROXY;
  bool verified = (proxy.tls_bits & 4) != 0 && proxy.tls_verify == 0;
  if (client && !(proxy.tls && verified)) {
    xchg_abort(conn);
  }
}

const struct xchg_handler handler = {
    .size = sizeof(handler), .proxy_tlvs = true, .on_open = on_open};
