/*
 * inbox: what enters a worker or the acceptor from other threads.
 *
 * The ring brings accepted connections, from the acceptor alone.  The task list brings tasks from
 * any thread: an intrusive list that senders push to with compare-and-swap and the owner takes
 * whole.  Both share one sleep flag (pool/sleep_flag.h) and one eventfd.
 */
#ifndef POOL_INBOX_H
#define POOL_INBOX_H

#include "net/wake.h"
#include "pool/ring.h"
#include "pool/sleep_flag.h"

enum task_kind {
  TASK_DRAIN,         /* finish what has begun; connections may still come */
  TASK_STOP_NOW,      /* close everything now */
  TASK_NO_MORE_CONNS, /* no connection comes after this */
  TASK_CALL,          /* pool/task */
  TASK_PUBLISH,       /* pool/task */
  TASK_VISIT,         /* pool/task */
  TASK_BATCH,         /* pool/conn_batch: a worker packs or unpacks connections */
  TASK_SETTLE,        /* pool/parked: all parked connections are served, or gone */
  TASK_LEAVE,         /* an upgrade: what has stayed ends after XCHG_DRAIN_TIMEOUT from time_ns */
  TASK_ORDER,         /* pool/acceptor: hold, release, adopt */
};

/* A message to the owner; the inbox's from the push until the owner takes it. */
struct task {
  struct task *next;
  enum task_kind kind;
  uint64_t time_ns; /* TASK_DRAIN, TASK_LEAVE: when it began */
};

struct inbox {
  struct ring ring;
  struct wake wake;             /* any thread signals; the owner waits on it */
  CACHE_ALIGNED atom_ptr tasks; /* the newest task; any thread writes */
  atom_u64 task_bytes;          /* bytes of publications that wait; any thread writes */
  atom_u32 owner_ended;         /* 1: the owner has ended and runs no task; the owner writes */
  atom_u32 tasks_waiting;       /* pool/task's tasks that have not run; any thread writes */
  atom_u32 visits;              /* 1: a visit waits or runs; any thread sets, the owner clears */
  CACHE_ALIGNED struct sleep_flag sleeping; /* the owner's */
};

/**
 * inbox_open(inbox, capacity): ${capacity} connections, a power of two. Return: 0, or -1 with
 * errno.
 */
int inbox_open(struct inbox *inbox, uint32_t capacity);
void inbox_close(struct inbox *inbox);

/**
 * inbox_push_spsc(inbox, accepted):
 * Hand ${accepted} (descriptor, address, accept time, listener) to the owner of ${inbox}; wake it
 * if it sleeps.
 * Return: 0, 1 if the owner was woken, or -1 if the ring is full.
 * Own: the descriptor passes to the owner of the inbox on 0 and 1; it stays with the caller on -1.
 * Thread: the acceptor only.
 */
int inbox_push_spsc(struct inbox *inbox, const struct accepted_conn *accepted);

/**
 * Send ${task}, which the caller does not touch until the owner has taken it; wake the owner if it
 * sleeps.
 * Thread: any.
 */
void inbox_push_mpsc(struct inbox *inbox, struct task *task);

/**
 * Wake the owner if it sleeps, without sending anything: what it waits for has been published
 * elsewhere.
 * Return: 1 if it slept, else 0.
 * Thread: any.
 */
int inbox_wake(struct inbox *inbox);

/** Take the oldest connection. Thread: the owner, like all that follow. */
static inline bool inbox_pop(struct inbox *inbox, struct accepted_conn *accepted) {
  return ring_pop_spsc(&inbox->ring, accepted);
}

/** Take all tasks, oldest first, of a list that is not empty. */
struct task *inbox_take_list(struct inbox *inbox);

/** Take all tasks, oldest first; NULL if there are none. */
static inline struct task *inbox_take_all(struct inbox *inbox) {
  /* a stale NULL is harmless: inbox_prepare_wait looks again after its exchange */
  return atom_load_relaxed_ptr(&inbox->tasks) == NULL ? NULL : inbox_take_list(inbox);
}

/** Are the ring and the task list empty, as far as the owner sees without announcing a wait? */
static inline bool inbox_empty(struct inbox *inbox) {
  return ring_empty_consumer(&inbox->ring) && atom_load_relaxed_ptr(&inbox->tasks) == NULL;
}

/**
 * inbox_prepare_wait: announce the wait and look again.
 * Return: true if the inbox is empty (wait now, then call inbox_finish_wait), or false if something
 * is there (the announcement is withdrawn).
 */
static inline bool inbox_prepare_wait(struct inbox *inbox) {
  sleep_flag_prepare(&inbox->sleeping);
  if (inbox_empty(inbox)) {
    return true;
  }
  sleep_flag_cancel(&inbox->sleeping);
  return false;
}

/** Withdraw the announcement after a wait. */
static inline void inbox_finish_wait(struct inbox *inbox) { sleep_flag_finish(&inbox->sleeping); }

#endif
