/*
 * nats: chat rooms that span servers, over NATS.
 *
 *   S> * which room?
 *   C> attic
 *   S> * you are in
 *   C> hello                  all members of the room, on all servers:  S> hello
 *
 *   cc -shared -fPIC -o nats.so nats.c nats_bridge.c $(pkg-config --cflags xchg)
 *   XCHG_HANDLER=$PWD/nats.so NATS_URL=nats://127.0.0.1:4222 xchgd
 *
 * It is a plug-in and a program. Any handler becomes one that spans servers in the same way: start
 * and stop the bridge, and call bridge_publish instead of xchg_publish.
 */
#include "nats_bridge.h"

#include <errno.h>
#include <string.h>

struct member {
  bool in_room;
  uint64_t group;
};

static void send_text(struct xchg_conn *conn, const char *text) {
  xchg_send(conn, text, strlen(text));
}

/* FNV-1a, as in chat.c. */
static uint64_t group_of(const unsigned char *room, size_t size) {
  uint64_t hash = 0xcbf29ce484222325;
  for (size_t i = 0; i < size; i++) {
    hash = (hash ^ room[i]) * 0x100000001b3;
  }
  return hash;
}

static void on_open(struct xchg_conn *conn) { send_text(conn, "* which room?\n"); }

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  struct member *member = xchg_state(conn);
  if (!member->in_room) {
    member->group = group_of(message->data, message->size);
    member->in_room = xchg_join(conn, member->group, XCHG_SLOW_DROP) == 0;
    send_text(conn, member->in_room ? "* you are in\n" : "* no room is free\n");
  } else if (bridge_publish(member->group, message->frame, message->frame_size) == -1) {
    send_text(conn, errno == EMSGSIZE ? "* too long\n" : "* not delivered\n");
  }
}

static const struct xchg_handler rooms = {
    .size = sizeof(rooms),
    .frame = {.kind = XCHG_FRAME_LINE},
    .state_size = sizeof(struct member),
    .on_start = bridge_start,
    .on_stop = bridge_stop,
    .on_open = on_open,
    .on_message = on_message,
};

XCHG_PLUGIN(rooms)

int main(int argc, char **argv) { return xchg_main(&rooms, argc, argv); }
