/* thread: see thread.h. */
#include "pool/thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

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

void thread_allocate_first(void) {
  void *memory;
  if (posix_memalign(&memory, sizeof(memory), 1) == 0) { /* the compiler would remove a malloc */
    free(memory);
  }
}
