/*
 * buf: see buf.h.
 *
 * An append makes room in the cheapest possible way: after the last byte, by moving the bytes to
 * the front if at least as many were consumed, or in a block of at least twice the size.  So each
 * byte moves a bounded number of times, and the cost of a stream is linear in its bytes.
 *
 *   bytes <= bytes_max at all times, even while the old and the new block both exist
 *   block of a class = 2^(7 + class), from classes[class]; a spare one is in use for the slab only
 *   a longer block   = a mapping, slot == SLAB_NONE
 *   staging block    = the owner's, slot == BUF_STAGING; empty while pool->staging points to it
 */
#include "core/buf.h"

#include "core/sys.h"

#include <assert.h>
#include <errno.h>

#define BLOCK_MIN_SHIFT 7
#define BLOCKS_MAX (UINT32_C(1) << 30) /* the limit of a slab */

/* Larger requests fail at once. Sums with this size cannot overflow. */
#define SIZE_LIMIT (SIZE_MAX / 8)

static_assert(sizeof(struct buf) == 40, "the head costs every small block this much");
static_assert(BUF_BLOCK_MIN == 1 << BLOCK_MIN_SHIFT, "classes count from the smallest block");
static_assert(BUF_BLOCK_MAX == (size_t)BUF_BLOCK_MIN << (BUF_CLASSES - 1), "one class a power");

int buf_pool_init(struct buf_pool *pool, uint32_t bufs_max, uint64_t bytes_max) {
  assert(bufs_max > 0);
  *pool = (struct buf_pool){.bytes_max = bytes_max};
  for (size_t i = 0; i < BUF_CLASSES; i++) {
    size_t block = (size_t)BUF_BLOCK_MIN << i;
    uint64_t count = min_u64(min_u64(bufs_max, bytes_max / block), BLOCKS_MAX);
    if (slab_init(&pool->classes[i], block, (uint32_t)max_u64(count, 1)) == -1) {
      buf_pool_fini(pool);
      return fail(ENOMEM);
    }
  }
  return 0;
}

static void free_spares(struct buf_pool *pool) {
  for (size_t i = 0; i < BUF_CLASSES; i++) {
    if (pool->spare[i] != NULL) {
      slab_free(&pool->classes[i], pool->spare[i]->slot);
      pool->spare[i] = NULL;
    }
  }
}

void buf_pool_fini(struct buf_pool *pool) {
  for (size_t i = 0; i < BUF_CLASSES; i++) {
    slab_fini(&pool->classes[i]);
    pool->spare[i] = NULL;
  }
  pool->staging = NULL;
  pool->bytes = 0;
}

void buf_pool_stage(struct buf_pool *pool, void *memory, size_t size) {
  pool->staging = memory;
  *pool->staging = (struct buf){.block = size, .slot = BUF_STAGING};
}

bool buf_pool_idle(const struct buf_pool *pool) {
  for (size_t i = 0; pool->touched && i < BUF_CLASSES; i++) {
    if (pool->classes[i].empty > 0 || pool->spare[i] != NULL) {
      return true;
    }
  }
  return false;
}

void buf_pool_trim(struct buf_pool *pool) {
  free_spares(pool);
  pool->touched = false;
  for (size_t i = 0; i < BUF_CLASSES; i++) {
    slab_trim(&pool->classes[i]);
    pool->touched = pool->touched || pool->classes[i].used > 0 || pool->classes[i].empty > 0;
  }
}

/** The size, a power of two, of the block that holds a head and ${size} bytes. */
static size_t block_for(size_t size) {
  size_t need = max_u64(sizeof(struct buf) + size, BUF_BLOCK_MIN);
  return (size_t)1 << (64 - __builtin_clzll(need - 1));
}

static uint32_t class_of(size_t block) {
  return (uint32_t)__builtin_ctzll(block) - BLOCK_MIN_SHIFT;
}

static size_t capacity(const struct buf *buf) { return buf->block - sizeof(struct buf); }

/** Does the limit allow ${bytes} more? */
static bool free_bytes(const struct buf_pool *pool, uint64_t bytes) {
  return bytes <= pool->bytes_max && pool->bytes <= pool->bytes_max - bytes;
}

/* Take a block of a class: the spare one, else one from its slab. Return: it, or NULL. */
static struct buf *class_take(struct buf_pool *pool, uint32_t class, uint32_t *slot) {
  struct buf *buf = pool->spare[class];
  pool->touched = true;
  if (buf == NULL) {
    return slab_alloc(&pool->classes[class], slot);
  }
  pool->spare[class] = NULL;
  *slot = buf->slot;
  return buf;
}

/** Take an empty buf of ${block} bytes. Return: it, or NULL. */
static struct buf *block_take(struct buf_pool *pool, size_t block) {
  if (!free_bytes(pool, block)) {
    return NULL;
  }
  uint32_t slot = SLAB_NONE;
  struct buf *buf;
  if (block <= BUF_BLOCK_MAX) {
    buf = class_take(pool, class_of(block), &slot);
  } else {
    buf = sys_map(block);
    buf = (void *)buf == MAP_FAILED ? NULL : buf;
  }
  if (buf != NULL) {
    *buf = (struct buf){.block = block, .slot = slot};
    pool->bytes += block;
  }
  return buf;
}

void buf_release(struct buf_pool *pool, struct buf **buf) {
  struct buf *old = *buf;
  *buf = NULL;
  if (old == NULL) {
    return;
  }
  if (old->slot == BUF_STAGING) {
    old->begin = old->end = old->scanned = 0;
    pool->staging = old;
    return;
  }
  assert(pool->bytes >= old->block);
  pool->bytes -= old->block;
  if (old->slot == SLAB_NONE) {
    (void)sys_unmap(old, old->block); /* if refused at vm.max_map_count, the memory is lost */
    return;
  }
  uint32_t class = class_of(old->block);
  if (pool->spare[class] == NULL) {
    pool->spare[class] = old;
  } else {
    slab_free(&pool->classes[class], old->slot);
  }
}

/** Move the bytes to the front of the block. */
static void compact(struct buf *buf) {
  size_t waiting = buf_size(buf);
  memmove(buf->bytes, buf->bytes + buf->begin, waiting);
  buf->begin = 0;
  buf->end = waiting;
}

/** Enlarge ${*buf}, which is a mapping, to ${block} bytes. Return: 0, or -1. */
static int remap(struct buf_pool *pool, struct buf **buf, size_t block) {
  size_t old_block = (*buf)->block;
  if (!free_bytes(pool, block - old_block)) {
    return -1;
  }
  struct buf *moved = sys_remap(*buf, old_block, block);
  if ((void *)moved == MAP_FAILED) {
    return -1;
  }
  pool->bytes += block - old_block;
  moved->block = block;
  *buf = moved;
  return 0;
}

/** Move the bytes of ${*buf} to a new block of ${block} bytes. Return: 0, or -1. */
static int move(struct buf_pool *pool, struct buf **buf, size_t block) {
  struct buf *old = *buf;
  struct buf *moved = block_take(pool, block);
  if (moved == NULL) {
    return -1;
  }
  moved->scanned = old->scanned;
  moved->end = buf_size(old);
  memcpy(moved->bytes, buf_data(old), moved->end);
  buf_release(pool, buf);
  *buf = moved;
  return 0;
}

/** Move ${*buf} to a larger block with room for ${size} more bytes. Return: 0, or -1. */
static int grow(struct buf_pool *pool, struct buf **buf, size_t size) {
  struct buf *old = *buf;
  size_t block = block_for(buf_size(old) + size);
  if (old->slot == BUF_STAGING) {
    return move(pool, buf, block);
  }
  block = max_u64(block, 2 * old->block);
  if (old->slot == SLAB_NONE) {
    if (remap(pool, buf, block) == -1) {
      return -1;
    }
    if (buf_room(*buf) < size) {
      compact(*buf);
    }
    return 0;
  }
  return move(pool, buf, block);
}

/** Make room for ${size} bytes after the last byte of ${*buf}. Return: 0, or -1. */
static int make_room(struct buf_pool *pool, struct buf **buf, size_t size) {
  struct buf *old = *buf;
  size_t all = capacity(old);
  if (buf_room(old) >= size) {
    return 0;
  }
  bool fits = all - buf_size(old) >= size;
  if (fits && old->begin >= all / 2) {
    compact(old);
    return 0;
  }
  if (grow(pool, buf, size) == 0) {
    return 0;
  }
  if (!fits) {
    return -1;
  }
  compact(old); /* at the limit, a costly move is better than a failure */
  return 0;
}

int buf_append(struct buf_pool *pool, struct buf **buf, const void *data, size_t size) {
  if (size == 0) {
    return 0;
  }
  if (size > SIZE_LIMIT) {
    return -1;
  }
  if (*buf == NULL) {
    *buf = block_take(pool, block_for(size));
    if (*buf == NULL) {
      return -1;
    }
  } else if (make_room(pool, buf, size) == -1) {
    return -1;
  }
  memcpy((*buf)->bytes + (*buf)->end, data, size);
  (*buf)->end += size;
  return 0;
}

int buf_unstage(struct buf_pool *pool, struct buf **buf) {
  if (*buf == NULL || (*buf)->slot != BUF_STAGING) {
    return 0;
  }
  return move(pool, buf, block_for(buf_size(*buf)));
}
