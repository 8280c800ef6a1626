/*
 * chat: a chat server with rooms.
 *
 *   S> * your name?
 *   C> ada
 *   S> * ada has entered lobby
 *   C> hello                           all members of the room:  S> <ada> hello
 *   C> /join attic                     the old room:             S> * ada has left lobby
 *                                      the new room:             S> * ada has entered attic
 *   C> /nick lovelace                  the room:                 S> * ada is now lovelace
 *   C> /quit
 *
 * A room is a group, and the group's number is the hash of the room's name. So the server keeps no
 * list of rooms: a room exists while it has members. Two names with the same hash are the same
 * room. Among a million rooms the probability of that is 1 in 37 million. A user who finds such a
 * pair of names reaches no one that /join would not reach. A server with private rooms needs
 * another mapping.
 *
 * A live upgrade moves all members at the same moment (together), so that each line reaches all
 * members of its room. Their names and rooms are the state that is saved. Memberships move by
 * themselves.
 *
 * XCHG_SLOW_DROP closes a member that reads too slowly. So the other members never wait for it and
 * its queued output is bounded. The state of a connection is used by its worker only and needs no
 * lock, although the members of a room are on different threads.
 */
#include <xchg.h>

#include <stdio.h>
#include <string.h>

#define NAME_WAIT_NS (UINT64_C(15) * 1000 * 1000 * 1000) /* for the user's name */
#define NAME_MAX_BYTES 24
#define LINE_MAX_BYTES 512
#define STATE_VERSION 1 /* of struct member */
/* A line, two names and the words between them. */
#define TEXT_MAX_BYTES (LINE_MAX_BYTES + 2 * NAME_MAX_BYTES + 32)

/* A connection's state. Both strings are empty at first: no name, no room. */
struct member {
  char nick[NAME_MAX_BYTES + 1];
  char room[NAME_MAX_BYTES + 1];
};

/* FNV-1a: short and well distributed. It does not resist a search for collisions. */
static uint64_t group_of(const char *room) {
  uint64_t hash = 0xcbf29ce484222325;
  for (; *room != '\0'; room++) {
    hash = (hash ^ (uint8_t)*room) * 0x100000001b3;
  }
  return hash;
}

static void send_text(struct xchg_conn *conn, const char *text) {
  xchg_send(conn, text, strlen(text));
}

/* Send ${text} to all members of the room, ${conn} included. */
static void publish_text(struct xchg_conn *conn, const char *text) {
  const struct member *member = xchg_state(conn);
  uint64_t group = group_of(member->room);
  if (xchg_publish(xchg_server_of(conn), group, text, strlen(text)) == -1) {
    send_text(conn, "* your message was not delivered\n");
  }
}

static void publish_line(struct xchg_conn *conn, const char *line) {
  const struct member *member = xchg_state(conn);
  char text[TEXT_MAX_BYTES];
  snprintf(text, sizeof(text), "<%s> %s\n", member->nick, line);
  publish_text(conn, text);
}

/* Send "* NAME ${what} ROOM" to the room. */
static void publish_notice(struct xchg_conn *conn, const char *what) {
  const struct member *member = xchg_state(conn);
  char text[TEXT_MAX_BYTES];
  snprintf(text, sizeof(text), "* %s %s %s\n", member->nick, what, member->room);
  publish_text(conn, text);
}

/* A name has 1 to NAME_MAX_BYTES bytes and no space. */
static bool is_name(const char *name) {
  size_t size = strlen(name);
  return size > 0 && size <= NAME_MAX_BYTES && strchr(name, ' ') == NULL;
}

static void copy_name(char to[NAME_MAX_BYTES + 1], const char *name) {
  memcpy(to, name, strlen(name) + 1); /* it fits: is_name was true */
}

static void leave(struct xchg_conn *conn) {
  const struct member *member = xchg_state(conn);
  if (member->room[0] != '\0') {
    xchg_leave(conn, group_of(member->room));
    publish_notice(conn, "has left");
  }
}

static void join(struct xchg_conn *conn, const char *room) {
  struct member *member = xchg_state(conn);
  if (!is_name(room)) {
    send_text(conn, "* a room's name has 1 to 24 bytes and no space\n");
    return;
  }
  if (strcmp(room, member->room) == 0) {
    send_text(conn, "* you are there\n");
    return;
  }
  leave(conn);
  copy_name(member->room, room);
  if (xchg_join(conn, group_of(room), XCHG_SLOW_DROP) == -1) {
    member->room[0] = '\0';
    send_text(conn, "* no room is free\n");
    return;
  }
  publish_notice(conn, "has entered");
}

static void rename_to(struct xchg_conn *conn, const char *nick) {
  struct member *member = xchg_state(conn);
  if (!is_name(nick)) {
    send_text(conn, "* a name has 1 to 24 bytes and no space\n");
    return;
  }
  if (member->nick[0] == '\0') {
    xchg_timer(conn, XCHG_NEVER);
    copy_name(member->nick, nick);
    join(conn, "lobby");
    return;
  }
  char text[TEXT_MAX_BYTES];
  snprintf(text, sizeof(text), "* %s is now %s\n", member->nick, nick);
  copy_name(member->nick, nick);
  publish_text(conn, text);
}

/* Copy the line as a string. Control characters, which a terminal would obey, become '?'. */
static void copy_line(char line[LINE_MAX_BYTES + 1], const struct xchg_message *message) {
  const unsigned char *from = message->data;
  for (size_t i = 0; i < message->size; i++) {
    line[i] = from[i] < ' ' || from[i] == 0x7f ? '?' : (char)from[i];
  }
  line[message->size] = '\0'; /* max_message is LINE_MAX_BYTES */
}

/* The argument in ${line} if it begins with ${command}, or NULL. */
static const char *argument_of(const char *line, const char *command) {
  size_t size = strlen(command);
  return strncmp(line, command, size) == 0 ? line + size : NULL;
}

static void on_open(struct xchg_conn *conn) {
  send_text(conn, "* your name?\n");
  xchg_timer(conn, NAME_WAIT_NS);
}

/* The user has not sent a name in time. */
static void on_timer(struct xchg_conn *conn) {
  send_text(conn, "* another time\n");
  xchg_finish(conn);
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  const struct member *member = xchg_state(conn);
  char line[LINE_MAX_BYTES + 1];
  const char *argument;
  copy_line(line, message);
  if (strcmp(line, "/quit") == 0) {
    xchg_finish(conn);
  } else if ((argument = argument_of(line, "/nick ")) != NULL) {
    rename_to(conn, argument);
  } else if (member->nick[0] == '\0') {
    rename_to(conn, line);
  } else if ((argument = argument_of(line, "/join ")) != NULL) {
    join(conn, argument);
  } else if (line[0] == '/') {
    send_text(conn, "* /nick NAME, /join ROOM, /quit\n");
  } else if (member->room[0] == '\0') {
    send_text(conn, "* you are in no room: /join ROOM\n");
  } else {
    publish_line(conn, line);
  }
}

/* Announce the end to the room, whatever the reason. ${conn} itself receives nothing any more. */
static void on_close(struct xchg_conn *conn, enum xchg_reason reason) {
  (void)reason;
  leave(conn);
}

/* The state as it is in memory. Another layout needs another version. */
static ssize_t on_save(struct xchg_conn *conn, void *data, size_t size) {
  (void)size; /* XCHG_SAVE_MAX, which is more */
  memcpy(data, xchg_state(conn), sizeof(struct member));
  return sizeof(struct member);
}

static int on_restore(struct xchg_conn *conn, uint32_t version, const void *data, size_t size) {
  if (version != STATE_VERSION || size != sizeof(struct member)) {
    return -1;
  }
  memcpy(xchg_state(conn), data, size);
  return 0;
}

int main(int argc, char **argv) {
  static const struct xchg_handler chat = {
      .size = sizeof(chat),
      .frame = {.kind = XCHG_FRAME_LINE},
      .max_message = LINE_MAX_BYTES,
      .state_size = sizeof(struct member),
      .on_open = on_open,
      .on_message = on_message,
      .on_timer = on_timer,
      .on_close = on_close,
      .state_version = STATE_VERSION,
      .on_save = on_save,
      .on_restore = on_restore,
      .together = true,
  };
  return xchg_main(&chat, argc, argv);
}
