/*
 * serve: a server and its admin endpoint, from the start to the end of a program.
 *
 *   t0         a stop signal or POST /drain: /readyz returns 503, the server continues to serve
 *   t0 + D     the drain delay is over: the server drains
 *   then       the drain is complete, or XCHG_DRAIN_TIMEOUT is over: msg=stopped is logged
 *   last       the admin endpoint ends
 *
 * A second signal ends the process at once, also during the drain delay.  POST /drain does not
 * count as a signal.  A failed listener skips the delay, and so does SIGINT if standard error is a
 * terminal.
 */
#ifndef POOL_SERVE_H
#define POOL_SERVE_H

#include "pool/signals.h"
#include "pool/log_writer.h"
#include "pool/server.h"
#include "pool/service.h"
#include "pool/admin_server.h"

/* The program prepares and closes all of these. */
struct serve_setup {
  const struct config *config;
  const struct config_facts *facts;
  const char *const *environment;
  const struct xchg_handler *handler; /* NULL = a built-in exchange */
  struct log *log;
  struct log_writer *log_writer;
  struct signals *signals;
  struct service *service;
};

struct serve {
  struct serve_setup setup; /* borrows what it points to */
  struct xchg_server server;
  struct admin *admin; /* owns; NULL = there is no XCHG_ADMIN */
  bool begun;          /* the stop has begun; its delay may still run */
  bool signalled;      /* the next signal ends the process */
  bool drains;         /* the delay is over */
  uint64_t delayed_ns; /* when the delay is over; NEVER = no stop */
  uint64_t drained_ns; /* when the drain timeout is over; NEVER = it does not drain */
  uint64_t log_ns;     /* when to call admin_server_tend_log */
  uint64_t service_ns; /* when to call service_tend */
  uint64_t stuck_ns;   /* when the process ends without threads that still run */
  uint64_t ended;      /* connections that had ended when stuck_ns was set */
};

/**
 * serve_run(serve, setup):
 * Serve until a signal or a failure ends it.
 * Return: the exit code. A second signal, or a callback that does not return, ends the process.
 * Thread: main.
 */
int serve_run(struct serve *serve, const struct serve_setup *setup);

#endif
