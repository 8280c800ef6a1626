/*
 * hello: the exchange of the lecture's concurrent server.
 *
 *   S> Message from server NUL
 *   C> any text NUL
 *   S> (closes)
 *
 * The greeting goes out as soon as the connection is open.  One message is counted, so the engine
 * closes behind the first: safely, so that the greeting arrives whatever the client still sends.
 */
#include <xchg.h>

static void on_open(struct xchg_conn *conn) {
  static const char greeting[] = "Message from server";
  xchg_send(conn, greeting, sizeof(greeting)); /* its NUL included */
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
