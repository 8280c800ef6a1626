/*
 * process_facts: CPU time, memory and threads of this process, for the metrics.
 *
 * The descriptor is opened at the start, so that a later lack of descriptors, a drop of rights or a
 * sandbox does not matter.  No directory is read.
 */
#ifndef POOL_PROCESS_FACTS_H
#define POOL_PROCESS_FACTS_H

#include <stdint.h>

struct process_facts {
  int stat_fd; /* owns: /proc/self/stat; -1 = there is none */
  uint64_t pid;
  uint64_t start_wall_ns; /* the time of day of process_facts_open */
  uint64_t start_ns;      /* the same moment on the clock of sys_now_ns */
  uint64_t fds_max;       /* the limit on descriptors at that moment */
};

/* What changes.  METRICS_UNKNOWN: not to be had. */
struct process_now {
  uint64_t cpu_ns;         /* user and system time of all threads; children not included */
  uint64_t resident_bytes; /* as the kernel counts it, cheaply: some pages late */
  uint64_t threads;
};

/** Call once, early in main, after the limit on descriptors is set. It cannot fail. */
void process_facts_open(struct process_facts *facts);
void process_facts_close(struct process_facts *facts);

/** Look again. Thread: any. */
void process_facts_look(const struct process_facts *facts, struct process_now *now);

#endif
