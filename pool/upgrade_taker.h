/*
 * upgrade_taker: makes connections of the batches that the other process sends.
 *
 *   IDLE --on_batch--> ADOPT --> UNPACK --> ANSWER --> SETTLE --> IDLE
 *
 *   ADOPT    the acceptor counts the clients, whatever XCHG_MAX_PER_IP is; without that limit the
 *            next step does not wait for it
 *   UNPACK   one worker makes connections, which do nothing yet
 *   ANSWER   TAKEN says which there are: they belong to this process now
 *   SETTLE   the worker serves them
 *
 * Where connections move together, SETTLE leaves them parked, and taker_commit leads to ALL, in
 * which the workers serve all of them.
 *
 * The records are copied out of the file of the batch before TAKEN, which lets the other process
 * write the next ones.  Nothing is received from the channel meanwhile.
 *
 * Thread: main.
 */
#ifndef POOL_UPGRADE_TAKER_H
#define POOL_UPGRADE_TAKER_H

#include "pool/conn_batch.h"
#include "pool/upgrade_channel.h"
#include "pool/acceptor_order.h"
#include "pool/server.h"

enum taker_state {
  TAKER_IDLE,
  TAKER_ADOPT,
  TAKER_UNPACK,
  TAKER_ANSWER,
  TAKER_SETTLE,
  TAKER_ALL,
};

struct upgrade_taker {
  struct xchg_server *server;      /* borrows */
  struct upgrade_channel *channel; /* borrows */
  const uint32_t *listener_of;     /* borrows: the index here of each listener there */
  struct log *log;                 /* borrows */
  struct conn_batch *batch;        /* owns */
  bool together;                   /* nothing is served before taker_commit */
  struct acceptor_order adopt;
  enum taker_state state;
  uint32_t number;
  struct worker *worker;   /* borrows: it takes the present batch */
  uint64_t taken, refused; /* connections */
};

/** Return: 0, or -1 (ENOMEM). */
int taker_open(struct upgrade_taker *taker, struct xchg_server *server,
               struct upgrade_channel *channel, struct log *log);
void taker_close(struct upgrade_taker *taker);

/** What moved together and was not committed is closed: the other process has it. */
void taker_drop(struct upgrade_taker *taker);

/** A batch has come, and the taker is idle. Own: the descriptors of ${packet}. */
void taker_on_batch(struct upgrade_taker *taker, struct upgrade_packet *packet);

/** The taker is idle, and all that it has taken is to be served. */
void taker_commit(struct upgrade_taker *taker);

/** Go on. Return: may a packet be received? */
bool taker_tend(struct upgrade_taker *taker);

#endif
