/*
 * upgrade_handed: the listeners that the old process of an upgrade hands over to this one.
 *
 *   received        each has a descriptor
 *   servers opened  they have taken those that they listen at (fd = -1)
 *   READY           the others are closed
 *   COMMIT          this process ends them and removes their files; before that it only closes them
 *
 * Thread: main.
 */
#ifndef POOL_UPGRADE_HANDED_H
#define POOL_UPGRADE_HANDED_H

#include "pool/upgrade_packet.h"
#include "pool/server.h"

struct upgrade_handed {
  struct upgrade_listener *listeners; /* owns, and each fd that is not -1 */
  uint32_t count;
  uint32_t listener_of[CONFIG_LISTEN_MAX]; /* here, of each there; UINT32_MAX = gone */
};

/**
 * Give the sockets of LISTEN_FDS to ${facts}, which has their names and order from the environment.
 */
void handed_set_passed(struct upgrade_handed *handed, struct config_facts *facts);

/** Find which listener of ${server} has the socket of each one there. */
void handed_find(struct upgrade_handed *handed, const struct xchg_server *server);

/** Close the sockets that this process does not use, and say in ${ready} which it uses. */
void handed_settle(struct upgrade_handed *handed, struct upgrade_ready *ready);

/** What was handed over to ${listeners} is this process's: its stop ends them, with their files. */
void handed_own(const struct upgrade_handed *handed, struct listener *listeners, uint32_t count);

/** Close and free what is left. */
void handed_close(struct upgrade_handed *handed);

#endif
