/* Refuse clients that the proxy's TLS has not verified. */
#include <xchg.h>

void on_open(struct xchg_conn *conn) {
  struct xchg_proxy proxy = {.size = sizeof(proxy)};
  bool known = xchg_proxy(conn, &proxy) == 0; /* otherwise the listener has no ;proxy= */
  bool verified = proxy.tls && (proxy.tls_bits & 4) != 0 && proxy.tls_verify == 0;
  if (known && proxy.command == XCHG_COMMAND_PROXY && !verified) {
    xchg_abort(conn);
  }
}

const struct xchg_handler handler = {
    .size = sizeof(handler), .proxy_tlvs = true, .on_open = on_open};
