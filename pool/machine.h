/* machine: what the machine allows this process. */
#ifndef POOL_MACHINE_H
#define POOL_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

struct config_facts;

/**
 * machine_usable_cpus(from_cgroup):
 * CPUs that this process may use: its affinity, or the CPU quota of its cgroups (v1 and v2, each
 * level up to the root), rounded up, if that is smaller.
 * Return: at least 1; ${*from_cgroup} is set if the quota is the smaller one.
 */
uint32_t machine_usable_cpus(bool *from_cgroup);

/**
 * machine_cpu_quota(self, root): the quota alone, from ${self} (/proc/self/cgroup) and the cgroup
 * files below ${root} (/sys/fs/cgroup).
 * Return: CPUs, rounded up; 0 = no quota.
 */
uint32_t machine_cpu_quota(const char *self, const char *root);

/**
 * Fill in the limit of descriptors, or why it is unknown: the hard limit, to which ${raise} raises
 * the soft one, or the soft limit.
 */
void machine_find_descriptors(struct config_facts *facts, bool raise);

/** Fill in CPUs and somaxconn. */
void machine_find_facts(struct config_facts *facts);

#endif
