/*
 * wake: an eventfd that ends an epoll_wait or poll of another thread.
 *
 * Registered edge-triggered and never read: every write is an edge, and the counter would need 2^64
 * of them to fill. (A write that fails with EAGAIN would mean a full counter, that is, a wake-up
 * under way: it is ignored like EINTR is repeated.)
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
