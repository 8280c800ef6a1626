/*
 * check_send_queue_fault: a send queue when the kernel has no memory.  A refused reference is not
 * released, and plain bytes can still be queued.
 */
#include "tests/fault/fault.h"
#include "tests/fixtures/conn_fixture.h"

#include "net/send_queue.h"

static struct buf_pool bufs;
static struct send_queue_pool pool;
static struct send_queue queue;
static unsigned released;

static void count_up(void *argument) { ++*(unsigned *)argument; }

static const struct buf_ref ref = {"ab", 2, count_up, &released};

static void set_up(void) {
  fault_reset();
  ck_assert_int_eq(buf_pool_init(&bufs, 10, 1 << 20), 0);
}

static void tear_down(void) {
  send_queue_pool_fini(&pool);
  ck_assert_uint_eq(bufs.bytes, 0);
  buf_pool_fini(&bufs);
  fault_reset();
}

START_TEST(test_pool_without_memory) {
  orders_fail(FAULT_MAP, 1, ENOMEM, 1);
  ck_assert_int_eq(send_queue_pool_init(&pool, &bufs, 10), -1);
  ck_assert_int_eq(errno, ENOMEM);
  ck_assert_int_eq(send_queue_append_ref(&pool, &queue, &ref), -1);
  ck_assert(send_queue_empty(&queue));
  ck_assert_int_eq(send_queue_append(&pool, &queue, "cd", 2), 0);
  ck_assert_uint_eq(send_queue_size(&queue), 2);
  send_queue_release(&pool, &queue);
  send_queue_pool_trim(&pool);
  ck_assert_int_eq(send_queue_pool_init(&pool, &bufs, 10), 0); /* there is memory later */
  ck_assert_int_eq(send_queue_append_ref(&pool, &queue, &ref), 0);
  send_queue_release(&pool, &queue);
  ck_assert_uint_eq(released, 1);
}
END_TEST

/*
 * Out of memory for the first reference, or for bytes after it: nothing is queued, and nothing is
 * released.
 */
START_TEST(test_reference_without_memory) {
  ck_assert_int_eq(send_queue_pool_init(&pool, &bufs, 10), 0);
  orders_fail(FAULT_MAP, 1, ENOMEM, UINT64_MAX);
  ck_assert_int_eq(send_queue_append_ref(&pool, &queue, &ref), -1);
  ck_assert(send_queue_empty(&queue));
  ck_assert_uint_eq(released, 0);
  orders_heal();
  ck_assert_int_eq(send_queue_append_ref(&pool, &queue, &ref), 0);
  orders_fail(FAULT_MAP, 1, ENOMEM, UINT64_MAX);
  ck_assert_int_eq(send_queue_append(&pool, &queue, "cd", 2), -1);
  ck_assert_uint_eq(send_queue_size(&queue), 2);
  ck_assert_uint_eq(released, 0);
  orders_heal();
  ck_assert_int_eq(send_queue_append(&pool, &queue, "cd", 2), 0);
  send_queue_consume(&pool, &queue, 3);
  ck_assert_uint_eq(released, 1);
  ck_assert_uint_eq(send_queue_size(&queue), 1);
  send_queue_consume(&pool, &queue, 1);
  ck_assert(send_queue_empty(&queue));
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_pool_without_memory, 1},
      {test_reference_without_memory, 1},
  };
  return run_suite_fixture("send_queue_fault", tests, count_of(tests), set_up, tear_down);
}
