/* thread: start, name, CPU affinity and scheduling class of the calling thread, CPU time of any. */
#ifndef POOL_THREAD_H
#define POOL_THREAD_H

#include "core/atom.h"

#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>

/**
 * The thread's affinity, as a set of ${*size} bytes; sizes are tried until the kernel's set fits.
 * Return: the set, which CPU_FREE frees, or NULL with errno.
 */
cpu_set_t *thread_affinity(size_t *size);

/**
 * Pin the thread to one CPU of its affinity: the one at ${index} modulo their number. Return: 0, or
 * -1 with errno.
 */
int thread_set_affinity(uint32_t index);

/**
 * Let the thread not preempt another one when it is woken (SCHED_BATCH): for a thread whose work is
 * cheaper in batches. Return: 0, or -1 with errno.
 */
int thread_set_batch(void);

/* The CPU time of a thread, which other threads read. */
struct thread_cpu {
  atom_u32 tid;     /* 0 = it does not run; the thread writes */
  atom_u64 seen_ns; /* its time when it was last read, or at its end; who reads it writes */
};

/** The thread begins or ends. Thread: the one that is measured. */
void thread_cpu_begin(struct thread_cpu *cpu);
void thread_cpu_end(struct thread_cpu *cpu);

/** Its user and system time so far, which never goes back. Thread: any. */
uint64_t thread_cpu_read(struct thread_cpu *cpu);

/** Set the name that ps and top show; ${name} is truncated to 15 bytes. */
void thread_set_name(const char *name);

/**
 * thread_create(thread, main, argument):
 * Start ${main}(${argument}) on a thread with room for its stack and for thread_allocate_first.
 * Return: 0, or an errno: EAGAIN, ENOMEM.
 */
int thread_create(pthread_t *thread, void *(*main)(void *argument), void *argument);

/**
 * Let jemalloc set the calling thread up.  It does so at a thread's first allocation, and the
 * process dies if there is no memory for that.  So that allocation is made at the start.
 */
void thread_allocate_first(void);

#endif
