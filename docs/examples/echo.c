/*
 * echo: send every byte back (RFC 862).
 *
 *   cc -o echo echo.c $(pkg-config --cflags --libs xchg)
 *   XCHG_LISTEN=127.0.0.1:7007 ./echo
 *
 * A handler without a frame receives raw bytes: each read is a message.
 */
#include <xchg.h>

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  xchg_send(conn, message->data, message->size);
}

int main(int argc, char **argv) {
  static const struct xchg_handler echo = {.size = sizeof(echo), .on_message = on_message};
  return xchg_main(&echo, argc, argv);
}
