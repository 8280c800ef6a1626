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

/* The process that has the id of the server before and after, and its child. */
static void log_processes(struct log_line *line, const struct upgrade *upgrade) {
  uint64_t own = (uint64_t)getpid(), other = (uint64_t)upgrade->peer;
  log_u64(line, "pid", upgrade->returns ? other : own);
  log_u64(line, "child", upgrade->returns ? own : other);
}

void upgrade_log_begun(const struct upgrade *upgrade, const char *to) {
  struct log_line line;
  log_begin(&line, upgrade->setup.log, LOG_INFO, upgrade->returns ? "returning" : "upgrading");
  log_processes(&line, upgrade);
  if (!upgrade->returns) {
    log_str(&line, "binary", upgrade->program.path);
    log_str(&line, "from", XCHG_VERSION);
    log_str(&line, "to", to);
  }
  log_u64(&line, "connections", upgrade_live(&upgrade->setup));
  log_end(&line);
}

static void log_staying(struct log *log, const struct upgrade_left *left) {
  struct log_line line;
  log_begin(&line, log, LOG_WARN, "connections stay with the old process");
  log_u64(&line, "count", left->count);
  log_str(&line, "reason", left->reason);
  log_end(&line);
}

void upgrade_log_done(const struct upgrade *upgrade) {
  const struct upgrade_giver *giver = &upgrade->giver;
  struct log *log = upgrade->setup.log;
  struct log_line line;
  struct upgrade_left left;
  for (uint32_t i = 0; giver_left(giver, i, &left); i++) {
    log_staying(log, &left);
  }
  const struct histogram *frozen = &giver->frozen_ns;
  log_begin_always(&line, log, upgrade->returns ? "returned" : "upgraded");
  log_processes(&line, upgrade);
  log_u64(&line, "moved", giver->moved);
  log_u64(&line, "stayed", giver_staying(giver));
  log_u64(&line, "listeners", upgrade->setup.server->listeners_count);
  log_u64(&line, "ms", sub_sat_u64(sys_now_ns(), upgrade->started_ns) / NS_PER_MS);
  log_u64(&line, "frozen_us_p50", histogram_quantile(frozen, 500) / NS_PER_US);
  log_u64(&line, "frozen_us_p99", histogram_quantile(frozen, 990) / NS_PER_US);
  log_u64(&line, "frozen_us_max", histogram_quantile(frozen, 1000) / NS_PER_US);
  log_end(&line);
}

void upgrade_log_turned_back(const struct upgrade *upgrade, const char *status) {
  const struct upgrade_giver *giver = &upgrade->giver;
  struct log_line line;
  log_begin(
      &line, upgrade->setup.log, LOG_WARN,
      upgrade->returns ? "return turned back: the child stays the server" : "upgrade turned back");
  log_str(&line, "step", upgrade_step_name(upgrade->failed));
  log_str(&line, "reason", upgrade->reason);
  if (!upgrade->returns) {
    log_str(&line, "status", status);
  }
  log_u64(&line, "returned", giver->returned);
  log_u64(&line, "lost", giver->moved);
  log_end(&line);
}

uint64_t upgrade_log_rest(struct log *log, struct upgrade_channel *channel) {
  if (channel->fd == -1 || channel->retry_ns <= sys_now_ns()) {
    return NEVER;
  }
  if (!channel->logged) {
    log_errno(log, LOG_WARN, "the channel of the upgrade fails; trying again", channel->error);
    channel->logged = true;
  }
  return channel->retry_ns;
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
