/*
 * listeners: opens the listeners of a server, or that of XCHG_UPGRADE, from the first source that
 * has them.
 *
 *   LISTEN_FDS              all of them: XCHG_LISTEN is not bound
 *   the process before      those that it has for the same item of XCHG_LISTEN
 *   XCHG_LISTEN             the others are bound
 */
#ifndef POOL_LISTENERS_H
#define POOL_LISTENERS_H

#include "net/listener.h"
#include "pool/upgrade_packet.h"

/* Exit codes, as sysexits.h numbers them. */
enum {
  SERVER_UNAVAILABLE = 69, /* an address in use or not bindable */
  SERVER_OSERR = 71,       /* the system refused threads or descriptors, or a listener failed */
};

struct listeners_setup {
  const struct config *config;
  struct log *log;
  const struct listen_fd *passed; /* listening sockets that replace the configured ones */
  uint32_t passed_count;
  struct upgrade_listener *inherited; /* of the process that this one replaces */
  uint32_t inherited_count;           /* one that is used loses its fd */
};

/**
 * Open ${listeners}, which has room for CONFIG_LISTEN_MAX; ${*count} are open, also after a
 * failure.
 * Return: 0, or an exit code with errno after a line in the log.
 */
int listeners_open(struct listener *listeners, uint32_t *count,
                   const struct listeners_setup *setup);

/** Are ${a} and ${b}, items of one variable of two processes, one address? */
bool listeners_same(const struct addr_listen *a, const struct addr_listen *b);

#endif
