/*
 * process_facts: see process_facts.h.
 *
 * One read of /proc/self/stat gives memory and threads.  statm has no threads, and status makes the
 * kernel walk all mappings.
 */
#include "pool/process_facts.h"

#include "core/sys.h"
#include "core/parse.h"
#include "core/metrics.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Fields of /proc/self/stat, counted from 1, as proc(5) does; the name is field 2. */
#define FIELD_STATE 3
#define FIELD_THREADS 20
#define FIELD_RSS 24

/* The line has 52 fields of at most 20 digits; the ones wanted are in its first half. */
#define STAT_BYTES 1024

void process_facts_open(struct process_facts *facts) {
  struct timespec wall = {0};
  struct rlimit limit;
  (void)clock_gettime(CLOCK_REALTIME, &wall); /* cannot fail: every Linux has this clock */
  *facts = (struct process_facts){
      .stat_fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC),
      .pid = (uint64_t)getpid(),
      .start_wall_ns = (uint64_t)wall.tv_sec * NS_PER_S + (uint64_t)wall.tv_nsec,
      .start_ns = sys_now_ns(),
      .fds_max = METRICS_UNKNOWN};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    facts->fds_max = limit.rlim_cur;
  }
}

void process_facts_close(struct process_facts *facts) {
  if (facts->stat_fd != -1) {
    sys_close(facts->stat_fd);
    facts->stat_fd = -1;
  }
}

/* Field ${number} of ${text}, which begins with field ${at}; METRICS_UNKNOWN if it is no number. */
static uint64_t field(const char *text, unsigned at, unsigned number) {
  uint64_t value;
  for (; at < number && text != NULL; at++) {
    text = strchr(text, ' ');
    text = text == NULL ? NULL : text + 1;
  }
  return text == NULL || parse_digits(text, &value) == NULL ? METRICS_UNKNOWN : value;
}

static uint64_t ns_of(const struct timeval *time) {
  return (uint64_t)time->tv_sec * NS_PER_S + (uint64_t)time->tv_usec * NS_PER_US;
}

void process_facts_look(const struct process_facts *facts, struct process_now *now) {
  char text[STAT_BYTES];
  struct rusage usage;
  long page = sysconf(_SC_PAGESIZE);
  *now = (struct process_now){METRICS_UNKNOWN, METRICS_UNKNOWN, METRICS_UNKNOWN};
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    now->cpu_ns = ns_of(&usage.ru_utime) + ns_of(&usage.ru_stime);
  }
  ssize_t size = facts->stat_fd == -1 ? -1 : pread(facts->stat_fd, text, sizeof(text) - 1, 0);
  if (size <= 0) {
    return;
  }
  text[size] = 0;
  const char *name_end = strrchr(text, ')'); /* the name may contain spaces and parentheses */
  if (name_end == NULL || name_end[1] != ' ') {
    return;
  }
  now->threads = field(name_end + 2, FIELD_STATE, FIELD_THREADS);
  uint64_t pages = field(name_end + 2, FIELD_STATE, FIELD_RSS);
  now->resident_bytes = pages == METRICS_UNKNOWN ? METRICS_UNKNOWN : pages * (uint64_t)page;
}
