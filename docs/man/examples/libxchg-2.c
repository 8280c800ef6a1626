/* The same with a greeting, and a line count in the state of each connection. */
#include <stdio.h>
#include <xchg.h>

struct counter {
  unsigned lines;
};

static void greet(struct xchg_conn *conn) {
  static const char text[] = "Say something.\n";
  xchg_send_ref(conn, text, sizeof(text) - 1, NULL, NULL);
}

static void count(struct xchg_conn *conn,
                  const struct xchg_message *line) {
  struct counter *counter = xchg_state(conn);
  char text[32];
  int length = snprintf(text, sizeof(text), "%u: ", ++counter->lines);
  xchg_send(conn, text, (size_t)length);
  xchg_send(conn, line->frame, line->frame_size);
}

int main(int argc, char **argv) {
  const struct xchg_handler handler = {
      .size = sizeof(handler),
      .frame = {.kind = XCHG_FRAME_LINE},
      .state_size = sizeof(struct counter),
      .on_open = greet,
      .on_message = count,
  };
  return xchg_main(&handler, argc, argv);
}
