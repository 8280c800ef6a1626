/* The defaults with another address and two workers, and a log that goes to syslog. */
#include <syslog.h>
#include <xchg.h>

static void log_line(void *log_user, enum xchg_log_level level,
                     const char *line) {
  static const int priorities[] = {
      [XCHG_LOG_ERROR] = LOG_ERR,
      [XCHG_LOG_WARN] = LOG_WARNING,
      [XCHG_LOG_INFO] = LOG_INFO,
      [XCHG_LOG_DEBUG] = LOG_DEBUG,
  };
  (void)log_user;
  syslog(priorities[level], "%s", line);
}

struct xchg_server *make(const struct xchg_handler *handler) {
  struct xchg_config config;
  if (xchg_config_from_env(&config, sizeof(config), NULL, NULL) !=
      0) {
    return NULL;
  }
  config.listen = "127.0.0.1:0";
  config.workers = 2;
  config.log = log_line;
  return xchg_server_create(&config, handler);
}
