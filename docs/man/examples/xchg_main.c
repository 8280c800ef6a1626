/*
 * A plug-in that answers each line with a fixed text. Build and run it:
 *
 *   cc -shared -fPIC -o yes.so yes.c
 *   XCHG_HANDLER=./yes.so xchgd
 */
#include <xchg.h>

static void answer(struct xchg_conn *conn,
                   const struct xchg_message *line) {
  (void)line;
  xchg_send(conn, "yes\n", 4);
}

static const struct xchg_handler yes = {
    .size = sizeof(struct xchg_handler),
    .frame = {.kind = XCHG_FRAME_LINE},
    .on_message = answer,
};
XCHG_PLUGIN(yes)
