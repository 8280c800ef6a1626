/*
 * measure: process clocks and /proc, read at the start and at the end of a window.
 *
 *   CPU time           of the process and its living children: their clocks, in nanoseconds
 *                      of children it has waited for: cutime + cstime of /proc/PID/stat, in 10 ms
 *   context switches   the sum over its threads; a thread that ends within the window takes its
 *                      switches with it, and the difference is never below 0
 *   memory             Rss of smaps_rollup (exact), or of statm for another user's process
 *
 * A child counts only once: not as a child if it is measured itself.  Nothing is allocated during a
 * window: directories are read with getdents64, and files into the stack.
 */
#include "measure.h"

#include "core/sys.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FILE_MAX 8192
#define PATH_LONGEST 96

/* What each_task calls with the path of a thread's file. */
typedef void task_visit(void *context, const char *path);

/* The living children of a process. */
struct children {
  const struct measure *measure; /* borrows: its own processes are not counted as children */
  double cpu_s;
};

static int read_cpu(const struct measure *measure, int pid, double *cpu_s);
static int read_clock(int pid, double *cpu_s);
static int read_waited_for(int pid, double *cpu_s);
static void add_children(void *context, const char *path);
static void add_child(struct children *children, int pid);
static void add_switches(void *context, const char *path);
static void each_task(int pid, const char *file, task_visit *visit, void *context);
static uint64_t read_resident(int pid);
static const char *skip_words(const char *text, unsigned count);
static ssize_t read_file(const char *path, char text[FILE_MAX]);
static uint64_t number_after(const char *text, const char *label);

/* CPU time is read last here and first in measure_end, close to the edges of the window. */
void measure_begin(struct measure *measure, const int *pids, uint32_t count) {
  assert(count <= BENCH_PIDS_MAX);
  *measure = (struct measure){.count = count, .known = count > 0};
  for (uint32_t i = 0; i < count; i++) {
    measure->pids[i] = pids[i] == 0 ? getpid() : pids[i];
    each_task(measure->pids[i], "status", add_switches, &measure->context_switches);
  }
  for (uint32_t i = 0; i < count; i++) {
    double cpu_s;
    if (read_cpu(measure, measure->pids[i], &cpu_s) == -1) {
      measure->known = false;
      continue;
    }
    measure->cpu_s += cpu_s;
  }
  measure->at_ns = sys_now_ns();
}

void measure_end(struct measure *measure, struct usage *usage) {
  uint64_t now_ns = sys_now_ns();
  double cpu_s = 0;
  uint64_t switches = 0;
  *usage = (struct usage){.known = measure->known};
  for (uint32_t i = 0; i < measure->count && usage->known; i++) {
    double one_s;
    if (read_cpu(measure, measure->pids[i], &one_s) == -1) {
      *usage = (struct usage){.known = false};
      return;
    }
    cpu_s += one_s;
  }
  if (!usage->known) {
    return;
  }
  for (uint32_t i = 0; i < measure->count; i++) {
    each_task(measure->pids[i], "status", add_switches, &switches);
    usage->resident_bytes += read_resident(measure->pids[i]);
  }
  usage->seconds = (double)(now_ns - measure->at_ns) / 1e9;
  usage->cpu_s = cpu_s > measure->cpu_s ? cpu_s - measure->cpu_s : 0;
  usage->context_switches = sub_sat_u64(switches, measure->context_switches);
}

static int read_cpu(const struct measure *measure, int pid, double *cpu_s) {
  struct children children = {.measure = measure};
  double waited_for_s;
  if (read_clock(pid, cpu_s) == -1 || read_waited_for(pid, &waited_for_s) == -1) {
    return -1;
  }
  each_task(pid, "children", add_children, &children);
  *cpu_s += waited_for_s + children.cpu_s;
  return 0;
}

static int read_clock(int pid, double *cpu_s) {
  clockid_t clock;
  struct timespec time;
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) == -1) {
    return -1;
  }
  *cpu_s = (double)time.tv_sec + (double)time.tv_nsec / 1e9;
  return 0;
}

/* Read fields 16 and 17 of stat; field 2 may hold blanks and parentheses, so skip past it. */
static int read_waited_for(int pid, double *cpu_s) {
  char path[PATH_LONGEST], text[FILE_MAX];
  snprintf(path, sizeof(path), "/proc/%d/stat", pid);
  if (read_file(path, text) == -1) {
    return -1;
  }
  const char *rest = strrchr(text, ')');
  if (rest == NULL) {
    return -1;
  }
  rest = skip_words(rest + 1, 13);
  uint64_t ticks = strtoull(rest, NULL, 10) + strtoull(skip_words(rest, 1), NULL, 10);
  *cpu_s = (double)ticks / (double)sysconf(_SC_CLK_TCK);
  return 0;
}

/* Read a list of any length: a server may have thousands of children. */
static void add_children(void *context, const char *path) {
  char text[FILE_MAX];
  int pid = 0, fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd == -1) {
    return;
  }
  ssize_t size;
  while ((size = read(fd, text, sizeof(text))) > 0) {
    for (ssize_t i = 0; i < size; i++) {
      if (text[i] >= '0' && text[i] <= '9') {
        pid = pid * 10 + (text[i] - '0');
      } else if (pid > 0) {
        add_child(context, pid);
        pid = 0;
      }
    }
  }
  sys_close(fd);
}

static void add_child(struct children *children, int pid) {
  double cpu_s;
  for (uint32_t i = 0; i < children->measure->count; i++) {
    if (children->measure->pids[i] == pid) {
      return;
    }
  }
  if (read_clock(pid, &cpu_s) == 0) { /* else it has just ended */
    children->cpu_s += cpu_s;
  }
}

static void add_switches(void *context, const char *path) {
  char text[FILE_MAX];
  uint64_t *sum = context;
  if (read_file(path, text) == -1) {
    return; /* it has just ended */
  }
  *sum += number_after(text, "\nvoluntary_ctxt_switches:");
  *sum += number_after(text, "\nnonvoluntary_ctxt_switches:");
}

/* Visit ${file} of each living thread. */
static void each_task(int pid, const char *file, task_visit *visit, void *context) {
  char path[PATH_LONGEST];
  union {
    char bytes[FILE_MAX];
    struct dirent64 entry; /* for its alignment */
  } read_in;
  snprintf(path, sizeof(path), "/proc/%d/task", pid);
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd == -1) {
    return;
  }
  ssize_t size;
  /* By its number: with musl it takes another type. */
  while ((size = syscall(SYS_getdents64, fd, &read_in, sizeof(read_in))) > 0) {
    for (ssize_t at = 0; at < size;) {
      const struct dirent64 *entry = (const struct dirent64 *)(const void *)(read_in.bytes + at);
      at += entry->d_reclen;
      if (entry->d_name[0] == '.') {
        continue;
      }
      snprintf(path, sizeof(path), "/proc/%d/task/%.20s/%s", pid, entry->d_name, file);
      visit(context, path);
    }
  }
  sys_close(fd);
}

static uint64_t read_resident(int pid) {
  char path[PATH_LONGEST], text[FILE_MAX];
  snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
  if (read_file(path, text) != -1) {
    uint64_t kib = number_after(text, "\nRss:");
    if (kib > 0) {
      return kib * 1024;
    }
  }
  snprintf(path, sizeof(path), "/proc/%d/statm", pid);
  if (read_file(path, text) == -1) {
    return 0;
  }
  return strtoull(skip_words(text, 1), NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Skip blanks, then ${count} words and the blanks after each. */
static const char *skip_words(const char *text, unsigned count) {
  text += strspn(text, " ");
  for (unsigned i = 0; i < count; i++) {
    text += strcspn(text, " ");
    text += strspn(text, " ");
  }
  return text;
}

/* Read the first FILE_MAX - 1 bytes of a file as a text; the callers need no more. */
static ssize_t read_file(const char *path, char text[FILE_MAX]) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd == -1) {
    return -1;
  }
  size_t filled = 0;
  ssize_t size;
  while ((size = read(fd, text + filled, FILE_MAX - 1 - filled)) > 0) {
    filled += (size_t)size;
  }
  sys_close(fd);
  text[filled] = 0;
  return size == -1 || filled == 0 ? -1 : (ssize_t)filled;
}

/* The number after ${label} in ${text}, or 0. */
static uint64_t number_after(const char *text, const char *label) {
  const char *found = strstr(text, label);
  return found == NULL ? 0 : strtoull(found + strlen(label), NULL, 10);
}
