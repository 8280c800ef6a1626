/*
 * nats_bridge: groups that span servers. A publication reaches the members of its group on every
 * server that is connected to the same NATS.
 *
 *   NATS_URL     nats://[user:password@]address:port[,...], default nats://127.0.0.1:4222
 *   NATS_PREFIX  of the subjects, default xchg: PREFIX.g.<16 hex digits of the group>
 *
 * A publication arrives at most once. It is lost if the queue is full or a connection breaks.
 * Publications of one thread keep their order. Members on different servers may receive those of
 * two threads in different orders. A process has one bridge.
 *
 * NATS_URL takes numeric addresses only, because looking up a name can block for longer than a stop
 * may take. The bridge speaks no TLS: run a NATS leaf node next to each server.
 */
#ifndef NATS_BRIDGE_H
#define NATS_BRIDGE_H

#include <xchg.h>

/**
 * bridge_start(server):
 * Start the thread that connects to NATS. A handler's on_start calls it. It also succeeds if NATS
 * cannot be reached.
 * bridge_stop(server):
 * Send what is queued, for at most one second, and end the thread. A handler's on_stop calls it.
 * Return: 0, or -1 after a line in the log.
 */
int bridge_start(struct xchg_server *server);
void bridge_stop(struct xchg_server *server);

/**
 * bridge_publish(group, data, size):
 * xchg_publish here, and a copy to all other servers. Success says nothing about the other servers.
 * Thread: any, between the start and the stop.
 * Errors: as xchg_publish; EMSGSIZE (NATS takes no ${size} bytes). A failed call has published
 * nothing.
 */
int bridge_publish(uint64_t group, const void *data, size_t size);

#endif
