/*
 * admission: who may come in, and how many.
 *
 * Lists of address blocks, a count of live connections per address, and the flag by which an
 * acceptor that waits for room is woken. The acceptor alone looks up, inserts and increments;
 * whoever ends a connection only decrements.  The table of addresses has a node an address in
 * chains; a node whose count is 0 belongs to nobody and is taken back by the acceptor when it walks
 * its chain, or by a sweep over the table when no node is free.  The hash is seeded, so that chains
 * cannot be aimed at.
 */
#ifndef POOL_ADMISSION_H
#define POOL_ADMISSION_H

#include "core/atom.h"
#include "core/config.h"
#include "net/accepted_conn.h"
#include "net/wake.h"

#include <stdbool.h>

struct admission_node {
  uint8_t bytes[16]; /* acceptor: the address, an IPv6 one cut to its /64 */
  uint32_t next;     /* acceptor: index of the next in the chain or the free list */
  uint8_t family;    /* acceptor */
  atom_u32 live;     /* acceptor adds, others subtract */
};

struct admission {
  const struct config *config;  /* borrows for good */
  struct admission_node *nodes; /* owns; NULL = no limit per address */
  uint32_t *buckets;            /* owns: first node of each; a power of two of them */
  uint32_t buckets_mask;
  uint32_t nodes_count;
  uint32_t free;  /* first of the nodes that were taken back */
  uint32_t fresh; /* nodes from here on were never used */
  uint64_t seed;
  struct wake *wake;                     /* borrows: the acceptor's */
  CACHE_ALIGNED atom_u32 acceptor_waits; /* 1: the acceptor waits for room, or is about to */
};

/** Prepare for ${config}'s limits; ${wake} ends the acceptor's wait. Return: 0, or -1 (ENOMEM). */
int admission_init(struct admission *admission, const struct config *config, struct wake *wake);
void admission_fini(struct admission *admission);

/**
 * admission_check(admit, guest, refused):
 * May ${guest} stay? If so its ticket is set, to be given back by admission_release.
 * Return: true, or false with the reason in ${*refused} (XCHG_DENIED, XCHG_PER_IP).
 * Thread: the acceptor.
 */
bool admission_check(struct admission *admission, struct accepted_conn *accepted,
                     enum xchg_reason *refused);

/** Give ${ticket} back. Thread: any. */
void admission_release(struct admission *admission, uint32_t ip_slot);

/**
 * room_wake(admit): something that an acceptor may wait for has become free (a connection, a
 * place in a queue): wake it if it waits. Call after all of a turn's releases.  The flag's protocol
 * is that of pool/inbox.  Thread: any.
 */
void room_wake(struct admission *admission);

/** Announce a wait for room; look again afterwards. Thread: the acceptor, like room_finish_wait. */
void room_prepare_wait(struct admission *admission);
void room_finish_wait(struct admission *admission);

#endif
