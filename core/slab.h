/*
 * slab: objects of one size, by the slot, from mapped chunks that go back to the kernel.
 *
 * Slots are numbered from 0; slot i is object i % per_chunk of chunk i / per_chunk.  A chunk is
 * mapped when the first of its slots is needed.  The lowest chunk with a free slot serves first, so
 * that the upper chunks run empty, and slab_trim unmaps every empty one: an allocator's own decay
 * does not run in a process that sleeps.  The bookkeeping stands outside of the objects; an
 * object's memory is the user's from the first byte to the last. The slot that is handed out is
 * always the lowest free one, and below objects_max.  After slab_init nothing but chunks is
 * allocated.  One thread at a time.
 */
#ifndef CORE_SLAB_H
#define CORE_SLAB_H

#include "core/base.h"

#define SLAB_NONE UINT32_MAX
#define SLAB_CHUNK_BYTES ((size_t)64 * 1024)

struct slab_chunk;

struct slab {
  struct slab_chunk *chunks; /* owns, with the two below in one mapping; chunks_max entries */
  uint64_t *bits;            /* a bit a slot: in use */
  uint64_t *full;            /* a bit a chunk: no free slot */
  size_t object_bytes;
  size_t chunk_bytes; /* what one chunk maps */
  uint32_t per_chunk; /* slots in a chunk */
  uint32_t words;     /* of bits that a chunk has */
  uint32_t chunks_max;
  uint32_t objects_max; /* the ceiling */
  uint32_t first;       /* no chunk below it has a free slot */
  uint32_t end;         /* no chunk from here on is mapped */
  uint32_t used;        /* slots in use */
  uint32_t empty;       /* mapped chunks without a slot in use */
};

/**
 * slab_init(slab, object_bytes, objects_max):
 * Prepare for at most ${objects_max} (1..2^30) objects of ${object_bytes} bytes each, rounded up to
 * 16, aligned to 64 where they are a multiple of it and else to 16.  A chunk holds
 * SLAB_CHUNK_BYTES, less where ${objects_max} objects need less, or one object where that is
 * larger.
 * Return: 0, or -1 with errno ENOMEM.
 */
int slab_init(struct slab *slab, size_t object_bytes, uint32_t objects_max);

/** Unmap everything, objects in use included. */
void slab_fini(struct slab *slab);

/**
 * slab_alloc(slab, slot): take an object; its contents are undefined (zero where the chunk is new).
 * Return: the object, its slot in ${*slot}; NULL at the ceiling or where the kernel has no memory.
 * O(1) but for the hint's walk over full chunks.
 */
void *slab_alloc(struct slab *slab, uint32_t *slot);

/** Give slot ${slot}, which is in use, back. */
void slab_free(struct slab *slab, uint32_t slot);

/**
 * The object in ${slot}; NULL where the slot is out of range or its chunk is not mapped. A free
 * slot yields its memory: the caller's generation tells.
 */
void *slab_at(const struct slab *slab, uint32_t slot);

/**
 * The first slot in use at or after ${slot}, or SLAB_NONE: to visit all objects in slices. Objects
 * freed or taken meanwhile are no danger.
 */
uint32_t slab_next(const struct slab *slab, uint32_t slot);

/** Unmap every chunk without an object in use. */
void slab_trim(struct slab *slab);

#endif
