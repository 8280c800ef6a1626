/* workload: the bytes that a peer will send, and the messages in them. */
#ifndef TESTS_SIM_WORKLOAD_H
#define TESTS_SIM_WORKLOAD_H

#include <stddef.h>
#include <stdint.h>

struct peer;

/** Aligned bytes of the run's arena; NULL where it is used up. */
void *arena_take(size_t size);
void arena_reset(void);

/** Choose out and pieces of ${peer}. */
void workload_make(struct peer *peer);

#endif
