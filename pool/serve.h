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
#include "pool/upgrade_request.h"
#include "pool/upgrade_successor.h"

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
  struct sandbox *sandbox; /* valid from serve_run on */
  struct upgrade_successor *successor;
};

struct serve {
  struct serve_setup setup; /* borrows what it points to */
  struct xchg_server server;
  bool opened;         /* server_close is due */
  struct admin *admin; /* owns; NULL = there is no XCHG_ADMIN */
  bool on_terminal;    /* standard error is a terminal */
  bool begun;          /* the stop has begun; its delay may still run */
  bool signalled;      /* the next signal ends the process */
  bool drains;         /* the delay is over */
  struct upgrade upgrade;
  struct upgrade_requests requests;
  uint64_t upgrade_ns; /* when to call upgrade_tend */
  bool stop_waits;     /* a stop begins when the upgrade is over, in both processes */
  bool report_waits;   /* SIGUSR1 has come to the parent in a return */
  uint64_t delayed_ns; /* when the delay is over; NEVER = no stop */
  uint64_t drained_ns; /* when the drain timeout is over; NEVER = it does not drain */
  uint64_t log_ns;     /* when to call admin_server_tend_log */
  uint64_t service_ns; /* when to call service_tend */
  uint64_t stuck_ns;   /* when the process ends without threads that still run */
  uint64_t ended;      /* connections that had ended when stuck_ns was set */
};

/**
 * serve_open(serve, setup):
 * Bind all addresses, of the admin endpoint too, and prepare both servers.  No thread is started.
 * Return: 0, or an exit code after a line in the log; serve_close is due in both cases.
 * Thread: main, as all functions of this module.
 */
int serve_open(struct serve *serve, const struct serve_setup *setup);

/**
 * Start, and serve until a signal or a failure ends it.
 * Return: the exit code. A second signal, or a callback that does not return, ends the process.
 */
int serve_run(struct serve *serve);

/**
 * serve_close(serve, code):
 * Close the servers and free everything.  The old process of an upgrade executes the new program
 * here, or waits for its child.  If no stop has begun in it, signals that come meanwhile wait for
 * that program, or are passed on.
 * Return: the exit code of the process: ${code}, or that of the child.
 */
int serve_close(struct serve *serve, int code);

#endif
