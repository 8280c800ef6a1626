/*
 * server: builds listeners, acceptor and model, starts, drains and stops them.
 *
 *   server_open -> server_call_on_start -> server_start -> (serves)
 *       -> server_drain, server_stop_now -> server_finished ... -> server_close
 *
 * Changes no signal, no limit and no environment.  A process may have several servers.
 */
#ifndef POOL_SERVER_H
#define POOL_SERVER_H

#include "net/builtin.h"
#include "pool/offload.h"
#include "pool/listeners.h"
#include "pool/acceptor.h"

#include <pthread.h>
#include <semaphore.h>

struct sandbox;
struct snapshot;

/* What the processes have counted that this one replaces.  Main writes, any thread reads. */
struct server_base {
  struct stats totals; /* without accepted */
  struct histogram handoff_ns, turn_ns, queue_depth, accept_batch;
  struct histogram frozen_ns;           /* how long a connection that moved was in no process */
  atom_u64 accepted[CONFIG_LISTEN_MAX]; /* by listener */
  atom_u64 accepted_elsewhere;          /* from addresses that are gone */
  atom_u64 paused_ns;
  atom_u64 log_lines_lost;
  /* What main has counted here during upgrades. */
  struct stats own_totals;
  struct histogram own_frozen_ns;
};

struct xchg_server {
  const struct config *config;   /* borrows */
  struct log *log;               /* borrows */
  const struct sandbox *sandbox; /* borrows: for its threads; NULL = none */
  struct xchg_handler handler;   /* the program's, or the built-in exchange's */
  struct builtin builtin;        /* unused if the program has a handler */
  struct listener listeners[CONFIG_LISTEN_MAX];
  uint32_t listeners_count;
  struct admission admission;
  struct model *model; /* owns */
  struct acceptor acceptor;
  pthread_t acceptor_thread;
  sem_t acceptor_up;      /* posted by that thread when it is ready */
  int sandbox_error;      /* before that: the errno with which it has not entered the sandbox */
  struct offload offload; /* its threads start with the first xchg_offload */
  bool offloads;          /* offload was prepared */
  bool embedded;          /* made by xchg_server_create */
  bool prepared;          /* on_start has succeeded: on_stop is due */
  uint64_t process;       /* forked_number() of the process that made it, then that started it */
  atom_u32 started;       /* 1: this process has started it, or tried to; any thread reads */
  atom_u32 *taken;        /* owns: mapped, shared with children; 1: a process has started it */
  bool accepting;         /* the acceptor's thread was started */
  atom_u32 drain_sent, stop_now_sent; /* 1: the tasks were sent; any thread */
  struct snapshot *walk; /* borrows: in progress (pool/snapshot); its asker's thread; or NULL */
  struct wake done;      /* signalled when a thread has ended or a listener has failed */
  atom_u32 acceptor_runs;
  struct server_base *base; /* owns; NULL = there was no upgrade, and there will be none */
};

struct server_setup {
  const struct config *config;
  struct log *log;
  const struct xchg_handler *handler; /* NULL = the configuration's built-in exchange; copied */
  const struct listen_fd *passed;     /* listening sockets that replace the configured ones */
  uint32_t passed_count;              /* at most CONFIG_LISTEN_MAX; 0 = listen where config says */
  const struct sandbox *sandbox;      /* what each thread enters first; NULL = none */
  struct upgrade_listener *inherited; /* of the process that this one replaces; NULL = none */
  uint32_t inherited_count;           /* one that is used loses its fd */
  bool held;                          /* accept nothing until ACCEPTOR_RELEASE */
};

/** Is ${handler} valid under ${config}? Return: true, or false with the reason in ${why}. */
bool server_handler_valid(const struct xchg_handler *handler, const struct config *config,
                          char *why, size_t why_size);

/**
 * server_open(server, setup):
 * Bind the configuration's addresses, or adopt the passed sockets, and prepare everything.  No
 * thread is started and nothing of the handler is called, so that a program can give up rights
 * afterwards.
 * Return: 0, or an exit code with errno after a line in the log; server_close is due in both cases.
 */
int server_open(struct xchg_server *server, const struct server_setup *setup);

/**
 * Call the handler's on_start, if there is one.
 * Return: 0; or SERVER_OSERR with ECANCELED after a line in the log, and the start ends.
 */
int server_call_on_start(struct xchg_server *server);

/**
 * May this process use and stop ${server}? Until the start it belongs to the process that made it,
 * then to the one that started it, and never to a process that was forked from that. Thread: any.
 */
bool server_is_owner(const struct xchg_server *server);

/**
 * Start workers and acceptor in this process, which owns ${server} from now on.
 * Return: 0 when all run, or an exit code with errno after a line in the log. EALREADY: another
 * process has started it.
 */
int server_start(struct xchg_server *server);

/** Begin a graceful stop; later calls do nothing. Never waits. Thread: any. */
void server_drain(struct xchg_server *server);

/** Close all connections now, under XCHG_MODEL=pool; includes server_drain. Thread: any. */
void server_stop_now(struct xchg_server *server);

/** The ${i}th worker's inbox; NULL after the last, and in all models but pool. Thread: any. */
struct inbox *server_inbox(struct xchg_server *server, uint32_t i);

/**
 * server_settle(server, gone):
 * Let all workers settle what is parked: another process serves it, or (not ${gone}) they do.
 * server_settled(server):
 * Have they? The done descriptor becomes readable. Thread: main.
 */
void server_settle(struct xchg_server *server, bool gone);
bool server_settled(struct xchg_server *server);

/** A child process has ended: the acceptor reaps it. */
void server_sigchld(struct xchg_server *server);

/**
 * A descriptor that becomes readable when the result of server_finished, server_failed or
 * server_stop_works may have changed.
 */
int server_done_fd(const struct xchg_server *server);

/** Has every thread ended, so that server_close does not wait? */
bool server_finished(const struct xchg_server *server);

/** After server_finished: let no offloaded work begin. Return: how many still run. */
uint32_t server_stop_works(struct xchg_server *server);

/** After server_finished: wait until offloaded work that has begun ends; no more begins. */
void server_join(struct xchg_server *server);

/** Has a listener failed, so that the server must stop? */
bool server_failed(const struct xchg_server *server);

/** Close the listeners that are open and remove their socket files; the acceptor does not run. */
void server_close_listeners(struct xchg_server *server);

/** Join the threads, free and close everything. */
void server_close(struct xchg_server *server);

/**
 * In a process that does not own ${server}: free and close what this process has of it. The owner
 * and its clients notice nothing. Nothing is called, and no file is removed.
 */
void server_abandon(struct xchg_server *server);

/**
 * server_log_listening(server, handler, held):
 * Log msg=listening for each address, at every level.  ${handler}: the program has one.  ${held}:
 * this process is the new one of an upgrade; what was handed over has listened all the time.
 */
void server_log_listening(const struct xchg_server *server, bool handler, bool held);

/** Log msg=stopping: the server drains in ${delay_ns}. */
void server_log_stopping(struct log *log, uint64_t delay_ns);

#endif
