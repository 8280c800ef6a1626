/*
 * check_reactor: events, requeued sources and timers in their order, stale events, retired sources,
 * and waiting with epoll and with poll.
 */
#include "core/sys.h"
#include "net/reactor.h"
#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/socket_fixture.h"

#include <pthread.h>

#define ITEMS_MAX 64

struct bench;

/* A source that records its callbacks and may act in them. */
struct item {
  struct source source; /* first */
  struct bench *bench;
  int fd;
  int name;
  void (*act)(struct item *item, uint32_t events); /* NULL = nothing */
  struct item *other;
};

struct bench {
  struct slab slab;
  struct stats stats;
  struct reactor reactor;
  struct {
    int name;
    uint32_t events;
  } turns[1024];
  size_t turns_count;
};

static void item_turn(struct source *source, uint32_t events) {
  struct item *item = container_of(source, struct item, source);
  struct bench *bench = item->bench;
  ck_assert_uint_lt(bench->turns_count, count_of(bench->turns));
  bench->turns[bench->turns_count].name = item->name;
  bench->turns[bench->turns_count++].events = events;
  if (item->act != NULL) {
    item->act(item, events);
  }
}

static void bench_open(struct bench *bench, bool single) {
  *bench = (struct bench){.reactor = {.on_event = item_turn}};
  ck_assert_int_eq(slab_init(&bench->slab, sizeof(struct item), ITEMS_MAX), 0);
  if (single) {
    reactor_open_single(&bench->reactor, &bench->slab, &bench->stats);
  } else {
    ck_assert_int_eq(reactor_open(&bench->reactor, &bench->slab, &bench->stats), 0);
  }
}

static void reap(struct bench *bench) {
  struct source *source;
  while ((source = reactor_reap(&bench->reactor)) != NULL) {
    reactor_free(&bench->reactor, source);
  }
}

static void bench_close(struct bench *bench) {
  reap(bench);
  reactor_close(&bench->reactor);
  ck_assert_int_eq(bench->reactor.epoll_fd, -1);
  reactor_close(&bench->reactor);
  slab_fini(&bench->slab);
}

static struct item *take(struct bench *bench, int name) {
  struct source *source = reactor_alloc(&bench->reactor);
  ck_assert_ptr_nonnull(source);
  struct item *item = container_of(source, struct item, source);
  struct source head = *source;
  *item = (struct item){.source = head, .bench = bench, .fd = -1, .name = name};
  return item;
}

/* An item that watches one end of a pair. Return: the other end. */
static int watch(struct bench *bench, struct item *item) {
  int fds[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  item->fd = fds[0];
  ck_assert_int_eq(reactor_add(&bench->reactor, &item->source, fds[0], EPOLLIN | EPOLLET), 0);
  return fds[1];
}

static void turn(struct bench *bench) {
  bench->turns_count = 0;
  reactor_wait(&bench->reactor, 0);
  reactor_dispatch(&bench->reactor);
}

#define TURN(bench, i, name_, events_)                    \
  do {                                                    \
    ck_assert_uint_gt((bench)->turns_count, i);           \
    ck_assert_int_eq((bench)->turns[i].name, name_);      \
    ck_assert_uint_eq((bench)->turns[i].events, events_); \
  } while (0)

/* ---- events ---- */

START_TEST(test_events_are_edges_under_epoll) {
  struct bench bench;
  bench_open(&bench, false);
  struct item *item = take(&bench, 1);
  int peer = watch(&bench, item);
  turn(&bench);
  ck_assert_uint_eq(bench.turns_count, 0);
  for (int i = 0; i < 3; i++) {
    CLIENT_WRITE(peer, "x");
    turn(&bench);
    ck_assert_uint_eq(bench.turns_count, 1);
    TURN(&bench, 0, 1, EPOLLIN);
    turn(&bench);
    ck_assert_uint_eq(bench.turns_count, 0); /* the bytes are unread, but the event comes once */
  }
  ck_assert_int_eq(reactor_modify(&bench.reactor, &item->source, item->fd, EPOLLIN | EPOLLOUT), 0);
  turn(&bench);
  TURN(&bench, 0, 1, EPOLLIN | EPOLLOUT);
  ck_assert_int_eq(reactor_modify(&bench.reactor, &item->source, item->fd, EPOLLOUT), 0);
  ck_assert_uint_eq(item->source.interest, EPOLLIN | EPOLLOUT); /* the event stays */
  turn(&bench);
  ck_assert_uint_eq(bench.turns_count, 0);
  reactor_repeat(&bench.reactor, &item->source, item->fd);
  turn(&bench);
  TURN(&bench, 0, 1, EPOLLIN | EPOLLOUT);
  reactor_remove(&bench.reactor, &item->source, item->fd);
  CLIENT_WRITE(peer, "x");
  turn(&bench);
  ck_assert_uint_eq(bench.turns_count, 0);
  close(peer);
  close(item->fd);
  bench_close(&bench);
}
END_TEST

START_TEST(test_events_are_levels_under_poll) {
  struct bench bench;
  bench_open(&bench, true);
  struct item *item = take(&bench, 1);
  int peer = watch(&bench, item);
  turn(&bench);
  ck_assert_uint_eq(bench.turns_count, 0);
  CLIENT_WRITE(peer, "x");
  for (int i = 0; i < 3; i++) {
    turn(&bench);
    ck_assert_uint_eq(bench.turns_count, 1);
    TURN(&bench, 0, 1, EPOLLIN);
  }
  ck_assert_int_eq(reactor_modify(&bench.reactor, &item->source, item->fd, 0), 0);
  turn(&bench);
  ck_assert_uint_eq(bench.turns_count, 0);
  ck_assert_int_eq(reactor_modify(&bench.reactor, &item->source, item->fd, EPOLLOUT), 0);
  turn(&bench);
  TURN(&bench, 0, 1, EPOLLOUT);
  close(peer);
  turn(&bench);
  ck_assert_uint_eq(bench.turns_count, 1);
  ck_assert_uint_ne(bench.turns[0].events & EPOLLHUP, 0);
  /* poll always reports a hang-up, so without requested events the wait is for timers only */
  ck_assert_int_eq(reactor_modify(&bench.reactor, &item->source, item->fd, 0), 0);
  turn(&bench);
  ck_assert_uint_eq(bench.turns_count, 0);
  reactor_retire(&bench.reactor, &item->source);
  turn(&bench);
  ck_assert_uint_eq(bench.turns_count, 0); /* and no descriptor is polled any more */
  close(item->fd);
  bench_close(&bench);
}
END_TEST

/* Retire the other source, whose event is in the same batch, and reuse its slot. */
static void replace_other(struct item *item, uint32_t events) {
  (void)events;
  if (item->other == NULL) {
    return;
  }
  struct item *other = item->other;
  struct bench *bench = item->bench;
  int fd = other->fd;
  item->other = other->other = NULL;
  reactor_retire(&bench->reactor, &other->source);
  close(fd);
}

START_TEST(test_event_of_an_ended_source_is_stale) {
  struct bench bench;
  bench_open(&bench, false);
  struct item *one = take(&bench, 1), *two = take(&bench, 2);
  int peers[2] = {watch(&bench, one), watch(&bench, two)};
  one->other = two;
  two->other = one;
  one->act = two->act = replace_other;
  CLIENT_WRITE(peers[0], "x");
  CLIENT_WRITE(peers[1], "x");
  turn(&bench);
  ck_assert_uint_eq(bench.turns_count, 1);
  ck_assert_uint_eq(atom_load_relaxed_u64(&bench.stats.stale), 1);
  ck_assert(reactor_busy(&bench.reactor));
  struct source *ended = reactor_reap(&bench.reactor);
  ck_assert_ptr_eq(ended, bench.turns[0].name == 1 ? &two->source : &one->source);
  ck_assert_ptr_null(reactor_reap(&bench.reactor));
  ck_assert(!reactor_busy(&bench.reactor));
  uint32_t slot = source_slot(&bench.reactor, ended);
  reactor_free(&bench.reactor, ended);
  struct item *three = take(&bench, 3); /* the same slot, another generation */
  ck_assert_uint_eq(source_slot(&bench.reactor, &three->source), slot);
  bench.reactor.events[0].events = EPOLLIN;
  bench.reactor.events[0].data.u64 = three->source.key + ITEMS_MAX; /* a later generation */
  bench.reactor.events[1].data.u64 = slot;                          /* generation 0 */
  bench.reactor.ready = 2;
  bench.turns_count = 0;
  reactor_dispatch(&bench.reactor);
  ck_assert_uint_eq(bench.turns_count, 0);
  ck_assert_uint_eq(atom_load_relaxed_u64(&bench.stats.stale), 3);
  close(peers[0]);
  close(peers[1]);
  close(slot == source_slot(&bench.reactor, &one->source) ? two->fd : one->fd);
  bench_close(&bench);
}
END_TEST

/* A generation has all bits that slot and owner leave, and none of the owner's. */
START_TEST(test_generation_skips_zero) {
  struct bench bench;
  bench_open(&bench, false);
  const uint32_t owner_bits = _i == 0 ? 1 : 10; /* as one worker and as 1,024 have them */
  bench.reactor.owner_bits = owner_bits;
  ck_assert_uint_eq(bench.reactor.slot_bits, 6);
  bench.reactor.generation = (UINT64_C(1) << (64 - 6 - owner_bits)) - 2;
  const struct source *last = &take(&bench, 1)->source, *first = &take(&bench, 2)->source;
  ck_assert_uint_eq(last->key >> (64 - owner_bits), 0);
  ck_assert_uint_eq(last->key + 64, UINT64_C(1) << (64 - owner_bits));
  ck_assert_uint_eq(source_generation(&bench.reactor, first), 1);
  bench_close(&bench);
}
END_TEST

/* More sources than 2^32 have had a slot: the last is told from the one 2^32 before it. */
START_TEST(test_generation_is_longer_than_32_bits) {
  struct bench bench;
  bench_open(&bench, false);
  uint64_t old = take(&bench, 1)->source.key;
  bench.reactor.generation += UINT64_C(1) << 32;
  const struct item *item = take(&bench, 2);
  ck_assert_ptr_eq(reactor_find(&bench.reactor, item->source.key), &item->source);
  ck_assert_ptr_null(reactor_find(&bench.reactor, (uint32_t)item->source.key));
  ck_assert_ptr_nonnull(reactor_find(&bench.reactor, old));
  bench_close(&bench);
}
END_TEST

START_TEST(test_take_fails_at_the_ceiling) {
  struct bench bench;
  bench_open(&bench, false);
  for (int i = 0; i < ITEMS_MAX; i++) {
    take(&bench, i);
  }
  ck_assert_ptr_null(reactor_alloc(&bench.reactor));
  bench_close(&bench);
}
END_TEST

/* ---- requeued sources ---- */

static void ask_again(struct item *item, uint32_t events) {
  (void)events;
  reactor_requeue(&item->bench->reactor, &item->source);
  reactor_requeue(&item->bench->reactor, &item->source); /* a second request counts once */
}

START_TEST(test_again_is_once_a_dispatch_and_in_order) {
  struct bench bench;
  bench_open(&bench, false);
  struct item *items[3];
  for (int i = 0; i < 3; i++) {
    items[i] = take(&bench, i);
    items[i]->act = i == 1 ? ask_again : NULL;
    ask_again(items[i], 0);
  }
  ck_assert(reactor_busy(&bench.reactor));
  turn(&bench);
  ck_assert_uint_eq(bench.turns_count, 3);
  for (int i = 0; i < 3; i++) {
    TURN(&bench, (size_t)i, i, EVENT_REQUEUE);
  }
  turn(&bench);
  ck_assert_uint_eq(bench.turns_count, 1);
  TURN(&bench, 0, 1, EVENT_REQUEUE);
  items[1]->act = NULL;
  turn(&bench);
  ck_assert_uint_eq(bench.turns_count, 1);
  turn(&bench);
  ck_assert_uint_eq(bench.turns_count, 0);
  ck_assert(!reactor_busy(&bench.reactor));
  bench_close(&bench);
}
END_TEST

static void retire_other(struct item *item, uint32_t events) {
  (void)events;
  reactor_retire(&item->bench->reactor, &item->other->source);
}

/* A source that is retired while it is requeued gets no callback and is reaped once. */
START_TEST(test_retired_while_it_waits_for_its_turn) {
  struct bench bench;
  bench_open(&bench, false);
  struct item *one = take(&bench, 1), *two = take(&bench, 2), *three = take(&bench, 3);
  one->act = retire_other;
  one->other = two;
  ask_again(one, 0);
  ask_again(two, 0);
  ask_again(three, 0);
  turn(&bench);
  ck_assert_uint_eq(bench.turns_count, 2);
  TURN(&bench, 0, 1, EVENT_REQUEUE);
  TURN(&bench, 1, 3, EVENT_REQUEUE);
  ck_assert_ptr_eq(reactor_reap(&bench.reactor), &two->source);
  ck_assert_ptr_null(reactor_reap(&bench.reactor));
  ask_again(three, 0);
  reactor_retire(&bench.reactor, &three->source); /* outside a dispatch */
  ck_assert_ptr_null(reactor_reap(&bench.reactor));
  turn(&bench);
  ck_assert_uint_eq(bench.turns_count, 0);
  ck_assert_ptr_eq(reactor_reap(&bench.reactor), &three->source);
  ck_assert_ptr_null(reactor_reap(&bench.reactor));
  bench_close(&bench);
}
END_TEST

/* ---- timers ---- */

START_TEST(test_events_come_before_timers) {
  struct bench bench;
  bench_open(&bench, _i == 1);
  struct item *item = take(&bench, 1);
  int peer = watch(&bench, item);
  reactor_arm(&bench.reactor, &item->source, bench.reactor.now_ns + NS_PER_MS);
  reactor_requeue(&bench.reactor, &item->source);
  CLIENT_WRITE(peer, "x");
  bench.reactor.now_ns += NS_PER_S;
  turn(&bench);
  ck_assert_uint_eq(bench.turns_count, 2);
  TURN(&bench, 0, 1, EVENT_REQUEUE | EPOLLIN);
  TURN(&bench, 1, 1, EVENT_TIMER);
  reactor_arm(&bench.reactor, &item->source, bench.reactor.now_ns);
  reactor_retire(&bench.reactor, &item->source);
  bench.reactor.now_ns += NS_PER_S;
  bench.turns_count = 0;
  reactor_dispatch(&bench.reactor);
  ck_assert_uint_eq(bench.turns_count, 0); /* its timer is cancelled */
  close(peer);
  close(item->fd);
  bench_close(&bench);
}
END_TEST

/* An earlier deadline moves the timer, and a later one does not. */
START_TEST(test_arming_is_lazy) {
  struct bench bench;
  bench_open(&bench, false);
  struct item *item = take(&bench, 1);
  uint64_t now_ns = bench.reactor.now_ns;
  reactor_arm(&bench.reactor, &item->source, now_ns + 10 * NS_PER_S);
  uint64_t first = timer_deadline_ns(&item->source.timer);
  ck_assert_uint_ge(first, now_ns + 10 * NS_PER_S);
  reactor_arm(&bench.reactor, &item->source, now_ns + 20 * NS_PER_S);
  ck_assert_uint_eq(timer_deadline_ns(&item->source.timer), first);
  reactor_arm(&bench.reactor, &item->source, now_ns + 5 * NS_PER_S);
  ck_assert_uint_lt(timer_deadline_ns(&item->source.timer), first);
  bench_close(&bench);
}
END_TEST

START_TEST(test_a_turn_fires_a_bounded_number_of_timers) {
  struct bench bench;
  bench_open(&bench, false);
  static struct item many[REACTOR_TIMERS + 10];
  for (size_t i = 0; i < count_of(many); i++) {
    many[i] = (struct item){.bench = &bench};
    reactor_arm(&bench.reactor, &many[i].source, bench.reactor.now_ns + NS_PER_MS);
  }
  bench.reactor.now_ns += NS_PER_S;
  reactor_dispatch(&bench.reactor);
  ck_assert_uint_eq(bench.turns_count, REACTOR_TIMERS);
  turn(&bench); /* it does not block */
  ck_assert_uint_eq(bench.turns_count, 10);
  bench_close(&bench);
}
END_TEST

/* The wait ends at the timer, or at ${until_ns} if that is earlier, and not before. */
START_TEST(test_wait_ends_in_time) {
  struct bench bench;
  bench_open(&bench, _i == 1);
  struct item *item = take(&bench, 1);
  uint64_t deadline_ns = sys_now_ns() + 30 * NS_PER_MS;
  reactor_arm(&bench.reactor, &item->source, deadline_ns);
  while (bench.turns_count == 0) {
    reactor_wait(&bench.reactor, NEVER);
    reactor_dispatch(&bench.reactor);
  }
  ck_assert_uint_ge(bench.reactor.now_ns, deadline_ns);
  reactor_arm(&bench.reactor, &item->source, sys_now_ns() + 1000 * NS_PER_S);
  deadline_ns = sys_now_ns() + 10 * NS_PER_MS;
  reactor_wait(&bench.reactor, deadline_ns);
  ck_assert_uint_ge(bench.reactor.now_ns, deadline_ns);
  bench_close(&bench);
}
END_TEST

START_TEST(test_busy_does_not_wait) {
  struct bench bench;
  bench_open(&bench, _i == 1);
  struct item *item = take(&bench, 1);
  reactor_requeue(&bench.reactor, &item->source);
  reactor_wait(&bench.reactor, NEVER); /* would block forever */
  reactor_dispatch(&bench.reactor);
  ck_assert_uint_eq(bench.turns_count, 1);
  reactor_retire(&bench.reactor, &item->source);
  reactor_wait(&bench.reactor, NEVER);
  bench_close(&bench);
}
END_TEST

/* ---- the wake ---- */

static void *signal_wake(void *wake) {
  wake_signal(wake);
  return NULL;
}

START_TEST(test_wake_ends_the_wait_and_is_no_event) {
  struct bench bench;
  struct wake wake;
  bench_open(&bench, _i == 1);
  ck_assert_int_eq(wake_open(&wake), 0);
  ck_assert_int_eq(reactor_add_wake(&bench.reactor, &wake), 0);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, signal_wake, &wake), 0);
  reactor_wait(&bench.reactor, NEVER);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  reactor_dispatch(&bench.reactor);
  ck_assert_uint_eq(bench.turns_count, 0);
  ck_assert_uint_eq(atom_load_relaxed_u64(&bench.stats.stale), 0);
  if (_i == 1) {
    ck_assert(bench.reactor.woken); /* level-triggered: reported once, then not polled */
    uint64_t until_ns = sys_now_ns() + 10 * NS_PER_MS;
    reactor_wait(&bench.reactor, until_ns);
    ck_assert_uint_ge(bench.reactor.now_ns, until_ns);
  } else {
    wake_signal(&wake);
    reactor_wait(&bench.reactor, NEVER); /* one edge each */
  }
  wake_close(&wake);
  bench_close(&bench);
}
END_TEST

START_TEST(test_time_never_goes_back) {
  struct bench bench;
  bench_open(&bench, false);
  uint64_t ahead_ns = bench.reactor.now_ns + 1000 * NS_PER_S;
  bench.reactor.now_ns = ahead_ns;
  reactor_wait(&bench.reactor, 0);
  ck_assert_uint_eq(bench.reactor.now_ns, ahead_ns);
  bench_close(&bench);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_events_are_edges_under_epoll, 1},
      {test_events_are_levels_under_poll, 1},
      {test_event_of_an_ended_source_is_stale, 1},
      {test_generation_skips_zero, 2},
      {test_generation_is_longer_than_32_bits, 1},
      {test_take_fails_at_the_ceiling, 1},
      {test_again_is_once_a_dispatch_and_in_order, 1},
      {test_retired_while_it_waits_for_its_turn, 1},
      {test_events_come_before_timers, 2},
      {test_arming_is_lazy, 1},
      {test_a_turn_fires_a_bounded_number_of_timers, 1},
      {test_wait_ends_in_time, 2},
      {test_busy_does_not_wait, 2},
      {test_wake_ends_the_wait_and_is_no_event, 2},
      {test_time_never_goes_back, 1},
  };
  return run_suite("reactor", tests, count_of(tests));
}
