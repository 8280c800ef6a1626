/*
 * upgrade_state: what is known of a live upgrade in its old process, see pool/upgrade.
 *
 * Thread: main.
 */
#ifndef POOL_UPGRADE_STATE_H
#define POOL_UPGRADE_STATE_H

#include "pool/acceptor_order.h"
#include "pool/upgrade_giver.h"
#include "pool/upgrade_point.h"
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
  struct upgrade_image image; /* what the new process executes */
  enum upgrade_step step;
  uint64_t started_ns, deadline_ns;
  uint64_t late_ns; /* a deadline that is the extension of an earlier one */
  struct upgrade_channel channel;
  bool returns;             /* the new process is the parent of this one */
  pid_t peer;               /* the new process */
  int peer_fd;              /* owns: a pidfd, by which it is waited for and killed; -1 = none */
  struct sigaction sigchld; /* of the program, while there is a child */
  bool keeps_requests;      /* the new process listens at the socket of XCHG_UPGRADE */
  bool serves;              /* the new process has said that it serves the canary */
  bool stopping;            /* a stop has begun: no upgrade may begin */
  bool stops;               /* the new process, which is the server, has begun a stop */
  uint64_t canary_ns;       /* when the canary had gone; NEVER = not yet */
  struct upgrade_giver giver;
  struct acceptor_order order, admin_order; /* of the acceptors of server and admin */
  bool totals_sent, counted;                /* counted: there was no failure */

  bool killed;              /* STEP_KILL: the signal was sent */
  enum upgrade_step failed; /* the step that is turned back, and why */
  char reason[UPGRADE_TEXT];
  int status; /* of the new process that has ended, as of waitpid */

  struct upgrade_outcome outcome; /* of the last one; code UINT64_MAX = it goes on */
};

/** Is an upgrade under way that has not been committed? */
static inline bool upgrade_running(const struct upgrade *upgrade) {
  return upgrade->step != STEP_NONE && upgrade->step != STEP_LEFT;
}

/** Do connections return to the parent of this process? */
static inline bool upgrade_returns(const struct upgrade *upgrade) {
  return upgrade_running(upgrade) && upgrade->returns;
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

/** The word for ${step}, for the log and for xchgd --upgrade. */
const char *upgrade_step_name(enum upgrade_step step);

/** The old process has reached ${point}. */
static inline void upgrade_reach(const struct upgrade *upgrade, enum upgrade_point point) {
  upgrade_point(point, upgrade->returns ? SIDE_CHILD : SIDE_OLD);
}

#endif
