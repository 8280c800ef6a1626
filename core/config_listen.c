/*
 * config_listen: what follows from the addresses of XCHG_LISTEN and XCHG_ADMIN: the reserve of
 * descriptors, contradictions, warnings.
 */
#include "core/config.h"
#include "core/config_vars.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/*
 * Descriptors other than listeners and connections.  The base is 3 standard streams, 1 of the log,
 * 2 for signals, 1 for NOTIFY_SOCKET, 2 of the acceptor (epoll set and eventfd), and 7 that the
 * parent process may have left open.  The spare ones hold clients that are accepted and refused.
 */
#define RESERVE_BASE 16
#define RESERVE_PER_REACTOR 2 /* epoll set and eventfd */
#define RESERVE_SPARE 4

/* The admin endpoint's own: connections, two reactors, the eventfd of its end, /proc/self/stat. */
#define RESERVE_ADMIN (CONFIG_ADMIN_CONNECTIONS + 2 * RESERVE_PER_REACTOR + 2)

/*
 * An upgrade's: 2 of the channel, 1 each of the program, the new process and the records, 2 of who
 * asks for it, and the socket of XCHG_UPGRADE with its folder.
 */
#define RESERVE_UPGRADE 9

#define STALL_MIN_NS NS_PER_S

/* One for each address, and another one for the folder of each UNIX socket. */
static uint64_t count_listeners(const struct addr_listen *listen, uint32_t count) {
  uint64_t listeners = count;
  for (uint32_t i = 0; i < count; i++) {
    listeners += listen[i].addr.family == ADDR_UNIX;
  }
  return listeners;
}

uint64_t config_reserve(const struct config *config, const struct config_facts *facts) {
  const struct listen_fds *passed = &facts->passed;
  uint64_t listeners = passed->data_count > 0
                           ? passed->data_count
                           : count_listeners(config->listen, config->listen_count);
  uint64_t reactors = config->model == MODEL_POOL ? config->workers : 1;
  uint64_t admin = passed->admin_count > 0 ? passed->admin_count
                                           : count_listeners(config->admin, config->admin_count);
  return RESERVE_BASE + RESERVE_SPARE + listeners + RESERVE_PER_REACTOR * reactors + admin +
         (admin > 0 ? RESERVE_ADMIN : 0) +
         (config->model == MODEL_POOL && config->upgrade != UPGRADE_OFF ? RESERVE_UPGRADE : 0);
}

static bool is_wildcard(const struct addr_listen *listen) {
  static const uint8_t zero[sizeof(listen->addr.bytes)];
  return memcmp(listen->addr.bytes, zero, sizeof(zero)) == 0;
}

/* Can only one of the two be bound? An address without a port gets a free one. */
static bool clash(const struct addr_listen *a, const struct addr_listen *b) {
  if (a->addr.family == ADDR_UNIX || b->addr.family == ADDR_UNIX) {
    return a->addr.family == b->addr.family && strcmp(a->path, b->path) == 0;
  }
  if (a->addr.port != b->addr.port || a->addr.port == 0) {
    return false;
  }
  if (a->any || b->any) {
    return true;
  }
  return a->addr.family == b->addr.family &&
         (is_wildcard(a) || is_wildcard(b) ||
          memcmp(a->addr.bytes, b->addr.bytes, sizeof(a->addr.bytes)) == 0);
}

void config_check_passed(struct config_check *check) {
  const struct listen_fds *passed = &check->facts->passed;
  if (passed->invalid) {
    fprintf(config_fault_begin(check),
            "LISTEN_FDNAMES: want one name for each of the %" PRIu32
            " sockets of LISTEN_FDS, at "
            "most %d for clients and %d named admin\n",
            passed->count, LISTEN_FDS_DATA_MAX, LISTEN_FDS_ADMIN_MAX);
  }
  for (uint32_t i = 0; i < passed->data_count; i++) {
    check->config->passed_proxy |= passed->data[i].proxy != ADDR_PROXY_OFF;
  }
}

void config_check_admin(struct config_check *check) {
  const struct config *config = check->config;
  const struct listen_fds *passed = &check->facts->passed;
  uint32_t count = passed->data_count > 0 || passed->admin_count > 0 ? 0 : config->listen_count;
  if (config->stall_ns != 0 && config->stall_ns < STALL_MIN_NS) {
    fputs("want 0, or at least 1s\n", config_fault(check, VAR_STALL));
  }
  if (check->refused[VAR_ADMIN] || check->refused[VAR_LISTEN]) {
    return;
  }
  for (uint32_t i = 0; i < config->admin_count; i++) {
    for (uint32_t j = 0; j < count; j++) {
      if (clash(&config->admin[i], &config->listen[j])) {
        fputs("want other addresses than those of XCHG_LISTEN\n", config_fault(check, VAR_ADMIN));
        return;
      }
    }
  }
}

static bool is_loopback(const struct addr *addr) {
  static const uint8_t v6[sizeof(addr->bytes)] = {[15] = 1};
  return addr->family == ADDR_IPV4 ? addr->bytes[0] == 127
                                   : memcmp(addr->bytes, v6, sizeof(v6)) == 0;
}

void config_warn_admin_address(const struct addr_listen *listen, struct log *log) {
  char text[sizeof(listen->path) + 16];
  const char *what = NULL;
  if (listen->addr.family == ADDR_UNIX) {
    what = (listen->mode & 02) != 0 ? "every user may give commands at the admin endpoint" : NULL;
  } else if (listen->any || !is_loopback(&listen->addr)) {
    what = "the admin endpoint can be reached from other machines";
  }
  if (what != NULL) {
    struct log_line line;
    log_begin(&line, log, LOG_WARN, what);
    log_str(&line, "addr", addr_format_listen(listen, text, sizeof(text)));
    log_end(&line);
  }
}

void config_warn_admin(const struct config *config, const struct config_facts *facts,
                       struct log *log) {
  for (uint32_t i = 0; facts->passed.admin_count == 0 && i < config->admin_count; i++) {
    config_warn_admin_address(&config->admin[i], log);
  }
}
