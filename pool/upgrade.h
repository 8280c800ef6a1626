/*
 * upgrade: the old process of a live upgrade.  The new one is pool/upgrade_successor.
 *
 *   start       the new process is started; HELLO of both
 *   listeners   it gets the listeners and starts its threads: READY
 *   hold        this process accepts no more
 *   canary      8 connections go; the new process serves them for a while
 *   batches     64 at a time, until none is left that moves
 *   totals      the admin endpoint accepts no more; all counters go; it answers
 *   left        COMMIT: it is the server.  What stays here ends after XCHG_DRAIN_TIMEOUT
 *
 * A failure before the batches turns the upgrade back: the new process is killed, its end is
 * awaited, and its last packets are read, before a connection is served here again.  So no two
 * processes read one socket.  Connections that the new process has taken end with it.
 *
 * From the batches on most clients are the new process's soon.  If it is slow, or a batch cannot be
 * sent, the rest stays here, and COMMIT follows.  The upgrade turns back if the new process ends,
 * or if it answers neither the last batch nor the totals: no process would accept new clients.
 *
 * Thread: main, which is outside of the sandbox.  Nothing here waits: serve polls the descriptors.
 */
#ifndef POOL_UPGRADE_H
#define POOL_UPGRADE_H

#include "pool/acceptor_order.h"
#include "pool/upgrade_giver.h"
#include "pool/upgrade_spawn.h"
#include "pool/upgrade_send.h"

#include <signal.h>

enum upgrade_step {
  STEP_NONE,
  STEP_START,
  STEP_LISTENERS,
  STEP_HOLD,
  STEP_CANARY,
  STEP_BATCHES,
  STEP_TOTALS,
  STEP_LEFT,
  STEP_KILL,   /* the acceptors go on; the new process was killed: await its end */
  STEP_RETURN, /* what was under way becomes connections here again */
};

/* How an upgrade has ended. */
struct upgrade_outcome {
  uint64_t code; /* exit code of xchgd --upgrade */
  char step[UPGRADE_TEXT];
  char reason[UPGRADE_TEXT]; /* code 0: number and reason of the connections that stay, or "" */
};

struct upgrade {
  struct upgrade_setup setup;
  struct upgrade_program program;
  enum upgrade_step step;
  uint64_t started_ns, deadline_ns;
  struct upgrade_channel channel;
  pid_t child;
  int child_fd;             /* owns: a pidfd, by which it is waited for and killed; -1 = none */
  struct sigaction sigchld; /* of the program, while there is a child */
  bool keeps_requests;      /* the new process listens at the socket of XCHG_UPGRADE */
  bool serves;              /* the new process has said that it serves the canary */
  bool stopping;            /* a stop has begun: no upgrade may begin */
  bool stops;               /* the new process, which is the server, has begun a stop */
  uint64_t canary_ns;       /* when the canary had gone; NEVER = not yet */
  struct upgrade_giver giver;
  struct acceptor_order order, admin_order; /* of the acceptors of server and admin */
  bool totals_sent, counted;                /* counted: there was no failure */

  enum upgrade_step failed; /* the step that is turned back, and why */
  char reason[UPGRADE_TEXT];
  int status; /* of the new process that has ended, as of waitpid */

  struct upgrade_outcome outcome; /* of the last one; code UINT64_MAX = it goes on */
};

/** Prepare ${upgrade}. Nothing is opened. */
void upgrade_open(struct upgrade *upgrade, const struct upgrade_setup *setup);

/** The process ends: tell the new one what has been counted since TOTALS. */
void upgrade_close(struct upgrade *upgrade);

/** Why no upgrade may begin now, or NULL. */
const char *upgrade_obstacle(const struct upgrade *upgrade);

/**
 * upgrade_begin(upgrade, request):
 * Begin an upgrade.  ${request} lists all XCHG_ variables of the new process as NAME=value, then
 * NULL; NULL = those of this one.
 * Return: 0; or an exit code of xchgd --upgrade after a line in the log.
 */
int upgrade_begin(struct upgrade *upgrade, const char *const *request);

/** The descriptor to poll, or -1, and in ${*events} what for. */
int upgrade_fd(const struct upgrade *upgrade, short *events);

/** Go on. Call it after each wait. Return: when to call it again at the latest. */
uint64_t upgrade_tend(struct upgrade *upgrade);

/** A stop has begun.  Return: must it wait until upgrade_running is false? */
bool upgrade_cancel(struct upgrade *upgrade);

/** Is an upgrade under way that has not been committed? */
static inline bool upgrade_running(const struct upgrade *upgrade) {
  return upgrade->step != STEP_NONE && upgrade->step != STEP_LEFT;
}

/** Is the new process the server now? */
static inline bool upgrade_left(const struct upgrade *upgrade) {
  return upgrade->step == STEP_LEFT;
}

/** Is the new process the server, and does it stop, or has it ended?  This one drains then. */
static inline bool upgrade_stops(const struct upgrade *upgrade) {
  return upgrade_left(upgrade) && (upgrade->stops || upgrade->channel.fd == -1);
}

/**
 * Has the acceptor of the admin endpoint been told to leave its sockets to the new process?  Before
 * that, a stop of it would stop the sockets for the new process, too.
 */
static inline bool upgrade_admin_left(const struct upgrade *upgrade) {
  return upgrade->admin_order.acceptor == NULL || upgrade->admin_order.what == ACCEPTOR_LEAVE;
}

/** Pass the signal ${number} on to the new process, if it is the server and has not ended. */
void upgrade_pass_signal(struct upgrade *upgrade, int number);

/** This process ends at once: kill the new one, unless it is the server. */
static inline void upgrade_abort(struct upgrade *upgrade) {
  if (upgrade_running(upgrade)) {
    upgrade_kill(upgrade->child_fd);
  }
}

#endif
