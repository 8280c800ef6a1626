/*
 * load_server: a small server for tests, on its own thread, with one known fault.
 */
#ifndef TESTS_LOAD_SERVER_H
#define TESTS_LOAD_SERVER_H

#include "core/atom.h"

#include <pthread.h>

enum load_fault {
  FAULT_NONE,
  FAULT_WRONG, /* from the `after`-th message on, one bit of each answer is wrong */
  FAULT_SHORT, /* from the `after`-th message on: half an answer, then the end of the stream */
  FAULT_RESET, /* from the `after`-th message on: a reset instead of the answer */
  FAULT_MUTE,  /* no answer */
  FAULT_STALL, /* at the `after`-th message, sleep once for stall_ns */
  FAULT_CALL,  /* at the `after`-th message, call `call` once */
};

struct load_server {
  /* set before load_server_start */
  enum load_fault fault;
  uint32_t after;
  uint64_t stall_ns;
  void (*call)(void);
  const char *greeting; /* sent first with its 0; then one message ends the connection */
  int backlog;          /* 0 = large enough */
  const char *path;     /* of a UNIX socket; NULL = TCP */

  uint16_t port;
  atom_u32 accepted, messages; /* so far; messages counts reads with data */
  uint32_t reached;            /* private to the thread */
  int listener, epoll_fd, stop_fd;
  pthread_t thread;
};

/** Listen on a free port of 127.0.0.1, and echo or greet. */
void load_server_start(struct load_server *server);
void load_server_stop(struct load_server *server);

/** Reserve a port of 127.0.0.1 without a listener; the descriptor in ${*fd} holds it. */
uint16_t load_server_absent(int *fd);

#endif
