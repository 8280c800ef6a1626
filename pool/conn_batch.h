/*
 * conn_batch: connections on their way from a worker to the upgrade, and back or into another
 * worker.
 *
 * Main fills in what it wants and sends the batch.  The owner of the inbox does it at a quiet
 * point: between the end of its turn and its next wait.  It answers through a flag and a wake, and
 * does not touch the batch afterwards.  So one thread at a time owns a batch, and nothing is
 * locked.
 *
 *   giver   conn_batch_send(PACK)     a worker packs up to ${want} of its connections
 *   taker   conn_batch_send(UNPACK)   a worker makes connections of the records; they do nothing
 *   both    conn_batch_send(SETTLE)   each one is served by this worker, or gone to another
 *
 * Where all connections move together, pool/parked settles them when all of them were sent:
 *
 *   giver   conn_batch_send(SUSPEND)  the worker gives no turns
 *
 * Between its step and SETTLE a connection is parked (net/conn_pack.h).  The records lie one after
 * the other in the arena.  Its pages have memory when they are used.
 *
 * worker.live counts a packed connection until it is gone, and an unpacked one from the moment
 * before it is sent.  So no newcomer gets its place meanwhile.
 */
#ifndef POOL_CONN_BATCH_H
#define POOL_CONN_BATCH_H

#include "net/conn_pack.h"
#include "pool/inbox.h"

#define CONN_BATCH_MAX 64
#define CONN_BATCH_FULL ((size_t)1024 * 1024) /* bytes after which a worker packs no more */

struct conn_batch_item {
  struct conn_record record; /* of the taker; its fd: owns, until a connection has it.  Of the giver
                                only owned: borrows from conn; gone: owns */
  size_t size;               /* of the record in the arena */
  struct xchg_conn *conn;    /* borrows: parked, until SETTLE; NULL = there is none */
  bool wanted;               /* UNPACK: do it for this one */
  bool gone;                 /* SETTLE: another worker serves it */
};

struct conn_batch {
  struct task task;
  void (*run)(struct conn_batch *batch, struct conn_ctx *ctx);
  struct wake *wake; /* borrows: wakes the sender */
  atom_u32 answered; /* 1: the owner of the inbox is done with it */

  /* SUSPEND */
  uint64_t steps;   /* turns and tasks of the worker so far */
  uint32_t waiting; /* connections that wait for offloaded work */

  /* PACK */
  uint32_t want;                    /* the most to pack */
  uint32_t cursor;                  /* slots below were looked at */
  bool over;                        /* no slot is left */
  uint32_t stays[CONN_STAYS_COUNT]; /* connections that this call has passed over, by reason */

  uint32_t count;
  struct conn_batch_item items[CONN_BATCH_MAX];
  uint8_t *arena; /* owns: CONN_RECORD_MAX bytes */
  size_t room;    /* bytes of the arena that may be used */
  size_t used;
};

enum conn_batch_what {
  CONN_BATCH_PACK,
  CONN_BATCH_UNPACK,
  CONN_BATCH_SETTLE,
  CONN_BATCH_SUSPEND,
};

/** Make a batch whose answers signal ${wake}. Return: NULL without memory. */
struct conn_batch *conn_batch_create(struct wake *wake);

/** Free ${batch}, which is answered; NULL does nothing. */
void conn_batch_destroy(struct conn_batch *batch);

/** Send ${batch} to the worker that owns ${inbox}. */
void conn_batch_send(struct conn_batch *batch, struct inbox *inbox, enum conn_batch_what what);

/** Is ${batch} with its sender? */
static inline bool conn_batch_answered(const struct conn_batch *batch) {
  return atom_load_acquire_u32(&batch->answered) != 0; /* pairs with conn_batch_run */
}

/** Do what the sender of ${task}, of kind TASK_BATCH, asks for. Thread: the owner of the inbox. */
void conn_batch_run(struct task *task, struct conn_ctx *ctx);

/** Forget the items of ${batch}. */
static inline void conn_batch_clear(struct conn_batch *batch) {
  batch->count = 0;
  batch->used = 0;
}

#endif
