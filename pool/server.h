/*
 * server: listeners, acceptor and model put together, from the first bind to the last count.
 *
 *   server_open -> server_start -> (serves) -> server_drain -> server_finished ... -> server_close
 *                                                    `-> server_stop_now
 *
 * Touches no signal, no limit and no environment; there may be several in a process.
 */
#ifndef POOL_SERVER_H
#define POOL_SERVER_H

#include "net/builtin.h"
#include "pool/offload.h"
#include "pool/acceptor.h"

#include <pthread.h>
#include <semaphore.h>

/* Exit codes of the contract, as sysexits.h numbers them. */
enum {
  SERVER_UNAVAILABLE = 69, /* an address in use or not bindable */
  SERVER_OSERR = 71,       /* the system refused: threads, descriptors, a listener that broke */
};

struct xchg_server {
  const struct config *config; /* borrows */
  struct log *log;             /* borrows */
  struct xchg_handler handler; /* the program's, or the built-in exchange's */
  struct builtin builtin;      /* unused under a handler */
  struct listener listeners[CONFIG_LISTEN_MAX];
  uint32_t listeners_count;
  struct admission admission;
  struct model *model; /* owns */
  struct acceptor acceptor;
  pthread_t acceptor_thread;
  sem_t acceptor_up;      /* posted by that thread when it has all that it needs */
  struct offload offload; /* its threads start when a handler first asks for one */
  bool offloads;          /* ... and it was prepared */
  bool embedded;          /* made by xchg_server_create */
  bool prepared;          /* on_start has said yes: on_stop is due */
  pid_t pid;              /* of the process that made it: a child of fork is its guest */
  bool started;           /* xchg_server_start was called */
  bool accepting;         /* the acceptor's thread was started */
  atom_u32 drain_sent, stop_now_sent; /* 1: the letters were sent; any thread */
  struct wake done;                   /* signalled when a thread has ended or a listener broke */
  atom_u32 acceptor_runs;
};

struct server_setup {
  const struct config *config;
  struct log *log;
  const struct xchg_handler *handler; /* NULL = the configuration's built-in exchange; copied */
  uint32_t passed;                    /* listening sockets, from descriptor 3 on */
};

/** What is wrong with ${handler} under ${config}, as words for a log, or NULL. */
const char *server_handler_fault(const struct xchg_handler *handler, const struct config *config);

/**
 * server_open(server, setup):
 * Bind the configuration's addresses, or take over the passed sockets, and prepare everything; at
 * last let the handler prepare itself.
 * Return: 0, or an exit code with errno after a line in the log; server_close is due either way.
 */
int server_open(struct xchg_server *server, const struct server_setup *setup);

/**
 * Run workers and acceptor. Return: 0 when all of them run, or an exit code after a line in the
 * log.
 */
int server_start(struct xchg_server *server);

/** Begin the stop; later calls do nothing. Never waits. Thread: any. */
void server_drain(struct xchg_server *server);

/** Close everything now, under XCHG_MODEL=pool. Once and after server_drain, as above. */
void server_stop_now(struct xchg_server *server);

/** The ${i}th worker's inbox; NULL beyond the last, and outside of XCHG_MODEL=pool. Thread: any. */
struct inbox *server_inbox(struct xchg_server *server, uint32_t i);

/** A child has ended: let the acceptor collect it. */
void server_sigchld(struct xchg_server *server);

/** A descriptor that becomes readable when server_finished or server_failed may have changed. */
int server_done_fd(const struct xchg_server *server);

/** Has every thread come to its end, so that server_close will not wait? */
bool server_finished(const struct xchg_server *server);

/**
 * Once it has finished: wait until work that was offloaded has come to its end as well, and begin
 * no more.
 */
void server_join(struct xchg_server *server);

/** Did a listener break, so that the server must stop? */
bool server_failed(const struct xchg_server *server);

/** Join the threads, free and close everything. */
void server_close(struct xchg_server *server);

#endif
