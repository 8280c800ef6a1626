/*
 * group: see group.h.
 *
 * A member stands in two lists: that of its group, doubly linked so that leaving takes no walk, and
 * that of its connection, which is walked by number: handlers join few groups per connection.  A
 * connection in thousands would want an index of its own; none has been seen.
 *
 *   group->first != NULL                        a group without members is freed
 *   *member->link == member                     link is &group->first or &previous->next
 *   cursor == NULL or a member of the visited group, which has not been returned
 *
 * Members enter at the head, behind the cursor, so that a visit ends however many join.  A leaver
 * under the cursor moves it on.  One who leaves and joins again stands at the head: not visited
 * twice.
 *
 * Groups are found by linear hashing (Litwin): as many chains as groups, at the bottom of a table
 * that is mapped for the ceiling.  A new group splits one chain, a group that goes merges two.  So
 * the table takes 8 bytes a group, where hashing over all of it would touch a page a group, and
 * nobody ever waits for a table to be built anew.  The trim that finds no group left replaces it.
 *
 *   chains in use = groups.used                 those above are NULL
 *   chain_of(group->hash, groups.used) == i     for every group in chain i
 *
 * The numbers are the handler's, but a handler may take them from what peers say, so both sides are
 * looked after.  Stafford's mixer (his variant 13, the one of splitmix64) scatters numbers with a
 * pattern, and Dietzfelbinger's multiplication by an odd key makes the hash: any two numbers chosen
 * without knowledge of the key share their top k bits with odds of at most 2 in 2^k, which a fixed
 * mixer, since it can be inverted, cannot promise.  The key is made of the table's address, which
 * the kernel randomises and no peer learns; where that is switched off, a hostile peer that chooses
 * the numbers can make chains long.
 */
#include "net/group.h"

#include "core/base.h"
#include "core/sys.h"

#include <assert.h>
#include <errno.h>

/** Stafford's Mix13: a bijection, each bit of the input changing half of the output's. */
static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
  return x ^ x >> 31;
}

/** The 64 bits of ${x} the other way round. */
static uint64_t reverse_bits64(uint64_t x) {
  const uint64_t ones = UINT64_C(0x5555555555555555), twos = UINT64_C(0x3333333333333333),
                 fours = UINT64_C(0x0f0f0f0f0f0f0f0f);
  x = (x >> 1 & ones) | (x & ones) << 1;
  x = (x >> 2 & twos) | (x & twos) << 2;
  x = (x >> 4 & fours) | (x & fours) << 4;
  return __builtin_bswap64(x);
}

/** The product's top bits are the good ones, chains go by the lowest. */
static uint32_t hash_of(const struct groups *groups, uint64_t number) {
  uint64_t key = mix((uintptr_t)groups->buckets) | 1;
  return (uint32_t)reverse_bits64(mix(number) * key);
}

/** ${i} > 0 without its top bit: the chain that is split into itself and ${i}. */
static uint32_t clear_top_bit(uint32_t i) { return i & ~(UINT32_C(1) << (31 - __builtin_clz(i))); }

/** The chain of ${hash} where there are ${count}. */
static uint32_t bucket_of(uint32_t hash, uint32_t count) {
  if (count < 2) {
    return 0;
  }
  uint32_t i = hash & UINT32_MAX >> __builtin_clz(count - 1);
  return i < count ? i : clear_top_bit(i);
}

static size_t buckets_bytes(const struct groups *groups) {
  return groups->groups.objects_max * sizeof(struct group *);
}

/** A table of empty chains, or NULL. */
static struct group **buckets_map(const struct groups *groups) {
  void *buckets = sys_map(buckets_bytes(groups));
  return buckets == MAP_FAILED ? NULL : buckets;
}

int groups_init(struct groups *groups, uint32_t members_max) {
  *groups = (struct groups){.cursor = NULL};
  if (slab_init(&groups->members, sizeof(struct member), members_max) == -1) {
    goto nothing;
  }
  if (slab_init(&groups->groups, sizeof(struct group), members_max) == -1) {
    goto members;
  }
  groups->buckets = buckets_map(groups);
  if (groups->buckets != NULL) {
    return 0;
  }
  slab_fini(&groups->groups);
members:
  slab_fini(&groups->members);
nothing:
  return fail(ENOMEM);
}

void groups_fini(struct groups *groups) {
  if (groups->buckets != NULL) {
    (void)sys_unmap(groups->buckets, buckets_bytes(groups)); /* or it is lost */
  }
  slab_fini(&groups->groups);
  slab_fini(&groups->members);
  *groups = (struct groups){.cursor = NULL};
}

/** A table of which nothing has been touched. Where the kernel has none, the old one stays. */
static void buckets_resize(struct groups *groups) {
  struct group **fresh = buckets_map(groups);
  if (fresh == NULL) {
    return;
  }
  if (sys_unmap(groups->buckets, buckets_bytes(groups)) == -1) {
    (void)sys_unmap(fresh, buckets_bytes(groups));
    return;
  }
  groups->buckets = fresh;
}

void groups_trim(struct groups *groups) {
  /* Without a mapped chunk no group has been made since the table was new. */
  if (groups->groups.used == 0 && groups->groups.end > 0) {
    buckets_resize(groups);
  }
  slab_trim(&groups->groups);
  slab_trim(&groups->members);
}

/** What points to the group ${number} of ${hash}, or to the NULL where it would be. */
static struct group **group_find(const struct groups *groups, uint32_t hash, uint64_t number) {
  struct group **at = &groups->buckets[bucket_of(hash, groups->groups.used)];
  while (*at != NULL && (*at)->number != number) {
    at = &(*at)->next_in_bucket;
  }
  return at;
}

/** Chain ${last} has come into use: it takes its part of the chain that was its own till now. */
static void bucket_split(struct groups *groups, uint32_t last) {
  struct group **into = &groups->buckets[last], **at = &groups->buckets[clear_top_bit(last)];
  assert(*into == NULL);
  while (*at != NULL) {
    struct group *group = *at;
    if (bucket_of(group->hash, last + 1) == last) {
      *at = group->next_in_bucket;
      group->next_in_bucket = *into;
      *into = group;
    } else {
      at = &group->next_in_bucket;
    }
  }
}

/** Chain ${last} goes out of use. */
static void bucket_merge(struct groups *groups, uint32_t last) {
  struct group **end = &groups->buckets[clear_top_bit(last)];
  while (*end != NULL) {
    end = &(*end)->next_in_bucket;
  }
  *end = groups->buckets[last];
  groups->buckets[last] = NULL;
}

/** The group ${number}, made where there is none; NULL without memory. */
static struct group *group_take(struct groups *groups, uint64_t number) {
  uint32_t hash = hash_of(groups, number), slot;
  struct group *group = *group_find(groups, hash, number);
  if (group != NULL) {
    return group;
  }
  group = slab_alloc(&groups->groups, &slot);
  if (group == NULL) {
    return NULL;
  }
  uint32_t count = groups->groups.used;
  if (count > 1) {
    bucket_split(groups, count - 1);
  }
  struct group **bucket = &groups->buckets[bucket_of(hash, count)];
  *group = (struct group){.number = number, .next_in_bucket = *bucket, .slot = slot, .hash = hash};
  *bucket = group;
  return group;
}

/** Free ${group}, which has lost its last member. */
static void group_drop(struct groups *groups, struct group *group) {
  struct group **at = group_find(groups, group->hash, group->number);
  assert(*at == group);
  *at = group->next_in_bucket;
  if (groups->groups.used > 1) {
    bucket_merge(groups, groups->groups.used - 1);
  }
  slab_free(&groups->groups, group->slot);
}

/** What points to the membership in ${number} in the list of a connection, or to its end. */
static struct member **membership_find(struct member **memberships, uint64_t number) {
  while (*memberships != NULL && (*memberships)->group->number != number) {
    memberships = &(*memberships)->next_of_conn;
  }
  return memberships;
}

int group_join(struct groups *groups, struct member **memberships, struct xchg_conn *conn,
               uint64_t number, enum xchg_slow slow) {
  struct member *member = *membership_find(memberships, number);
  if (member != NULL) {
    assert(member->conn == conn);
    member->slow = slow;
    return 0;
  }
  uint32_t slot;
  member = slab_alloc(&groups->members, &slot);
  struct group *group = member == NULL ? NULL : group_take(groups, number);
  if (group == NULL) {
    if (member != NULL) {
      slab_free(&groups->members, slot);
    }
    return fail(ENOMEM);
  }
  *member = (struct member){.next = group->first,
                            .link = &group->first,
                            .next_of_conn = *memberships,
                            .group = group,
                            .conn = conn,
                            .slot = slot,
                            .slow = slow};
  if (member->next != NULL) {
    member->next->link = &member->next;
  }
  group->first = member;
  *memberships = member;
  return 0;
}

/** Take the member that ${mine} points to out of its group and of its connection's list. */
static void leave(struct groups *groups, struct member **memberships) {
  struct member *member = *memberships;
  assert(*member->link == member);
  *memberships = member->next_of_conn;
  if (groups->cursor == member) {
    groups->cursor = member->next;
  }
  *member->link = member->next;
  if (member->next != NULL) {
    member->next->link = member->link;
  }
  if (member->group->first == NULL) {
    group_drop(groups, member->group);
  }
  slab_free(&groups->members, member->slot);
}

int group_leave(struct groups *groups, struct member **memberships, uint64_t number) {
  struct member **at = membership_find(memberships, number);
  if (*at == NULL) {
    return fail(ENOENT);
  }
  leave(groups, at);
  return 0;
}

void group_leave_all(struct groups *groups, struct member **memberships) {
  while (*memberships != NULL) {
    leave(groups, memberships);
  }
}

void group_begin(struct groups *groups, uint64_t number) {
  const struct group *group = *group_find(groups, hash_of(groups, number), number);
  groups->cursor = group == NULL ? NULL : group->first;
}

struct xchg_conn *group_next(struct groups *groups, enum xchg_slow *slow) {
  const struct member *member = groups->cursor;
  if (member == NULL) {
    return NULL;
  }
  groups->cursor = member->next;
  *slow = member->slow;
  return member->conn;
}
