/*
 * listen_fds: the sockets that a service manager passes to this process (sd_listen_fds(3)), and
 * what their names mean.
 *
 *   name in LISTEN_FDNAMES    the socket
 *   admin                     belongs to the admin endpoint
 *   data-proxy-v1, -v2, -any  takes clients, and connections begin with this PROXY header
 *   any other name            takes clients
 *
 * Without LISTEN_FDNAMES all sockets take clients.  A pure function of the environment: it makes no
 * system call and touches no descriptor.
 */
#ifndef CORE_LISTEN_FDS_H
#define CORE_LISTEN_FDS_H

#include "core/addr.h"

#define LISTEN_FDS_DATA_MAX 64
#define LISTEN_FDS_ADMIN_MAX 8

struct listen_fd {
  int fd;
  enum addr_proxy proxy; /* what its name asks for; OFF = its name says nothing about headers */
};

struct listen_fds {
  uint32_t count; /* of LISTEN_FDS */
  bool invalid;   /* there are too many, or not one name for each: both lists are empty */
  uint32_t data_count, admin_count;
  struct listen_fd data[LISTEN_FDS_DATA_MAX];
  struct listen_fd admin[LISTEN_FDS_ADMIN_MAX];
};

/**
 * listen_fds_read(passed, environment, pid):
 * Find the sockets that ${environment} passes to process ${pid}; none if LISTEN_PID is another one,
 * or if LISTEN_PID or LISTEN_FDS is no number.
 */
void listen_fds_read(struct listen_fds *passed, const char *const *environment, uint64_t pid);

#endif
