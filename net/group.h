/*
 * group: the members of groups among one worker's connections.
 *
 * A group has a number and exists while it has members.  Each worker keeps its own members, so
 * joining, leaving and publishing need no lock and no atomic operation.  A publication visits the
 * members in slices.  A member that leaves meanwhile is skipped, and one that joins meanwhile is
 * not visited.  One thread at a time.
 */
#ifndef NET_GROUP_H
#define NET_GROUP_H

#include "core/xchg.h"
#include "core/slab.h"

/* An object in a hash table of this module. */
struct hashed {
  struct hashed *next; /* the next one of the same bucket */
  uint32_t hash;
  uint32_t slot; /* in the table's slab */
};

/* The membership of one connection in one group. */
struct member {
  struct hashed hashed;         /* first: by group and connection */
  struct member *next;          /* the next member of the group */
  struct member **link;         /* the pointer to this member in the group's list */
  struct member *next_of_conn;  /* the connection's next membership */
  struct member **link_of_conn; /* the pointer to this member in the connection's list */
  struct group *group;
  struct xchg_conn *conn; /* borrows */
  uint32_t count;         /* in a connection's first member only: its memberships */
  enum xchg_slow slow;
};

struct group {
  struct hashed hashed; /* first: by number */
  uint64_t number;
  struct member *first; /* never NULL */
};

/* Objects of one size, found by hash. */
struct hash_table {
  struct slab slab;
  struct hashed **buckets; /* owns: mapped for the most objects; as many in use as objects exist */
};

struct groups {
  struct hash_table members, groups;
  struct member *cursor; /* the member that group_next returns next */
};

/** Prepare for at most ${members_max} memberships. Return: 0, or -1 (ENOMEM). */
int groups_init(struct groups *groups, uint32_t members_max);
void groups_fini(struct groups *groups);
void groups_trim(struct groups *groups);

/**
 * group_join(groups, memberships, conn, number, slow):
 * Make ${conn} a member of ${number}, or replace its ${slow}.  ${*memberships} is the list of the
 * connection's memberships; NULL = empty.  The cost is O(1) expected, like that of group_leave.
 * Return: 0, or -1 (ENOMEM; EMLINK: the connection is in XCHG_GROUPS_MAX groups).
 */
int group_join(struct groups *groups, struct member **memberships, struct xchg_conn *conn,
               uint64_t number, enum xchg_slow slow);

/** Return: 0, or -1 with ENOENT (not a member). */
int group_leave(struct groups *groups, struct member **memberships, uint64_t number);
void group_leave_all(struct groups *groups, struct member **memberships);

/**
 * group_begin(groups, number): begin to visit the members of ${number}; one visit at a time.
 * group_next(groups, slow): the next member and its ${*slow}; NULL after the last one.
 */
void group_begin(struct groups *groups, uint64_t number);
struct xchg_conn *group_next(struct groups *groups, enum xchg_slow *slow);

#endif
