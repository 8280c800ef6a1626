/*
 * admission: which clients may connect, and how many connections each may have.
 *
 * Holds lists of address blocks, a count of live connections per address, and the flag that wakes
 * an acceptor that waits for room.  Only the acceptor looks up, inserts and increments.  The thread
 * that ends a connection only decrements.  The table is a hash with chains and one node per
 * address. A node whose count is 0 is free: the acceptor unlinks it when it walks the chain, or by
 * a sweep over the table when it needs a node.  The hash is seeded, so an attacker cannot aim at a
 * chain.
 */
#ifndef POOL_ADMISSION_H
#define POOL_ADMISSION_H

#include "core/atom.h"
#include "core/config.h"
#include "net/accepted_conn.h"
#include "net/wake.h"
#include "pool/sleep_flag.h"

#include <stdbool.h>

struct admission_node {
  uint8_t bytes[16]; /* acceptor: the address; of an IPv6 one, its /64 */
  uint32_t next;     /* acceptor: index of the next in the chain or the free list */
  uint8_t family;    /* acceptor */
  atom_u32 live;     /* acceptor adds, others subtract */
};

struct admission {
  const struct config *config;  /* borrows */
  struct admission_node *nodes; /* owns; NULL = no limit per address */
  uint32_t *buckets;            /* owns: the first node of each chain */
  uint32_t buckets_mask;        /* their number, a power of two, minus 1 */
  uint32_t nodes_count;
  uint32_t free;  /* first of the free nodes */
  uint32_t fresh; /* nodes from here on were never used */
  uint64_t seed;
  struct wake *wake;                              /* borrows: the acceptor's */
  CACHE_ALIGNED struct sleep_flag acceptor_waits; /* for room */
};

/** Prepare for ${config}'s limits; ${wake} wakes the acceptor. Return: 0, or -1 (ENOMEM). */
int admission_init(struct admission *admission, const struct config *config, struct wake *wake);
void admission_fini(struct admission *admission);

/**
 * admission_check(admission, accepted, refused):
 * Is ${accepted} allowed? If so its ip_slot is set; admission_release is due for that.  A
 * connection that begins with a PROXY header is one of a proxy: it must be trusted, and the limit
 * per address does not apply.
 * Return: true, or false with the reason in ${*refused} (XCHG_DENIED, XCHG_PER_IP, XCHG_PROXY).
 * Thread: the acceptor.
 */
bool admission_check(struct admission *admission, struct accepted_conn *accepted,
                     enum xchg_reason *refused);

/**
 * admission_adopt(admission, addr, proxied):
 * Count a connection of ${addr} that has come from another process, even over the limit: limits are
 * for new connections.  One that began with a PROXY header (${proxied}) counts for no address.
 * Return: its ip_slot, for admission_release.  If all nodes are in use, it is NO_IP_SLOT.
 * Thread: the acceptor.
 */
uint32_t admission_adopt(struct admission *admission, const struct addr *addr, bool proxied);

/** A connection with ${ip_slot} has ended. Thread: any. */
static inline void admission_release(struct admission *admission, uint32_t ip_slot) {
  if (ip_slot != NO_IP_SLOT) {
    atom_sub_release_u32(&admission->nodes[ip_slot].live, 1);
  }
}

/**
 * room_wake(admission): a connection has ended or a queue has a place: wake the acceptor if it
 * waits for room.  Call after all releases of a turn.  Thread: any.
 */
static inline void room_wake(struct admission *admission) {
  if (sleep_flag_clear(&admission->acceptor_waits)) {
    wake_signal(admission->wake);
  }
}

/** Announce a wait for room; look again afterwards. Thread: the acceptor. */
void room_prepare_wait(struct admission *admission);

/** Withdraw the announcement. Thread: the acceptor. */
void room_finish_wait(struct admission *admission);

#endif
