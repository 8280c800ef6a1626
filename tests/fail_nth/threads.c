/*
 * threads: pthread and semaphores for runs of fibers, and what the process is asked about itself.
 *
 * A thread is a fiber.  Nobody is interrupted between two calls, so a mutex that is taken is never
 * contended but by one who waits for a condition, and libc's own serve; what waits does so here.
 */
#include "core/base.h"
#include "tests/fail_nth/fiber.h"
#include "tests/fail_nth/ledger.h"
#include "tests/fail_nth/real.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- threads ---- */

int wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                        void *(*main)(void *argument), void *argument) WRAP(pthread_create);
int wrap_pthread_join(pthread_t thread, void **result) WRAP(pthread_join);
pthread_t wrap_pthread_self(void) WRAP(pthread_self);
int wrap_pthread_setname_np(pthread_t thread, const char *name) WRAP(pthread_setname_np);
int wrap_pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *set)
    WRAP(pthread_setaffinity_np);

static struct fiber *fiber_of(pthread_t thread) { return (struct fiber *)(void *)thread; }

int wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                        void *(*main)(void *argument), void *argument) {
  (void)attributes;
  if (ledger_fails(CALL_PTHREAD_CREATE, -1)) {
    return errno;
  }
  struct fiber *fiber = fiber_start(main, argument);
  if (fiber == NULL) {
    return EAGAIN;
  }
  *thread = (pthread_t)(uintptr_t)fiber;
  return 0;
}

int wrap_pthread_join(pthread_t thread, void **result) {
  (void)result;
  while (!fiber_over(fiber_of(thread))) {
    fiber_pause(NEVER);
  }
  fiber_progress();
  return 0;
}

pthread_t wrap_pthread_self(void) { return (pthread_t)(uintptr_t)fiber_self(); }

int wrap_pthread_setname_np(pthread_t thread, const char *name) {
  (void)thread;
  return strlen(name) > 15 ? ERANGE : ledger_fails(CALL_PTHREAD_SETNAME, -1) ? errno : 0;
}

int wrap_pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *set) {
  (void)thread;
  (void)size;
  (void)set;
  return ledger_fails(CALL_SETAFFINITY, -1) ? errno : 0;
}

/* ---- waiting ---- */

int wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
    WRAP(pthread_cond_wait);
int wrap_pthread_cond_signal(pthread_cond_t *condition) WRAP(pthread_cond_signal);
int wrap_pthread_cond_broadcast(pthread_cond_t *condition) WRAP(pthread_cond_broadcast);
int wrap_sem_wait(sem_t *semaphore) WRAP(sem_wait);
int wrap_sem_post(sem_t *semaphore) WRAP(sem_post);
int real_sem_post(sem_t *semaphore) REAL(sem_post);

/* A wake-up for nothing, which a waiter has to expect, is the simplest condition of all. */
int wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
  (void)condition;
  (void)pthread_mutex_unlock(mutex);
  fiber_pause(NEVER);
  return pthread_mutex_lock(mutex);
}

int wrap_pthread_cond_signal(pthread_cond_t *condition) {
  (void)condition;
  fiber_progress();
  return 0;
}

int wrap_pthread_cond_broadcast(pthread_cond_t *condition) {
  (void)condition;
  fiber_progress();
  return 0;
}

int wrap_sem_wait(sem_t *semaphore) {
  if (ledger_fails(CALL_SEM_WAIT, -1)) {
    return -1;
  }
  while (sem_trywait(semaphore) == -1) {
    fiber_pause(NEVER);
  }
  fiber_progress();
  return 0;
}

int wrap_sem_post(sem_t *semaphore) {
  fiber_progress();
  return real_sem_post(semaphore);
}

/* ---- the process ---- */

int wrap_setrlimit(int what, const struct rlimit *limit) WRAP(setrlimit);
ssize_t wrap_getrandom(void *data, size_t size, unsigned flags) WRAP(getrandom);
int wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set) WRAP(sched_getaffinity);
int wrap_sched_setscheduler(pid_t pid, int policy, const struct sched_param *parameters)
    WRAP(sched_setscheduler);

int wrap_setrlimit(int what, const struct rlimit *limit) {
  return ledger_fails(CALL_SETRLIMIT, -1) ? -1 : real_setrlimit(what, limit);
}

ssize_t wrap_getrandom(void *data, size_t size, unsigned flags) {
  return ledger_fails(CALL_GETRANDOM, -1) ? -1 : real_getrandom(data, size, flags);
}

int wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set) {
  /* This process stays on one processor (in_flight.h); its parent knows them all. */
  pid = pid == 0 ? getppid() : pid;
  return ledger_fails(CALL_GETAFFINITY, -1) ? -1 : real_sched_getaffinity(pid, size, set);
}

int wrap_sched_setscheduler(pid_t pid, int policy, const struct sched_param *parameters) {
  (void)pid;
  (void)policy;
  (void)parameters;
  return ledger_fails(CALL_SETSCHEDULER, -1) ? -1 : 0;
}
