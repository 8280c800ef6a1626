/* upgrade_handed: see upgrade_handed.h. */
#include "pool/upgrade_handed.h"

#include "core/sys.h"

#include <stdlib.h>
#include <string.h>

static void close_listener(struct upgrade_listener *listener) {
  if (listener->fd != -1) {
    sys_close(listener->fd);
    listener->fd = -1;
  }
}

/* The sockets of LISTEN_FDS have their names and their order from the environment. */
void handed_set_passed(struct upgrade_handed *handed, struct config_facts *facts) {
  uint32_t data = 0, admin = 0;
  for (uint32_t i = 0; i < handed->count; i++) {
    struct upgrade_listener *listener = &handed->listeners[i];
    bool is_admin = listener->use == USE_ADMIN;
    struct listen_fd *to = is_admin ? &facts->passed.admin[admin] : &facts->passed.data[data];
    bool room = is_admin ? admin < facts->passed.admin_count : data < facts->passed.data_count;
    if (listener->inherited && room) {
      to->fd = listener->fd;
      listener->fd = -1;
      admin += is_admin;
      data += !is_admin;
    }
  }
}

/* Is the ${i}th of the old process's listeners the one that is ${listener} here? */
static bool is_from(const struct upgrade_handed *handed, uint32_t i,
                    const struct listener *listener, const struct addr_listen *item) {
  const struct upgrade_listener *from = &handed->listeners[i];
  if (from->use != USE_CLIENTS || from->fd != -1 || from->inherited != listener->inherited) {
    return false;
  }
  return from->inherited || (listener->handed_over && listeners_same(&from->addr, item));
}

/* Which listener here has the socket of each listener there?  The ${there}th one is for clients. */
void handed_find(struct upgrade_handed *handed, const struct xchg_server *server) {
  bool used[CONFIG_LISTEN_MAX] = {false};
  uint32_t there = 0;
  for (uint32_t i = 0; i < handed->count && there < CONFIG_LISTEN_MAX; i++) {
    if (handed->listeners[i].use != USE_CLIENTS) {
      continue;
    }
    handed->listener_of[there] = UINT32_MAX;
    for (uint32_t j = 0; j < server->listeners_count; j++) {
      const struct addr_listen *item = &server->config->listen[j];
      if (!used[j] && is_from(handed, i, &server->listeners[j], item)) {
        used[j] = true;
        handed->listener_of[there] = j;
        break;
      }
    }
    there++;
  }
}

/* Close the sockets that this process does not use, and say in ${ready} which it uses. */
void handed_settle(struct upgrade_handed *handed, struct upgrade_ready *ready) {
  uint32_t count[LISTENER_USES] = {0};
  *ready = (struct upgrade_ready){.listens = {0}};
  for (uint32_t i = 0; i < handed->count; i++) {
    struct upgrade_listener *from = &handed->listeners[i];
    uint64_t taken = from->fd == -1;
    ready->listens[from->use] |= taken << (count[from->use]++ % 64);
    close_listener(from);
  }
}

/* What the old process has said of the socket file of ${listener}; inode 0 = it has none. */
static const struct upgrade_listener *file_of(const struct upgrade_handed *handed,
                                              const struct listener *listener) {
  static const struct upgrade_listener none = {.fd = -1};
  for (uint32_t i = 0; i < handed->count; i++) {
    const struct upgrade_listener *from = &handed->listeners[i];
    if (from->inode != 0 && listener->use == from->use &&
        strcmp(listener->addr.path, from->addr.path) == 0) {
      return from;
    }
  }
  return &none;
}

/* What was handed over is this process's: its stop ends the listeners and removes their files. */
void handed_own(const struct upgrade_handed *handed, struct listener *listeners, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (listeners[i].handed_over) {
      const struct upgrade_listener *from = file_of(handed, &listeners[i]);
      bool sets_mode = from->inode != 0 && listeners[i].addr.mode != from->addr.mode;
      listener_own(&listeners[i], from->inode, from->device, sets_mode);
    }
  }
}

void handed_close(struct upgrade_handed *handed) {
  for (uint32_t i = 0; i < handed->count; i++) {
    close_listener(&handed->listeners[i]);
  }
  free(handed->listeners);
  *handed = (struct upgrade_handed){.listeners = NULL};
}
