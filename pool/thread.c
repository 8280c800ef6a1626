/* thread: see thread.h. */
#include "pool/thread.h"

#include "core/sys.h"
#include "core/stats.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* jemalloc's arena of a thread: two blocks of 2 MiB, each mapped with its alignment. */
#define FIRST_ALLOCATION_BYTES ((size_t)16 << 20)

cpu_set_t *thread_affinity(size_t *size) {
  for (int limit = 1024; limit <= 1 << 20; limit *= 2) {
    cpu_set_t *set = CPU_ALLOC(limit);
    if (set == NULL) {
      return NULL;
    }
    *size = CPU_ALLOC_SIZE(limit);
    if (sched_getaffinity(0, *size, set) == 0) {
      return set;
    }
    CPU_FREE(set);
    if (errno != EINVAL) {
      return NULL;
    }
  }
  return NULL;
}

int thread_set_affinity(uint32_t index) {
  size_t size;
  cpu_set_t *set = thread_affinity(&size);
  if (set == NULL) {
    return -1;
  }
  uint32_t left = index % (uint32_t)CPU_COUNT_S(size, set);
  int cpu = 0;
  while (!CPU_ISSET_S(cpu, size, set) || left-- > 0) {
    cpu++;
  }
  CPU_ZERO_S(size, set);
  CPU_SET_S(cpu, size, set);
  int result = pthread_setaffinity_np(pthread_self(), size, set);
  CPU_FREE(set);
  errno = result;
  return result == 0 ? 0 : -1;
}

int thread_set_batch(void) {
  const struct sched_param no_priority = {.sched_priority = 0};
  return sched_setscheduler(0, SCHED_BATCH, &no_priority);
}

void thread_set_name(const char *name) {
  char text[16];
  snprintf(text, sizeof(text), "%s", name);
  (void)pthread_setname_np(pthread_self(), text); /* without it only tools show another name */
}

/* Is there address space for a thread? Return: 0, or an errno. */
static int check_memory(void) {
  pthread_attr_t attributes;
  size_t stack = 0;
  int error = pthread_getattr_default_np(&attributes);
  if (error == 0) {
    (void)pthread_attr_getstacksize(&attributes, &stack); /* cannot fail: it was initialized */
    (void)pthread_attr_destroy(&attributes);              /* cannot fail: it was initialized */
    void *memory = sys_map(stack + FIRST_ALLOCATION_BYTES);
    error = memory == MAP_FAILED ? errno : 0;
    if (error == 0) {
      (void)sys_unmap(memory, stack + FIRST_ALLOCATION_BYTES); /* a failure leaks it */
    }
  }
  return error;
}

int thread_create(pthread_t *thread, void *(*main)(void *argument), void *argument) {
  int error = check_memory();
  return error != 0 ? error : pthread_create(thread, NULL, main, argument);
}

void thread_allocate_first(void) {
  void *memory;
  if (posix_memalign(&memory, sizeof(memory), 1) == 0) { /* the compiler would remove a malloc */
    free(memory);
  }
}

/*
 * The kernel's id of the clock of a thread's CPU time.  pthread_getcpuclockid would make the same
 * of a pthread_t, which is not valid for long enough.
 */
static clockid_t cpu_clock(uint32_t tid) { return (clockid_t)(~tid << 3 | 6); }

/* The time on ${clock}, or 0 if its thread has ended. */
static uint64_t cpu_ns(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time) == -1) {
    return 0;
  }
  return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

void thread_cpu_begin(struct thread_cpu *cpu) {
  atom_store_relaxed_u32(&cpu->tid, (uint32_t)syscall(SYS_gettid));
}

void thread_cpu_end(struct thread_cpu *cpu) {
  (void)stats_raise(&cpu->seen_ns, cpu_ns(CLOCK_THREAD_CPUTIME_ID)); /* it is read later */
  atom_store_release_u32(&cpu->tid, 0); /* pairs with thread_cpu_read */
}

/* If the thread ended in between, its number may be another thread's: the time is not used. */
uint64_t thread_cpu_read(struct thread_cpu *cpu) {
  uint32_t tid = atom_load_acquire_u32(&cpu->tid); /* pairs with thread_cpu_end */
  uint64_t ns = tid == 0 ? 0 : cpu_ns(cpu_clock(tid));
  bool runs = tid != 0 && atom_load_acquire_u32(&cpu->tid) == tid;
  return stats_raise(&cpu->seen_ns, runs ? ns : 0);
}
