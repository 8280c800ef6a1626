/*
 * lecture: blocking service of one accepted connection, shared by the textbook servers iterative,
 * fork and thread.
 */
#ifndef PEERS_LECTURE_H
#define PEERS_LECTURE_H

#include "benchmarks/peers/peer.h"

/** Serve ${fd} until the exchange is complete, and close it. */
void lecture_serve(int fd, enum peer_exchange exchange);

/** Wait for the next connection; aborted connections are skipped. */
int lecture_accept(int listener);

#endif
