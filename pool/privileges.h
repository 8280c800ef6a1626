/*
 * privileges: the user, the groups and the capabilities of the process.
 *
 *   privileges_bound -> privileges_become (groups, gid, uid) -> privileges_drop
 *
 * The order matters: each step needs a right that a later step gives up.  Each result is checked,
 * and the change of the user is verified by trying to undo it.
 *
 * Thread: main, before it makes a thread.  The kernel changes capabilities of the calling thread
 * only, and later threads inherit them.
 */
#ifndef POOL_PRIVILEGES_H
#define POOL_PRIVILEGES_H

#include "core/config.h"

#include <stdbool.h>
#include <stdint.h>

/**
 * privileges_find_user(user):
 * Look the name of ${user} up in /etc/passwd, if it has one, and check that this process may become
 * it. The user and group that the process already has are accepted. Only ${user} is changed.
 * Return: NULL, or what is wrong with XCHG_USER.
 */
const char *privileges_find_user(struct config_user *user);

/**
 * Become ${user}, with its group and no other.  Do nothing if the process already has this user and
 * group.
 * Return: NULL; or what failed, with errno.
 */
const char *privileges_become(const struct config_user *user);

/** Empty the bounding set, if the process has CAP_SETPCAP. Return: 0, or -1 with errno. */
int privileges_bound(void);

/** Give up all capabilities, if there are any. Return: 0, or -1 with errno. */
int privileges_drop(void);

/** The permitted capabilities, as a set of bits; all bits if they are unknown. */
uint64_t privileges_held(void);

/** Allow or forbid cores and debuggers of the same user. Return: 0, or -1 with errno. */
int privileges_set_core(bool allowed);

/** May this user remove the socket file at ${path} (absolute)? */
bool privileges_may_remove(const char *path);

#endif
