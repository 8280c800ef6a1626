/*
 * upgrade_socket: who asks for an upgrade, and whom.  The socket of XCHG_UPGRADE is a listener of
 * USE_REQUESTS, and packets on its connections are those of net/fd_socket.  No call waits.
 */
#ifndef NET_UPGRADE_SOCKET_H
#define NET_UPGRADE_SOCKET_H

#include "net/listener.h"

#include <sys/types.h>

/** Accept a connection of ${*uid}. Return: its descriptor, or -1 with errno. */
int upgrade_socket_accept(const struct listener *listener, uid_t *uid);

/** Connect to the server at ${addr}. Return: a descriptor, or -1 with errno. */
int upgrade_socket_connect(const struct addr_listen *addr);

#endif
