/*
 * threads: pthread and semaphores for runs of fail_nth, and what the process asks about itself.
 *
 * A thread is a fiber.  No thread is interrupted between two calls, so that libc's own mutexes
 * serve: only a thread that waits for a condition contends for one.  The functions that wait are
 * replaced here.
 */
#include "core/base.h"
#include "tests/fail_nth/scheduler.h"
#include "tests/fail_nth/ledger.h"
#include "tests/fail_nth/real.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- threads ---- */

int wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                        void *(*main)(void *argument), void *argument) WRAP(pthread_create);
int wrap_pthread_join(pthread_t thread, void **result) WRAP(pthread_join);
int wrap_pthread_detach(pthread_t thread) WRAP(pthread_detach);
pthread_t wrap_pthread_self(void) WRAP(pthread_self);
int wrap_pthread_setname_np(pthread_t thread, const char *name) WRAP(pthread_setname_np);
int wrap_pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *set)
    WRAP(pthread_setaffinity_np);

static struct thread *thread_of(pthread_t thread) { return (struct thread *)(void *)thread; }

int wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                        void *(*main)(void *argument), void *argument) {
  (void)attributes;
  if (ledger_fails(CALL_PTHREAD_CREATE, -1)) {
    return errno;
  }
  struct thread *started = scheduler_start(main, argument);
  if (started == NULL) {
    return EAGAIN;
  }
  *thread = (pthread_t)(uintptr_t)started;
  return 0;
}

int wrap_pthread_join(pthread_t thread, void **result) {
  (void)result;
  while (!scheduler_is_over(thread_of(thread))) {
    scheduler_pause(NEVER);
  }
  scheduler_progress();
  return 0;
}

/* The run ends with a fault if the thread does not end. */
int wrap_pthread_detach(pthread_t thread) {
  (void)thread;
  return 0;
}

pthread_t wrap_pthread_self(void) { return (pthread_t)(uintptr_t)scheduler_self(); }

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
int wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                const struct timespec *until) WRAP(pthread_cond_timedwait);
int wrap_pthread_cond_signal(pthread_cond_t *condition) WRAP(pthread_cond_signal);
int wrap_pthread_cond_broadcast(pthread_cond_t *condition) WRAP(pthread_cond_broadcast);
int wrap_sem_wait(sem_t *semaphore) WRAP(sem_wait);
int wrap_sem_post(sem_t *semaphore) WRAP(sem_post);
int real_sem_post(sem_t *semaphore) REAL(sem_post);

/* A spurious wake-up, which every waiter has to expect, is the simplest condition variable. */
int wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
  (void)condition;
  (void)pthread_mutex_unlock(mutex);
  scheduler_pause(NEVER);
  return pthread_mutex_lock(mutex);
}

int wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                const struct timespec *until) {
  uint64_t until_ns = (uint64_t)until->tv_sec * NS_PER_S + (uint64_t)until->tv_nsec;
  (void)condition;
  (void)pthread_mutex_unlock(mutex);
  scheduler_pause(until_ns);
  int result = pthread_mutex_lock(mutex);
  return result == 0 && scheduler_now_ns() >= until_ns ? ETIMEDOUT : result;
}

int wrap_pthread_cond_signal(pthread_cond_t *condition) {
  (void)condition;
  scheduler_progress();
  return 0;
}

int wrap_pthread_cond_broadcast(pthread_cond_t *condition) {
  (void)condition;
  scheduler_progress();
  return 0;
}

int wrap_sem_wait(sem_t *semaphore) {
  if (ledger_fails(CALL_SEM_WAIT, -1)) {
    return -1;
  }
  while (sem_trywait(semaphore) == -1) {
    scheduler_pause(NEVER);
  }
  scheduler_progress();
  return 0;
}

int wrap_sem_post(sem_t *semaphore) {
  scheduler_progress();
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
  /* This process stays on one processor (in_flight.h); its parent knows all of them. */
  pid = pid == 0 ? getppid() : pid;
  return ledger_fails(CALL_GETAFFINITY, -1) ? -1 : real_sched_getaffinity(pid, size, set);
}

int wrap_sched_setscheduler(pid_t pid, int policy, const struct sched_param *parameters) {
  (void)pid;
  (void)policy;
  (void)parameters;
  return ledger_fails(CALL_SETSCHEDULER, -1) ? -1 : 0;
}
