/*
 * lecture: what the three servers of a first lecture on sockets do with an accepted connection:
 * talk to it with blocking calls until the exchange is over.
 */
#ifndef PEERS_LECTURE_H
#define PEERS_LECTURE_H

#include "benchmarks/peers/peer.h"

/** Serve ${fd} to its end and close it. */
void lecture_serve(int fd, enum peer_exchange exchange);

/** The next connection; waits for it, and goes on where one was lost. */
int lecture_accept(int listener);

#endif
