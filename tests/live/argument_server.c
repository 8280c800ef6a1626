/*
 * argument_server: a program with an argument of its own, with which it greets.  It writes
 * msg=channel if what it starts would inherit the variable of an upgrade.
 */
#include "core/xchg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int on_start(struct xchg_server *server) {
  (void)server;
  if (getenv("XCHG_UPGRADE_CHANNEL") != NULL) {
    fputs("msg=channel\n", stderr);
  }
  return 0;
}

static void on_open(struct xchg_conn *conn) {
  const char *greeting = xchg_user(conn);
  xchg_send(conn, greeting, strlen(greeting));
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  xchg_send(conn, message->data, message->size);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fputs("want one argument\n", stderr);
    return 64;
  }
  const struct xchg_handler handler = {.size = sizeof(handler),
                                       .user = argv[1],
                                       .on_start = on_start,
                                       .on_open = on_open,
                                       .on_message = on_message};
  return xchg_main(&handler, 1, argv);
}
