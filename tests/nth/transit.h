/*
 * transit: what the kernel has been given and has not handed on.
 *
 * A session's clock is simulated and the kernel's is not: before the one may jump, whatever lies on
 * the kernel's own way has to arrive.
 */
#ifndef TESTS_NTH_TRANSIT_H
#define TESTS_NTH_TRANSIT_H

/**
 * transit_open(): for this process, which stays on one processor from now on.
 */
void transit_open(void);

/**
 * transit_settle(): wait, in real time, until nothing between the server's sockets and the clients'
 * is under way any more.  What does not arrive within a minute is a fault of the run.
 */
void transit_settle(void);

#endif
