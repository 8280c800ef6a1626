/*
 * check_slab: slots, memory that is returned, and a kernel without memory.
 *
 * The random test compares with an array of flags: slab_alloc gives the lowest free slot, slab_next
 * finds the same slots, and every object keeps its bytes. Its seed is printed, and CHECK_SEED sets
 * it.
 */
#include "core/slab.h"

#include "tests/fixtures/memory_fixture.h"
#include "tests/fixtures/random.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE ((size_t)4096)

static const struct {
  size_t object_bytes;
  uint32_t objects_max, per_chunk;
  size_t chunk_bytes, align;
} shapes[] = {
    {1, 10000, 4096, 65536, 16},   {16, 1, 1, PAGE, 16},
    {100, 3, 4, PAGE, 16},         {128, 1000, 512, 65536, 64},
    {160, 1, 1, PAGE, 16},         {160, 5000, 256, 10 * PAGE, 16},
    {4096, 40, 16, 65536, 64},     {40000, 5, 1, 10 * PAGE, 64},
    {65536, 3, 1, 65536, 64},      {128 * 1024, 4, 1, 128 * 1024, 64},
    {200001, 2, 1, 49 * PAGE, 16},
};

/* Has the mapping that contains ${memory} this flag of proc_pid_smaps(5)? */
static bool has_flag(const void *memory, const char *flag) {
  char line[512];
  bool inside = false, found = false;
  FILE *maps = fopen("/proc/self/smaps", "re");
  ck_assert_ptr_nonnull(maps);
  while (fgets(line, sizeof(line), maps) != NULL) {
    uintptr_t begin, end;
    if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &begin, &end) == 2) {
      inside = begin <= (uintptr_t)memory && (uintptr_t)memory < end;
    } else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
      found = strstr(line, flag) != NULL;
    }
  }
  fclose(maps);
  return found;
}

/* Few of many objects are in use: neither their memory nor the metadata has huge pages. */
START_TEST(no_huge_pages) {
  struct slab slab;
  uint32_t slot;
  if (access("/sys/kernel/mm/transparent_hugepage", F_OK) == -1) {
    return;
  }
  ck_assert_int_eq(slab_init(&slab, 128, UINT32_C(1) << 24), 0);
  void *object = slab_alloc(&slab, &slot);
  ck_assert_ptr_nonnull(object);
  ck_assert(has_flag(object, " nh"));
  ck_assert(has_flag(slab.bits, " nh"));
  slab_free(&slab, slot);
  slab_fini(&slab);
}
END_TEST

/*
 * Every shape is filled to its limit and emptied: objects are aligned and do not overlap, and no
 * memory is left.
 */
START_TEST(shapes_are_filled_and_emptied) {
  struct slab slab;
  uint32_t max = shapes[_i].objects_max;
  size_t bytes = shapes[_i].object_bytes;
  ck_assert_int_eq(slab_init(&slab, bytes, max), 0);
  size_t books = mapped_bytes;
  ck_assert_uint_eq(slab.per_chunk, shapes[_i].per_chunk);
  ck_assert_uint_eq(slab.chunk_bytes, shapes[_i].chunk_bytes);
  uint32_t slot;
  unsigned wrong = 0; /* reported once at the end, as an assertion costs a system call */
  for (uint32_t i = 0; i < max; i++) {
    uint8_t *object = slab_alloc(&slab, &slot);
    ck_assert_ptr_nonnull(object);
    wrong += slot != i || object != slab_at(&slab, slot);
    wrong += (uintptr_t)object % shapes[_i].align != 0;
    memset(object, (int)(i % 251), bytes);
  }
  slot = 77;
  ck_assert_ptr_null(slab_alloc(&slab, &slot));
  ck_assert_uint_eq(slot, 77);
  ck_assert_uint_eq(slab.used, max);
  ck_assert_uint_eq(mapped_bytes - books, slab.chunks_max * slab.chunk_bytes);
  for (uint32_t i = max; i-- > 0;) {
    uint8_t *object = slab_at(&slab, i);
    wrong += object[0] != i % 251 || memcmp(object, object + 1, bytes - 1) != 0;
    slab_free(&slab, i);
  }
  ck_assert_uint_eq(wrong, 0);
  ck_assert_uint_eq(slab.empty, slab.chunks_max);
  slab_trim(&slab);
  ck_assert_uint_eq(mapped_bytes, books);
  ck_assert_uint_eq(slab.empty, 0);
  ck_assert_uint_eq(slab.end, 0);
  ck_assert_ptr_null(slab_at(&slab, 0));
  ck_assert_uint_eq(slab_next(&slab, 0), SLAB_NONE);
  slab_fini(&slab);
  ck_assert_uint_eq(mapped_bytes, 0);
}
END_TEST

START_TEST(one_object_maps_one_page) {
  struct slab slab;
  uint32_t slot;
  ck_assert_int_eq(slab_init(&slab, 160, 1), 0);
  size_t books = mapped_bytes;
  ck_assert_ptr_nonnull(slab_alloc(&slab, &slot));
  ck_assert_uint_eq(mapped_bytes - books, PAGE);
  slab_fini(&slab);
  ck_assert_uint_eq(mapped_bytes, 0);
}
END_TEST

START_TEST(slots_out_of_range) {
  struct slab slab;
  uint32_t slot;
  ck_assert_int_eq(slab_init(&slab, 160, 500), 0);
  ck_assert_ptr_null(slab_at(&slab, 0)); /* not mapped */
  ck_assert_ptr_nonnull(slab_alloc(&slab, &slot));
  ck_assert_ptr_nonnull(slab_at(&slab, 1)); /* free, but mapped: see the header */
  ck_assert_ptr_null(slab_at(&slab, 409));
  ck_assert_ptr_null(slab_at(&slab, 500));
  ck_assert_ptr_null(slab_at(&slab, SLAB_NONE));
  ck_assert_uint_eq(slab_next(&slab, 1), SLAB_NONE);
  ck_assert_uint_eq(slab_next(&slab, 500), SLAB_NONE);
  ck_assert_uint_eq(slab_next(&slab, SLAB_NONE), SLAB_NONE);
  slab_fini(&slab);
}
END_TEST

/* Chunks in the middle are unmapped and mapped again. Live objects in others do not move. */
START_TEST(trim_keeps_live_objects) {
  struct slab slab;
  uint32_t slot;
  ck_assert_int_eq(slab_init(&slab, 4096, 64), 0);
  size_t books = mapped_bytes;
  for (uint32_t i = 0; i < 64; i++) {
    *(uint32_t *)slab_alloc(&slab, &slot) = i;
  }
  for (uint32_t i = 0; i < 63; i++) { /* three of four chunks become empty */
    slab_free(&slab, i);
  }
  ck_assert_uint_eq(slab.empty, 3);
  slab_trim(&slab);
  ck_assert_uint_eq(mapped_bytes - books, slab.chunk_bytes);
  ck_assert_uint_eq(*(uint32_t *)slab_at(&slab, 63), 63);
  ck_assert_uint_eq(slab_next(&slab, 0), 63);
  uint8_t *object = slab_alloc(&slab, &slot);
  ck_assert_uint_eq(slot, 0);
  ck_assert_uint_eq(object[0], 0); /* new from the kernel */
  ck_assert_int_eq(memcmp(object, object + 1, 4095), 0);
  slab_fini(&slab); /* with objects in use */
  ck_assert_uint_eq(mapped_bytes, 0);
}
END_TEST

START_TEST(each_mapping_may_fail) {
  struct slab slab;
  uint32_t slot = 77;
  maps_left = 0;
  errno = 0;
  ck_assert_int_eq(slab_init(&slab, 160, 1000), -1);
  ck_assert_int_eq(errno, ENOMEM);
  slab_fini(&slab); /* a second call does nothing */
  maps_left = UINT32_MAX;
  ck_assert_int_eq(slab_init(&slab, 65536, 2), 0);
  ck_assert_ptr_nonnull(slab_alloc(&slab, &slot));
  maps_left = 0;
  ck_assert_ptr_null(slab_alloc(&slab, &slot));
  ck_assert_uint_eq(slab.used, 1);
  ck_assert_uint_eq(slab_next(&slab, 1), SLAB_NONE);
  maps_left = UINT32_MAX;
  ck_assert_ptr_nonnull(slab_alloc(&slab, &slot));
  ck_assert_uint_eq(slot, 1);
  slab_fini(&slab);
  ck_assert_uint_eq(mapped_bytes, 0);
}
END_TEST

static size_t resident_bytes(void) {
  FILE *file = fopen("/proc/self/statm", "r");
  size_t size = 0, resident = 0;
  ck_assert_ptr_nonnull(file);
  ck_assert_int_eq(fscanf(file, "%zu %zu", &size, &resident), 2);
  fclose(file);
  return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* A limit of 2^28 objects needs 33 MiB of metadata, which stays untouched. */
START_TEST(a_high_limit_costs_no_memory) {
  struct slab slab;
  uint32_t slot;
  size_t before = resident_bytes();
  ck_assert_int_eq(slab_init(&slab, 16, UINT32_C(1) << 28), 0);
  ck_assert_uint_gt(mapped_bytes, 32 << 20);
  ck_assert_ptr_nonnull(slab_alloc(&slab, &slot));
  ck_assert_uint_lt(resident_bytes(), before + (8 << 20));
  slab_fini(&slab);
}
END_TEST

#define MODEL_MAX 3000
#define MODEL_STEPS 60000

static uint32_t model_next(const bool *used, uint32_t slot, bool want) {
  while (slot < MODEL_MAX && used[slot] != want) {
    slot++;
  }
  return slot == MODEL_MAX ? SLAB_NONE : slot;
}

START_TEST(random_operations_match_the_model) {
  static bool used[MODEL_MAX];
  const size_t sizes[] = {16, 160, 1024, 65536};
  uint64_t state = random_seed();
  struct slab slab;
  ck_assert_int_eq(slab_init(&slab, sizes[_i], MODEL_MAX), 0);
  uint32_t count = 0;
  unsigned wrong = 0;
  for (int step = 0; step < MODEL_STEPS; step++) {
    uint64_t random = random_next(&state);
    bool filling = step / 4000 % 2 == 0; /* it grows and shrinks in turn */
    uint32_t at = (uint32_t)(random >> 8) % MODEL_MAX, slot;
    if (random % 100 < (filling ? 70 : 30)) {
      uint64_t *object = slab_alloc(&slab, &slot);
      wrong += (object == NULL) != (count == MODEL_MAX);
      if (object != NULL) {
        wrong += slot != model_next(used, 0, false);
        used[slot] = true;
        *object = slot * UINT64_C(0x100000001);
        count++;
      }
    } else if ((slot = model_next(used, at, true)) != SLAB_NONE) {
      wrong += *(uint64_t *)slab_at(&slab, slot) != slot * UINT64_C(0x100000001);
      slab_free(&slab, slot);
      used[slot] = false;
      count--;
    }
    wrong += slab_next(&slab, at) != model_next(used, at, true);
    if ((random >> 33) % 500 == 0) {
      slab_trim(&slab);
    }
    wrong += slab.used != count;
  }
  ck_assert_uint_eq(wrong, 0);
  slab_fini(&slab);
  ck_assert_uint_eq(mapped_bytes, 0);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {no_huge_pages, 1},
      {shapes_are_filled_and_emptied, count_of(shapes)},
      {one_object_maps_one_page, 1},
      {slots_out_of_range, 1},
      {trim_keeps_live_objects, 1},
      {each_mapping_may_fail, 1},
      {a_high_limit_costs_no_memory, 1},
      {random_operations_match_the_model, 4},
  };
  return run_suite_fixture("slab", tests, count_of(tests), memory_fixture_init,
                           memory_fixture_fini);
}
