/*
 * cpu: which processors are ours, and where a thread runs.
 */
#ifndef POOL_CPU_H
#define POOL_CPU_H

#include <stdbool.h>
#include <stdint.h>

/**
 * machine_usable_cpus(from_cgroup):
 * CPUs that this process may use: its affinity, and the CPU quota of its cgroups (v1 and v2, each
 * level up to the root) rounded up.
 * Return: 1 at least; ${*from_cgroup} tells whether a quota is what bounds it.
 */
uint32_t machine_usable_cpus(bool *from_cgroup);

/**
 * machine_cpu_quota(self, root): the quota alone, as ${self} (/proc/self/cgroup) and the cgroup
 * files below ${root} (/sys/fs/cgroup) say.
 * Return: CPUs rounded up, 0 = no quota.
 */
uint32_t machine_cpu_quota(const char *self, const char *root);

/**
 * Pin the calling thread to the ${index}th CPU of the process's affinity, counted round. Return: 0,
 * or -1 with errno.
 */
int thread_set_affinity(uint32_t index);

/**
 * Let the calling thread run on without being preferred when it is woken (SCHED_BATCH), and so not
 * interrupt another one on its CPU: for a thread whose work is better done in bunches. Return: 0,
 * or -1 with errno.
 */
int thread_set_batch(void);

/** Name the calling thread, as ps and top show it; ${name} is cut at 15 bytes. */
void thread_set_name(const char *name);

#endif
