/*
 * peer: arguments, listener and greeting, shared by all baseline programs.
 *
 * A peer is started as `NAME PORT EXCHANGE [N]` and listens on 127.0.0.1 only.  It writes one
 * line, `listening 127.0.0.1:PORT`, to stdout and then serves until a signal ends it.  An error at
 * the start ends it with a message and exit code 1.
 *
 *   echo    every byte is sent back until the client closes
 *   greet   "Message from server" and a 0 byte are sent; one message up to a 0 byte is received;
 *           the connection is closed
 *   hello   the same 20 bytes are sent and the connection is closed, as by nginx's `return`
 */
#ifndef PEERS_PEER_H
#define PEERS_PEER_H

#include <stdbool.h>
#include <stddef.h>

#define PEER_GREETING "Message from server"
#define PEER_GREETING_SIZE sizeof(PEER_GREETING) /* with its 0 byte */
#define PEER_BUFFER_SIZE 65536
#define PEER_BACKLOG 4096

enum peer_exchange { PEER_ECHO, PEER_GREET, PEER_HELLO };

struct peer_options {
  int port; /* 0 = any */
  enum peer_exchange exchange;
  int number; /* the optional third argument, or 0 */
};

/** Parse the arguments; exit with a usage line if they are wrong. */
struct peer_options peer_parse(int argc, char **argv);

/** Write "${what}: ${errno's text}" and exit. */
void peer_die(const char *what) __attribute__((noreturn));

/**
 * peer_listen(port, shared):
 * A blocking listening socket on 127.0.0.1:${port}; with ${shared}, SO_REUSEPORT.  Accepted
 * connections inherit its TCP_NODELAY.  Exits on failure.
 * Own: the caller.
 */
int peer_listen(int port, bool shared);

/** The port of ${listener}. */
int peer_port(int listener);

/** Write the address of ${listener} to stdout. */
void peer_announce(int listener);

/** Raise the descriptor limit to the hard limit and return it. */
size_t peer_raise_descriptors(void);

#endif
