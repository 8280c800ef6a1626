/*
 * server: listeners, acceptor and model put together, from the first bind to the last count.
 *
 *   server_open -> server_start -> (serves) -> server_stop -> server_finished ... -> server_close
 *
 * Touches no signal and no environment; main (pool/xchgd.c) does.
 */
#ifndef POOL_SERVER_H
#define POOL_SERVER_H

#include "net/exchange.h"
#include "pool/acceptor.h"

#include <pthread.h>

/* Exit codes of the contract, as sysexits.h numbers them. */
enum {
  SERVER_UNAVAILABLE = 69, /* an address in use or not bindable */
  SERVER_OSERR = 71,       /* the system refused: threads, descriptors, a listener that broke */
};

struct server {
  const struct config *config; /* borrows */
  struct log *log;                  /* borrows */
  struct exchange exchange;
  struct listener listeners[CONFIG_LISTEN_MAX];
  uint32_t listeners_count;
  struct admit admit;
  struct model *model; /* owns */
  struct acceptor acceptor;
  pthread_t acceptor_thread;
  bool accepting;   /* the acceptor's thread was started */
  bool stopping;    /* the letters were sent */
  struct wake done; /* signalled when a thread has ended or a listener broke */
  atom_u32 acceptor_runs;
};

/**
 * server_open(server, config, log, passed):
 * Bind ${config}'s addresses, or take over ${passed} listening sockets from descriptor 3 on, and
 * prepare everything.
 * Return: 0, or an exit code after a line in the log; server_close is due either way.
 */
int server_open(struct server *server, const struct config *config, struct log *log,
                uint32_t passed);

/**
 * Run workers and acceptor. Return: 0 when all of them run, or an exit code after a line in the
 * log.
 */
int server_start(struct server *server);

/** Begin the stop; later calls do nothing. Never waits. Thread: main. */
void server_stop(struct server *server);

/** A child has ended: let the acceptor collect it. */
void server_child(struct server *server);

/** A descriptor that becomes readable when server_finished or server_broken may have changed. */
int server_done_fd(const struct server *server);

/** Has every thread come to its end, so that server_close will not wait? */
bool server_finished(const struct server *server);

/** Did a listener break, so that the server must stop? */
bool server_broken(const struct server *server);

/** Write one line msg=${msg} with all totals; ${open} adds what is live. At every log level. */
void server_report(struct server *server, const char *msg, bool open);

/** Join the threads, free and close everything. */
void server_close(struct server *server);

#endif
