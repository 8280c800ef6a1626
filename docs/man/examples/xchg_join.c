/* A chat with one room. */
#include <xchg.h>

#define ROOM 1

static void enter(struct xchg_conn *conn) {
  xchg_join(conn, ROOM, XCHG_SLOW_DROP);
}

static void say(struct xchg_conn *conn,
                const struct xchg_message *line) {
  struct xchg_server *server = xchg_server_of(conn);
  xchg_publish(server, ROOM, line->frame, line->frame_size);
}

int main(int argc, char **argv) {
  const struct xchg_handler chat = {
      .size = sizeof(chat),
      .frame = {.kind = XCHG_FRAME_LINE},
      .on_open = enter,
      .on_message = say,
  };
  return xchg_main(&chat, argc, argv);
}
