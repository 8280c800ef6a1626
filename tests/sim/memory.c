/*
 * memory: see memory.h.  --wrap leads malloc and its relatives here, from all objects of the
 * program.  The simulator itself allocates nothing during a run.
 */
#include "tests/sim/memory.h"

#include "tests/sim/world.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define MAPS_MAX 1024

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **block, size_t alignment, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **block, size_t alignment, size_t size);
void __wrap_free(void *memory);

static struct {
  int64_t blocks;
  uint32_t fails; /* the allocation after this many fails */
  uint32_t maps_count;
  struct {
    void *at;
    size_t size;
    bool lost; /* the kernel refused to unmap it */
  } maps[MAPS_MAX];
} memory;

void memory_reset(void) {
  memory.blocks = 0;
  memory.fails = 0;
  for (; memory.maps_count > 0; memory.maps_count--) {
    (void)munmap(memory.maps[memory.maps_count - 1].at, memory.maps[memory.maps_count - 1].size);
  }
}

void memory_fail(uint32_t nth) { memory.fails = nth; }

int64_t memory_blocks(void) { return memory.blocks; }

int64_t memory_maps(void) {
  int64_t count = 0;
  for (uint32_t i = 0; i < memory.maps_count; i++) {
    count += !memory.maps[i].lost;
  }
  return count;
}

static bool fails(void) {
  if (memory.fails > 0 && --memory.fails == 0) {
    world_trace("no memory");
    errno = ENOMEM;
    return true;
  }
  return false;
}

static void *count(void *block) {
  memory.blocks += block != NULL;
  return block;
}

void *__wrap_malloc(size_t size) { return fails() ? NULL : count(__real_malloc(size)); }

void *__wrap_calloc(size_t number, size_t size) {
  return fails() ? NULL : count(__real_calloc(number, size));
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
  return fails() ? NULL : count(__real_aligned_alloc(alignment, size));
}

int __wrap_posix_memalign(void **block, size_t alignment, size_t size) {
  if (fails()) {
    return ENOMEM;
  }
  int error = __real_posix_memalign(block, alignment, size);
  memory.blocks += error == 0;
  return error;
}

void __wrap_free(void *block) {
  memory.blocks -= block != NULL;
  __real_free(block);
}

/* ---- mappings ---- */

static uint32_t find(const void *at, size_t size) {
  for (uint32_t i = 0; i < memory.maps_count; i++) {
    if (memory.maps[i].at == at && memory.maps[i].size == size) {
      return i;
    }
  }
  world_fail("%p, %zu bytes, is unmapped but was not mapped", at, size);
  return 0;
}

static void forget(uint32_t i) { memory.maps[i] = memory.maps[--memory.maps_count]; }

void *memory_map(size_t size) {
  if (memory.maps_count == MAPS_MAX) {
    world_fail("the simulator has no room for mappings");
  }
  void *at =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at != MAP_FAILED) {
    memory.maps[memory.maps_count].at = at;
    memory.maps[memory.maps_count].lost = false;
    memory.maps[memory.maps_count++].size = size;
  }
  return at;
}

void *memory_remap(void *old, size_t old_size, size_t new_size) {
  uint32_t i = find(old, old_size);
  void *at = mremap(old, old_size, new_size, MREMAP_MAYMOVE);
  if (at != MAP_FAILED) {
    memory.maps[i].at = at;
    memory.maps[i].size = new_size;
  }
  return at;
}

int memory_unmap(void *at, size_t size) {
  forget(find(at, size));
  return munmap(at, size);
}

void memory_lose(void *at, size_t size) { memory.maps[find(at, size)].lost = true; }
