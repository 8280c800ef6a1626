/*
 * accepted_conn: an accepted connection on its way from the acceptor to a worker.
 *
 * It owns the descriptor until the worker takes it over.  It never travels back.
 */
#ifndef NET_ACCEPTED_CONN_H
#define NET_ACCEPTED_CONN_H

#include "core/sys.h"
#include "core/addr.h"

#define NO_IP_SLOT UINT32_MAX

struct accepted_conn {
  uint64_t accepted_ns; /* when accept4 returned */
  struct addr addr;     /* the peer */
  int fd;
  uint32_t ip_slot;  /* to be returned to pool/admission at the end, or NO_IP_SLOT */
  uint16_t listener; /* index of its listener */
  uint8_t proxy;     /* of its listener: enum addr_proxy */
};

/** Close a connection that is handed to no worker. */
static inline void accepted_conn_close(const struct accepted_conn *accepted) {
  sys_close(accepted->fd);
}

#endif
