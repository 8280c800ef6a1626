/*
 * parked: settles all parked connections of a worker at once: those that moved together.
 *
 * Main sends it to each worker, without waiting for any other answer.  So a worker that is stuck
 * keeps its own connections waiting, and no others.  The worker gives turns again.  Its parked
 * connections are served again, or they are gone.  Main waits for parked_over.
 */
#ifndef POOL_PARKED_H
#define POOL_PARKED_H

#include "net/conn_pack.h"
#include "pool/inbox.h"
#include "pool/admission.h"

struct parked {
  struct task task;
  struct wake *wake; /* borrows: wakes the sender */
  bool gone;         /* another process serves them; else this one does */
  atom_u32 over;     /* 1: the worker is done with it, or has not got it */
};

/**
 * Let the owner of ${inbox} settle what is parked, then signal ${wake}.  Does nothing if the last
 * one is not over: it settles the same connections.  Thread: main.
 */
void parked_send(struct parked *parked, struct inbox *inbox, struct wake *wake, bool gone);

/** Has the worker settled all, or ended before, when it had none? Thread: main. */
bool parked_over(const struct parked *parked, const struct inbox *inbox);

/**
 * Settle them.  What is gone is returned to ${admission} and subtracted from ${live}.
 * Thread: the owner of the inbox.
 */
void parked_run(struct parked *parked, struct conn_ctx *ctx, struct admission *admission,
                atom_u32 *live);

/** A connection that is gone owned ${owned}: return it likewise. Thread: any. */
void parked_return(const struct conn_owned *owned, struct admission *admission, atom_u32 *live);

#endif
