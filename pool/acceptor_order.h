/*
 * acceptor_order: what an upgrade asks of an acceptor, which does it on its own thread.
 *
 *   HOLD      accept nothing until RELEASE; what waits in the queue of a listener stays there
 *   RELEASE   go on
 *   LEAVE     close the listeners of ${taken}: their files and queues are another process's now.
 *             Stop the others as at a stop: their queues are served
 *   ADOPT     there is less room, by ${count} connections; if there is a batch, count its clients
 *             in the admission, and set each ip_slot
 *
 * The sender waits for the answer before it sends the order again.
 */
#ifndef POOL_ACCEPTOR_ORDER_H
#define POOL_ACCEPTOR_ORDER_H

#include "pool/conn_batch.h"
#include "pool/acceptor.h"

/** Prepare ${order}, whose answers signal ${wake}. */
void acceptor_order_init(struct acceptor_order *order, struct wake *wake);

/** Send ${order}, which is answered, and whose members for ${what} are set. Thread: any. */
void acceptor_order_send(struct acceptor_order *order, struct acceptor *acceptor,
                         enum acceptor_what what);

/**
 * acceptor_order_reach(order, what):
 * Ask order->acceptor for ${what}, unless that was asked for last, or it has not answered yet.  At
 * first it is as after RELEASE.
 * Return: is it done?  Without an acceptor it is.
 */
bool acceptor_order_reach(struct acceptor_order *order, enum acceptor_what what);

/** Is ${order} done, or was it never sent? */
static inline bool acceptor_order_answered(const struct acceptor_order *order) {
  return atom_load_acquire_u32(&order->answered) != 0; /* pairs with end in acceptor_order.c */
}

#endif
