/*
 * parked: settles all parked connections of a server: those that moved together.
 *
 * Worker by worker: give turns again, then list and settle 64 connections at a time.  Afterwards no
 * connection is parked.  Thread: main.
 */
#ifndef POOL_PARKED_H
#define POOL_PARKED_H

#include "pool/conn_batch.h"
#include "pool/server.h"

enum parked_state { PARKED_OVER, PARKED_CONTINUE, PARKED_FIND, PARKED_SETTLE };

struct parked {
  struct xchg_server *server; /* borrows */
  struct conn_batch *batch;   /* borrows: answered */
  bool gone;                  /* another process serves them; else this one does */
  enum parked_state state;
  uint32_t worker;
};

/** Begin to settle what is parked in ${server} with ${batch}, whose items are forgotten. */
void parked_begin(struct parked *parked, struct xchg_server *server, struct conn_batch *batch,
                  bool gone);

/** Go on; call it when the server's wake was signalled. Return: is it over? */
bool parked_tend(struct parked *parked);

/** The worker of ${server} is done with ${batch}: return what those that are gone owned here. */
void parked_return(struct xchg_server *server, uint32_t worker, struct conn_batch *batch);

#endif
