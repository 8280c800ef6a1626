/*
 * unfinished: what the end of a run cuts off.
 *
 * An exchange is unfinished if it was in flight at the end of the window, or if it was due within
 * the window and had not begun (`dropped`).  In a closed loop an exchange is due while its
 * connection is being opened.  Its age at the end is the least that its latency would have been.
 *
 *   open loop     counts what was due within the window; the age begins at the intended start
 *   closed loop   counts all in flight; the age begins at the actual start, even in the warm-up
 *   --count       at most as many as were missing; after the last one nothing is unfinished
 *   Ctrl-C        the window ends when the threads take notice
 *
 * An exchange that has passed its time limit is an error and not unfinished.
 */
#ifndef BENCH_UNFINISHED_H
#define BENCH_UNFINISHED_H

#include "clients.h"

/**
 * unfinished_add(clients, ended_ns, result):
 * Add what was unfinished in ${clients} at ${ended_ns} to ${result}.  The cost does not depend on
 * how much was due: of many exchanges of one client the ages are sampled, except for the oldest.
 * Thread: the load thread, or the coordinator after the load thread has ended.
 */
void unfinished_add(const struct clients *clients, uint64_t ended_ns, struct result *result);

#endif
