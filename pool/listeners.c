/* listeners: see listeners.h. */
#include "pool/listeners.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Exhaustion is a refusal of the system; every other error makes the address unavailable. */
static int bind_code(int error) {
  bool system = error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
  return system ? SERVER_OSERR : SERVER_UNAVAILABLE;
}

/* Do ${item} of XCHG_LISTEN and the passed socket at ${at} have one address? */
static bool is_same_address(const struct addr_listen *item, const struct addr_listen *at) {
  if (item->addr.family == ADDR_UNIX || at->addr.family == ADDR_UNIX) {
    return item->addr.family == at->addr.family && strcmp(item->path, at->path) == 0;
  }
  static const uint8_t every[sizeof(at->addr.bytes)];
  bool any = item->any && memcmp(at->addr.bytes, every, sizeof(every)) == 0;
  bool host = item->addr.family == at->addr.family &&
              memcmp(item->addr.bytes, at->addr.bytes, sizeof(every)) == 0;
  return item->addr.port == at->addr.port && (any || host);
}

/* Log why a passed socket cannot be used. Return: -1. */
static int refuse_passed(const struct listeners_setup *setup, const struct listener *listener,
                         const char *what, const char *fix) {
  char text[sizeof(listener->addr.path) + 16];
  struct log_line line;
  log_begin(&line, setup->log, LOG_ERROR, what);
  log_str(&line, "addr", addr_format_listen(&listener->addr, text, sizeof(text)));
  log_str(&line, "fix", fix);
  log_end(&line);
  return -1;
}

/*
 * Sockets of LISTEN_FDS replace the list.  ;proxy= comes from the name of a socket (${named}), else
 * from the item with the same address.  Where the list has ;proxy=, a socket with neither might
 * need it or not: that is refused.
 */
static int take_proxy(const struct listeners_setup *setup, struct listener *listener,
                      enum addr_proxy named) {
  const struct config *config = setup->config;
  bool listed = false;
  listener->addr.proxy = named;
  if (named != ADDR_PROXY_OFF) {
    bool trusted = listener->addr.addr.family == ADDR_UNIX || config->proxy_trust.count > 0;
    return trusted ? 0
                   : refuse_passed(setup, listener,
                                   "a socket passed by LISTEN_FDS needs trusted proxies",
                                   "set XCHG_PROXY_TRUST to their addresses");
  }
  for (uint32_t i = 0; i < config->listen_count; i++) {
    if (is_same_address(&config->listen[i], &listener->addr)) {
      listener->addr.proxy = config->listen[i].proxy;
      return 0;
    }
    listed |= config->listen[i].proxy != ADDR_PROXY_OFF;
  }
  return !listed
             ? 0
             : refuse_passed(setup, listener, "a socket passed by LISTEN_FDS is not in XCHG_LISTEN",
                             "name its address in XCHG_LISTEN, with or without ;proxy=");
}

bool listeners_same(const struct addr_listen *a, const struct addr_listen *b) {
  return a->any == b->any && a->addr.family == b->addr.family && a->addr.port == b->addr.port &&
         memcmp(a->addr.bytes, b->addr.bytes, sizeof(a->addr.bytes)) == 0 &&
         strcmp(a->path, b->path) == 0 && strcmp(a->scope, b->scope) == 0;
}

/* The socket that the process before this one has for ${item}, or -1. */
static int take_inherited(const struct listeners_setup *setup, const struct addr_listen *item) {
  for (uint32_t i = 0; i < setup->inherited_count; i++) {
    struct upgrade_listener *listener = &setup->inherited[i];
    if (listener->fd != -1 && !listener->inherited && listener->use == setup->config->use &&
        listeners_same(&listener->addr, item)) {
      int fd = listener->fd;
      listener->fd = -1;
      return fd;
    }
  }
  return -1;
}

/* Listen as ${item} says. Return: 0, or -1 with errno after a line in the log. */
static int open_item(const struct listeners_setup *setup, struct listener *listener,
                     const struct addr_listen *item) {
  int fd = take_inherited(setup, item);
  if (fd == -1) {
    return listener_open(listener, item, setup->config, setup->log);
  }
  listener_inherit(listener, fd, item, setup->config, setup->log);
  return 0;
}

int listeners_open(struct listener *listeners, uint32_t *count,
                   const struct listeners_setup *setup) {
  const struct config *config = setup->config;
  uint32_t passed = setup->passed_count;
  uint32_t wanted = passed > 0 ? passed : config->listen_count;
  assert(wanted <= CONFIG_LISTEN_MAX);
  for (*count = 0; *count < wanted; ++*count) {
    struct listener *listener = &listeners[*count];
    if (passed > 0) {
      const struct listen_fd *at = &setup->passed[*count];
      if (listener_adopt(listener, at->fd, config, setup->log) == -1 ||
          take_proxy(setup, listener, at->proxy) == -1) {
        return SERVER_OSERR;
      }
    } else if (open_item(setup, listener, &config->listen[*count]) == -1) {
      return bind_code(errno);
    }
  }
  return 0;
}
