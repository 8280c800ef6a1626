/*
 * good: a plug-in as it should be; it echoes.
 *
 * xchg_send comes from whoever loads it: the object links nothing.
 */
#include "core/xchg.h"

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  (void)xchg_send(conn, message->frame, message->frame_size);
}

static const struct xchg_handler handler = {.size = sizeof(handler),
                                            .frame = {.kind = XCHG_FRAME_LINE},
                                            .max_message = 1000,
                                            .on_message = on_message};

XCHG_PLUGIN(handler)
