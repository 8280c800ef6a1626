/*
 * token_bucket: limits how many lines of a kind are logged a second, so that a flood of connections
 * does not flood the log.
 *
 * A bucket holds a second's tokens and fills evenly.  Its state is the time at which it is full.
 * It has one user and reads no clock.
 */
#ifndef CORE_TOKEN_BUCKET_H
#define CORE_TOKEN_BUCKET_H

#include "core/base.h"

#include <stdbool.h>

struct token_bucket {
  uint64_t token_ns;   /* constant: the time for one token */
  uint64_t full_ns;    /* when it is full; it is empty a second before that */
  uint64_t suppressed; /* refusals since the last token that was taken */
};

/** A full bucket with ${per_second} tokens, at least 1. */
static inline void token_bucket_init(struct token_bucket *bucket, uint32_t per_second) {
  *bucket = (struct token_bucket){.token_ns = NS_PER_S / per_second};
}

/**
 * Take a token at ${now_ns}, which may go back. Return: was there one? Then ${*suppressed} is how
 * often there was none since the last one.
 */
static inline bool token_bucket_take(struct token_bucket *bucket, uint64_t now_ns,
                                     uint64_t *suppressed) {
  uint64_t full_ns = max_u64(bucket->full_ns, now_ns) + bucket->token_ns;
  if (full_ns - now_ns > NS_PER_S) {
    bucket->suppressed++;
    return false;
  }
  bucket->full_ns = full_ns;
  *suppressed = bucket->suppressed;
  bucket->suppressed = 0;
  return true;
}

#endif
