/*
 * hash: 128 bits that identify a state.
 *
 * Two states count as one if their bits agree.  Of n different states, any two agree with a
 * probability of about n^2 / 2^129: for 10^8 states less than 10^-22.
 */
#ifndef TESTS_EXPLORE_HASH_H
#define TESTS_EXPLORE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct hash {
  uint64_t a, b;
};

static inline void hash_add(struct hash *hash, uint64_t value) {
  hash->a = (hash->a ^ value) * UINT64_C(0x9e3779b97f4a7c15);
  hash->a ^= hash->a >> 32;
  hash->b = (hash->b + value + 1) * UINT64_C(0xc2b2ae3d27d4eb4f);
  hash->b ^= hash->b >> 29;
}

static inline void hash_add_bytes(struct hash *hash, const void *data, size_t size) {
  const unsigned char *at = data;
  for (; size >= sizeof(uint64_t); size -= sizeof(uint64_t), at += sizeof(uint64_t)) {
    uint64_t word;
    memcpy(&word, at, sizeof(word));
    hash_add(hash, word);
  }
  uint64_t rest = 0;
  memcpy(&rest, at, size);
  hash_add(hash, rest);
}

#endif
