/*
 * forked: tells a process from those that it was forked from, without a system call.
 *
 * A child has a copy of its parent's memory and none of its threads but the one that forked.  So a
 * number that was stored in the parent differs from the number of the child.  A process id would
 * not do: it costs a system call, and in another PID namespace it may be the same.
 */
#ifndef POOL_FORKED_H
#define POOL_FORKED_H

#include "core/base.h"

/** Count forks of this process from now on. Return: 0, or -1 with errno (ENOMEM). */
int forked_watch(void);

/** The number of this process: none of its ancestors' is the same. Thread: any. */
uint64_t forked_number(void);

/**
 * In a child that the calling thread forks, call ${call}(${argument}) before fork returns. It
 * replaces the call that was set before; NULL = none.
 */
void forked_call(void (*call)(void *argument), void *argument);

#endif
