/*
 * accepted_conn: an accepted connection on its way to where it runs.
 *
 * The one thing that crosses from the acceptor to a worker; it owns the descriptor while it
 * travels, and ownership goes one way.
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
  uint32_t ip_slot;  /* what admission wants back at the end (pool/admission), or NO_IP_SLOT */
  uint32_t listener; /* index of the listener it came from */
};

/** Close a guest that goes nowhere. */
static inline void accepted_conn_close(const struct accepted_conn *accepted) {
  sys_close(accepted->fd);
}

#endif
