/*
 * group: who among one worker's connections gets what is published to a group.
 *
 * A group is a number; it exists while it has members here.  Each worker keeps the members that are
 * its own, so that joining, leaving and sending need no lock and no atomic.  A publication visits
 * the members in slices; who leaves meanwhile is passed over, who joins meanwhile is not visited.
 * One thread at a time.
 */
#ifndef NET_GROUP_H
#define NET_GROUP_H

#include "core/xchg.h"
#include "core/slab.h"

/* One connection in one group. */
struct member {
  struct member *next;         /* in the group */
  struct member **link;        /* what points to this one there */
  struct member *next_of_conn; /* the connection's next membership */
  struct group *group;
  struct xchg_conn *conn; /* borrows while it is a member */
  uint32_t slot;
  enum xchg_slow slow;
};

struct group {
  uint64_t number;
  struct member *first;         /* never NULL */
  struct group *next_in_bucket; /* the next group of the same hash */
  uint32_t slot;
  uint32_t hash; /* of the number */
};

struct groups {
  struct slab members, groups;
  struct group **buckets; /* owns: mapped; a chain for each group there is, room for all */
  struct member *cursor;  /* whom group_next returns next */
};

/** Room for ${members_max} memberships at a time. Return: 0, or -1 (ENOMEM). */
int groups_init(struct groups *groups, uint32_t members_max);
void groups_fini(struct groups *groups);
void groups_trim(struct groups *groups);

/**
 * group_join(groups, mine, conn, number, slow):
 * Enter ${conn}, whose memberships ${*mine} leads to (NULL = none), or replace its ${slow}.
 * Return: 0, or -1 (ENOMEM).
 */
int group_join(struct groups *groups, struct member **memberships, struct xchg_conn *conn,
               uint64_t number, enum xchg_slow slow);

/** Return: 0, or -1 (ENOENT), not a member. */
int group_leave(struct groups *groups, struct member **memberships, uint64_t number);
void group_leave_all(struct groups *groups, struct member **memberships);

/**
 * group_begin(groups, number): begin to visit the members of ${number}; one visit at a time.
 * group_next(groups, slow): the next member and its ${*slow}; NULL when all were visited.
 */
void group_begin(struct groups *groups, uint64_t number);
struct xchg_conn *group_next(struct groups *groups, enum xchg_slow *slow);

#endif
