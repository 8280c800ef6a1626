/*
 * mover: packs and unpacks every connection of a worker whenever the worker has had turns.
 *
 * The quiet point is the beginning of the worker's epoll_wait, so the server has no code for it.
 * All connections that the worker has are packed, then unpacked in another order, in which they get
 * other slots.  The oracle sees the same bytes, counts and times as without.
 */
#ifndef TESTS_SIM_MOVER_H
#define TESTS_SIM_MOVER_H

#include <stdbool.h>
#include <stdint.h>

struct xchg_server;

/** Move the connections of ${server}, which was opened; NULL = no more. */
void mover_watch(struct xchg_server *server);

/**
 * A wait on ${epoll_fd} begins; ${polls}: it is not to sleep.  Return: were connections moved?
 * Then the wait must not sleep, because they have asked for turns.
 */
bool mover_move(int epoll_fd, bool polls);

/** That wait has ended with ${ready} events. */
void mover_waited(int epoll_fd, bool polls, int ready);

/** Connections moved so far, in all runs. */
uint64_t mover_moved(void);

#endif
