/*
 * accept_batch: how many connections to accept for one event of a listener.
 *
 * An accept4 that finds the backlog empty costs as much as eight events.  So the batch doubles only
 * after several full ones in a row, and falls at once to what was found.  Each time that a larger
 * batch was not full, twice as many full ones are required before the next attempt.
 */
#ifndef POOL_ACCEPT_BATCH_H
#define POOL_ACCEPT_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#define ACCEPT_BATCH_MAX 64

struct accept_batch {
  uint32_t size;     /* connections to accept for the next event: 1 to ACCEPT_BATCH_MAX */
  uint32_t full;     /* full batches in a row */
  uint32_t patience; /* full batches in a row that are required before it grows */
  bool probing;      /* it has just grown */
};

/** Start with one connection an event. */
void accept_batch_init(struct accept_batch *batch);

/** Adapt to ${found}, the connections that the last batch of ${batch->size} has found. */
void accept_batch_adapt(struct accept_batch *batch, uint32_t found);

#endif
