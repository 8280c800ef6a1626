/*
 * task: what other threads ask a worker to run.
 *
 *   posted call   for a connection, named by its id; runs once, with NULL if it has ended
 *   publication   one copy of the bytes, and a task for each worker; the sender, each task and each
 *                 member whose send queue refers to it hold a reference; the last one frees it
 *   visit         calls a function for all connections of the worker, VISIT_BATCH in a turn; it
 *                 precedes other tasks, which run between two slices of it
 *
 * A worker runs its tasks in slices, so that a large group does not delay its connections.
 */
#ifndef POOL_TASK_H
#define POOL_TASK_H

#include "net/conn_api.h"
#include "pool/inbox.h"

/* Calls and publications that may wait at a worker. */
#define TASK_QUEUE_MAX 65536
#define TASK_BYTES_MAX (UINT64_C(64) * 1024 * 1024) /* of publications, which one more may exceed */

struct posted_call {
  struct task task;
  uint64_t id; /* 0 = no connection */
  void (*call)(struct xchg_conn *conn, void *argument);
  void *argument;
  /* The result of offloaded work: called before, if the connection lives. NULL = a posted call. */
  void (*returned)(struct xchg_conn *conn, struct posted_call *posted);
};

/** Return: a call, or NULL (ENOMEM). task_run and task_discard free it. */
struct posted_call *posted_call_create(uint64_t id,
                                       void (*call)(struct xchg_conn *conn, void *argument),
                                       void *argument);

struct publication;

/** Copy ${size} bytes for ${group} and ${tasks} workers. Return: NULL (ENOMEM). */
struct publication *publication_create(uint64_t group, const void *data, size_t size,
                                       uint32_t tasks);

/** The ${i}th task, to be sent once; it owns a reference. */
struct task *publication_task(struct publication *publication, uint32_t i);

/** Release a reference: the sender's, or that of a task which is not sent. */
void publication_release(struct publication *publication);

/* Connections that a visit walks in a turn. */
#define VISIT_BATCH 256

/* The sender's memory, until ended is called. */
struct visit {
  struct task task;
  uint32_t cursor; /* slots below it were visited */
  /* Called for each live connection, which it must not change. Thread: the worker's. */
  void (*each)(struct visit *visit, const struct xchg_conn *conn);
  /*
   * Called last: after all connections, or (not ${complete}) when the worker has ended before.  It
   * may free the visit.  Thread: the worker's, or the one that closes it.
   */
  void (*ended)(struct visit *visit, bool complete);
};

/**
 * Send ${visit}, whose each and ended are set. Thread: any.
 * Return: true; or false if another visit of this worker has not ended, then nothing was sent.
 */
bool visit_send(struct inbox *inbox, struct visit *visit);

/** Do as many tasks wait in ${inbox} as may? Thread: any. */
bool task_queue_full(struct inbox *inbox);

/** Send the ${task} of a call or a publication. Thread: any. */
void task_send(struct inbox *inbox, struct task *task);

/**
 * Has the owner of ${inbox} ended, so that it runs no tasks?  If it ends later, tasks that were
 * sent are discarded with the inbox.  Thread: any.
 */
bool task_owner_ended(struct inbox *inbox);

/**
 * task_run(ctx, inbox, task, budget):
 * Run ${task}, which came by ${inbox}: make the call, append the publication to the send queues of
 * members, or show connections to the visitor.  Each call, publication, member and connection costs
 * one of ${*budget}, which is more than 0.
 * Return: true when it is done and freed; false when something is left and the budget is 0.
 * Thread: ${ctx}'s.
 */
bool task_run(struct conn_ctx *ctx, struct inbox *inbox, struct task *task, uint32_t *budget);

/** Bytes that ${task} brings to each member. */
uint64_t task_bytes(struct task *task);

/** Free ${task}, which no worker will run; a call is made with NULL, a visit ends. */
void task_discard(struct task *task);

#endif
