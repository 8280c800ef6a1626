/* upgrade_log: see upgrade_log.h. */
#include "pool/upgrade_log.h"

#include "core/sys.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

void upgrade_log_refused(struct log *log, const char *why, int error) {
  struct log_line line;
  log_begin(&line, log, LOG_ERROR, "upgrade refused");
  log_str(&line, "reason", why);
  if (error != 0) {
    log_error(&line, error);
  }
  log_end(&line);
}

void upgrade_log_begun(struct log *log, pid_t child, const char *path, const char *to,
                       uint64_t connections) {
  struct log_line line;
  log_begin(&line, log, LOG_INFO, "upgrading");
  log_u64(&line, "pid", (uint64_t)getpid());
  log_u64(&line, "child", (uint64_t)child);
  log_str(&line, "binary", path);
  log_str(&line, "from", XCHG_VERSION);
  log_str(&line, "to", to);
  log_u64(&line, "connections", connections);
  log_end(&line);
}

static void log_staying(struct log *log, const struct upgrade_left *left) {
  struct log_line line;
  log_begin(&line, log, LOG_WARN, "connections stay with the old process");
  log_u64(&line, "count", left->count);
  log_str(&line, "reason", left->reason);
  log_end(&line);
}

void upgrade_log_done(struct log *log, const struct upgrade_giver *giver,
                      const struct upgrade_sums *sums) {
  struct log_line line;
  struct upgrade_left left;
  for (uint32_t i = 0; giver_left(giver, i, &left); i++) {
    log_staying(log, &left);
  }
  const struct histogram *frozen = &giver->frozen_ns;
  log_begin_always(&line, log, "upgraded");
  log_u64(&line, "pid", (uint64_t)getpid());
  log_u64(&line, "child", (uint64_t)sums->child);
  log_u64(&line, "moved", giver->moved);
  log_u64(&line, "stayed", giver_staying(giver));
  log_u64(&line, "listeners", sums->listeners);
  log_u64(&line, "ms", sub_sat_u64(sys_now_ns(), sums->started_ns) / NS_PER_MS);
  log_u64(&line, "frozen_us_p50", histogram_quantile(frozen, 500) / NS_PER_US);
  log_u64(&line, "frozen_us_p99", histogram_quantile(frozen, 990) / NS_PER_US);
  log_u64(&line, "frozen_us_max", histogram_quantile(frozen, 1000) / NS_PER_US);
  log_end(&line);
}

void upgrade_log_turned_back(struct log *log, const struct upgrade_giver *giver, const char *step,
                             const char *reason, const char *status) {
  struct log_line line;
  log_begin(&line, log, LOG_WARN, "upgrade turned back");
  log_str(&line, "step", step);
  log_str(&line, "reason", reason);
  log_str(&line, "status", status);
  log_u64(&line, "returned", giver->returned);
  log_u64(&line, "lost", giver->moved + giver->lost);
  log_end(&line);
}

void upgrade_describe_status(int status, char *text, size_t size) {
  if (WIFSIGNALED(status)) {
    snprintf(text, size, "signal %d", WTERMSIG(status));
  } else if (WIFEXITED(status)) {
    snprintf(text, size, "exit %d", WEXITSTATUS(status));
  } else {
    snprintf(text, size, "unknown");
  }
}
