/*
 * A server that echoes each line. It listens on port 7000 unless XCHG_LISTEN is set, and SIGTERM
 * stops it without losing an answer.
 */
#include <xchg.h>

static void echo(struct xchg_conn *conn,
                 const struct xchg_message *line) {
  xchg_send(conn, line->frame, line->frame_size);
}

int main(int argc, char **argv) {
  const struct xchg_handler handler = {
      .size = sizeof(handler),
      .frame = {.kind = XCHG_FRAME_LINE},
      .on_message = echo};
  return xchg_main(&handler, argc, argv);
}
