/*
 * chat: rooms in which everybody reads what everybody writes.
 *
 *   S> * your name?
 *   C> ada
 *   S> * ada has entered lobby
 *   C> hello                           everybody in the room:  S> <ada> hello
 *   C> /join attic                     the old room:           S> * ada has left lobby
 *                                      the new one:            S> * ada has entered attic
 *   C> /nick lovelace                  the room:               S> * ada is now lovelace
 *   C> /quit
 *
 * A room is a group, and a group is a number: the hash of the room's name.  There is no list of
 * rooms to keep, to lock and to clean up; a room exists while somebody is in it.  Two names with
 * the same hash would be one room under two names: among a million rooms that happens with a
 * probability of 1 in 37 million, and somebody who makes two such names on purpose reaches people
 * whom /join would reach as well.  A server with private rooms must not build on a hash like this.
 *
 * A member that reads too slowly is dropped (XCHG_SLOW_DROP): the others never wait for it, and the
 * server's memory for it has an end.  State belongs to one connection and is touched by its worker
 * alone, so that nothing here is locked, although the members of a room are on different threads.
 */
#include <xchg.h>

#include <stdio.h>
#include <string.h>

#define NAME_WAIT_NS (UINT64_C(15) * 1000 * 1000 * 1000) /* so long we wait for a name */
#define NAME_MAX_BYTES 24
#define LINE_MAX_BYTES 512
/* Room for a line, two names and the words between them. */
#define TEXT_MAX_BYTES (LINE_MAX_BYTES + 2 * NAME_MAX_BYTES + 32)

/* Zeroed when the connection is opened: nobody yet, nowhere. */
struct guest {
  char nick[NAME_MAX_BYTES + 1];
  char room[NAME_MAX_BYTES + 1];
};

/* FNV-1a: spreads well, is short, and resists nobody who wants to find collisions. */
static uint64_t group_of(const char *room) {
  uint64_t hash = 0xcbf29ce484222325;
  for (; *room != '\0'; room++) {
    hash = (hash ^ (uint8_t)*room) * 0x100000001b3;
  }
  return hash;
}

static void tell(struct xchg_conn *conn, const char *text) { xchg_send(conn, text, strlen(text)); }

/* Send ${text} to everybody in the room of ${conn}, itself included. */
static void say(struct xchg_conn *conn, const char *text) {
  const struct guest *guest = xchg_state(conn);
  uint64_t group = group_of(guest->room);
  if (xchg_publish(xchg_server_of(conn), group, text, strlen(text)) == -1) {
    tell(conn, "* nobody could be told that\n");
  }
}

static void say_line(struct xchg_conn *conn, const char *line) {
  const struct guest *guest = xchg_state(conn);
  char text[TEXT_MAX_BYTES];
  snprintf(text, sizeof(text), "<%s> %s\n", guest->nick, line);
  say(conn, text);
}

/* Tell the room that ${conn} "has left" it, or such. */
static void say_notice(struct xchg_conn *conn, const char *what) {
  const struct guest *guest = xchg_state(conn);
  char text[TEXT_MAX_BYTES];
  snprintf(text, sizeof(text), "* %s %s %s\n", guest->nick, what, guest->room);
  say(conn, text);
}

/* A name has 1 to NAME_MAX_BYTES bytes, none of them a space. */
static bool is_name(const char *name) {
  size_t size = strlen(name);
  return size > 0 && size <= NAME_MAX_BYTES && strchr(name, ' ') == NULL;
}

static void copy_name(char to[NAME_MAX_BYTES + 1], const char *name) {
  memcpy(to, name, strlen(name) + 1); /* is_name has seen that it fits */
}

static void leave(struct xchg_conn *conn) {
  const struct guest *guest = xchg_state(conn);
  if (guest->room[0] != '\0') {
    xchg_leave(conn, group_of(guest->room));
    say_notice(conn, "has left");
  }
}

static void join(struct xchg_conn *conn, const char *room) {
  struct guest *guest = xchg_state(conn);
  if (!is_name(room)) {
    tell(conn, "* a room's name has 1 to 24 bytes and no space\n");
    return;
  }
  if (strcmp(room, guest->room) == 0) {
    tell(conn, "* you are there\n");
    return;
  }
  leave(conn);
  copy_name(guest->room, room);
  if (xchg_join(conn, group_of(room), XCHG_SLOW_DROP) == -1) {
    guest->room[0] = '\0';
    tell(conn, "* no room is free\n");
    return;
  }
  say_notice(conn, "has entered");
}

static void rename_to(struct xchg_conn *conn, const char *nick) {
  struct guest *guest = xchg_state(conn);
  if (!is_name(nick)) {
    tell(conn, "* a name has 1 to 24 bytes and no space\n");
    return;
  }
  if (guest->nick[0] == '\0') {
    xchg_timer(conn, XCHG_NEVER);
    copy_name(guest->nick, nick);
    join(conn, "lobby");
    return;
  }
  char text[TEXT_MAX_BYTES];
  snprintf(text, sizeof(text), "* %s is now %s\n", guest->nick, nick);
  copy_name(guest->nick, nick);
  say(conn, text);
}

/* The line's bytes as a string: what a terminal would obey is made visible. */
static void copy_line(char line[LINE_MAX_BYTES + 1], const struct xchg_message *message) {
  const unsigned char *from = message->data;
  for (size_t i = 0; i < message->size; i++) {
    line[i] = from[i] < ' ' || from[i] == 0x7f ? '?' : (char)from[i];
  }
  line[message->size] = '\0'; /* max_message leaves room for it */
}

/* The argument of ${line}, where its command is ${command}; else NULL. */
static const char *argument_of(const char *line, const char *command) {
  size_t size = strlen(command);
  return strncmp(line, command, size) == 0 ? line + size : NULL;
}

static void on_open(struct xchg_conn *conn) {
  tell(conn, "* your name?\n");
  xchg_timer(conn, NAME_WAIT_NS);
}

/* Who has not said its name yet is not going to. */
static void on_timer(struct xchg_conn *conn) {
  tell(conn, "* another time\n");
  xchg_finish(conn);
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  const struct guest *guest = xchg_state(conn);
  char line[LINE_MAX_BYTES + 1];
  const char *argument;
  copy_line(line, message);
  if (strcmp(line, "/quit") == 0) {
    xchg_finish(conn);
  } else if ((argument = argument_of(line, "/nick ")) != NULL) {
    rename_to(conn, argument);
  } else if (guest->nick[0] == '\0') {
    rename_to(conn, line);
  } else if ((argument = argument_of(line, "/join ")) != NULL) {
    join(conn, argument);
  } else if (line[0] == '/') {
    tell(conn, "* /nick NAME, /join ROOM, /quit\n");
  } else if (guest->room[0] == '\0') {
    tell(conn, "* you are in no room: /join ROOM\n");
  } else {
    say_line(conn, line);
  }
}

/* However it ended, the room hears of it; ${conn} itself will get none of it. */
static void on_close(struct xchg_conn *conn, enum xchg_reason reason) {
  (void)reason;
  leave(conn);
}

int main(int argc, char **argv) {
  static const struct xchg_handler chat = {
      .size = sizeof(chat),
      .frame = {.kind = XCHG_FRAME_LINE},
      .max_message = LINE_MAX_BYTES,
      .state_size = sizeof(struct guest),
      .on_open = on_open,
      .on_message = on_message,
      .on_timer = on_timer,
      .on_close = on_close,
  };
  return xchg_main(&chat, argc, argv);
}
