/*
 * group: see group.h.
 *
 * A member stands in the list of its group and in that of its connection.  Both are doubly linked,
 * so leaving needs no search.  A hash table finds it by group and connection, because a peer may
 * choose how many groups its connection joins, and in which order it leaves them.
 *
 *   group->first != NULL                        a group without members is freed
 *   *member->link == member                     link is &group->first or &previous->next
 *   *member->link_of_conn == member             the same in the connection's list
 *   count of a connection's first member        its memberships, XCHG_GROUPS_MAX at most
 *   cursor == NULL, or it is a member of the visited group that has not been returned
 *
 * New members enter at the head, which the cursor has passed, so a visit ends however many join.
 * If the member under the cursor leaves, the cursor moves on.  A member that leaves and joins again
 * stands at the head and is not visited twice.
 *
 * Both tables use linear hashing (Litwin).  There are as many buckets as objects, at the beginning
 * of an array that is mapped for the most objects.  A new object splits one bucket, and a freed one
 * merges two.  So the array needs 8 bytes for each object, and no operation waits for a rebuild.
 * Hashing over the whole array would touch a page for each object.  groups_trim replaces the array
 * when no object is left.
 *
 *   buckets in use = slab.used                  those above are NULL
 *   bucket_of(object->hash, slab.used) == i     for every object in bucket i
 *
 * Handlers choose the numbers, possibly from what peers send, so the hash must resist patterns and
 * attacks.  Stafford's mixer (variant 13, the one of splitmix64) scatters patterns.  Then
 * Dietzfelbinger's multiplication by an odd key makes the hash: two numbers chosen without the key
 * share their top k bits with a probability of at most 2 in 2^k.  A fixed mixer cannot promise
 * that, because it can be inverted.  The key is made from the array's address, which the kernel
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
static uint32_t hash_of(const struct hash_table *table, uint64_t number) {
  uint64_t key = mix((uintptr_t)table->buckets) | 1;
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

/* ---- a table ---- */

static size_t buckets_bytes(const struct hash_table *table) {
  return table->slab.objects_max * sizeof(struct hashed *);
}

/** A new array of empty buckets, or NULL. */
static struct hashed **buckets_map(const struct hash_table *table) {
  void *buckets = sys_map(buckets_bytes(table));
  return buckets == MAP_FAILED ? NULL : buckets;
}

/** Return: 0, or -1 with nothing left. */
static int table_init(struct hash_table *table, size_t object_bytes, uint32_t objects_max) {
  if (slab_init(&table->slab, object_bytes, objects_max) == -1) {
    return -1;
  }
  table->buckets = buckets_map(table);
  if (table->buckets == NULL) {
    slab_fini(&table->slab);
    return -1;
  }
  return 0;
}

static void table_fini(struct hash_table *table) {
  if (table->buckets != NULL) {
    (void)sys_unmap(table->buckets, buckets_bytes(table)); /* a failure leaks it */
  }
  slab_fini(&table->slab);
}

/** Replace the array by one without resident pages. Without memory the old one stays. */
static void buckets_replace(struct hash_table *table) {
  struct hashed **fresh = buckets_map(table);
  if (fresh == NULL) {
    return;
  }
  if (sys_unmap(table->buckets, buckets_bytes(table)) == -1) {
    (void)sys_unmap(fresh, buckets_bytes(table)); /* a failure leaks it */
    return;
  }
  table->buckets = fresh;
}

static void table_trim(struct hash_table *table) {
  /* Without a mapped chunk, no object has existed since the array was new. */
  if (table->slab.used == 0 && table->slab.end > 0) {
    buckets_replace(table);
  }
  slab_trim(&table->slab);
}

/** The pointer to the first object in the bucket of ${hash}. */
static struct hashed **bucket_at(const struct hash_table *table, uint32_t hash) {
  return &table->buckets[bucket_of(hash, table->slab.used)];
}

/** Bucket ${last} comes into use: move its objects from the bucket that it is split from. */
static void bucket_split(struct hash_table *table, uint32_t last) {
  struct hashed **into = &table->buckets[last], **at = &table->buckets[clear_top_bit(last)];
  assert(*into == NULL);
  while (*at != NULL) {
    struct hashed *object = *at;
    if (bucket_of(object->hash, last + 1) == last) {
      *at = object->next;
      object->next = *into;
      *into = object;
    } else {
      at = &object->next;
    }
  }
}

/** Bucket ${last} goes out of use: append its objects to the bucket that it was split from. */
static void bucket_merge(struct hash_table *table, uint32_t last) {
  struct hashed **end = &table->buckets[clear_top_bit(last)];
  while (*end != NULL) {
    end = &(*end)->next;
  }
  *end = table->buckets[last];
  table->buckets[last] = NULL;
}

/** A new object with ${hash}, its other fields undefined; NULL without memory. */
static struct hashed *table_take(struct hash_table *table, uint32_t hash) {
  uint32_t slot;
  struct hashed *object = slab_alloc(&table->slab, &slot);
  if (object == NULL) {
    return NULL;
  }
  if (table->slab.used > 1) {
    bucket_split(table, table->slab.used - 1);
  }
  struct hashed **bucket = bucket_at(table, hash);
  *object = (struct hashed){.next = *bucket, .hash = hash, .slot = slot};
  *bucket = object;
  return object;
}

static void table_drop(struct hash_table *table, struct hashed *object) {
  struct hashed **at = bucket_at(table, object->hash);
  while (*at != object) {
    at = &(*at)->next;
  }
  *at = object->next;
  if (table->slab.used > 1) {
    bucket_merge(table, table->slab.used - 1);
  }
  slab_free(&table->slab, object->slot);
}

/* ---- groups ---- */

int groups_init(struct groups *groups, uint32_t members_max) {
  *groups = (struct groups){.cursor = NULL};
  if (table_init(&groups->members, sizeof(struct member), members_max) == -1) {
    return fail(ENOMEM);
  }
  if (table_init(&groups->groups, sizeof(struct group), members_max) == -1) {
    groups_fini(groups);
    return fail(ENOMEM);
  }
  return 0;
}

void groups_fini(struct groups *groups) {
  table_fini(&groups->groups);
  table_fini(&groups->members);
  *groups = (struct groups){.cursor = NULL};
}

void groups_trim(struct groups *groups) {
  table_trim(&groups->groups);
  table_trim(&groups->members);
}

/** The group ${number} with ${hash}, or NULL. */
static struct group *group_find(const struct groups *groups, uint32_t hash, uint64_t number) {
  struct group *group = (struct group *)(void *)*bucket_at(&groups->groups, hash);
  while (group != NULL && group->number != number) {
    group = (struct group *)(void *)group->hashed.next;
  }
  return group;
}

/** Find or create the group ${number}; NULL without memory. */
static struct group *group_take(struct groups *groups, uint64_t number) {
  uint32_t hash = hash_of(&groups->groups, number);
  struct group *group = group_find(groups, hash, number);
  if (group == NULL) {
    group = (struct group *)(void *)table_take(&groups->groups, hash);
    if (group != NULL) {
      group->number = number;
      group->first = NULL; /* until the caller adds the first member */
    }
  }
  return group;
}

/* ---- members ---- */

/** The hash of a membership. The address tells the members of one group apart. */
static uint32_t member_hash(const struct groups *groups, const struct xchg_conn *conn,
                            uint64_t number) {
  return hash_of(&groups->members, mix((uintptr_t)conn) ^ number);
}

/** The membership of ${conn} in ${number}, with ${hash}, or NULL. */
static struct member *member_find(const struct groups *groups, uint32_t hash,
                                  const struct xchg_conn *conn, uint64_t number) {
  struct member *member = (struct member *)(void *)*bucket_at(&groups->members, hash);
  while (member != NULL && (member->conn != conn || member->group->number != number)) {
    member = (struct member *)(void *)member->hashed.next;
  }
  return member;
}

/** Put ${member}, whose group and conn are set, at the head of its two lists. */
static void enter(struct member *member, struct member **memberships) {
  struct group *group = member->group;
  member->next = group->first;
  member->link = &group->first;
  member->next_of_conn = *memberships;
  member->link_of_conn = memberships;
  member->count = 1;
  if (member->next != NULL) {
    member->next->link = &member->next;
  }
  if (member->next_of_conn != NULL) {
    member->next_of_conn->link_of_conn = &member->next_of_conn;
    member->count += member->next_of_conn->count;
  }
  group->first = member;
  *memberships = member;
}

int group_join(struct groups *groups, struct member **memberships, struct xchg_conn *conn,
               uint64_t number, enum xchg_slow slow) {
  uint32_t hash = member_hash(groups, conn, number);
  struct member *member = member_find(groups, hash, conn, number);
  if (member != NULL) {
    member->slow = slow;
    return 0;
  }
  if (*memberships != NULL && (*memberships)->count == XCHG_GROUPS_MAX) {
    return fail(EMLINK);
  }
  struct group *group = group_take(groups, number);
  member = group == NULL ? NULL : (struct member *)(void *)table_take(&groups->members, hash);
  if (member == NULL) {
    if (group != NULL && group->first == NULL) {
      table_drop(&groups->groups, &group->hashed);
    }
    return fail(ENOMEM);
  }
  member->group = group;
  member->conn = conn;
  member->slow = slow;
  enter(member, memberships);
  return 0;
}

/** Remove ${member} from its group and from the list ${memberships} of its connection. */
static void leave(struct groups *groups, struct member **memberships, struct member *member) {
  struct group *group = member->group;
  assert(*member->link == member);
  assert(*member->link_of_conn == member);
  /* The member's own removal, below, may empty the list. */
  /* cppcheck-suppress nullPointerRedundantCheck */
  uint32_t left = (*memberships)->count - 1;
  *member->link_of_conn = member->next_of_conn;
  if (member->next_of_conn != NULL) {
    member->next_of_conn->link_of_conn = member->link_of_conn;
  }
  if (*memberships != NULL) {
    (*memberships)->count = left;
  }
  if (groups->cursor == member) {
    groups->cursor = member->next;
  }
  *member->link = member->next;
  if (member->next != NULL) {
    member->next->link = member->link;
  }
  table_drop(&groups->members, &member->hashed);
  if (group->first == NULL) {
    table_drop(&groups->groups, &group->hashed);
  }
}

int group_leave(struct groups *groups, struct member **memberships, uint64_t number) {
  const struct xchg_conn *conn = *memberships == NULL ? NULL : (*memberships)->conn;
  struct member *member =
      conn == NULL ? NULL : member_find(groups, member_hash(groups, conn, number), conn, number);
  if (member == NULL) {
    return fail(ENOENT);
  }
  leave(groups, memberships, member);
  return 0;
}

void group_leave_all(struct groups *groups, struct member **memberships) {
  while (*memberships != NULL) {
    leave(groups, memberships, *memberships);
  }
}

void group_begin(struct groups *groups, uint64_t number) {
  const struct group *group = group_find(groups, hash_of(&groups->groups, number), number);
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
