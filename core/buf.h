/*
 * buf: byte queues that use memory only while they hold bytes.
 *
 * An empty queue is NULL.  The first append takes a block from the worker's pool, and the consume
 * that empties the queue returns it.  Block sizes are the powers of two from BUF_BLOCK_MIN to
 * BUF_BLOCK_MAX, with a slab for each.  A larger block is a mapping that grows by mremap.  A block
 * grows only when bytes arrive.  A new one has BUF_BLOCK_MIN bytes, or at most four times, usually
 * twice, the head and the bytes in it.  The pool keeps the last returned block of each size ready.
 *
 * A pool may have a staging block: memory of the owner for a queue that is soon empty again.  It is
 * always there, so to stage needs no memory and costs a copy.  What has to stay longer moves to a
 * block of its own (buf_unstage).
 * One thread at a time uses a pool and its queues.
 */
#ifndef CORE_BUF_H
#define CORE_BUF_H

#include "core/slab.h"

#include <stdbool.h>
#include <string.h>

#define BUF_BLOCK_MIN 128
#define BUF_BLOCK_MAX ((size_t)128 * 1024)
#define BUF_CLASSES 11 /* 2^7 .. 2^17 */

/* The slot of the staging block. */
#define BUF_STAGING (SLAB_NONE - 1)

struct buf {
  size_t begin;   /* offset of the first byte in the queue */
  size_t end;     /* offset after the last one */
  size_t scanned; /* the user's: bytes from begin already searched; a consume sets 0 */
  size_t block;   /* size of the block with this head, a power of two if it is no staging block */
  uint32_t slot;  /* in the slab of its size; SLAB_NONE = a mapping; BUF_STAGING */
  uint32_t unused;
  uint8_t bytes[];
};

struct buf_pool {
  struct slab classes[BUF_CLASSES];
  struct buf *spare[BUF_CLASSES]; /* owns; a free block, or NULL */
  bool touched;                   /* classes may have memory: one was used since the last trim */
  struct buf *staging;            /* borrows; the staging block; NULL = in use, or there is none */
  uint64_t bytes;                 /* bytes of all blocks in use, without the staging block */
  uint64_t bytes_max;             /* the limit on bytes */
};

/**
 * buf_pool_init(pool, bufs_max, bytes_max):
 * Allow at most ${bufs_max} queues that are not empty, with blocks of ${bytes_max} bytes in total.
 * Return: 0, or -1 with errno ENOMEM.
 */
int buf_pool_init(struct buf_pool *pool, uint32_t bufs_max, uint64_t bytes_max);
void buf_pool_fini(struct buf_pool *pool);

/**
 * buf_pool_stage(pool, memory, size):
 * Make ${size} bytes at ${memory}, aligned as a struct buf, the staging block of ${pool}.  They
 * hold the head and what is staged.
 * Own: the caller keeps ${memory}, and frees it after the pool.
 */
void buf_pool_stage(struct buf_pool *pool, void *memory, size_t size);

/** Is there memory that buf_pool_trim would return to the kernel? */
bool buf_pool_idle(const struct buf_pool *pool);
void buf_pool_trim(struct buf_pool *pool);

/** The number of bytes in ${buf}, which may be NULL, and the first one of a ${buf} not NULL. */
static inline size_t buf_size(const struct buf *buf) {
  return buf == NULL ? 0 : buf->end - buf->begin;
}
static inline const uint8_t *buf_data(const struct buf *buf) { return buf->bytes + buf->begin; }

/** The free bytes after the last one of ${buf}, which may be NULL. */
static inline size_t buf_room(const struct buf *buf) {
  return buf == NULL ? 0 : buf->block - sizeof(struct buf) - buf->end;
}

/**
 * buf_append(pool, buf, data, size):
 * Append ${size} bytes to the queue ${*buf}, which may be NULL and may move. ${data} must not be in
 * ${*buf}. 0 bytes do nothing.
 * Return: 0, or -1 at the limit or without memory, with ${*buf} unchanged.
 */
int buf_append(struct buf_pool *pool, struct buf **buf, const void *data, size_t size);

/**
 * buf_stage(pool, buf, data, size):
 * The same, but an empty queue takes the staging block if that is free and large enough.
 */
static inline int buf_stage(struct buf_pool *pool, struct buf **buf, const void *data,
                            size_t size) {
  struct buf *to = *buf == NULL ? pool->staging : *buf;
  if (size == 0 || size > buf_room(to)) {
    return buf_append(pool, buf, data, size);
  }
  if (*buf == NULL) {
    pool->staging = NULL;
    *buf = to;
  }
  memcpy(to->bytes + to->end, data, size);
  to->end += size;
  return 0;
}

/**
 * Move the bytes of ${*buf}, which may be NULL, out of the staging block if they are in it.
 * Return: 0, or -1 at the limit or without memory, with ${*buf} unchanged.
 */
int buf_unstage(struct buf_pool *pool, struct buf **buf);

/** Return the block of ${*buf} with its contents, and set ${*buf} to NULL. It may be NULL. */
void buf_release(struct buf_pool *pool, struct buf **buf);

/**
 * Remove the first ${size} bytes, or all if there are fewer. If the queue is then empty, its block
 * returns to ${pool} and ${*buf} becomes NULL.
 */
static inline void buf_consume(struct buf_pool *pool, struct buf **buf, size_t size) {
  if (size >= buf_size(*buf)) {
    buf_release(pool, buf);
  } else {
    (*buf)->begin += size;
    (*buf)->scanned = 0;
  }
}

#endif
