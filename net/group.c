/*
 * group: see group.h.
 *
 * A member stands in two lists.  The list of its group is doubly linked, so leaving needs no
 * search.  The list of its connection is searched by number, because handlers join few groups for
 * each connection.  A connection in thousands of groups would need an index.
 *
 *   group->first != NULL                        a group without members is freed
 *   *member->link == member                     link is &group->first or &previous->next
 *   cursor == NULL, or it is a member of the visited group that has not been returned
 *
 * New members enter at the head, which the cursor has passed, so a visit ends however many join.
 * If the member under the cursor leaves, the cursor moves on.  A member that leaves and joins again
 * stands at the head and is not visited twice.
 *
 * Groups are found by linear hashing (Litwin).  There are as many buckets as groups, at the
 * beginning of a table that is mapped for the most groups.  A new group splits one bucket, and a
 * freed group merges two.  So the table needs 8 bytes for each group, and no operation waits for a
 * rebuild.  Hashing over the whole table would touch a page for each group.  groups_trim replaces
 * the table when no group is left.
 *
 *   buckets in use = groups.used                those above are NULL
 *   bucket_of(group->hash, groups.used) == i    for every group in bucket i
 *
 * Handlers choose the numbers, possibly from what peers send, so the hash must resist patterns and
 * attacks.  Stafford's mixer (variant 13, the one of splitmix64) scatters patterns.  Then
 * Dietzfelbinger's multiplication by an odd key makes the hash: two numbers chosen without the key
 * share their top k bits with a probability of at most 2 in 2^k.  A fixed mixer cannot promise
 * that, because it can be inverted.  The key is made from the table's address, which the kernel
 * randomises and no peer learns.  If that is switched off, a hostile peer can choose numbers that
 * make buckets long.
 */
#include "net/group.h"

#include "core/base.h"
#include "core/sys.h"

#include <assert.h>
#include <errno.h>

/** Stafford's Mix13: a bijection. Each bit of the input changes half of the output bits. */
static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
  return x ^ x >> 31;
}

/** Reverse the 64 bits of ${x}. */
static uint64_t reverse_bits64(uint64_t x) {
  const uint64_t ones = UINT64_C(0x5555555555555555), twos = UINT64_C(0x3333333333333333),
                 fours = UINT64_C(0x0f0f0f0f0f0f0f0f);
  x = (x >> 1 & ones) | (x & ones) << 1;
  x = (x >> 2 & twos) | (x & twos) << 2;
  x = (x >> 4 & fours) | (x & fours) << 4;
  return __builtin_bswap64(x);
}

/** The product's top bits are the random ones. Buckets use the lowest, so they are reversed. */
static uint32_t hash_of(const struct groups *groups, uint64_t number) {
  uint64_t key = mix((uintptr_t)groups->buckets) | 1;
  return (uint32_t)reverse_bits64(mix(number) * key);
}

/** ${i} > 0 without its top bit: the bucket that a new bucket ${i} is split from. */
static uint32_t clear_top_bit(uint32_t i) { return i & ~(UINT32_C(1) << (31 - __builtin_clz(i))); }

/** The bucket of ${hash} among ${count}. */
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

/** A new table of empty buckets, or NULL. */
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
    (void)sys_unmap(groups->buckets, buckets_bytes(groups)); /* a failure leaks it */
  }
  slab_fini(&groups->groups);
  slab_fini(&groups->members);
  *groups = (struct groups){.cursor = NULL};
}

/** Replace the table by one without resident pages. Without memory the old one stays. */
static void buckets_resize(struct groups *groups) {
  struct group **fresh = buckets_map(groups);
  if (fresh == NULL) {
    return;
  }
  if (sys_unmap(groups->buckets, buckets_bytes(groups)) == -1) {
    (void)sys_unmap(fresh, buckets_bytes(groups)); /* a failure leaks it */
    return;
  }
  groups->buckets = fresh;
}

void groups_trim(struct groups *groups) {
  /* Without a mapped chunk, no group has existed since the table was new. */
  if (groups->groups.used == 0 && groups->groups.end > 0) {
    buckets_resize(groups);
  }
  slab_trim(&groups->groups);
  slab_trim(&groups->members);
}

/** The pointer to the group ${number} with ${hash}, or the NULL at the end of its bucket. */
static struct group **group_find(const struct groups *groups, uint32_t hash, uint64_t number) {
  struct group **at = &groups->buckets[bucket_of(hash, groups->groups.used)];
  while (*at != NULL && (*at)->number != number) {
    at = &(*at)->next_in_bucket;
  }
  return at;
}

/** Bucket ${last} comes into use: move its groups from the bucket that it is split from. */
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

/** Bucket ${last} goes out of use: append its groups to the bucket that it was split from. */
static void bucket_merge(struct groups *groups, uint32_t last) {
  struct group **end = &groups->buckets[clear_top_bit(last)];
  while (*end != NULL) {
    end = &(*end)->next_in_bucket;
  }
  *end = groups->buckets[last];
  groups->buckets[last] = NULL;
}

/** Find or create the group ${number}; NULL without memory. */
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

/** The pointer to the membership in ${number} in a connection's list, or the NULL at its end. */
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

/** Remove the first of ${memberships} from its group and from its connection's list. */
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
