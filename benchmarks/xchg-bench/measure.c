/*
 * measure: /proc, read twice.
 *
 * CPU time is utime + stime + cutime + cstime of /proc/PID/stat, so that children count once they
 * were waited for.  Context switches are summed over the threads that live at both moments; those
 * of a thread that ended between take theirs along, and the difference never goes below 0.  Memory
 * is Rss of smaps_rollup, which is exact, or else of statm (another user's process).
 */
#include "measure.h"

#include "core/sys.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX 8192
#define PATH_LONGEST 96

struct counters {
  double cpu_s;
  uint64_t context_switches;
};

static int read_counters(int pid, struct counters *counters);
static int read_cpu(int pid, double *cpu_s);
static uint64_t read_switches(int pid);
static uint64_t read_resident(int pid);
static const char *skip_words(const char *text, unsigned count);
static ssize_t read_file(const char *path, char text[FILE_MAX]);
static uint64_t number_after(const char *text, const char *label);

void measure_begin(struct measure *measure, const int *pids, uint32_t count) {
  assert(count <= BENCH_PIDS_MAX);
  *measure = (struct measure){.count = count, .known = count > 0};
  for (uint32_t i = 0; i < count; i++) {
    struct counters counters;
    measure->pids[i] = pids[i] == 0 ? getpid() : pids[i];
    if (read_counters(measure->pids[i], &counters) == -1) {
      measure->known = false;
      continue;
    }
    measure->cpu_s += counters.cpu_s;
    measure->context_switches += counters.context_switches;
  }
  measure->at_ns = sys_now_ns();
}

void measure_end(struct measure *measure, struct usage *usage) {
  uint64_t now_ns = sys_now_ns();
  double cpu_s = 0;
  uint64_t switches = 0;
  *usage = (struct usage){.known = measure->known};
  for (uint32_t i = 0; i < measure->count && usage->known; i++) {
    struct counters counters;
    if (read_counters(measure->pids[i], &counters) == -1) {
      *usage = (struct usage){.known = false};
      return;
    }
    cpu_s += counters.cpu_s;
    switches += counters.context_switches;
    usage->resident_bytes += read_resident(measure->pids[i]);
  }
  if (!usage->known)
    return;
  usage->seconds = (double)(now_ns - measure->at_ns) / 1e9;
  usage->cpu_s = cpu_s > measure->cpu_s ? cpu_s - measure->cpu_s : 0;
  usage->context_switches = sub_sat_u64(switches, measure->context_switches);
}

static int read_counters(int pid, struct counters *counters) {
  if (read_cpu(pid, &counters->cpu_s) == -1)
    return -1;
  counters->context_switches = read_switches(pid);
  return 0;
}

/* Fields 14 to 17 of stat; the second may hold blanks and parentheses, so count from its end. */
static int read_cpu(int pid, double *cpu_s) {
  char path[PATH_LONGEST], text[FILE_MAX];
  uint64_t ticks = 0;
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  if (read_file(path, text) == -1)
    return -1;
  const char *rest = strrchr(text, ')');
  if (rest == NULL)
    return -1;
  rest = skip_words(rest + 1, 11);
  for (int i = 0; i < 4; i++) {
    ticks += strtoull(rest, NULL, 10);
    rest = skip_words(rest, 1);
  }
  *cpu_s = (double)ticks / (double)sysconf(_SC_CLK_TCK);
  return 0;
}

/* Of all threads that live. */
static uint64_t read_switches(int pid) {
  char path[PATH_LONGEST], text[FILE_MAX];
  uint64_t sum = 0;
  snprintf(path, sizeof path, "/proc/%d/task", pid);
  DIR *tasks = opendir(path);
  if (tasks == NULL)
    return 0;
  for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
    if (entry->d_name[0] == '.')
      continue;
    snprintf(path, sizeof path, "/proc/%d/task/%.20s/status", pid, entry->d_name);
    if (read_file(path, text) == -1)
      continue; /* it ended just now */
    sum += number_after(text, "\nvoluntary_ctxt_switches:");
    sum += number_after(text, "\nnonvoluntary_ctxt_switches:");
  }
  closedir(tasks);
  return sum;
}

static uint64_t read_resident(int pid) {
  char path[PATH_LONGEST], text[FILE_MAX];
  snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
  if (read_file(path, text) != -1) {
    uint64_t kib = number_after(text, "\nRss:");
    if (kib > 0)
      return kib * 1024;
  }
  snprintf(path, sizeof path, "/proc/%d/statm", pid);
  if (read_file(path, text) == -1)
    return 0;
  return strtoull(skip_words(text, 1), NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The text behind blanks, ${count} words and the blanks after each. */
static const char *skip_words(const char *text, unsigned count) {
  text += strspn(text, " ");
  for (unsigned i = 0; i < count; i++) {
    text += strcspn(text, " ");
    text += strspn(text, " ");
  }
  return text;
}

/* The first FILE_MAX - 1 bytes of a file, as a text; more than what is asked of it needs. */
static ssize_t read_file(const char *path, char text[FILE_MAX]) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd == -1)
    return -1;
  size_t filled = 0;
  ssize_t size;
  while ((size = read(fd, text + filled, FILE_MAX - 1 - filled)) > 0)
    filled += (size_t)size;
  sys_close(fd);
  text[filled] = 0;
  return size == -1 || filled == 0 ? -1 : (ssize_t)filled;
}

/* The number behind ${label} in ${text}, 0 where there is none. */
static uint64_t number_after(const char *text, const char *label) {
  const char *found = strstr(text, label);
  return found == NULL ? 0 : strtoull(found + strlen(label), NULL, 10);
}
