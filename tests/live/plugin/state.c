/*
 * state: a plug-in that echoes and uses 64 bytes of state for each connection, to measure what a
 * connection costs in addition to its state.
 */
#include "core/xchg.h"

#include <string.h>

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  static const size_t state_size = 64;
  memset(xchg_state(conn), (int)(message->size % 256), state_size);
  (void)xchg_send(conn, message->data, message->size);
}

static const struct xchg_handler handler = {
    .size = sizeof(handler), .state_size = 64, .on_message = on_message};

XCHG_PLUGIN(handler)
