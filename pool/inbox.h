/*
 * inbox: how things enter a worker (or the acceptor): two lanes before one sleep flag.
 *
 * Lane one is the ring: accepted connections, from the acceptor alone.  Lane two takes letters (a
 * stop, and pool/task's) from any thread: an intrusive list that senders push with compare-and-swap
 * and the owner takes whole.  Behind both stands one flag, `sleeping`, and one eventfd:
 *
 *   owner:                                                 whoever puts in:
 *     exchange(&sleeping, 1); look at both lanes again;      publish (release);
 *     something there: exchange(&sleeping, 0) and go on;     if (exchange(&sleeping, 0) == 1)
 *     else wait in the kernel, exchange(&sleeping, 0), take    write(eventfd)
 *
 * Every write of `sleeping` is an exchange with acquire and release, the clears included, so that
 * all of them form one chain of synchronisation: whoever comes later in its order sees what was
 * published before.  If the owner's exchange comes first, the sender reads 1 and wakes it; if the
 * sender's does, the owner's second look sees the item.  A plain load or store in place of any
 * exchange, or a look that is left out, loses a wake-up. A burst costs one wake because the flag
 * stays 0, never because a look is skipped.
 */
#ifndef POOL_INBOX_H
#define POOL_INBOX_H

#include "net/wake.h"
#include "pool/ring.h"

enum task_kind {
  TASK_DRAIN,         /* finish what has begun; guests may still come */
  TASK_STOP_NOW,      /* close everything now */
  TASK_NO_MORE_CONNS, /* no guest comes after this */
  TASK_CALL,          /* pool/task */
  TASK_PUBLISH,       /* pool/task */
};

/* A message to the owner; belongs to the inbox from the push until the owner took it. */
struct task {
  struct task *next;
  enum task_kind kind;
  uint64_t time_ns; /* TASK_DRAIN: when the stop began */
};

struct inbox {
  struct ring ring;             /* lane one */
  struct wake wake;             /* any thread signals; the owner waits on it */
  CACHE_ALIGNED atom_ptr tasks; /* lane two: the newest letter; any thread */
  atom_u64 task_bytes;          /* ... and what they say; any thread */
  atom_u32 owner_ended;   /* 1: the owner has come to its end and deals with none; the owner */
  atom_u32 tasks_waiting; /* pool/task's letters that were not dealt with; any thread */
  CACHE_ALIGNED atom_u32 sleeping; /* 1: the owner waits, or is about to */
};

/** inbox_open(inbox, capacity): ${capacity} guests, a power of two. Return: 0, or -1 with errno. */
int inbox_open(struct inbox *inbox, uint32_t capacity);
void inbox_close(struct inbox *inbox);

/**
 * inbox_push_spsc(inbox, guest):
 * Hand ${guest} (descriptor, address, accept time, listener) to the worker behind ${inbox}; wake it
 * if it sleeps.
 * Return: 0, 1 if that took a wake, or -1 if the inbox is full.
 * Own: the descriptor passes to the worker on 0 and 1; stays with the caller on -1.
 * Thread: the acceptor only.
 */
int inbox_push_spsc(struct inbox *inbox, const struct accepted_conn *accepted);

/**
 * Send ${letter}, which the caller does not touch until the owner has dealt with it; wake the owner
 * if it sleeps.
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

/** Take the oldest guest. Thread: the owner, like all that follow. */
bool inbox_pop(struct inbox *inbox, struct accepted_conn *accepted);

/** Take all letters, oldest first; NULL where there are none. */
struct task *inbox_take_all(struct inbox *inbox);

/** Are both lanes empty, as far as the owner sees without announcing a sleep? */
bool inbox_empty(struct inbox *inbox);

/**
 * inbox_prepare_wait: announce the sleep and look again.
 * Return: true if both lanes are empty (wait now, then call inbox_finish_wait), or false if there
 * is something (the announcement is withdrawn).
 */
bool inbox_prepare_wait(struct inbox *inbox);

/** Withdraw the announcement after a wait. */
void inbox_finish_wait(struct inbox *inbox);

#endif
