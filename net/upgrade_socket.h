/*
 * upgrade_socket: the UNIX socket of XCHG_UPGRADE, which takes requests for an upgrade.
 *
 * It is a SOCK_SEQPACKET socket with the mode 0600.  A stale file is replaced, a live one is not,
 * as at a UNIX listener.  No call waits, except that upgrade_socket_open may wait for the lock of
 * the folder.
 */
#ifndef NET_UPGRADE_SOCKET_H
#define NET_UPGRADE_SOCKET_H

#include "net/socket_file.h"

#include <sys/types.h>

struct upgrade_socket {
  int fd; /* owns; -1 = closed */
  struct addr_listen addr;
  struct socket_file file;
};

/** Bind to ${addr}, a UNIX address, and listen. Return: 0, or -1 with errno. */
int upgrade_socket_open(struct upgrade_socket *socket, const struct addr_listen *addr);

/** Close it and remove its file; later calls do nothing. */
void upgrade_socket_close(struct upgrade_socket *socket);

/** Accept a connection of ${*uid} and ${*pid}. Return: its descriptor, or -1 with errno. */
int upgrade_socket_accept(const struct upgrade_socket *socket, uid_t *uid, pid_t *pid);

/** Connect to the server at ${addr}. Return: a descriptor, or -1 with errno. */
int upgrade_socket_connect(const struct addr_listen *addr);

#endif
