/*
 * hello: greet, receive one message, close.
 *
 *   S> Message from server NUL
 *   C> any text NUL
 *   S> (closes)
 *
 * The greeting is sent as soon as the connection is open. The exchange has one message, so the
 * engine closes the connection after the first. Whatever the client still sends, it receives the
 * whole greeting.
 */
#include <xchg.h>

static void on_open(struct xchg_conn *conn) {
  static const char greeting[] = "Message from server";
  xchg_send(conn, greeting, sizeof(greeting)); /* with its NUL */
}

int main(int argc, char **argv) {
  static const struct xchg_handler hello = {
      .size = sizeof(hello),
      .frame = {.kind = XCHG_FRAME_DELIMITER, .delimiter = '\0'},
      .messages = 1,
      .on_open = on_open,
  };
  return xchg_main(&hello, argc, argv);
}
