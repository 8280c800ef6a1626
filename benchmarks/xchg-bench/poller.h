/*
 * poller: an epoll set that waits with nanosecond resolution if the kernel can.
 */
#ifndef BENCH_POLLER_H
#define BENCH_POLLER_H

#include "core/base.h"

#include <stdbool.h>

struct epoll_event;

struct poller {
  int epoll_fd; /* owns; -1 = none */
  bool coarse;  /* epoll_pwait2 was refused: wait whole milliseconds, rounded up */
};

/** Return: 0, or -1 with errno (descriptors, memory). */
int poller_open(struct poller *poller);
void poller_close(struct poller *poller);

/** Add ${fd}, edge-triggered for input, with ${pointer} as data. Return: as epoll_ctl. */
int poller_add(struct poller *poller, int fd, void *pointer);

/** Wait at most ${ns}. Return: the number of ${events} (at most ${max}), 0 on a signal. */
int poller_wait(struct poller *poller, struct epoll_event *events, int max, uint64_t ns);

#endif
