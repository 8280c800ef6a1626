/*
 * offload: a second fixed pool of threads, for work that blocks.
 *
 * One bounded queue under one mutex, which is fast enough for jobs of milliseconds.  The threads
 * start with the first job and end when the pool is closed.  Jobs that have not begun by then do
 * not begin.  A job itself reports that it has finished.
 */
#ifndef POOL_OFFLOAD_H
#define POOL_OFFLOAD_H

#include "core/base.h"

#include <pthread.h>
#include <stdbool.h>

#define OFFLOAD_QUEUE_MAX 1024

struct job {
  struct job *next; /* offload's */
  /**
   * If ${begun}: do the work, on a thread of the pool.  Otherwise: the pool was closed and the job
   * will not run; called on the closing thread.  The job is its owner's again from the call on.
   */
  void (*run)(struct job *job, bool begun);
};

struct offload {
  pthread_mutex_t mutex;  /* guards all fields below */
  pthread_cond_t arrived; /* a job, or the end */
  struct job *first, *last;
  uint32_t queued;
  uint32_t threads_max;
  uint32_t threads_count; /* started */
  bool closing;
  pthread_t *threads; /* owns */
};

/** Prepare for ${threads_max} threads, none of which is started. Return: 0, or -1 (ENOMEM). */
int offload_init(struct offload *offload, uint32_t threads_max);

/**
 * Queue ${job}; start the threads, named xchg-off-0, ..., if they do not run.
 * Own: ${job} is the pool's until its run is called; on -1 it stays the caller's.
 * Errors: EAGAIN, the queue is full or no thread could be started; ENOTSUP, ${threads_max} is 0;
 * ESHUTDOWN, the pool was closed.
 * Thread: any.
 */
int offload_push(struct offload *offload, struct job *job);

/**
 * Wait for the jobs that run, join the threads, then call run with ${begun} false for each job that
 * has not begun.  Later pushes fail.  A second call does nothing.
 */
void offload_close(struct offload *offload);
void offload_fini(struct offload *offload);

#endif
