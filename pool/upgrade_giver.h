/*
 * upgrade_giver: sends the connections of this process to the other one, a batch at a time.
 *
 *   IDLE --begin--> PACK --> SEND --> WAIT --> SETTLE --> PACK ... --> DONE
 *
 *   PACK     a worker packs up to 64 connections
 *   SEND     their records are in the file; the channel has room for a packet
 *   WAIT     until TAKEN
 *   SETTLE   the worker forgets those that were taken, and serves the others
 *
 * The next batch overwrites the file.  The other process has read it before it sends TAKEN.
 *
 * A worker is asked again until nothing of it is left that moves.  A connection is this process's
 * until TAKEN names it.  giver_withdraw takes back what is under way when the other process has
 * ended.
 *
 * Where connections move together, the way is another one:
 *
 *   QUIET --> PACK --> SEND --> WAIT --> KEPT --> PACK ... --> DONE --> ALL --> IDLE
 *
 *   QUIET    no worker gives turns; posted calls, publications and offloaded work come to an end.
 *            REST: for a millisecond, if there is some
 *   KEPT     the connections of a batch stay parked in both processes
 *   ALL      the workers forget all of them (commit), or serve them again (withdraw)
 *
 * Thread: main, like upgrade_taker.
 */
#ifndef POOL_UPGRADE_GIVER_H
#define POOL_UPGRADE_GIVER_H

#include "pool/conn_batch.h"
#include "pool/upgrade_channel.h"
#include "pool/server.h"

enum giver_state {
  GIVER_IDLE,
  GIVER_PACK,
  GIVER_SEND,
  GIVER_WAIT,
  GIVER_SETTLE,
  GIVER_QUIET,
  GIVER_REST,
  GIVER_KEPT,
  GIVER_ALL,
};

struct upgrade_giver {
  struct xchg_server *server;      /* borrows */
  struct upgrade_channel *channel; /* borrows */
  struct conn_batch *batch;        /* owns */
  int file;                        /* owns: the records of a batch; -1 = none */
  enum giver_state state;
  uint32_t worker;      /* whose turn it is */
  uint32_t wanted;      /* connections that may still go in this round */
  uint32_t cursor;      /* of that worker: slots below were looked at in this pass */
  uint32_t number;      /* of the last BATCH */
  uint64_t batch_ns;    /* when its worker was asked to pack */
  uint32_t budget;      /* connections of that worker that may still be packed in this pass */
  uint64_t patience_ns; /* how long the other process may take for a batch */
  uint64_t deadline_ns; /* of the present state */
  bool late;            /* it has passed once */
  const char *why;      /* what it means if it passes again */
  uint32_t passed;      /* connections that went in this pass over all workers */
  uint32_t idle_passes; /* passes in a row without any */
  bool stopped;         /* nothing is packed or sent any more */
  const char *rest;     /* why all that are left stay; NULL = for the reasons below */

  bool together;          /* all connections move together: set it before giver_begin */
  bool suspended;         /* likewise, and they are neither committed nor withdrawn */
  uint64_t steps, before; /* QUIET: turns and tasks of all workers, in this look and the last one */
  bool busy;              /* QUIET: one of them has work */
  uint64_t quiet_ns;      /* QUIET: the latest time */
  uint64_t freeze_ns;     /* suspended: the latest time */
  uint64_t frozen_from_ns; /* when the first had no turn any more */
  uint64_t kept;           /* connections that were sent, and are parked */
  bool gone;               /* ALL: another process serves them */

  uint64_t moved, returned;          /* connections */
  uint32_t stays[CONN_STAYS_COUNT];  /* connections that stay, by reason, in the present pass */
  uint32_t stayed[CONN_STAYS_COUNT]; /* likewise, in the last complete pass */
  struct histogram frozen_ns;        /* how long a connection was in no process */
};

/* Connections that stay for one reason. */
struct upgrade_left {
  uint64_t count;
  char reason[UPGRADE_TEXT];
};

enum giver_result {
  GIVER_BUSY,   /* call again when the server's wake, the channel or the deadline says so */
  GIVER_DONE,   /* the round is over */
  GIVER_FAILED, /* giver->why: stop, or withdraw */
};

/** Return: 0, or -1 with errno. */
int giver_open(struct upgrade_giver *giver, struct xchg_server *server,
               struct upgrade_channel *channel);
void giver_close(struct upgrade_giver *giver);

/**
 * Give up to ${most} connections; UINT32_MAX = all that move.  The other process may take
 * ${patience_ns} for each batch.  Together they are all, or GIVER_FAILED follows.
 */
void giver_begin(struct upgrade_giver *giver, uint32_t most, uint64_t patience_ns);

/** Go on. */
enum giver_result giver_tend(struct upgrade_giver *giver, uint64_t now_ns);

/** TAKEN has come. Return: is it an answer to the last batch? */
bool giver_on_taken(struct upgrade_giver *giver, uint32_t number, uint64_t taken);

/**
 * Send nothing more: what is left stays, for the reason ${why}.  A batch that was sent is still
 * answered; another one comes back.
 */
void giver_stop(struct upgrade_giver *giver, const char *why);

/** The other process may take what was sent at any time: that is gone, except together. */
void giver_abandon(struct upgrade_giver *giver);

/** The other process has ended, and its last packet was read: take back what is under way. */
void giver_withdraw(struct upgrade_giver *giver);

/** COMMIT was sent: what moved together has gone. */
void giver_commit(struct upgrade_giver *giver);

/** When giver_tend is due although nothing happens; NEVER = not. */
uint64_t giver_next_ns(const struct upgrade_giver *giver);

/** Does the giver wait for room in the channel? */
static inline bool giver_sends(const struct upgrade_giver *giver) {
  return giver->state == GIVER_SEND;
}

/** Connections that are open and not sent. */
uint64_t giver_staying(const struct upgrade_giver *giver);

/** The ${i}th reason why connections stay, with their number. Return: false after the last. */
bool giver_left(const struct upgrade_giver *giver, uint32_t i, struct upgrade_left *left);

/** Write all of them as "5 (reason), 3 (another reason)"; "" if none stays. */
void giver_describe_left(const struct upgrade_giver *giver, char text[UPGRADE_TEXT]);

#endif
