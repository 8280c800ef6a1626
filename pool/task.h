/*
 * task: what letters from other threads say to a worker: call this, publish that.
 *
 *   call    names a connection by its id; made once, with NULL where that is gone
 *   issue   one copy of a publication, with a letter for each worker; who sends it has a share, so
 *           has every letter and every member that the kernel has not taken it for; freed with the
 *           last one
 *
 * A worker deals with its mail in slices, so that a large group does not hold up its connections.
 */
#ifndef POOL_TASK_H
#define POOL_TASK_H

#include "net/conn_api.h"
#include "pool/inbox.h"

/* Calls and issues that may wait at a worker. */
#define TASK_QUEUE_MAX 65536
#define TASK_BYTES_MAX (UINT64_C(64) * 1024 * 1024) /* of issues, one more than that */

struct posted_call {
  struct task task;
  uint64_t id; /* 0 = nobody */
  void (*call)(struct xchg_conn *conn, void *argument);
  void *argument;
  bool offloaded; /* the connection waits for it */
};

/** A call, from malloc; NULL (ENOMEM). Freed when it was made. */
struct posted_call *posted_call_create(uint64_t id,
                                       void (*call)(struct xchg_conn *conn, void *argument),
                                       void *argument);

struct publication;

/** Copy ${size} bytes for ${group} and ${letters} workers; NULL (ENOMEM). */
struct publication *publication_create(uint64_t group, const void *data, size_t size,
                                       uint32_t tasks);

/** The ${i}th letter, to be sent once; it takes its share with it. */
struct task *publication_task(struct publication *publication, uint32_t i);

/** Give up a share: the sender's, or that of a letter which is not sent. */
void publication_release(struct publication *publication);

/** Has ${inbox} as much mail as may wait? Thread: any. */
bool task_queue_full(struct inbox *inbox);

/** Send ${letter} of a call or an issue. Thread: any. */
void task_send(struct inbox *inbox, struct task *task);

/**
 * Does ${inbox}'s owner deal with no mail any more?  Where it ends meanwhile, what was sent is
 * discarded with the inbox.  Thread: any.
 */
bool task_owner_ended(struct inbox *inbox);

/**
 * task_run(host, inbox, letter, budget):
 * Deal with ${letter}, which came by ${inbox}: make the call, or lend the issue to members; each
 * call, member and issue costs one of ${*budget}, which is more than 0.
 * Return: true when it is done and gone; false when members are left and the budget is not.
 * Thread: ${host}'s.
 */
bool task_run(struct conn_ctx *ctx, struct inbox *inbox, struct task *task, uint32_t *budget);

/** Bytes that ${letter} brings to each member. */
uint64_t task_bytes(struct task *task);

/** Deal with ${letter} where no worker will: the call is made with NULL. */
void task_discard(struct task *task);

#endif
