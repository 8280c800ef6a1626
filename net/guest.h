/*
 * guest: an accepted connection on its way to where it runs.
 *
 * The one thing that crosses from the acceptor to a worker; it owns the descriptor while it
 * travels, and ownership goes one way.
 */
#ifndef NET_GUEST_H
#define NET_GUEST_H

#include "core/sys.h"
#include "core/addr.h"

#define GUEST_NO_TICKET UINT32_MAX

struct guest {
  uint64_t accepted_ns; /* when accept4 returned */
  struct addr addr;     /* the peer */
  int fd;
  uint32_t ticket;   /* what admission wants back at the end (pool/admit), or GUEST_NO_TICKET */
  uint32_t listener; /* index of the listener it came from */
};

/** Close a guest that goes nowhere. */
static inline void guest_close(const struct guest *guest) { sys_close(guest->fd); }

#endif
