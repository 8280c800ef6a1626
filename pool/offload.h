/*
 * offload: a second fixed pool of threads, for work that blocks.
 *
 * One bounded queue under one mutex: whoever blocks for milliseconds does not mind.  The threads
 * start with the first job and end when the pool is closed; what has not begun by then is not
 * begun.  What a finished job tells whom is its own affair.
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
   * Run it: ${begun}, on a thread of the pool; or not ${begun}, on the closing thread, which only
   * tells that it will not be run.  The job is its owner's again from the call on.
   */
  void (*run)(struct job *job, bool begun);
};

struct offload {
  pthread_mutex_t mutex;  /* guards all that follow */
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
 * Queue ${job}; start the threads, named xchg-off-0, ..., where they are not running.
 * Own: ${job} is the pool's until its run is called; on -1 it stays the caller's.
 * Errors: EAGAIN, the queue is full or no thread could be started; ENOTSUP, ${threads_max} is 0;
 * ESHUTDOWN, the pool was closed.
 * Thread: any.
 */
int offload_push(struct offload *offload, struct job *job);

/**
 * Let jobs that run come to their end, join the threads, then call the run of each that has not
 * begun.  Later pushes fail.  Repeated: nothing happens.
 */
void offload_close(struct offload *offload);
void offload_fini(struct offload *offload);

#endif
