/* machine: see machine.h. Runs at the start only; a file that cannot be read means no quota. */
#include "pool/machine.h"

#include "core/parse.h"
#include "core/config.h"
#include "pool/thread.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* Read the first line of ${folder}/${file} into ${line}. Return: the text, or NULL. */
static char *read_line(const char *folder, const char *file, char *line, int size) {
  char name[PATH_MAX];
  if (snprintf(name, sizeof(name), "%s/%s", folder, file) >= (int)sizeof(name)) {
    return NULL;
  }
  FILE *stream = fopen(name, "re");
  if (stream == NULL) {
    return NULL;
  }
  char *got = fgets(line, size, stream);
  (void)fclose(stream); /* it was only read */
  return got;
}

/* Read the first number of ${file}, and the second one if ${second} is not NULL. */
static bool read_numbers(const char *folder, const char *file, uint64_t *first, uint64_t *second) {
  char line[64];
  if (read_line(folder, file, line, sizeof(line)) == NULL) {
    return false;
  }
  const char *end = parse_digits(line, first);
  if (end == NULL) {
    return false; /* "max 100000" and "-1": no quota */
  }
  return second == NULL || (*end == ' ' && parse_digits(end + 1, second) != NULL);
}

/* The quota of one cgroup in CPUs, rounded up; 0 = no quota. */
static uint32_t quota_of(const char *folder, bool v2) {
  uint64_t quota = 0, period = 0;
  bool known = v2 ? read_numbers(folder, "cpu.max", &quota, &period)
                  : read_numbers(folder, "cpu.cfs_quota_us", &quota, NULL) &&
                        read_numbers(folder, "cpu.cfs_period_us", &period, NULL);
  if (!known || quota == 0 || period == 0) {
    return 0;
  }
  uint64_t cpus = quota / period + (quota % period != 0);
  return cpus > UINT32_MAX ? 0 : (uint32_t)cpus;
}

static uint32_t smaller(uint32_t a, uint32_t b) {
  if (a == 0 || b == 0) {
    return a + b;
  }
  return a < b ? a : b;
}

/* The smallest quota of the cgroups from ${path} up to the root at ${mount}. */
static uint32_t quota_upwards(const char *mount, const char *path, bool v2) {
  char folder[PATH_MAX];
  uint32_t cpus = 0;
  size_t base = strlen(mount);
  if (snprintf(folder, sizeof(folder), "%s%s", mount, path) >= (int)sizeof(folder)) {
    return 0;
  }
  for (;;) {
    cpus = smaller(cpus, quota_of(folder, v2));
    char *slash = strrchr(folder, '/');
    if (slash == NULL || (size_t)(slash - folder) < base) {
      return cpus;
    }
    *slash = 0;
  }
}

/* Is ${name} one of the comma-separated ${list}? */
static bool lists(const char *list, const char *name) {
  size_t length = strlen(name);
  for (const char *at = list; at != NULL; at = strchr(at, ',')) {
    at += *at == ',';
    if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == 0)) {
      return true;
    }
  }
  return false;
}

/* A line of /proc/self/cgroup: "4:cpu,cpuacct:/path" (v1), "0::/path" (v2). */
static uint32_t quota_of_line(char *line, const char *root) {
  line[strcspn(line, "\n")] = 0;
  char *controllers = strchr(line, ':');
  char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
  if (path == NULL) {
    return 0;
  }
  *controllers++ = 0;
  *path++ = 0;
  char mount[PATH_MAX];
  if (*controllers == 0) {
    return quota_upwards(root, path, true);
  }
  if (!lists(controllers, "cpu")) {
    return 0;
  }
  uint32_t cpus = 0;
  const char *const folders[] = {controllers, "cpu"};
  for (size_t i = 0; i < 2 && cpus == 0; i++) {
    if (snprintf(mount, sizeof(mount), "%s/%s", root, folders[i]) < (int)sizeof(mount)) {
      cpus = quota_upwards(mount, path, false);
    }
  }
  return cpus;
}

uint32_t machine_cpu_quota(const char *self, const char *root) {
  uint32_t cpus = 0;
  FILE *stream = fopen(self, "re");
  if (stream == NULL) {
    return 0;
  }
  char *line = NULL;
  size_t size = 0;
  while (getline(&line, &size, stream) != -1) {
    cpus = smaller(cpus, quota_of_line(line, root));
  }
  free(line);
  (void)fclose(stream); /* it was only read */
  return cpus;
}

uint32_t machine_usable_cpus(bool *from_cgroup) {
  size_t size;
  uint32_t cpus = 1;
  cpu_set_t *set = thread_affinity(&size);
  if (set != NULL) {
    cpus = (uint32_t)CPU_COUNT_S(size, set);
    CPU_FREE(set);
  }
  uint32_t quota = machine_cpu_quota("/proc/self/cgroup", "/sys/fs/cgroup");
  *from_cgroup = quota > 0 && quota < cpus;
  return *from_cgroup ? quota : cpus;
}

static uint32_t somaxconn(void) {
  uint64_t value;
  return read_numbers("/proc/sys/net/core", "somaxconn", &value, NULL) ? (uint32_t)value : 0;
}

void machine_find_descriptors(struct config_facts *facts, bool raise) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == -1) {
    facts->descriptors_error = errno;
    return;
  }
  facts->descriptors = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  facts->descriptors_soft = !raise || setrlimit(RLIMIT_NOFILE, &limit) == -1;
  if (!facts->descriptors_soft) {
    facts->descriptors = limit.rlim_max;
  }
}

void machine_find_facts(struct config_facts *facts) {
  facts->cpus = machine_usable_cpus(&facts->cpus_from_cgroup);
  facts->somaxconn = somaxconn();
}
