/*
 * peer: what every baseline program shares: its arguments, its listener, the greeting.
 *
 * A peer is started as `NAME PORT EXCHANGE [N]`, listens on 127.0.0.1 alone, writes one line
 * `listening 127.0.0.1:PORT` to stdout and then serves until a signal ends it.  Faults at the start
 * end it with a message and exit code 1: a peer is a measuring stick, no service.
 *
 *   echo    every byte comes back, until the client closes
 *   greet   "Message from server" and a 0 byte go out, one message up to a 0 byte is received, the
 *           connection is closed
 *   hello   the same 20 bytes go out, the connection is closed at once (what nginx's `return` does)
 */
#ifndef PEERS_PEER_H
#define PEERS_PEER_H

#include <stdbool.h>
#include <stddef.h>

#define PEER_GREETING "Message from server"
#define PEER_GREETING_SIZE sizeof PEER_GREETING /* the 0 byte goes out too */
#define PEER_BUFFER_SIZE 65536
#define PEER_BACKLOG 4096

enum peer_exchange { PEER_ECHO, PEER_GREET, PEER_HELLO };

struct peer_options {
  int port; /* 0 = any */
  enum peer_exchange exchange;
  int number; /* the optional third argument; 0 where it is missing */
};

/** Read the arguments; exit with a usage line where they are wrong. */
struct peer_options peer_parse(int argc, char **argv);

/** Write "${what}: ${errno's text}" and exit. */
void peer_die(const char *what) __attribute__((noreturn));

/**
 * peer_listen(port, shared):
 * A blocking listening socket on 127.0.0.1:${port}, TCP_NODELAY set on it once and inherited by
 * what it accepts; with ${shared}, SO_REUSEPORT.  Exits where that cannot be.
 * Own: the caller.
 */
int peer_listen(int port, bool shared);

/** The port that ${listener} got. */
int peer_port(int listener);

/** Say on stdout that ${listener} listens. */
void peer_announce(int listener);

/** Raise the limit on descriptors to its hard limit; the limit. */
size_t peer_raise_descriptors(void);

#endif
