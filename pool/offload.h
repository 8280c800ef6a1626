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
#include "net/wake.h"

#include <pthread.h>
#include <stdbool.h>

#define OFFLOAD_QUEUE_MAX 1024

struct job {
  struct job *next, *previous; /* offload's */
  bool queued;                 /* offload's */
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
  uint32_t running;       /* jobs that have begun and not ended */
  bool stopped;           /* no job begins any more */
  pthread_t *threads;     /* owns */
  struct wake *idle; /* borrows; signalled when the last job ends after offload_stop, or NULL */
  bool closed;       /* not guarded: the closing thread's */
};

/**
 * offload_init(offload, threads_max, idle):
 * Prepare for ${threads_max} threads, none of which is started.
 * Return: 0, or -1 (ENOMEM).
 */
int offload_init(struct offload *offload, uint32_t threads_max, struct wake *idle);

/**
 * Queue ${job}; start the threads, named xchg-off-0, ..., if they do not run.
 * Own: ${job} is the pool's until its run is called; on -1 it stays the caller's.
 * Errors: EAGAIN, the queue is full or no thread could be started; ENOTSUP, ${threads_max} is 0;
 * ESHUTDOWN, the pool was closed.
 * Thread: any.
 */
int offload_push(struct offload *offload, struct job *job);

/**
 * offload_cancel(offload, job):
 * Take ${job}, which was pushed and whose run has not returned, out of the queue.
 * Return: true, and run is not called; or false if it has begun or the pool was closed.
 * Own: on true ${job} is its owner's again.
 * Thread: any.
 */
bool offload_cancel(struct offload *offload, struct job *job);

/** Let no job begin any more. Later pushes fail. Return: the number of jobs that still run. */
uint32_t offload_stop(struct offload *offload);

/**
 * Wait for the jobs that run, join the threads, then call run with ${begun} false for each job that
 * has not begun.  Includes offload_stop.  A second call does nothing.
 */
void offload_close(struct offload *offload);
void offload_fini(struct offload *offload);

#endif
