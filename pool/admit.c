/* admit: see admit.h. */
#include "pool/admit.h"

#include "core/sys.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define NO_NODE 0 /* node 0 is nobody's, so that zeroed memory means empty chains */

int admit_init(struct admit *admit, const struct config *config, struct wake *wake) {
  *admit = (struct admit){.config = config, .wake = wake, .free = NO_NODE, .fresh = 1};
  if (config->max_per_ip == 0) {
    return 0;
  }
  /*
   * Twice the connections: a sweep then frees at least half of the nodes, so that its cost is
   * spread over as many accepts.  What is never used is never touched, and takes no memory.
   */
  admit->nodes_count = (uint32_t)min_u64(2 * config->max_connections, UINT32_C(1) << 30);
  uint32_t chains = 1;
  while (chains < admit->nodes_count) {
    chains *= 2;
  }
  admit->chains_mask = chains - 1;
  admit->nodes = calloc((size_t)admit->nodes_count + 1, sizeof(*admit->nodes));
  admit->chains = calloc(chains, sizeof(*admit->chains));
  if (admit->nodes == NULL || admit->chains == NULL) {
    admit_fini(admit);
    return -1;
  }
  if (getrandom(&admit->seed, sizeof(admit->seed), GRND_NONBLOCK) != sizeof(admit->seed)) {
    admit->seed = sys_now_ns();
  }
  return 0;
}

void admit_fini(struct admit *admit) {
  free(admit->nodes);
  free(admit->chains);
  admit->nodes = NULL;
  admit->chains = NULL;
}

static bool in_any(const struct config_blocks *list, const struct addr *addr) {
  /*
   * A walk over the list: the lists that operators write are short. A trie would pay from some
   * hundred blocks on.
   */
  for (size_t i = 0; i < list->count; i++) {
    if (addr_in_block(addr, &list->blocks[i])) {
      return true;
    }
  }
  return false;
}

static bool allowed(const struct admit *admit, const struct addr *addr) {
  const struct config *config = admit->config;
  return !in_any(&config->deny, addr) && (config->allow.count == 0 || in_any(&config->allow, addr));
}

/*
 * A chain for the 16 bytes of an address: two rounds of a 64-bit multiply and fold (as in wyhash),
 * keyed by the seed.
 */
static uint32_t chain_of(const struct admit *admit, const uint8_t bytes[16]) {
  uint64_t half[2];
  memcpy(half, bytes, sizeof(half));
  unsigned __int128 product =
      (unsigned __int128)(half[0] ^ admit->seed) * UINT64_C(0x9e3779b97f4a7c15);
  uint64_t mixed = (uint64_t)product ^ (uint64_t)(product >> 64) ^ half[1];
  product = (unsigned __int128)(mixed ^ admit->seed) * UINT64_C(0xd1342543de82ef95);
  return (uint32_t)((uint64_t)product ^ (uint64_t)(product >> 64)) & admit->chains_mask;
}

/*
 * Walk a chain: find the address, and take back every node on the way that nobody holds any more.
 */
static struct admit_node *find(struct admit *admit, uint32_t chain, const struct addr *key) {
  struct admit_node *found = NULL;
  uint32_t *link = &admit->chains[chain];
  while (*link != NO_NODE) {
    struct admit_node *node = &admit->nodes[*link];
    if (key != NULL && node->family == key->family &&
        memcmp(node->bytes, key->bytes, sizeof(node->bytes)) == 0) {
      found = node;
    } else if (atom_load_acquire_u32(&node->live) == 0) { /* pairs with admit_leave */
      uint32_t index = *link;
      *link = node->next;
      node->next = admit->free;
      admit->free = index;
      continue;
    }
    link = &node->next;
  }
  return found;
}

/*
 * Take back every node that nobody holds, not just the first: a walk that stopped there would begin
 * anew for the next address, and each accept would cost a walk over half of the table.
 */
static void sweep(struct admit *admit) {
  for (uint32_t i = 0; i <= admit->chains_mask; i++) {
    find(admit, i, NULL);
  }
}

/*
 * A node that nobody holds: one that was taken back, or one that was never used, or after a sweep.
 */
static uint32_t take_node(struct admit *admit) {
  if (admit->free == NO_NODE && admit->fresh <= admit->nodes_count) {
    return admit->fresh++;
  }
  if (admit->free == NO_NODE) {
    sweep(admit);
  }
  assert(admit->free != NO_NODE); /* fewer connections than nodes */
  uint32_t index = admit->free;
  admit->free = admit->nodes[index].next;
  return index;
}

static struct admit_node *insert(struct admit *admit, uint32_t chain, const struct addr *key) {
  uint32_t index = take_node(admit);
  struct admit_node *node = &admit->nodes[index];
  memcpy(node->bytes, key->bytes, sizeof(node->bytes));
  node->family = key->family;
  node->next = admit->chains[chain];
  admit->chains[chain] = index;
  return node;
}

/* Count one more connection of ${addr}. Return: false at the limit. */
static bool count_address(struct admit *admit, const struct addr *addr, uint32_t *ip_slot) {
  struct addr key = *addr;
  if (key.family == ADDR_IPV6) {
    memset(key.bytes + 8, 0, 8); /* a /64 is one customer */
  }
  uint32_t chain = chain_of(admit, key.bytes);
  struct admit_node *node = find(admit, chain, &key);
  if (node == NULL) {
    node = insert(admit, chain, &key);
  }
  if (atom_load_relaxed_u32(&node->live) >= admit->config->max_per_ip) {
    return false;
  }
  atom_add_relaxed_u32(&node->live, 1);
  *ip_slot = (uint32_t)(node - admit->nodes);
  return true;
}

bool admit_enter(struct admit *admit, struct accepted_conn *accepted, enum xchg_reason *refused) {
  accepted->ip_slot = NO_IP_SLOT;
  if (accepted->addr.family == ADDR_UNIX) {
    return true;
  }
  if (!allowed(admit, &accepted->addr)) {
    *refused = XCHG_DENIED;
    return false;
  }
  if (admit->nodes != NULL && !count_address(admit, &accepted->addr, &accepted->ip_slot)) {
    *refused = XCHG_PER_IP;
    return false;
  }
  return true;
}

void admit_leave(struct admit *admit, uint32_t ip_slot) {
  if (ip_slot != NO_IP_SLOT) {
    atom_sub_release_u32(&admit->nodes[ip_slot].live, 1);
  }
}

void admit_freed(struct admit *admit) {
  if (atom_exchange_acq_rel_u32(&admit->wanted, 0) != 0) {
    wake_signal(admit->wake);
  }
}

void admit_want(struct admit *admit) { atom_exchange_acq_rel_u32(&admit->wanted, 1); }

void admit_unwant(struct admit *admit) { atom_exchange_acq_rel_u32(&admit->wanted, 0); }
