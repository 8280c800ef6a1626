/*
 * check_send_queue: queued bytes and references come out in order, and each reference is released
 * once.
 *
 * Most tests compare with send_queue_fixture's model. The seed of the random test is printed, and
 * CHECK_SEED sets it.
 */
#include "tests/fixtures/random.h"
#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/send_queue_fixture.h"

/* The queue of most tests: bytes, a reference with bytes after it, two references, bytes. */
static void fill(struct model *model) {
  ck_assert_int_eq(append(model, "ab", 2), 0);
  ck_assert_int_eq(append_ref(model, "cdef", 4), 0);
  ck_assert_int_eq(append(model, "g", 1), 0);
  ck_assert_int_eq(append(model, "hi", 2), 0);
  ck_assert_int_eq(append_ref(model, "j", 1), 0);
  ck_assert_int_eq(append_ref(model, "klm", 3), 0);
  ck_assert_int_eq(append(model, "no", 2), 0);
}

#define FILLED "abcdefghijklmno"

/* ---- tests ---- */

START_TEST(an_empty_queue_has_no_parts) {
  struct model model;
  struct iovec part;
  model_init(&model);
  check(&model);
  ck_assert_int_eq(append(&model, "x", 0), 0);
  ck_assert(send_queue_empty(&model.queue));
  ck_assert_int_eq(send_queue_parts(&model.queue, &part, 1), 0);
  consume(&model, 0);
  consume(&model, SIZE_MAX);
  model_fini(&model);
}
END_TEST

/*
 * References are parts in place. The bytes between two of them are one part, however they were
 * appended.
 */
START_TEST(parts_are_references_and_bytes_between) {
  static const char *const texts[] = {"ab", "cdef", "ghi", "j", "klm", "no"};
  struct model model;
  struct iovec found[PARTS_MAX];
  model_init(&model);
  fill(&model);
  int count = send_queue_parts(&model.queue, found, PARTS_MAX);
  ck_assert_int_eq(count, count_of(texts));
  for (int i = 0; i < count; i++) {
    ck_assert_uint_eq(found[i].iov_len, strlen(texts[i]));
    ck_assert_mem_eq(found[i].iov_base, texts[i], found[i].iov_len);
  }
  ck_assert_ptr_eq(found[1].iov_base, model.queue.last->next->ref.data);
  for (int max = 0; max <= count + 1; max++) {
    check_parts(&model.queue, found, count, max);
  }
  model_fini(&model);
  char lent[3] = "pqr";
  struct send_queue queue = {.bytes = NULL};
  ck_assert_int_eq(send_queue_append_ref(&pool, &queue, &(struct buf_ref){.data = lent, .size = 3}),
                   0);
  ck_assert_int_eq(send_queue_parts(&queue, found, PARTS_MAX), 1);
  ck_assert_ptr_eq(found[0].iov_base, lent);
  send_queue_consume(&pool, &queue, 2);
  ck_assert_int_eq(send_queue_parts(&queue, found, PARTS_MAX), 1);
  ck_assert_ptr_eq(found[0].iov_base, lent + 2);
  ck_assert_uint_eq(found[0].iov_len, 1);
  send_queue_consume(&pool, &queue, 1); /* no release is wanted */
  ck_assert(send_queue_empty(&queue));
}
END_TEST

/* Every first size, then every second one: each boundary of parts is hit and missed. */
START_TEST(consume_every_size) {
  size_t all = strlen(FILLED);
  for (size_t first = 0; first <= all + 1; first++) {
    for (size_t step = 1; step <= all + 1; step++) {
      struct model model;
      model_init(&model);
      fill(&model);
      ck_assert_mem_eq(model.stream, FILLED, all);
      consume(&model, first);
      while (model.out < model.in) {
        consume(&model, step);
      }
      ck_assert_uint_eq(model.released, 3);
      model_fini(&model);
    }
  }
}
END_TEST

/* A reference is released with its last byte, neither before nor later. */
START_TEST(released_with_the_last_byte) {
  struct model model;
  model_init(&model);
  fill(&model);
  for (size_t out = 1; out <= strlen(FILLED); out++) {
    consume(&model, 1);
    ck_assert_uint_eq(model.released, (out >= 6) + (out >= 10) + (out >= 13));
  }
  model_fini(&model);
}
END_TEST

/*
 * After the last reference, bytes go to the plain buffer again, including those that followed it.
 */
START_TEST(bytes_continue_after_references) {
  struct model model;
  model_init(&model);
  fill(&model);
  consume(&model, 14);
  ck_assert_ptr_null(model.queue.last);
  ck_assert_int_eq(append(&model, "pq", 2), 0);
  ck_assert_uint_eq(buf_size(model.queue.bytes), 3);
  ck_assert_int_eq(append_ref(&model, "r", 1), 0);
  consume(&model, 3);
  ck_assert_ptr_null(model.queue.bytes);
  ck_assert_uint_eq(model.released, 3);
  ck_assert_int_eq(append(&model, "s", 1),
                   0); /* after the reference, though no bytes are before it */
  ck_assert_ptr_null(model.queue.bytes);
  consume(&model, 2);
  model_fini(&model);
}
END_TEST

/* From any position everything is released, partly consumed references included. */
START_TEST(release_everything) {
  for (size_t out = 0; out <= strlen(FILLED); out++) {
    struct model model;
    model_init(&model);
    fill(&model);
    consume(&model, out);
    drop(&model);
    ck_assert_uint_eq(model.released, 3);
    ck_assert_uint_eq(pool.segments.used, 0);
    ck_assert_uint_eq(bufs.bytes, 0);
    fill(&model); /* and the queue can be used again */
    drop(&model);
    drop(&model);
    ck_assert_uint_eq(model.released, 6);
    model_fini(&model);
  }
}
END_TEST

static void count_up(void *argument) { ++*(unsigned *)argument; }

START_TEST(references_of_0_bytes) {
  unsigned released = 0;
  struct model model;
  const struct buf_ref nothing = {NULL, 0, count_up, &released}, nobody = {.data = NULL};
  model_init(&model);
  ck_assert_int_eq(send_queue_append_ref(&pool, &model.queue, &nothing), 0);
  ck_assert_uint_eq(released, 1);
  ck_assert(send_queue_empty(&model.queue));
  ck_assert_int_eq(send_queue_append_ref(&pool, &model.queue, &nobody), 0);
  fill(&model);
  ck_assert_int_eq(send_queue_append_ref(&pool, &model.queue, &nothing), 0);
  ck_assert_uint_eq(released, 2);
  check(&model);
  model_fini(&model);
  ck_assert_uint_eq(released, 2);
}
END_TEST

/* ---- out of memory ---- */

/* A refused reference changes nothing. There is room again when the first one is released. */
START_TEST(references_are_limited) {
  struct model model, other;
  model_init(&model);
  model_init(&other);
  ck_assert_int_eq(append_ref(&other, "x", 1), 0);
  while (pool.segments.used < CARGOS_MAX) {
    ck_assert_int_eq(append_ref(&model, "abc", 3), 0);
  }
  ck_assert_int_eq(append_ref(&model, "abc", 3), -1);
  ck_assert_int_eq(append_ref(&other, "abc", 3), -1);
  ck_assert_uint_eq(model.released, 0);
  ck_assert_int_eq(send_queue_append_ref(&pool, &model.queue, &(struct buf_ref){.data = ""}), 0);
  ck_assert_int_eq(append(&model, "def", 3), 0);
  consume(&model, 2);
  ck_assert_int_eq(append_ref(&other, "abc", 3), -1);
  consume(&model, 1);
  ck_assert_int_eq(append_ref(&other, "abc", 3), 0);
  ck_assert_int_eq(append_ref(&other, "abc", 3), -1);
  model_fini(&model);
  model_fini(&other);
}
END_TEST

START_TEST(a_pool_without_references) {
  struct send_queue_pool none = {.bufs = &bufs};
  struct send_queue queue = {.bytes = NULL};
  unsigned released = 0;
  struct buf_ref ref = {"ab", 2, count_up, &released};
  ck_assert_int_eq(send_queue_append_ref(&none, &queue, &ref), -1);
  ck_assert_uint_eq(released, 0);
  ck_assert(send_queue_empty(&queue));
  ck_assert_int_eq(send_queue_append(&none, &queue, "ab", 2), 0);
  ck_assert_int_eq(send_queue_append_ref(&none, &queue, &ref), -1);
  ck_assert_uint_eq(send_queue_size(&queue), 2);
  ref.size = 0;
  ck_assert_int_eq(send_queue_append_ref(&none, &queue, &ref), 0);
  ck_assert_uint_eq(released, 1);
  send_queue_consume(&none, &queue, 1);
  send_queue_release(&none, &queue);
  ck_assert(send_queue_empty(&queue));
  send_queue_pool_trim(&none);
  send_queue_pool_fini(&none);
}
END_TEST

/*
 * At the limit of the bufs an append fails before and after a reference and changes nothing. A
 * reference needs no buf.
 */
START_TEST(no_memory_for_bytes) {
  static const uint8_t many[1000];
  struct model model;
  model_init(&model);
  bufs.bytes_max = 0;
  ck_assert_int_eq(append(&model, "ab", 2), -1);
  ck_assert_int_eq(append_ref(&model, "cd", 2), 0);
  ck_assert_int_eq(append(&model, "ef", 2), -1);
  ck_assert_uint_eq(model.released, 0);
  bufs.bytes_max = BUF_BLOCK_MIN;
  ck_assert_int_eq(append(&model, "ef", 2), 0);
  ck_assert_int_eq(append(&model, many, sizeof(many)), -1);
  ck_assert_int_eq(append_ref(&model, "gh", 2), 0);
  ck_assert_int_eq(append(&model, "ij", 2), -1);
  consume(&model, 4);
  ck_assert_uint_eq(model.released, 1);
  ck_assert_int_eq(append(&model, "ij", 2), 0);
  model_fini(&model);
  bufs.bytes_max = CEILING;
}
END_TEST

START_TEST(trim_returns_memory) {
  struct send_queue_pool large;
  struct send_queue queue = {.bytes = NULL};
  unsigned released = 0;
  const struct buf_ref ref = {"x", 1, count_up, &released};
  ck_assert_int_eq(send_queue_pool_init(&large, &bufs, 5000), 0);
  for (unsigned i = 0; i < 5000; i++) {
    ck_assert_int_eq(send_queue_append_ref(&large, &queue, &ref), 0);
  }
  ck_assert_uint_eq(send_queue_size(&queue), 5000);
  send_queue_pool_trim(&large);
  ck_assert_uint_gt(large.segments.end, 1);
  send_queue_consume(&large, &queue, 5000);
  ck_assert_uint_eq(released, 5000);
  ck_assert_uint_eq(large.segments.empty, large.segments.end);
  send_queue_pool_trim(&large);
  ck_assert_uint_eq(large.segments.end, 0);
  ck_assert_int_eq(send_queue_append_ref(&large, &queue, &ref), 0);
  send_queue_release(&large, &queue);
  send_queue_pool_fini(&large);
}
END_TEST

/* ---- a release that uses the pool ---- */

static struct send_queue elsewhere;

static void append_elsewhere(void *argument) {
  ck_assert_int_eq(send_queue_append_ref(&pool, &elsewhere, argument), 0);
}

/* The released reference was the last one allowed, and its place is free already. */
START_TEST(a_release_may_send_another_reference) {
  unsigned released = 0;
  struct send_queue queue = {.bytes = NULL};
  struct buf_ref again = {"b", 1, count_up, &released};
  const struct buf_ref ref = {"a", 1, append_elsewhere, &again};
  for (int i = 0; i < CARGOS_MAX; i++) {
    ck_assert_int_eq(send_queue_append_ref(&pool, &queue, &ref), 0);
  }
  send_queue_consume(&pool, &queue, CARGOS_MAX / 2);
  ck_assert_uint_eq(send_queue_size(&elsewhere), CARGOS_MAX / 2);
  check_books(&queue);
  send_queue_release(&pool, &queue);
  check_books(&elsewhere);
  ck_assert_uint_eq(send_queue_size(&elsewhere), CARGOS_MAX);
  ck_assert_uint_eq(released, 0);
  send_queue_release(&pool, &elsewhere);
  ck_assert_uint_eq(released, CARGOS_MAX);
}
END_TEST

/* ---- random operations ---- */

#define MODELS 3
#define MODEL_STEPS 12000

/* To the end of the first part, one byte before or after it, or anywhere. */
static size_t some_size(const struct model *model, uint64_t random) {
  struct iovec part = {.iov_len = 0};
  send_queue_parts(&model->queue, &part, 1);
  if ((random & 3) == 0) {
    return random >> 8 & 0x3ff;
  }
  return part.iov_len + (random & 3) - 2; /* from 0: SIZE_MAX, which means everything */
}

START_TEST(random_operations_match_the_model) {
  static uint8_t bytes[4096];
  struct model models[MODELS];
  uint64_t state = random_seed();
  unsigned refused_bytes = 0, refused_loans = 0;
  for (size_t i = 0; i < sizeof(bytes); i++) {
    bytes[i] = (uint8_t)random_next(&state);
  }
  for (size_t i = 0; i < MODELS; i++) {
    model_init(&models[i]);
  }
  for (int step = 0; step < MODEL_STEPS; step++) {
    uint64_t random = random_next(&state);
    struct model *model = &models[random % MODELS];
    size_t size = (random >> 16 & 0x7ff) >> (random >> 32 & 7);
    const uint8_t *data = bytes + (random >> 40 & 0x7ff);
    unsigned what = random >> 52 & 15;
    bufs.bytes_max = (random >> 60) == 0 ? bufs.bytes : CEILING;
    if (model->in + size > STREAM_BYTES || (what == 15 && (random >> 56 & 15) == 0)) {
      drop(model);
      model->in = model->out = 0;
    } else if (what < 5) {
      refused_bytes += append(model, data, size) == -1;
    } else if (what < 10) {
      bool full = size > 0 && pool.segments.used == CARGOS_MAX;
      bool lent = size == 0 || append_ref(model, data, size) == 0;
      holds(lent == !full, "a reference is refused if and only if there is no room");
      refused_loans += full;
    } else {
      consume(model, some_size(model, random_next(&state)));
    }
  }
  for (size_t i = 0; i < MODELS; i++) {
    model_fini(&models[i]);
  }
  ck_assert_uint_gt(refused_bytes, 0);
  ck_assert_uint_gt(refused_loans, 0);
  bufs.bytes_max = CEILING;
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {an_empty_queue_has_no_parts, 1},
      {parts_are_references_and_bytes_between, 1},
      {consume_every_size, 1},
      {released_with_the_last_byte, 1},
      {bytes_continue_after_references, 1},
      {release_everything, 1},
      {references_of_0_bytes, 1},
      {references_are_limited, 1},
      {a_pool_without_references, 1},
      {no_memory_for_bytes, 1},
      {trim_returns_memory, 1},
      {a_release_may_send_another_reference, 1},
      {random_operations_match_the_model, 1},
  };
  return run_suite_fixture("send_queue", tests, count_of(tests), setup, teardown);
}
