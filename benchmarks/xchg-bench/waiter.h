/*
 * waiter: waiting in epoll for nanoseconds, where the kernel can.
 */
#ifndef BENCH_WAITER_H
#define BENCH_WAITER_H

#include "core/base.h"

#include <stdbool.h>

struct epoll_event;

struct waiter {
  int epoll_fd; /* owns; -1 = none */
  bool coarse;  /* epoll_pwait2 was refused: whole milliseconds, rounded up */
};

/** Return: 0, or -1 with errno (descriptors, memory). */
int waiter_open(struct waiter *waiter);
void waiter_close(struct waiter *waiter);

/** Add ${fd}, edge-triggered for input; its events carry ${pointer}. Return: as epoll_ctl. */
int waiter_add(struct waiter *waiter, int fd, void *pointer);

/** Wait ${ns} at most. Return: how many of ${max} ${events} came, 0 on a signal. */
int waiter_wait(struct waiter *waiter, struct epoll_event *events, int max, uint64_t ns);

#endif
