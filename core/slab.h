/*
 * slab: allocates objects of one size and numbers them by slot.
 *
 * Memory comes in mapped chunks.  Slot i is object i % per_chunk of chunk i / per_chunk, and
 * per_chunk is a power of two, so that no slot costs a division.  A chunk is mapped when the first
 * of its slots is needed.  slab_alloc always returns the lowest free slot, so that the upper chunks
 * become empty, and slab_trim unmaps each empty chunk.  (The decay of a general allocator does not
 * run in a process that sleeps.)  All bytes of an object are the user's, because the metadata is
 * separate.  After slab_init only chunks are allocated. One thread at a time uses a slab.
 */
#ifndef CORE_SLAB_H
#define CORE_SLAB_H

#include "core/base.h"

#define SLAB_NONE UINT32_MAX
#define SLAB_CHUNK_BYTES ((size_t)64 * 1024)

struct slab_chunk {
  uint8_t *base; /* owns; NULL = not mapped */
  uint32_t used;
  uint32_t unused;
};

struct slab {
  struct slab_chunk *chunks; /* owns; chunks_max entries, one mapping with bits and full */
  uint64_t *bits;            /* one bit per slot: in use */
  uint64_t *full;            /* one bit per chunk: no free slot */
  size_t object_bytes;
  size_t chunk_bytes; /* size of a chunk's mapping */
  uint32_t per_chunk; /* slots in a chunk, a power of two */
  uint32_t shift;     /* its logarithm */
  uint32_t words;     /* words of bits per chunk */
  uint32_t chunks_max;
  uint32_t objects_max; /* the limit on slots */
  uint32_t first;       /* no chunk below it has a free slot */
  uint32_t end;         /* this chunk and those above it are not mapped */
  uint32_t used;        /* slots in use */
  uint32_t empty;       /* mapped chunks without a slot in use */
};

/**
 * slab_init(slab, object_bytes, objects_max):
 * Prepare for at most ${objects_max} (1..2^30) objects of ${object_bytes} bytes, rounded up to a
 * multiple of 16. They are aligned to 64 if their size is a multiple of it, else to 16. A chunk has
 * SLAB_CHUNK_BYTES at most. It has more if one object needs more.
 * Return: 0, or -1 with errno ENOMEM.
 */
int slab_init(struct slab *slab, size_t object_bytes, uint32_t objects_max);

/** Unmap all memory, including objects in use. */
void slab_fini(struct slab *slab);

/**
 * slab_alloc(slab, slot):
 * Allocate an object and store its slot in ${*slot}. Its contents are undefined. The cost is O(1)
 * except for the search past full chunks.
 * Return: the object, or NULL at the limit or if the kernel has no memory.
 */
void *slab_alloc(struct slab *slab, uint32_t *slot);

/** Free ${slot}, which must be in use. */
void slab_free(struct slab *slab, uint32_t slot);

/**
 * The object in ${slot}, or NULL if the slot is out of range or its chunk is not mapped. The slot
 * may be free: the caller keeps a generation in the object to detect that.
 */
static inline void *slab_at(const struct slab *slab, uint32_t slot) {
  if (slot >= slab->objects_max) {
    return NULL;
  }
  uint8_t *base = slab->chunks[slot >> slab->shift].base;
  return base == NULL ? NULL : base + (slot & (slab->per_chunk - 1)) * slab->object_bytes;
}

/**
 * The first slot in use at or after ${slot}, or SLAB_NONE. It serves to visit all objects in steps.
 * Objects may be allocated and freed between two calls.
 */
uint32_t slab_next(const struct slab *slab, uint32_t slot);

/** Unmap every chunk without an object in use. */
void slab_trim(struct slab *slab);

#endif
