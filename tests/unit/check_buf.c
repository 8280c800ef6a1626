/*
 * check_buf: bytes come out as they went in, and the memory is what the header promises.
 *
 * The random test compares a few bufs of one pool with plain arrays, under a limit that is reached
 * often. Its seed is printed, and CHECK_SEED sets it.
 */
#include "core/buf.h"

#include "tests/fixtures/memory_fixture.h"
#include "tests/fixtures/random.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEAD sizeof(struct buf)
#define MIB ((size_t)1 << 20)
#define CEILING (64 * MIB)

static struct buf_pool pool;
static uint8_t bytes[8 * MIB]; /* what is appended; no two ranges are equal */

static void setup(void) {
  uint64_t state = 88172645463325252;
  for (size_t i = 0; i < sizeof(bytes); i += sizeof(state)) {
    random_next(&state);
    memcpy(bytes + i, &state, sizeof(state));
  }
  memory_fixture_init();
  ck_assert_int_eq(buf_pool_init(&pool, 1000, CEILING), 0);
}

static void teardown(void) {
  ck_assert_uint_eq(pool.bytes, 0);
  buf_pool_fini(&pool);
  ck_assert_uint_eq(mapped_bytes, 0);
  memory_fixture_fini();
}

/* The buf holds bytes[from..from + size). */
static void expect(const struct buf *buf, size_t from, size_t size) {
  ck_assert_uint_eq(buf_size(buf), size);
  if (size > 0) {
    ck_assert_int_eq(memcmp(buf_data(buf), bytes + from, size), 0);
  }
}

/* ---- the staging block ---- */

#define STAGED 104 /* bytes that fit into it */

static union {
  struct buf head;
  uint8_t memory[sizeof(struct buf) + STAGED];
} staging;

/* What fits is staged, without memory. More moves to a block, and the staging block is free. */
START_TEST(staging_needs_no_memory) {
  struct buf *buf = NULL;
  buf_pool_stage(&pool, &staging, sizeof(staging));
  for (int i = 0; i < 3; i++) {
    ck_assert_int_eq(buf_stage(&pool, &buf, bytes, 0), 0);
    ck_assert_ptr_null(buf);
    ck_assert_int_eq(buf_stage(&pool, &buf, bytes, 1), 0);
    ck_assert_int_eq(buf_stage(&pool, &buf, bytes + 1, STAGED - 1), 0);
    ck_assert_ptr_eq(buf, &staging.head);
    ck_assert_ptr_null(pool.staging);
    ck_assert_uint_eq(pool.bytes, 0);
    expect(buf, 0, STAGED);
    buf_consume(&pool, &buf, 30);
    expect(buf, 30, STAGED - 30);
    ck_assert_int_eq(buf_append(&pool, &buf, bytes + STAGED, (size_t)i), 0);
    expect(buf, 30, STAGED - 30 + (size_t)i);
    ck_assert_int_eq(buf != &staging.head, i > 0);
    ck_assert_int_eq(pool.staging != NULL, i > 0);
    buf_consume(&pool, &buf, SIZE_MAX);
    ck_assert_ptr_null(buf);
    ck_assert_ptr_eq(pool.staging, &staging.head);
  }
}
END_TEST

/* Only an empty queue takes the staging block, one at a time, and only for what fits. */
START_TEST(staging_block_is_for_one_queue) {
  struct buf *first = NULL, *second = NULL, *third = NULL;
  buf_pool_stage(&pool, &staging, sizeof(staging));
  ck_assert_int_eq(buf_append(&pool, &third, bytes, 1), 0);
  ck_assert_int_eq(buf_stage(&pool, &third, bytes + 1, 1), 0);
  ck_assert_int_eq(buf_stage(&pool, &first, bytes, STAGED + 1), 0);
  ck_assert_ptr_nonnull(pool.staging);
  buf_release(&pool, &first);
  ck_assert_int_eq(buf_stage(&pool, &first, bytes, 2), 0);
  ck_assert_ptr_null(pool.staging);
  ck_assert_int_eq(buf_stage(&pool, &second, bytes, 3), 0);
  expect(first, 0, 2);
  expect(second, 0, 3);
  expect(third, 0, 2);
  buf_release(&pool, &first);
  buf_release(&pool, &second);
  buf_release(&pool, &third);
  ck_assert_ptr_eq(pool.staging, &staging.head);
}
END_TEST

/* At the limit the bytes stay where they are. */
START_TEST(unstage_moves_the_bytes) {
  struct buf *buf = NULL;
  buf_pool_stage(&pool, &staging, sizeof(staging));
  ck_assert_int_eq(buf_unstage(&pool, &buf), 0);
  ck_assert_int_eq(buf_stage(&pool, &buf, bytes, STAGED), 0);
  buf_consume(&pool, &buf, 10);
  pool.bytes_max = BUF_BLOCK_MIN - 1;
  ck_assert_int_eq(buf_unstage(&pool, &buf), -1);
  ck_assert_int_eq(buf_append(&pool, &buf, bytes, STAGED), -1);
  expect(buf, 10, STAGED - 10);
  ck_assert_int_eq(buf_append(&pool, &buf, bytes + STAGED, 10), 0); /* by moving them */
  expect(buf, 10, STAGED);
  pool.bytes_max = CEILING;
  ck_assert_int_eq(buf_unstage(&pool, &buf), 0);
  ck_assert_ptr_eq(pool.staging, &staging.head);
  expect(buf, 10, STAGED);
  struct buf *same = buf;
  ck_assert_int_eq(buf_unstage(&pool, &buf), 0);
  ck_assert_ptr_eq(buf, same);
  buf_release(&pool, &buf);
}
END_TEST

/* ---- blocks ---- */

START_TEST(empty_bufs_have_no_memory) {
  struct buf *buf = NULL;
  ck_assert_uint_eq(buf_size(buf), 0);
  ck_assert_int_eq(buf_append(&pool, &buf, bytes, 0), 0);
  ck_assert_ptr_null(buf);
  buf_consume(&pool, &buf, 5);
  buf_release(&pool, &buf);
  ck_assert_ptr_null(buf);
  ck_assert(!buf_pool_idle(&pool));
}
END_TEST

/*
 * A buf that is filled at once has the smallest block that holds it. Consumed in any steps it is
 * gone.
 */
START_TEST(one_append_takes_the_smallest_block) {
  for (size_t block = BUF_BLOCK_MIN; block <= 4 * MIB; block *= 2) {
    for (size_t over = 0; over < 2; over++) {
      struct buf *buf = NULL;
      size_t size = block - HEAD + over;
      ck_assert_int_eq(buf_append(&pool, &buf, bytes, size), 0);
      ck_assert_uint_eq(buf->block, block << over);
      ck_assert_uint_eq(pool.bytes, buf->block);
      ck_assert((buf->slot == SLAB_NONE) == (buf->block > BUF_BLOCK_MAX));
      expect(buf, 0, size);
      buf->scanned = 3;
      buf_consume(&pool, &buf, size - 1);
      expect(buf, size - 1, 1);
      ck_assert_uint_eq(buf->scanned, 0);
      buf_consume(&pool, &buf, over == 0 ? 1 : SIZE_MAX);
      ck_assert_ptr_null(buf);
      ck_assert_uint_eq(pool.bytes, 0);
    }
  }
}
END_TEST

/*
 * In a stream of small appends the block has at most twice the size of its bytes, and searched
 * bytes are not searched again.
 */
START_TEST(small_appends_grow_the_block_by_two) {
  struct buf *buf = NULL;
  size_t size = 0;
  unsigned wrong = 0;
  while (size < MIB) {
    size_t step = 1 + size % 777;
    ck_assert_int_eq(buf_append(&pool, &buf, bytes + size, step), 0);
    wrong += buf->scanned != size;
    size += step;
    buf->scanned = size;
    wrong += buf->block != BUF_BLOCK_MIN && buf->block > 2 * (size + HEAD);
    wrong += pool.bytes != buf->block;
  }
  ck_assert_uint_eq(wrong, 0);
  expect(buf, 0, size);
  buf_release(&pool, &buf);
  ck_assert_ptr_null(buf);
}
END_TEST

/*
 * A queue that never gets empty has at most four times the size of its bytes, however long it runs.
 */
START_TEST(a_long_queue_stays_bounded) {
  const size_t holds[] = {1, 60, 87, 100, 3000, 200000};
  for (size_t h = 0; h < count_of(holds); h++) {
    struct buf *buf = NULL;
    size_t in = holds[h], out = 0;
    unsigned wrong = 0;
    ck_assert_int_eq(buf_append(&pool, &buf, bytes, in), 0);
    for (int i = 0; i < 20000; i++) {
      size_t step = 1 + (size_t)i % 7;
      wrong += buf_append(&pool, &buf, bytes + in, step) != 0;
      in += step;
      buf_consume(&pool, &buf, step);
      out += step;
      wrong += buf->block > max_u64(BUF_BLOCK_MIN, 4 * (holds[h] + 7 + HEAD));
      wrong += buf_size(buf) != holds[h] || buf_data(buf)[0] != bytes[out];
    }
    ck_assert_uint_eq(wrong, 0);
    expect(buf, out, holds[h]);
    buf_release(&pool, &buf);
  }
}
END_TEST

/*
 * Bytes move to the front only when at least as many have been consumed. Otherwise a full queue
 * would move often.
 */
START_TEST(bytes_move_seldom) {
  struct buf *buf = NULL;
  ck_assert_int_eq(buf_append(&pool, &buf, bytes, 88), 0);
  buf_consume(&pool, &buf, 43);
  ck_assert_int_eq(buf_append(&pool, &buf, bytes + 88, 1), 0);
  ck_assert_uint_eq(buf->block, 2 * BUF_BLOCK_MIN);
  expect(buf, 43, 46);
  buf_release(&pool, &buf);
  ck_assert_int_eq(buf_append(&pool, &buf, bytes, 88), 0);
  buf_consume(&pool, &buf, 44);
  ck_assert_int_eq(buf_append(&pool, &buf, bytes + 88, 44), 0);
  ck_assert_uint_eq(buf->block, BUF_BLOCK_MIN);
  expect(buf, 44, 88);
  buf_release(&pool, &buf);
}
END_TEST

/* A mapping that grows to exactly the size needed closes the gap at its front. */
START_TEST(mapping_grows_to_the_exact_size) {
  struct buf *buf = NULL;
  size_t half = 2 * BUF_BLOCK_MAX - HEAD, whole = 4 * BUF_BLOCK_MAX - HEAD;
  ck_assert_int_eq(buf_append(&pool, &buf, bytes, half), 0);
  buf_consume(&pool, &buf, 1000);
  ck_assert_int_eq(buf_append(&pool, &buf, bytes + half, whole - (half - 1000)), 0);
  ck_assert_uint_eq(buf->block, 4 * BUF_BLOCK_MAX);
  expect(buf, 1000, whole);
  buf_release(&pool, &buf);
}
END_TEST

START_TEST(trim_returns_memory) {
  struct buf *bufs[20] = {NULL};
  size_t books = mapped_bytes;
  for (size_t i = 0; i < count_of(bufs); i++) {
    ck_assert_int_eq(buf_append(&pool, &bufs[i], bytes, (size_t)50 << i % 14), 0);
  }
  ck_assert(!buf_pool_idle(&pool));
  for (size_t i = 0; i < count_of(bufs); i++) {
    buf_release(&pool, &bufs[i]);
  }
  ck_assert(buf_pool_idle(&pool));
  buf_pool_trim(&pool);
  ck_assert(!buf_pool_idle(&pool));
  ck_assert_uint_eq(mapped_bytes, books);
}
END_TEST

/* At the limit and out of memory an append fails and changes nothing, in every kind of block. */
START_TEST(failure_changes_nothing) {
  const size_t sizes[] = {88, 5000, BUF_BLOCK_MAX - HEAD, 300000};
  for (size_t i = 0; i < count_of(sizes); i++) {
    for (int full = 0; full < 2; full++) {
      struct buf *buf = NULL, *none = NULL;
      ck_assert_int_eq(buf_append(&pool, &buf, bytes, sizes[i]), 0);
      struct buf *before = buf;
      uint64_t taken = pool.bytes;
      buf_pool_trim(&pool);
      maps_left = full == 0 ? 0 : UINT32_MAX;
      pool.bytes_max = full == 0 ? CEILING : pool.bytes;
      ck_assert_int_eq(buf_append(&pool, &buf, bytes + sizes[i], 400000), -1);
      ck_assert_int_eq(buf_append(&pool, &none, bytes, 400000), -1);
      ck_assert_int_eq(buf_append(&pool, &buf, bytes, SIZE_MAX), -1);
      ck_assert_int_eq(buf_append(&pool, &buf, bytes, SIZE_MAX / 8), -1);
      ck_assert_ptr_eq(buf, before);
      ck_assert_ptr_null(none);
      ck_assert_uint_eq(pool.bytes, taken);
      expect(buf, 0, sizes[i]);
      maps_left = UINT32_MAX;
      pool.bytes_max = CEILING;
      ck_assert_int_eq(buf_append(&pool, &buf, bytes + sizes[i], 400000), 0);
      expect(buf, 0, sizes[i] + 400000);
      buf_release(&pool, &buf);
    }
  }
}
END_TEST

/* If no larger block is allowed, bytes that fit after a move are still accepted. */
START_TEST(at_the_limit_bytes_are_moved) {
  struct buf *buf = NULL;
  ck_assert_int_eq(buf_append(&pool, &buf, bytes, 88), 0);
  pool.bytes_max = pool.bytes;
  buf_consume(&pool, &buf, 10);
  ck_assert_int_eq(buf_append(&pool, &buf, bytes + 88, 11), -1);
  ck_assert_int_eq(buf_append(&pool, &buf, bytes + 88, 10), 0);
  expect(buf, 10, 88);
  buf_release(&pool, &buf);
}
END_TEST

START_TEST(pool_without_memory) {
  struct buf_pool other;
  maps_left = 0;
  errno = 0;
  ck_assert_int_eq(buf_pool_init(&other, 1000, CEILING), -1);
  ck_assert_int_eq(errno, ENOMEM);
  maps_left = UINT32_MAX;
  ck_assert_int_eq(buf_pool_init(&other, 1, 0), 0); /* a pool without any memory */
  struct buf *buf = NULL;
  ck_assert_int_eq(buf_append(&other, &buf, bytes, 1), -1);
  buf_pool_fini(&other);
}
END_TEST

#define BUFS 6
#define MODEL_STEPS 6000

/* Each buf holds a range of bytes[]. Appends take what follows, and start again at the end. */
START_TEST(random_against_model) {
  struct buf *bufs[BUFS] = {NULL};
  size_t in[BUFS] = {0}, out[BUFS] = {0};
  const char *text = getenv("CHECK_SEED");
  uint64_t state = text != NULL ? strtoull(text, NULL, 0) : (uint64_t)getpid() * 0x9e3779b97f4a7c15;
  printf("CHECK_SEED=%llu\n", (unsigned long long)state);
  state |= 1;
  pool.bytes_max = 2 * MIB;
  for (int step = 0; step < MODEL_STEPS; step++) {
    uint64_t random = random_next(&state);
    size_t i = random % BUFS, size = (random >> 8 & 0xfffff) >> (random >> 32 & 15);
    if (random >> 40 & 1) {
      buf_consume(&pool, &bufs[i], size);
      out[i] = min_u64(out[i] + size, in[i]);
    } else if (in[i] + size > sizeof(bytes)) {
      buf_release(&pool, &bufs[i]);
      in[i] = out[i] = 0;
    } else if (buf_append(&pool, &bufs[i], bytes + in[i], size) == 0) {
      in[i] += size;
    }
    maps_left = (random >> 41 & 7) == 0 ? 0 : UINT32_MAX;
    expect(bufs[i], out[i], in[i] - out[i]);
    ck_assert((bufs[i] == NULL) == (in[i] == out[i]));
    ck_assert_uint_le(pool.bytes, pool.bytes_max);
    if ((random >> 44) % 64 == 0) {
      buf_pool_trim(&pool);
    }
  }
  maps_left = UINT32_MAX;
  for (size_t i = 0; i < BUFS; i++) {
    buf_release(&pool, &bufs[i]);
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {staging_needs_no_memory, 1},
      {staging_block_is_for_one_queue, 1},
      {unstage_moves_the_bytes, 1},
      {empty_bufs_have_no_memory, 1},
      {one_append_takes_the_smallest_block, 1},
      {small_appends_grow_the_block_by_two, 1},
      {a_long_queue_stays_bounded, 1},
      {bytes_move_seldom, 1},
      {mapping_grows_to_the_exact_size, 1},
      {trim_returns_memory, 1},
      {failure_changes_nothing, 1},
      {at_the_limit_bytes_are_moved, 1},
      {pool_without_memory, 1},
      {random_against_model, 1},
  };
  return run_suite_fixture("buf", tests, count_of(tests), setup, teardown);
}
