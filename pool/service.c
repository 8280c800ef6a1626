/* service: see service.h. */
#include "pool/service.h"

#include "core/sys.h"
#include "core/parse.h"
#include "core/env_vars.h"
#include "pool/server_stats.h"
#include "pool/stall.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define RETRY_NS (SD_NOTIFY_RETRY_MS * NS_PER_MS)

/* ---- the environment ---- */

/* How often WATCHDOG=1 is due (sd_watchdog_enabled(3)); NEVER = the manager wants none of us. */
static uint64_t find_watchdog(const char *const *environment, struct log *log) {
  const char *usec_text = env_vars_find(environment, "WATCHDOG_USEC");
  const char *pid_text = env_vars_find(environment, "WATCHDOG_PID");
  uint64_t usec, pid;
  if (usec_text == NULL) {
    return NEVER;
  }
  if (parse_u64(usec_text, &usec) == -1 || usec == 0 ||
      (pid_text != NULL && parse_u64(pid_text, &pid) == -1)) {
    log_msg(log, LOG_WARN, "WATCHDOG_USEC or WATCHDOG_PID is not a number: WATCHDOG=1 is not sent");
    return NEVER;
  }
  if (pid_text != NULL && pid != (uint64_t)getpid()) {
    return NEVER;
  }
  return usec > NEVER / (NS_PER_US / 4) ? NEVER : max_u64(usec * (NS_PER_US / 4), NS_PER_MS);
}

void service_open(struct service *service, const char *const *environment, struct log *log) {
  *service = (struct service){.log = log, .watchdog_ns = NEVER, .watchdog_at_ns = NEVER};
  if (sd_notify_open(&service->notify, env_vars_find(environment, "NOTIFY_SOCKET")) == -1) {
    log_errno(log, LOG_WARN, "cannot reach NOTIFY_SOCKET", errno);
  }
  if (service->notify.fd != -1) {
    service->watchdog_ns = find_watchdog(environment, log);
    service->watchdog_at_ns = service->watchdog_ns == NEVER ? NEVER : 0; /* with READY=1 */
  }
}

void service_close(struct service *service) { sd_notify_close(&service->notify); }

void service_ready(struct service *service) {
  sd_notify_send(&service->notify, "READY=1", service->log);
}

void service_stopping(struct service *service) {
  sd_notify_send(&service->notify, "STOPPING=1", service->log);
}

void service_set_main(struct service *service, int64_t pid) {
  service->left = pid != getpid();
  snprintf(service->main_pid, sizeof(service->main_pid), "MAINPID=%" PRId64, pid);
  sd_notify_send(&service->notify, service->main_pid, service->log);
}

bool service_pending(const struct service *service) { return sd_notify_pending(&service->notify); }

/* ---- what is due ---- */

/* The phase has changed.  An upgrade is a reload for the manager. */
static void enter(struct service *service, enum service_phase phase, uint64_t now_ns) {
  if (phase == SERVICE_UPGRADING) {
    snprintf(service->reloading, sizeof(service->reloading), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
             now_ns / NS_PER_US);
    sd_notify_send(&service->notify, service->reloading, service->log);
  } else if (phase == SERVICE_SERVING) { /* the upgrade is over */
    service_ready(service);
  }
  service->phase = phase;
  service->status_at_ns = 0;
}

/* Log that the watchdog gets nothing, and that it gets something again. */
static void log_stall(struct service *service, const struct stall *stall) {
  char text[STALL_TEXT_MAX];
  struct log_line line;
  bool stalls = stall != NULL;
  if (service->stalled != stalls) {
    service->stalled = stalls;
    log_begin(&line, service->log, LOG_WARN,
              stalls ? "WATCHDOG=1 is not sent: a thread is stalled" : "WATCHDOG=1 is sent again");
    if (stalls) {
      log_str(&line, "stalled", stall_format(stall, text));
    }
    log_end(&line);
  }
}

static void feed_watchdog(struct service *service, struct xchg_server *server, uint64_t now_ns) {
  struct stall stall;
  uint64_t wait_ns = service->watchdog_ns;
  if (now_ns < service->watchdog_at_ns) {
    return;
  }
  if (stall_find(server, &stall)) {
    log_stall(service, &stall);
    wait_ns = min_u64(wait_ns, STALL_LOOK_AGAIN_NS);
  } else if (!sd_notify_try(&service->notify, "WATCHDOG=1", service->log)) {
    wait_ns = min_u64(wait_ns, RETRY_NS);
  } else {
    log_stall(service, NULL);
  }
  service->watchdog_at_ns = add_sat_u64(now_ns, wait_ns);
}

/* Write what an operator reads in `systemctl status`. */
static void describe(const struct service *service, struct xchg_server *server, uint64_t left_ns,
                     char *text, size_t size) {
  const struct config *config = server->config;
  uint64_t left_s = (add_sat_u64(left_ns, NS_PER_S) - 1) / NS_PER_S; /* rounded up */
  struct stats totals;
  server_totals(server, &totals);
  uint64_t open = sub_sat_u64(atom_load_relaxed_u64(&totals.accepted), stats_ended(&totals));
  char serving[128], workers[32] = "";
  if (config->model == MODEL_POOL) {
    snprintf(workers, sizeof(workers), ", %" PRIu32 " worker%s", config->workers,
             config->workers == 1 ? "" : "s");
  }
  snprintf(serving, sizeof(serving), "serving %" PRIu64 " of %" PRIu64 " connections%s", open,
           config->max_connections, workers);
  switch (service->phase) {
    case SERVICE_SERVING:
      snprintf(text, size, "STATUS=%s", serving);
      break;
    case SERVICE_UPGRADING:
      snprintf(text, size, "STATUS=%s, upgrading", serving);
      break;
    case SERVICE_DELAYED:
      snprintf(text, size, "STATUS=%s, draining in %" PRIu64 " s", serving, left_s);
      break;
    case SERVICE_DRAINING:
      snprintf(text, size, "STATUS=draining, %" PRIu64 " left, %" PRIu64 " s", open, left_s);
      break;
  }
}

static void send_status(struct service *service, struct xchg_server *server, uint64_t until_ns,
                        uint64_t now_ns) {
  char text[256], all[sizeof(text) + 64];
  if (now_ns < service->status_at_ns) {
    return;
  }
  describe(service, server, sub_sat_u64(until_ns, now_ns), text, sizeof(text));
  if (service->phase < SERVICE_DELAYED) {
    snprintf(all, sizeof(all), "%s", text);
  } else {
    snprintf(all, sizeof(all), "%s\nEXTEND_TIMEOUT_USEC=%" PRIu64, text,
             (uint64_t)SERVICE_EXTEND_NS / NS_PER_US);
  }
  bool sent = sd_notify_try(&service->notify, all, service->log);
  service->status_at_ns = now_ns + (sent ? SERVICE_STATUS_NS : RETRY_NS);
}

uint64_t service_tend(struct service *service, struct xchg_server *server, enum service_phase phase,
                      uint64_t until_ns) {
  uint64_t now_ns = sys_now_ns();
  if (service->notify.fd == -1) {
    return NEVER;
  }
  if (service->phase != phase && !service->left) {
    enter(service, phase, now_ns);
  }
  uint64_t due_ns = NEVER;
  sd_notify_retry(&service->notify, service->log);
  if (!service->left) {
    feed_watchdog(service, server, now_ns);
    send_status(service, server, until_ns, now_ns);
    due_ns = min_u64(service->watchdog_at_ns, service->status_at_ns);
  }
  return sd_notify_pending(&service->notify) ? min_u64(due_ns, now_ns + RETRY_NS) : due_ns;
}
