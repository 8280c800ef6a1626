/*
 * loop: the bare epoll loop, run once by bare.c and once per core by reuseport.c.
 */
#ifndef PEERS_LOOP_H
#define PEERS_LOOP_H

#include "benchmarks/peers/peer.h"

/**
 * loop_run(listener, exchange, edge):
 * Serve the connections of ${listener} forever; with ${edge}, edge-triggered.
 * Own: the loop owns ${listener}.
 * Thread: any.
 */
void loop_run(int listener, enum peer_exchange exchange, bool edge) __attribute__((noreturn));

#endif
