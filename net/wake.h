/*
 * wake: an eventfd that ends an epoll_wait or poll of another thread.
 *
 * It is registered edge-triggered and never read.  Every write is an edge.  EAGAIN would mean a
 * full counter, which takes 2^64 writes, so it is ignored.  EINTR is repeated.
 */
#ifndef NET_WAKE_H
#define NET_WAKE_H

struct wake {
  int fd; /* owns; -1 = none */
};

/** Return: 0, or -1 with errno (descriptors, memory). */
int wake_open(struct wake *wake);
void wake_close(struct wake *wake);

/** End the present or next wait of the thread that waits on ${wake}. Thread: any. */
void wake_signal(struct wake *wake);

#endif
