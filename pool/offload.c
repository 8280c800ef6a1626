/*
 * offload: see offload.h.
 *
 *   push ---> first -> ... -> last ---> take ---> run(job, true)      a thread of the pool
 *                        \ close ---------------> run(job, false)     the closing thread
 *
 *   stop: take returns no job any more, so that close waits for the running jobs only
 *
 * The mutex is held for a few loads and stores, with one exception: the push of the first job
 * starts all threads under it.  That happens once and costs about 10 us a thread.  So if no thread
 * can be started, that push fails, instead of queueing a job that never runs.  Jobs run without the
 * mutex: they may push other jobs and free themselves.
 *
 * Invariants, whenever the mutex is free:
 *   queued == the length of the list <= OFFLOAD_QUEUE_MAX;  first == last == NULL iff queued == 0
 *   queued > 0 implies threads_count > 0;  once stopped, nothing is added and no thread is started
 */
#include "pool/offload.h"

#include "pool/thread.h"
#include "pool/signals.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void lock(struct offload *offload) {
  int result = pthread_mutex_lock(&offload->mutex);
  assert(result == 0);
}

static void unlock(struct offload *offload) {
  int result = pthread_mutex_unlock(&offload->mutex);
  assert(result == 0);
}

int offload_init(struct offload *offload, uint32_t threads_max, struct wake *idle) {
  *offload = (struct offload){.threads_max = threads_max, .idle = idle};
  if (threads_max > 0) {
    offload->threads = calloc(threads_max, sizeof(*offload->threads));
    if (offload->threads == NULL) {
      return -1;
    }
  }
  int result = pthread_mutex_init(&offload->mutex, NULL);
  assert(result == 0); /* like the next call, it cannot fail with default attributes */
  result = pthread_cond_init(&offload->arrived, NULL);
  assert(result == 0);
  return 0;
}

/* ---- the threads ---- */

/* By its index in the table.  The mutex is held while threads start, so the table is complete. */
static void name_thread(struct offload *offload) {
  uint32_t index = 0;
  lock(offload);
  while (!pthread_equal(offload->threads[index], pthread_self())) {
    index++;
    assert(index < offload->threads_count);
  }
  unlock(offload);
  char name[32];
  snprintf(name, sizeof(name), "xchg-off-%u", index);
  thread_set_name(name);
}

/* Take ${job} out of the list; the mutex is held. */
static void unlink_job(struct offload *offload, struct job *job) {
  struct job *next = job->next, *previous = job->previous;
  *(previous == NULL ? &offload->first : &previous->next) = next;
  *(next == NULL ? &offload->last : &next->previous) = previous;
  job->queued = false;
  offload->queued--;
}

/* The next job; waits for one. Return: NULL at the end. */
static struct job *take(struct offload *offload) {
  struct job *job = NULL;
  lock(offload);
  while (offload->first == NULL && !offload->stopped) {
    int result = pthread_cond_wait(&offload->arrived, &offload->mutex);
    assert(result == 0);
  }
  if (!offload->stopped) {
    job = offload->first;
    unlink_job(offload, job);
    offload->running++;
  }
  unlock(offload);
  return job;
}

/* A job has ended. */
static void note_ended(struct offload *offload) {
  lock(offload);
  bool last = --offload->running == 0 && offload->stopped;
  unlock(offload);
  if (last && offload->idle != NULL) {
    wake_signal(offload->idle);
  }
}

static void *thread_main(void *argument) {
  struct offload *offload = argument;
  name_thread(offload);
  thread_allocate_first(); /* a job may take memory */
  struct job *job;
  while ((job = take(offload)) != NULL) {
    job->run(job, true);
    note_ended(offload);
  }
  return NULL;
}

/*
 * Start as many threads as the system allows; fewer than threads_max are enough and stay as many.
 * Their signals are blocked, because signals belong to the program.  Its own mask does not change.
 */
static void start_threads(struct offload *offload) {
  sigset_t before;
  signals_block_all(&before);
  while (offload->threads_count < offload->threads_max &&
         thread_create(&offload->threads[offload->threads_count], thread_main, offload) == 0) {
    offload->threads_count++;
  }
  signals_restore(&before);
}

/* ---- jobs ---- */

/* Queue ${job}; the mutex is held. Return: 0, or an errno. */
static int enqueue(struct offload *offload, struct job *job) {
  if (offload->stopped) {
    return ESHUTDOWN;
  }
  if (offload->threads_max == 0) {
    return ENOTSUP;
  }
  if (offload->threads_count == 0) {
    start_threads(offload);
  }
  if (offload->threads_count == 0 || offload->queued == OFFLOAD_QUEUE_MAX) {
    return EAGAIN;
  }
  job->next = NULL;
  job->previous = offload->last;
  *(offload->last == NULL ? &offload->first : &offload->last->next) = job;
  offload->last = job;
  job->queued = true;
  offload->queued++;
  (void)pthread_cond_signal(&offload->arrived); /* cannot fail: it was initialized */
  return 0;
}

int offload_push(struct offload *offload, struct job *job) {
  assert(job->run != NULL);
  lock(offload);
  int error = enqueue(offload, job);
  unlock(offload);
  return error == 0 ? 0 : fail(error);
}

bool offload_cancel(struct offload *offload, struct job *job) {
  lock(offload);
  bool queued = job->queued && !offload->stopped; /* else it belongs to the thread that closes */
  if (queued) {
    unlink_job(offload, job);
  }
  unlock(offload);
  return queued;
}

/* ---- close ---- */

uint32_t offload_stop(struct offload *offload) {
  lock(offload);
  uint32_t running = offload->running;
  offload->stopped = true;
  (void)pthread_cond_broadcast(&offload->arrived); /* cannot fail: it was initialized */
  unlock(offload);
  return running;
}

void offload_close(struct offload *offload) {
  if (offload->closed) {
    return;
  }
  offload->closed = true;
  (void)offload_stop(offload); /* the joins wait for those that run */
  /* Without the mutex: no other thread changes the table or the list once stopped is set. */
  for (uint32_t i = 0; i < offload->threads_count; i++) {
    int result = pthread_join(offload->threads[i], NULL);
    assert(result == 0);
  }
  struct job *job = offload->first;
  offload->first = offload->last = NULL;
  offload->queued = 0;
  while (job != NULL) {
    struct job *next = job->next; /* read before run, which may free the job */
    job->run(job, false);
    job = next;
  }
}

void offload_fini(struct offload *offload) {
  offload_close(offload);
  (void)pthread_cond_destroy(&offload->arrived); /* cannot fail: no thread uses it any more */
  (void)pthread_mutex_destroy(&offload->mutex);  /* likewise, no thread holds it */
  free(offload->threads);
  offload->threads = NULL;
}
