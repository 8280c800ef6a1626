/* admission: see admission.h. */
#include "pool/admission.h"

#include "core/sys.h"
#include "pool/offload.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define NO_NODE 0 /* node 0 is never used, so zeroed memory means empty chains */

int admission_init(struct admission *admission, const struct config *config, struct wake *wake) {
  *admission = (struct admission){.config = config, .wake = wake, .free = NO_NODE, .fresh = 1};
  if (config->max_per_ip == 0) {
    return 0;
  }
  /*
   * Twice the holders, which are connections and the work of connections that have ended: a sweep
   * then frees at least half of the nodes, which spreads its cost over that many accepts.  Nodes
   * that are never used take no memory.
   */
  uint64_t works = config->offload_threads == 0 ? 0 : OFFLOAD_QUEUE_MAX + config->offload_threads;
  admission->nodes_count =
      (uint32_t)min_u64(2 * (config->max_connections + works), UINT32_C(1) << 30);
  uint32_t buckets = 1;
  while (buckets < admission->nodes_count) {
    buckets *= 2;
  }
  admission->buckets_mask = buckets - 1;
  admission->nodes = calloc((size_t)admission->nodes_count + 1, sizeof(*admission->nodes));
  admission->buckets = calloc(buckets, sizeof(*admission->buckets));
  if (admission->nodes == NULL || admission->buckets == NULL) {
    admission_fini(admission);
    return -1;
  }
  if (getrandom(&admission->seed, sizeof(admission->seed), GRND_NONBLOCK) !=
      sizeof(admission->seed)) {
    admission->seed = sys_now_ns();
  }
  return 0;
}

void admission_fini(struct admission *admission) {
  free(admission->nodes);
  free(admission->buckets);
  admission->nodes = NULL;
  admission->buckets = NULL;
}

/*
 * The bucket of an address of 16 bytes: two rounds of a 64-bit multiply and fold (as in wyhash),
 * keyed by the seed.
 */
static uint32_t bucket_of(const struct admission *admission, const uint8_t bytes[16]) {
  uint64_t half[2];
  memcpy(half, bytes, sizeof(half));
  unsigned __int128 product =
      (unsigned __int128)(half[0] ^ admission->seed) * UINT64_C(0x9e3779b97f4a7c15);
  uint64_t mixed = (uint64_t)product ^ (uint64_t)(product >> 64) ^ half[1];
  product = (unsigned __int128)(mixed ^ admission->seed) * UINT64_C(0xd1342543de82ef95);
  return (uint32_t)((uint64_t)product ^ (uint64_t)(product >> 64)) & admission->buckets_mask;
}

/* Walk a chain: find the address, and free every node on the way whose count is 0. */
static struct admission_node *find_node(struct admission *admission, uint32_t bucket,
                                        const struct addr *key) {
  struct admission_node *found = NULL;
  uint32_t *link = &admission->buckets[bucket];
  while (*link != NO_NODE) {
    struct admission_node *node = &admission->nodes[*link];
    if (key != NULL && node->family == key->family &&
        memcmp(node->bytes, key->bytes, sizeof(node->bytes)) == 0) {
      found = node;
    } else if (atom_load_acquire_u32(&node->live) == 0) { /* pairs with admission_release */
      uint32_t index = *link;
      *link = node->next;
      node->next = admission->free;
      admission->free = index;
      continue;
    }
    link = &node->next;
  }
  return found;
}

/*
 * Free every node whose count is 0, not only the first.  If the walk stopped there, the next
 * address would begin it again, and each accept would cost a walk over half of the table.
 */
static void sweep_nodes(struct admission *admission) {
  for (uint32_t i = 0; i <= admission->buckets_mask; i++) {
    find_node(admission, i, NULL);
  }
}

/* A free node, or one that was never used; otherwise one that a sweep frees, or NO_NODE. */
static uint32_t take_node(struct admission *admission) {
  if (admission->free == NO_NODE && admission->fresh <= admission->nodes_count) {
    return admission->fresh++;
  }
  if (admission->free == NO_NODE) {
    sweep_nodes(admission);
  }
  uint32_t index = admission->free;
  if (index != NO_NODE) {
    admission->free = admission->nodes[index].next;
  }
  return index;
}

/* Return: a node for ${key}, or NULL if there are only nodes in use. */
static struct admission_node *insert_node(struct admission *admission, uint32_t bucket,
                                          const struct addr *key) {
  uint32_t index = take_node(admission);
  if (index == NO_NODE) {
    return NULL;
  }
  struct admission_node *node = &admission->nodes[index];
  memcpy(node->bytes, key->bytes, sizeof(node->bytes));
  node->family = key->family;
  node->next = admission->buckets[bucket];
  admission->buckets[bucket] = index;
  return node;
}

/* The node of ${addr}, found or inserted; NULL if there are only nodes in use. */
static struct admission_node *node_of(struct admission *admission, const struct addr *addr) {
  struct addr key = *addr;
  if (key.family == ADDR_IPV6) {
    memset(key.bytes + 8, 0, 8); /* a /64 is one client */
  }
  uint32_t bucket = bucket_of(admission, key.bytes);
  struct admission_node *node = find_node(admission, bucket, &key);
  return node == NULL ? insert_node(admission, bucket, &key) : node;
}

/* Count one more connection of ${node}. Return: its ip_slot. */
static uint32_t count_node(struct admission *admission, struct admission_node *node) {
  atom_add_relaxed_u32(&node->live, 1);
  return (uint32_t)(node - admission->nodes);
}

/*
 * Count one more connection of ${addr}. Return: false at the limit.  There are fewer holders than
 * nodes, unless many were adopted: then no new client comes either.
 */
static bool count_address(struct admission *admission, const struct addr *addr, uint32_t *ip_slot) {
  struct admission_node *node = node_of(admission, addr);
  if (node == NULL || atom_load_relaxed_u32(&node->live) >= admission->config->max_per_ip) {
    return false;
  }
  *ip_slot = count_node(admission, node);
  return true;
}

uint32_t admission_adopt(struct admission *admission, const struct addr *addr, bool proxied) {
  bool address = addr->family == ADDR_IPV4 || addr->family == ADDR_IPV6;
  bool counted = admission->nodes != NULL && address && !proxied;
  struct admission_node *node = counted ? node_of(admission, addr) : NULL;
  return node == NULL ? NO_IP_SLOT : count_node(admission, node);
}

bool admission_check(struct admission *admission, struct accepted_conn *accepted,
                     enum xchg_reason *refused) {
  accepted->ip_slot = NO_IP_SLOT;
  if (accepted->addr.family == ADDR_UNIX) {
    return true;
  }
  if (accepted->proxy != ADDR_PROXY_OFF) { /* the client is in the header, which the worker reads */
    *refused = XCHG_PROXY;
    return config_blocks_contain(&admission->config->proxy_trust, &accepted->addr);
  }
  if (!config_admits(admission->config, &accepted->addr)) {
    *refused = XCHG_DENIED;
    return false;
  }
  if (admission->nodes != NULL && !count_address(admission, &accepted->addr, &accepted->ip_slot)) {
    *refused = XCHG_PER_IP;
    return false;
  }
  return true;
}

void room_prepare_wait(struct admission *admission) {
  sleep_flag_prepare(&admission->acceptor_waits);
}

void room_finish_wait(struct admission *admission) {
  sleep_flag_finish(&admission->acceptor_waits);
}
