/*
 * buf: byte queues that use memory only while they hold bytes.
 *
 * An empty queue is NULL.  The first append takes a block from the worker's pool, and the consume
 * that empties the queue returns it.  Block sizes are the powers of two from BUF_BLOCK_MIN to
 * BUF_BLOCK_MAX, with a slab for each.  A larger block is a mapping that grows by mremap.  A block
 * grows only when bytes arrive.  A new one has BUF_BLOCK_MIN bytes, or at most four times, usually
 * twice, the head and the bytes in it.  The pool keeps the last returned block of each size ready,
 * because most replies are sent at once and the next one needs it again.
 * One thread at a time uses a pool and its queues.
 */
#ifndef CORE_BUF_H
#define CORE_BUF_H

#include "core/slab.h"

#include <stdbool.h>

#define BUF_BLOCK_MIN 128
#define BUF_BLOCK_MAX ((size_t)128 * 1024)
#define BUF_CLASSES 11 /* 2^7 .. 2^17 */

struct buf {
  size_t begin;   /* offset of the first byte in the queue */
  size_t end;     /* offset after the last one */
  size_t scanned; /* the user's: bytes from begin already searched; a consume sets 0 */
  size_t block;   /* size of the block with this head, a power of two */
  uint32_t slot;  /* in the slab of its size; SLAB_NONE = a mapping */
  uint32_t unused;
  uint8_t bytes[];
};

struct buf_pool {
  struct slab classes[BUF_CLASSES];
  struct buf *spare[BUF_CLASSES]; /* owns; a free block, or NULL */
  uint64_t bytes;                 /* bytes of all blocks in use */
  uint64_t bytes_max;             /* the limit on bytes */
};

/**
 * buf_pool_init(pool, bufs_max, bytes_max):
 * Allow at most ${bufs_max} queues that are not empty, with blocks of ${bytes_max} bytes in total.
 * Return: 0, or -1 with errno ENOMEM.
 */
int buf_pool_init(struct buf_pool *pool, uint32_t bufs_max, uint64_t bytes_max);
void buf_pool_fini(struct buf_pool *pool);

/** Is there memory that buf_pool_trim would return to the kernel? */
bool buf_pool_idle(const struct buf_pool *pool);
void buf_pool_trim(struct buf_pool *pool);

/**
 * buf_append(pool, buf, data, size):
 * Append ${size} bytes to the queue ${*buf}, which may be NULL and may move. ${data} must not be in
 * ${*buf}. 0 bytes do nothing.
 * Return: 0, or -1 at the limit or without memory, with ${*buf} unchanged.
 */
int buf_append(struct buf_pool *pool, struct buf **buf, const void *data, size_t size);

/**
 * Remove the first ${size} bytes, or all if there are fewer. If the queue is then empty, its block
 * returns to ${pool} and ${*buf} becomes NULL.
 */
void buf_consume(struct buf_pool *pool, struct buf **buf, size_t size);

/** Return the block of ${*buf} with its contents, and set ${*buf} to NULL. It may be NULL. */
void buf_release(struct buf_pool *pool, struct buf **buf);

/** The number of bytes in ${buf}, which may be NULL, and the first one of a ${buf} not NULL. */
static inline size_t buf_size(const struct buf *buf) {
  return buf == NULL ? 0 : buf->end - buf->begin;
}
static inline const uint8_t *buf_data(const struct buf *buf) { return buf->bytes + buf->begin; }

#endif
