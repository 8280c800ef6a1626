/* good: a correct plug-in, which echoes. The program that loads it provides xchg_send. */
#include "core/xchg.h"

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  (void)xchg_send(conn, message->frame, message->frame_size);
}

static const struct xchg_handler handler = {.size = sizeof(handler),
                                            .frame = {.kind = XCHG_FRAME_LINE},
                                            .max_message = 1000,
                                            .on_message = on_message};

XCHG_PLUGIN(handler)
