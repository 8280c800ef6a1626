/*
 * in_flight: waits for what the kernel was given and has not delivered yet.
 *
 * The clock of a session is simulated and the clock of the kernel is real.  Before the simulated
 * clock jumps, everything in flight has to arrive.
 */
#ifndef TESTS_FAIL_NTH_IN_FLIGHT_H
#define TESTS_FAIL_NTH_IN_FLIGHT_H

/**
 * in_flight_open():
 * Prepare this process, which is pinned to one processor from now on.
 */
void in_flight_open(void);

/**
 * in_flight_settle():
 * Wait, in real time, until everything that the server and the clients sent has arrived.  What does
 * not arrive within a minute is a fault of the run.
 */
void in_flight_settle(void);

#endif
