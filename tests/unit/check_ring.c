/*
 * check_ring: the ring in one thread; tests/conc and tests/model run it with several.
 *
 * Every slot of every capacity is usable, the order holds, and the free-running 32-bit indices may
 * wrap around. Each test that moves elements starts on both sides of the wrap.
 */
#include "pool/ring.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>

static const uint32_t capacities[] = {1, 2, 4, 8, 64, 1024};

/* Set all indices of an empty ring to ${at}, as after ${at} pushes and pops. */
static void ring_start_at(struct ring *ring, uint32_t at) {
  atom_store_relaxed_u32(&ring->tail, at);
  atom_store_relaxed_u32(&ring->head, at);
  ring->head_seen = at;
  ring->tail_seen = at;
}

static int push(struct ring *ring, uint64_t sequence) {
  struct accepted_conn accepted = {.accepted_ns = sequence,
                                   .fd = (int)(sequence % 1000),
                                   .ip_slot = (uint32_t)(sequence * 7),
                                   .listener = (uint16_t)(sequence % 64)};
  accepted.addr.port = (uint16_t)sequence;
  accepted.addr.bytes[15] = (uint8_t)sequence;
  return ring_push_spsc(ring, &accepted);
}

/* Pop one element and check every field that push() set. */
static void pop_expect(struct ring *ring, uint64_t sequence) {
  struct accepted_conn accepted = {.fd = -1};
  ck_assert(ring_pop_spsc(ring, &accepted));
  ck_assert_uint_eq(accepted.accepted_ns, sequence);
  ck_assert_int_eq(accepted.fd, (int)(sequence % 1000));
  ck_assert_uint_eq(accepted.ip_slot, (uint32_t)(sequence * 7));
  ck_assert_uint_eq(accepted.listener, sequence % 64);
  ck_assert_uint_eq(accepted.addr.port, (uint16_t)sequence);
  ck_assert_uint_eq(accepted.addr.bytes[15], (uint8_t)sequence);
}

static void expect_empty(struct ring *ring) {
  struct accepted_conn accepted;
  ck_assert(ring_empty_consumer(ring));
  ck_assert(!ring_pop_spsc(ring, &accepted));
  ck_assert_uint_eq(ring_count_producer(ring), 0);
}

START_TEST(test_new_ring_is_empty) {
  struct ring ring;
  ck_assert_int_eq(ring_open(&ring, capacities[_i]), 0);
  expect_empty(&ring);
  ring_close(&ring);
  ck_assert_ptr_null(ring.slots);
  ring_close(&ring); /* a second call does nothing */
}
END_TEST

START_TEST(test_whole_capacity_is_usable) {
  const uint32_t capacity = capacities[_i];
  struct ring ring;
  ck_assert_int_eq(ring_open(&ring, capacity), 0);
  for (uint32_t round = 0; round < 3; round++) {
    for (uint32_t i = 0; i < capacity; i++) {
      ck_assert_uint_eq(ring_count_producer(&ring), i);
      ck_assert_int_eq(push(&ring, i), 0);
      ck_assert(!ring_empty_consumer(&ring));
    }
    ck_assert_int_eq(push(&ring, UINT64_MAX), -1);
    ck_assert_uint_eq(ring_count_producer(&ring), capacity);
    for (uint32_t i = 0; i < capacity; i++) {
      pop_expect(&ring, i);
    }
    expect_empty(&ring);
  }
  ring_close(&ring);
}
END_TEST

START_TEST(test_one_pop_makes_room_for_one_push) {
  const uint32_t capacity = capacities[_i];
  struct ring ring;
  ck_assert_int_eq(ring_open(&ring, capacity), 0);
  for (uint32_t i = 0; i < capacity; i++) {
    ck_assert_int_eq(push(&ring, i), 0);
  }
  for (uint64_t i = 0; i < 3 * (uint64_t)capacity; i++) {
    ck_assert_int_eq(push(&ring, UINT64_MAX), -1);
    pop_expect(&ring, i);
    ck_assert_int_eq(push(&ring, i + capacity), 0);
  }
  ck_assert_int_eq(push(&ring, UINT64_MAX), -1);
  ring_close(&ring);
}
END_TEST

/* Every fill level from empty to full crosses the wrap of the indices. */
START_TEST(test_indices_wrap_around) {
  const uint32_t capacity = capacities[_i];
  const uint32_t before = capacity < 8 ? 2 * capacity : 8;
  for (uint32_t start = 0; start <= before; start++) {
    struct ring ring;
    ck_assert_int_eq(ring_open(&ring, capacity), 0);
    ring_start_at(&ring, UINT32_MAX - start);
    uint64_t pushed = 0;
    uint64_t popped = 0;
    for (uint32_t fill = 1; fill <= capacity && fill <= 16; fill++) {
      while (pushed - popped < fill) {
        ck_assert_int_eq(push(&ring, pushed++), 0);
      }
      ck_assert_uint_eq(ring_count_producer(&ring), fill);
      while (popped < pushed) {
        pop_expect(&ring, popped++);
      }
      expect_empty(&ring);
    }
    ring_close(&ring);
  }
}
END_TEST

START_TEST(test_full_over_the_end_of_the_indices) {
  const uint32_t capacity = capacities[_i];
  struct ring ring;
  ck_assert_int_eq(ring_open(&ring, capacity), 0);
  ring_start_at(&ring, UINT32_MAX - capacity / 2);
  for (uint32_t i = 0; i < capacity; i++) {
    ck_assert_int_eq(push(&ring, i), 0);
  }
  ck_assert_uint_le(atom_load_relaxed_u32(&ring.tail), capacity); /* the indices have wrapped */
  ck_assert_int_eq(push(&ring, UINT64_MAX), -1);
  ck_assert_uint_eq(ring_count_producer(&ring), capacity);
  for (uint32_t i = 0; i < capacity; i++) {
    ck_assert(!ring_empty_consumer(&ring));
    pop_expect(&ring, i);
  }
  expect_empty(&ring);
  ring_close(&ring);
}
END_TEST

/* The private copies may be stale, but never report too much room or too many elements. */
START_TEST(test_stale_copies_err_on_the_safe_side) {
  struct ring ring;
  ck_assert_int_eq(ring_open(&ring, 4), 0);
  for (uint64_t i = 0; i < 4; i++) {
    ck_assert_int_eq(push(&ring, i), 0);
  }
  pop_expect(&ring, 0);
  ck_assert_uint_eq(ring.head_seen, 0); /* the producer has not read the index since */
  ck_assert_int_eq(push(&ring, 4), 0);  /* it reads the index when its copy says full */
  ck_assert_uint_eq(ring.head_seen, 1);
  ck_assert_uint_eq(ring.tail_seen, 4); /* the consumer has not seen the fifth element */
  for (uint64_t i = 1; i < 4; i++) {
    pop_expect(&ring, i);
  }
  ck_assert(!ring_empty_consumer(&ring)); /* it reads the index when its copy says empty */
  pop_expect(&ring, 4);
  expect_empty(&ring);
  ring_close(&ring);
}
END_TEST

START_TEST(test_sides_have_cache_lines_of_their_own) {
  ck_assert_uint_eq(offsetof(struct ring, tail) % CACHE_LINE, 0);
  ck_assert_uint_eq(offsetof(struct ring, head) % CACHE_LINE, 0);
  ck_assert_uint_ge(offsetof(struct ring, tail), CACHE_LINE);
  ck_assert_uint_eq(offsetof(struct ring, head) - offsetof(struct ring, tail), CACHE_LINE);
  ck_assert_uint_lt(offsetof(struct ring, head_seen), offsetof(struct ring, head));
  ck_assert_uint_eq(sizeof(struct ring) % CACHE_LINE, 0);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_new_ring_is_empty, count_of(capacities)},
      {test_whole_capacity_is_usable, count_of(capacities)},
      {test_one_pop_makes_room_for_one_push, count_of(capacities)},
      {test_indices_wrap_around, count_of(capacities)},
      {test_full_over_the_end_of_the_indices, count_of(capacities)},
      {test_stale_copies_err_on_the_safe_side, 1},
      {test_sides_have_cache_lines_of_their_own, 1},
  };
  return run_suite("ring", tests, count_of(tests));
}
