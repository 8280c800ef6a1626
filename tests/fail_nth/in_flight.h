/*
 * in_flight: what the kernel has been given and has not handed on.
 *
 * A session's clock is simulated and the kernel's is not: before the one may jump, whatever lies on
 * the kernel's own way has to arrive.
 */
#ifndef TESTS_FAIL_NTH_IN_FLIGHT_H
#define TESTS_FAIL_NTH_IN_FLIGHT_H

/**
 * in_flight_open(): for this process, which stays on one processor from now on.
 */
void in_flight_open(void);

/**
 * in_flight_settle(): wait, in real time, until everything that the server and the clients sent has
 * arrived.  What does not arrive within a minute is a fault of the run.
 */
void in_flight_settle(void);

#endif
