/*
 * workload: the bytes that a peer will send, and how they are split.
 */
#ifndef TESTS_SIM_WORKLOAD_H
#define TESTS_SIM_WORKLOAD_H

#include <stddef.h>
#include <stdint.h>

struct peer;

/** Bytes of the run's arena, aligned for anything; NULL where it is used up. */
void *arena_take(size_t size);
void arena_reset(void);

/** Choose ${peer}'s out and pieces. */
void workload_make(struct peer *peer);

#endif
