/*
 * load_server: a small server of the tests, on a thread of its own, with one known fault.
 */
#ifndef TESTS_LOAD_SERVER_H
#define TESTS_LOAD_SERVER_H

#include "core/atom.h"

#include <pthread.h>

enum load_fault {
  FAULT_NONE,
  FAULT_WRONG, /* one bit of every message's answer from the `after`-th on is another */
  FAULT_SHORT, /* half an answer, then the end of the stream, from the `after`-th on */
  FAULT_RESET, /* a reset instead of the answer, from the `after`-th on */
  FAULT_MUTE,  /* no answer */
  FAULT_STALL, /* stall_ns without doing anything, once, at the `after`-th */
  FAULT_CALL,  /* `call` is called, once, at the `after`-th */
};

struct load_server {
  /* what it does; set before load_server_start */
  enum load_fault fault;
  uint32_t after;
  uint64_t stall_ns;
  void (*call)(void);
  const char *greeting; /* with its 0: sent first, and one message ends the connection */
  int backlog;          /* 0 = enough */
  const char *path;     /* a UNIX socket instead of TCP */

  uint16_t port;
  atom_u32 accepted, messages; /* so far: reads that brought something */
  uint32_t reached;            /* the thread's own */
  int listener, epoll_fd, stop_fd;
  pthread_t thread;
};

/** Listen on any port of 127.0.0.1 and serve: echo, or the greeting. */
void load_server_start(struct load_server *server);
void load_server_stop(struct load_server *server);

/** A port of 127.0.0.1 that nobody listens on, kept from others by the descriptor in ${*fd}. */
uint16_t load_server_absent(int *fd);

#endif
