/*
 * upgrade_successor: the new process of a live upgrade.  The old one is pool/upgrade.
 *
 *   successor_open         the environment names the channel
 *   successor_hear         HELLO of the old process comes
 *   successor_introduce    the configuration is loaded: HELLO of this one, then its listeners come
 *   successor_ready        all threads run, and accept nothing yet: READY
 *   successor_tend         connections come.  With the first packet of them the old process accepts
 *                          no more, and this one does.  Then TOTALS, and COMMIT
 *
 *   old process ends  before the listeners    this one ends: 71
 *                     before COMMIT           this one is the server, with what it has
 *                     after COMMIT            as it should, and TOTALS has come again
 *
 * In a return the old process is the child of this one, see pool/upgrade_round.  If this process
 * fails before READY, it stays the parent, and ends with the exit code of the child.  If the child
 * closes the channel and lives on, it has turned back.  Then this process closes what it has, and
 * stays the parent, too.
 *
 * Until COMMIT the old process is the server, so signals are its own.  A stop signal that comes
 * here is obeyed after COMMIT, or when the old process has ended.
 *
 * Thread: main.
 */
#ifndef POOL_UPGRADE_SUCCESSOR_H
#define POOL_UPGRADE_SUCCESSOR_H

#include "pool/upgrade_taker.h"
#include "pool/upgrade_handed.h"
#include "pool/admin.h"

enum successor_state {
  SUCCESSOR_NONE, /* no upgrade: an ordinary start */
  SUCCESSOR_STARTING,
  SUCCESSOR_READY,
  SUCCESSOR_TAKING,
  SUCCESSOR_COMMITTED,
  SUCCESSOR_ALONE,       /* the channel is closed */
  SUCCESSOR_TURNED_BACK, /* in a return: the child stays the server, and this process its parent */
};

struct upgrade_successor {
  enum successor_state state;
  struct upgrade_channel channel;
  pid_t child;                  /* the old process in a return, a child; else 0 */
  int old_fd;                   /* owns: a pidfd of the old process; -1 = none */
  uint64_t deadline_ns;         /* in a return: a child that has closed the channel, and has not
                                   ended by then, has turned back; NEVER = it is open */
  uint64_t patient_ns;          /* until then the old process is expected to end */
  bool back;                    /* it executes the program in its place, and comes back */
  const char *why;              /* what has failed before READY */
  const char **environment;     /* owns: without the variable of the channel */
  const char *program;          /* borrows, from the environment: its path */
  struct upgrade_hello hello;   /* of the old process */
  struct upgrade_handed handed; /* its listeners */
  struct upgrade_taker taker;
  struct xchg_server *server; /* borrows, from successor_ready on, like what follows */
  struct admin *admin;
  struct listener *requests; /* of XCHG_UPGRADE */
  struct log *log;
  struct acceptor_order release, admin_release;
  uint64_t admin_ns; /* the admin endpoint accepts then, if nothing else comes; NEVER = no wait */
  bool together;     /* connections are served, and new ones accepted, from COMMIT on */
  bool serves;       /* STATUS has said so */
  bool totals;       /* TOTALS has come */
  uint64_t left;     /* connections that the old process still has */
  uint32_t answered; /* number of the last batch that TAKEN has answered */
  int signal;        /* one that the old process has passed on; 0 = none */
};

/**
 * Is this process the new one of an upgrade?  Then ${*environment} is replaced by one without the
 * channel's variable, until successor_close.  Return: 0, or -1 (ENOMEM).
 */
int successor_open(struct upgrade_successor *s, const char *const **environment);

/** Free everything but old_fd, and close the listeners that no server has taken. */
void successor_close(struct upgrade_successor *s);

/** Wait for HELLO. Return: 0; or -1 with the reason in ${s->why}. */
int successor_hear(struct upgrade_successor *s);

/**
 * successor_introduce(s, config, facts, handler):
 * Say who this process is, and receive the listeners.  Those that a service manager has passed
 * become those of ${facts}.  ${config} gets room for all connections that live.
 * Return: as successor_hear.
 */
int successor_introduce(struct upgrade_successor *s, struct config *config,
                        struct config_facts *facts, const struct xchg_handler *handler);

/** All threads run. Return: 0, or -1 (ENOMEM). */
int successor_ready(struct upgrade_successor *s, struct xchg_server *server, struct admin *admin,
                    struct listener *requests, struct log *log);

/** The channel to poll, or -1; and in ${*events} what for. */
int successor_fd(const struct upgrade_successor *s, short *events);

/** The old process to poll for POLLIN, or -1. */
static inline int successor_process_fd(const struct upgrade_successor *s) {
  return s->state < SUCCESSOR_READY ? -1 : s->old_fd;
}

/** Go on. Call it after each wait, and again while ${signal} is not 0, which the caller clears. */
void successor_tend(struct upgrade_successor *s);

/** A stop has begun here: the old process, if it lives, drains, too. */
void successor_send_stop(struct upgrade_successor *s);

/** This process ends at once: kill the child of a return, which would be a second server. */
void successor_abort(const struct upgrade_successor *s);

/** The process that LISTEN_PID names. */
uint64_t successor_passed_to(const struct upgrade_successor *s);

/**
 * The old process comes back: no more packets come from it as the old one.
 * Own: the channel is the caller's.
 */
struct upgrade_channel successor_release(struct upgrade_successor *s);

/** Does the old process, which has nothing left, come back or end soon? */
static inline bool successor_awaits_end(const struct upgrade_successor *s, uint64_t now_ns) {
  return s->state == SUCCESSOR_COMMITTED && s->left == 0 && now_ns < s->patient_ns;
}

/** When to call successor_tend at the latest. */
static inline uint64_t successor_next_ns(const struct upgrade_successor *s, uint64_t now_ns) {
  uint64_t patient_ns = successor_awaits_end(s, now_ns) ? s->patient_ns : NEVER;
  return min_u64(s->deadline_ns, min_u64(s->admin_ns, patient_ns));
}

/** Has this process failed in a return, so that its child is the server? */
static inline bool successor_stays_parent(const struct upgrade_successor *s) {
  bool failed = s->state == SUCCESSOR_STARTING || s->state == SUCCESSOR_TURNED_BACK;
  return failed && s->child != 0 && s->old_fd != -1;
}

/** Has the child turned the return back? */
static inline bool successor_turned_back(const struct upgrade_successor *s) {
  return s->state == SUCCESSOR_TURNED_BACK;
}

/** Is the old process the server? */
static inline bool successor_waits(const struct upgrade_successor *s) {
  return s->state != SUCCESSOR_NONE && s->state < SUCCESSOR_COMMITTED;
}

/** Does the old process live?  A child of this one has ended when it was waited for. */
static inline bool successor_is_connected(const struct upgrade_successor *s) {
  return s->channel.fd != -1 || (s->child != 0 && s->old_fd != -1);
}

/**
 * Has this process, which has the id of the server, come back from an upgrade to a living child?
 */
static inline bool successor_returns(const struct upgrade_successor *s) {
  return s->child != 0 && s->channel.fd != -1;
}

/** Is this process the new one of an upgrade, whether it is over or not? */
static inline bool successor_is(const struct upgrade_successor *s) {
  return s->state != SUCCESSOR_NONE;
}

#endif
