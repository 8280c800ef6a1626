/*
 * check_reactor_cancel: a source that is freed without a reap, and one that is hidden.
 */
#include "net/reactor.h"
#include "tests/fixtures/run_suite.h"

static struct slab slab;
static struct stats stats;
static struct reactor reactor;
static struct source *last; /* that had a turn */
static uint32_t turns;

static void on_turn(struct source *source, uint32_t events) {
  (void)events;
  last = source;
  turns++;
}

static void set_up(void) {
  reactor.on_event = on_turn;
  ck_assert_int_eq(slab_init(&slab, sizeof(struct source), 8), 0);
  ck_assert_int_eq(reactor_open(&reactor, &slab, &stats), 0);
  turns = 0;
}

static void tear_down(void) {
  ck_assert_uint_eq(slab.used, 0);
  ck_assert(!reactor_busy(&reactor));
  reactor_close(&reactor);
  slab_fini(&slab);
}

static struct source *take(void) {
  struct source *source = reactor_alloc(&reactor);
  ck_assert_ptr_nonnull(source);
  return source;
}

static void turn(void) {
  reactor_wait(&reactor, 0);
  reactor_dispatch(&reactor);
}

/* Its timer goes with it. */
START_TEST(test_cancelled_at_once) {
  struct source *source = take();
  reactor_arm(&reactor, source, reactor.now_ns + NS_PER_S);
  reactor_cancel(&reactor, source);
  ck_assert_uint_eq(slab.used, 0);
  ck_assert_uint_eq(wheel_next_ns(&reactor.wheel), NEVER);
}
END_TEST

/* It waits for a turn: it gets none, is not reaped, and is freed in the next dispatch. */
START_TEST(test_cancelled_while_requeued) {
  struct source *one = take(), *two = take();
  reactor_requeue(&reactor, one);
  reactor_requeue(&reactor, two);
  reactor_cancel(&reactor, one);
  ck_assert_uint_eq(slab.used, 2);
  turn();
  ck_assert_uint_eq(turns, 1);
  ck_assert_ptr_eq(last, two);
  ck_assert_uint_eq(slab.used, 1);
  ck_assert_ptr_null(reactor_reap(&reactor));
  reactor_cancel(&reactor, two);
}
END_TEST

/* It cannot be found, its timer is cancelled, and its turn waits until it is shown. */
START_TEST(test_hidden) {
  struct source *source = take();
  uint64_t key = source->key;
  uint32_t slot = source_slot(&reactor, source);
  ck_assert(source_is_live(&reactor, source));
  reactor_arm(&reactor, source, reactor.now_ns);
  reactor_requeue(&reactor, source);
  reactor_hide(&reactor, source);
  ck_assert(!source_is_live(&reactor, source));
  ck_assert_uint_eq(source_slot(&reactor, source), slot);
  ck_assert_ptr_null(reactor_find(&reactor, key));
  turn();
  ck_assert_uint_eq(turns, 0);
  ck_assert(!source->queued);
  ck_assert_ptr_null(reactor_reap(&reactor));
  reactor_show(source);
  ck_assert_uint_eq(source->key, key);
  ck_assert(source_is_live(&reactor, source));
  ck_assert_ptr_eq(reactor_find(&reactor, key), source);
  reactor_requeue(&reactor, source);
  turn();
  ck_assert_uint_eq(turns, 1);
  reactor_cancel(&reactor, source);
}
END_TEST

/* It is cancelled while it is hidden and has asked for a turn: the next dispatch frees it. */
START_TEST(test_hidden_and_cancelled) {
  struct source *source = take();
  reactor_requeue(&reactor, source);
  reactor_hide(&reactor, source);
  reactor_cancel(&reactor, source);
  ck_assert_uint_eq(slab.used, 1);
  turn();
  ck_assert_uint_eq(turns, 0);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {{test_cancelled_at_once, 1},
                                     {test_cancelled_while_requeued, 1},
                                     {test_hidden, 1},
                                     {test_hidden_and_cancelled, 1}};
  return run_suite_fixture("reactor_cancel", tests, count_of(tests), set_up, tear_down);
}
