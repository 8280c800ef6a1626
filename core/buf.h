/*
 * buf: byte queues that exist only while bytes wait.
 *
 * A connection holds NULL where it has nothing queued; the first append takes a block from the
 * worker's pool and the last consume gives it back.  Blocks come in powers of two,
 * BUF_BLOCK_MIN..BUF_BLOCK_MAX bytes from a slab each; what is longer is a mapping of its own that
 * grows by mremap.  A buf grows with the bytes that came and never ahead of them: a new block has
 * BUF_BLOCK_MIN bytes, or at most four times what it then holds (plus its head); usually twice.
 * The block of each size that was given back last is kept at hand, since most replies leave at once
 * and take it again.
 * One thread at a time.
 */
#ifndef CORE_BUF_H
#define CORE_BUF_H

#include "core/slab.h"

#include <stdbool.h>

#define BUF_BLOCK_MIN 128
#define BUF_BLOCK_MAX ((size_t)128 * 1024)
#define BUF_CLASSES 11 /* 2^7 .. 2^17 */

struct buf {
  size_t begin;   /* first byte that waits, an offset into bytes */
  size_t end;     /* behind the last one */
  size_t scanned; /* the user's: bytes from begin seen in vain by a search; 0 after a consume */
  size_t block;   /* bytes of the block, this head included: a power of two */
  uint32_t slot;  /* in the class's slab; SLAB_NONE: a mapping of its own */
  uint32_t unused;
  uint8_t bytes[];
};

struct buf_pool {
  struct slab classes[BUF_CLASSES];
  struct buf *spare[BUF_CLASSES]; /* owns: a free block; NULL = none */
  uint64_t bytes;                 /* bytes of blocks handed out */
  uint64_t bytes_max;             /* the ceiling */
};

/**
 * buf_pool_init(pool, bufs_max, bytes_max):
 * room for ${bufs_max} bufs at a time of ${bytes_max} bytes in all.
 * Return: 0, or -1 (ENOMEM).
 */
int buf_pool_init(struct buf_pool *pool, uint32_t bufs_max, uint64_t bytes_max);
void buf_pool_fini(struct buf_pool *pool);

/** Is there memory that buf_pool_trim would return? */
bool buf_pool_idle(const struct buf_pool *pool);
void buf_pool_trim(struct buf_pool *pool);

/**
 * buf_append(pool, buf, data, size):
 * Queue ${size} bytes behind what ${*buf} holds; ${*buf} is taken where it is NULL and may move.
 * ${data} does not lie in ${*buf}. 0 bytes do nothing.
 * Return: 0, or -1 at the ceiling or without memory; then ${*buf} is as it was.
 */
int buf_append(struct buf_pool *pool, struct buf **buf, const void *data, size_t size);

/**
 * Drop the first ${size} bytes (at most what waits); an empty buf goes back to ${pool} and ${*buf}
 * becomes NULL.
 */
void buf_consume(struct buf_pool *pool, struct buf **buf, size_t size);

/** Give ${*buf} back, whatever it holds; ${*buf} becomes NULL, and may be NULL. */
void buf_release(struct buf_pool *pool, struct buf **buf);

/** Bytes that wait in ${buf}; 0 for NULL. And where they begin (not for NULL). */
static inline size_t buf_size(const struct buf *buf) {
  return buf == NULL ? 0 : buf->end - buf->begin;
}
static inline const uint8_t *buf_data(const struct buf *buf) { return buf->bytes + buf->begin; }

#endif
