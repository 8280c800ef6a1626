/*
 * wake: an eventfd that ends an epoll_wait or poll of another thread.
 *
 * Registered edge-triggered and never read: every write is an edge, and the counter would need 2^64
 * writes to fill.  That is what makes ignoring EAGAIN right: it would mean a full counter, whose
 * write raises no edge.  EINTR is repeated.
 */
#ifndef NET_WAKE_H
#define NET_WAKE_H

struct wake {
  int fd; /* owns; -1 = none */
};

/** Return: 0, or -1 with errno (descriptors, memory). */
int wake_open(struct wake *wake);
void wake_close(struct wake *wake);

/** End the present or next wait of whoever waits on ${wake}. Thread: any. */
void wake_signal(struct wake *wake);

#endif
