/*
 * loop: the bare epoll loop, run by bare.c once and by reuseport.c once a core.
 */
#ifndef PEERS_LOOP_H
#define PEERS_LOOP_H

#include "benchmarks/peers/peer.h"

/**
 * loop_run(listener, exchange, edge):
 * Serve what ${listener} accepts, for ever; with ${edge}, edge-triggered.
 * Own: the loop, for good.
 * Thread: any one.
 */
void loop_run(int listener, enum peer_exchange exchange, bool edge) __attribute__((noreturn));

#endif
