/*
 * slab: see slab.h.
 *
 * The metadata is one bit per slot (in use), one bit per chunk (full) and 16 bytes per chunk.  It
 * is mapped once, for objects_max, and never becomes resident where it is not used.  Objects of
 * 128 bytes cost 0.16 bytes of metadata each.
 *
 *   bits[c * words + i / 64] bit i % 64  =  slot c << shift | i is in use
 *   full[c / 64] bit c % 64              =  chunks[c].used == per_chunk
 *   used = sum of chunks[].used          empty = chunks that are mapped and have used == 0
 *
 * The lowest free bit of the lowest chunk that is not full is the lowest free slot.  Fewer than
 * objects_max slots are in use when one is allocated, so it is below objects_max, even if the last
 * chunk has room for more.
 */
#include "core/slab.h"

#include "core/sys.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>

#define OBJECT_ALIGN ((size_t)16)
#define PAGE_BYTES ((size_t)4096) /* a kernel with larger pages rounds up further */
#define WORD_BITS 64u
#define OBJECTS_MAX (UINT32_C(1) << 30)

static size_t round_up(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

static uint32_t words_for(uint32_t bits) { return (bits + WORD_BITS - 1) / WORD_BITS; }

/** The chunk's part of the bitmap of slots. */
static uint64_t *chunk_bits(const struct slab *slab, uint32_t chunk) {
  return slab->bits + (size_t)chunk * slab->words;
}

static bool bit_get(const uint64_t *words, uint32_t bit) {
  return (words[bit / WORD_BITS] >> bit % WORD_BITS & 1) != 0;
}

static void bit_set(uint64_t *words, uint32_t bit) {
  words[bit / WORD_BITS] |= UINT64_C(1) << bit % WORD_BITS;
}

static void bit_clear(uint64_t *words, uint32_t bit) {
  words[bit / WORD_BITS] &= ~(UINT64_C(1) << bit % WORD_BITS);
}

/** The first clear bit in the word of ${bit} or a later one. There must be one. */
static uint32_t bit_first_clear(const uint64_t *words, uint32_t bit) {
  uint32_t word = bit / WORD_BITS;
  while (words[word] == UINT64_MAX) {
    word++;
  }
  return word * WORD_BITS + (uint32_t)__builtin_ctzll(~words[word]);
}

/** Bytes of the array of chunks, of the bitmap of slots, and of both with the bitmap of chunks. */
static size_t chunks_bytes(const struct slab *slab) {
  return slab->chunks_max * sizeof(*slab->chunks);
}
static size_t bits_bytes(const struct slab *slab) {
  return (size_t)slab->chunks_max * slab->words * sizeof(*slab->bits);
}
static size_t metadata_bytes(const struct slab *slab) {
  return chunks_bytes(slab) + bits_bytes(slab) + words_for(slab->chunks_max) * sizeof(*slab->full);
}

/** Map the metadata. (calloc might touch all its pages.) Return: 0, or -1. */
static int metadata_map(struct slab *slab) {
  size_t size = metadata_bytes(slab);
  uint8_t *books = sys_map(size);
  if ((void *)books == MAP_FAILED) {
    *slab = (struct slab){.objects_max = 0};
    return fail(ENOMEM);
  }
  (void)sys_no_huge_pages(books, size); /* a failure costs memory only */
  slab->chunks = (void *)books;
  slab->bits = (void *)(books + chunks_bytes(slab));
  slab->full = (void *)(books + chunks_bytes(slab) + bits_bytes(slab));
  return 0;
}

int slab_init(struct slab *slab, size_t object_bytes, uint32_t objects_max) {
  assert(object_bytes > 0);
  assert(objects_max > 0 && objects_max <= OBJECTS_MAX);
  *slab = (struct slab){.objects_max = objects_max};
  slab->object_bytes = round_up(object_bytes, OBJECT_ALIGN);
  uint64_t fit = max_u64(SLAB_CHUNK_BYTES / slab->object_bytes, 1);
  /* the largest power of two that fits, or the smallest that is enough */
  slab->shift = (uint32_t)min_u64(63 - (uint32_t)__builtin_clzll(fit), bits_for(objects_max));
  slab->per_chunk = UINT32_C(1) << slab->shift;
  slab->chunk_bytes = round_up(slab->object_bytes * slab->per_chunk, PAGE_BYTES);
  slab->chunks_max = ((objects_max - 1) >> slab->shift) + 1;
  slab->words = words_for(slab->per_chunk);
  return metadata_map(slab);
}

/**
 * Unmap the memory of a chunk. The kernel refuses if that would split a mapping and the process has
 * vm.max_map_count mappings. The chunk then stays mapped. Return: was it unmapped?
 */
static bool chunk_unmap(struct slab *slab, uint32_t chunk) {
  if (sys_unmap(slab->chunks[chunk].base, slab->chunk_bytes) == -1) {
    return false;
  }
  slab->chunks[chunk].base = NULL;
  return true;
}

void slab_fini(struct slab *slab) {
  for (uint32_t chunk = 0; chunk < slab->end; chunk++) {
    if (slab->chunks[chunk].base != NULL) {
      (void)chunk_unmap(slab, chunk); /* if the kernel refuses, the memory is lost */
    }
  }
  if (slab->chunks != NULL) {
    (void)sys_unmap(slab->chunks, metadata_bytes(slab)); /* a failure leaks it */
  }
  *slab = (struct slab){.objects_max = 0};
}

/** Map the memory of a chunk that has none. Return: 0, or -1. */
static int chunk_map(struct slab *slab, uint32_t chunk) {
  void *base = sys_map(slab->chunk_bytes);
  if (base == MAP_FAILED) {
    return -1;
  }
  /* Chunks lie next to each other: a huge page would cover others that are not in use. */
  (void)sys_no_huge_pages(base, slab->chunk_bytes); /* a failure costs memory only */
  slab->chunks[chunk].base = base;
  slab->empty++;
  slab->end = (uint32_t)max_u64(slab->end, chunk + 1);
  return 0;
}

void *slab_alloc(struct slab *slab, uint32_t *slot) {
  if (slab->used == slab->objects_max) {
    return NULL;
  }
  if (slab->chunks[slab->first].used == slab->per_chunk) {
    slab->first = bit_first_clear(slab->full, slab->first);
    assert(slab->first < slab->chunks_max);
  }
  uint32_t index = slab->first;
  struct slab_chunk *chunk = &slab->chunks[index];
  if (chunk->base == NULL && chunk_map(slab, index) == -1) {
    return NULL;
  }
  uint64_t *bits = chunk_bits(slab, index);
  uint32_t object = bit_first_clear(bits, 0);
  assert(object < slab->per_chunk);
  bit_set(bits, object);
  if (chunk->used == 0) {
    slab->empty--;
  }
  chunk->used++;
  slab->used++;
  if (chunk->used == slab->per_chunk) {
    bit_set(slab->full, index);
  }
  *slot = index << slab->shift | object;
  return chunk->base + object * slab->object_bytes;
}

void slab_free(struct slab *slab, uint32_t slot) {
  assert(slot < slab->objects_max);
  uint32_t index = slot >> slab->shift;
  uint32_t object = slot & (slab->per_chunk - 1);
  uint64_t *bits = chunk_bits(slab, index);
  assert(bit_get(bits, object));
  bit_clear(bits, object);
  bit_clear(slab->full, index);
  slab->first = (uint32_t)min_u64(slab->first, index);
  slab->chunks[index].used--;
  slab->used--;
  if (slab->chunks[index].used == 0) {
    slab->empty++;
  }
}

/** The first object in use of ${chunk} at or after ${object}, or per_chunk if there is none. */
static uint32_t chunk_next(const struct slab *slab, uint32_t chunk, uint32_t object) {
  const uint64_t *bits = chunk_bits(slab, chunk);
  uint64_t skip = ~UINT64_C(0) << object % WORD_BITS;
  for (uint32_t word = object / WORD_BITS; word < slab->words; word++) {
    uint64_t found = bits[word] & skip;
    if (found != 0) {
      return word * WORD_BITS + (uint32_t)__builtin_ctzll(found);
    }
    skip = ~UINT64_C(0);
  }
  return slab->per_chunk;
}

uint32_t slab_next(const struct slab *slab, uint32_t slot) {
  if (slot >= slab->objects_max) {
    return SLAB_NONE;
  }
  uint32_t object = slot & (slab->per_chunk - 1);
  for (uint32_t chunk = slot >> slab->shift; chunk < slab->end; chunk++) {
    if (slab->chunks[chunk].used > 0) {
      object = chunk_next(slab, chunk, object);
      if (object < slab->per_chunk) {
        return chunk << slab->shift | object;
      }
    }
    object = 0;
  }
  return SLAB_NONE;
}

void slab_trim(struct slab *slab) {
  for (uint32_t chunk = 0; chunk < slab->end && slab->empty > 0; chunk++) {
    bool empty = slab->chunks[chunk].base != NULL && slab->chunks[chunk].used == 0;
    if (empty && chunk_unmap(slab, chunk)) {
      slab->empty--;
    }
  }
  while (slab->end > 0 && slab->chunks[slab->end - 1].base == NULL) {
    slab->end--;
  }
}
