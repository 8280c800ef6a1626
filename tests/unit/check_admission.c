/*
 * check_admission: allow and deny lists, the limit per address against a naive model, reclaimed
 * nodes, a second thread that releases meanwhile, and the wait flag of the acceptor.
 *
 * The random test prints its seed, and CHECK_SEED sets it.
 */
#include "pool/admission.h"

#include "pool/ring.h"
#include "tests/fixtures/pool_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define NONE 0 /* end of a chain or of the free list */

static struct config config;
static struct wake waker = {.fd = -1};
static struct admission admission;

static void set_up(const char *const *entries) {
  ck_assert_msg(load(&config, entries, &plenty) == 0, "%s", said);
  ck_assert_int_eq(wake_open(&waker), 0);
  ck_assert_int_eq(admission_init(&admission, &config, &waker), 0);
}

#define SET_UP(...) set_up((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void tear_down(void) {
  admission_fini(&admission);
  wake_close(&waker);
  config_fini(&config);
}

static struct accepted_conn ipv4(uint32_t number) {
  struct accepted_conn accepted = {.fd = -1};
  const uint8_t bytes[4] = {(uint8_t)(number >> 24), (uint8_t)(number >> 16),
                            (uint8_t)(number >> 8), (uint8_t)number};
  addr_from_ipv4(&accepted.addr, bytes, (uint16_t)number);
  return accepted;
}

/* An address in 2001:db8::/32: ${net} is the /64, ${host} the rest. */
static struct accepted_conn ipv6(uint32_t net, uint64_t host) {
  struct accepted_conn accepted = {.fd = -1};
  uint8_t bytes[16] = {0x20, 0x01, 0x0d, 0xb8};
  for (int i = 0; i < 4; i++) {
    bytes[4 + i] = (uint8_t)(net >> (24 - 8 * i));
  }
  for (int i = 0; i < 8; i++) {
    bytes[8 + i] = (uint8_t)(host >> (56 - 8 * i));
  }
  addr_from_ipv6(&accepted.addr, bytes, 1);
  return accepted;
}

static struct accepted_conn parsed(const char *text) {
  char listen[128];
  struct addr_listen where;
  snprintf(listen, sizeof(listen), strchr(text, ':') ? "[%s]:1" : "%s:1", text);
  ck_assert_msg(addr_parse_listen(listen, &where) == 0, "%s", listen);
  return (struct accepted_conn){.fd = -1, .addr = where.addr};
}

/* The decision about ${accepted}; XCHG_FINISHED = admitted. */
static enum xchg_reason enter(struct accepted_conn *accepted) {
  enum xchg_reason refused = XCHG_REASONS;
  return admission_check(&admission, accepted, &refused) ? XCHG_FINISHED : refused;
}

static enum xchg_reason enter_text(const char *text) {
  struct accepted_conn accepted = parsed(text);
  return enter(&accepted);
}

/* Every node is in exactly one list. Return: how many are free. */
static uint32_t check_nodes(void) {
  uint32_t all = 0, free_nodes = admission.nodes_count + 1 - admission.fresh;
  for (uint32_t i = admission.free; i != NONE; i = admission.nodes[i].next) {
    free_nodes++;
    ck_assert_uint_le(free_nodes, admission.nodes_count);
  }
  for (uint32_t chain = 0; chain <= admission.buckets_mask; chain++) {
    for (uint32_t i = admission.buckets[chain]; i != NONE; i = admission.nodes[i].next) {
      all++;
      ck_assert_uint_le(all, admission.nodes_count);
    }
  }
  ck_assert_uint_eq(all + free_nodes, admission.nodes_count);
  return free_nodes;
}

static uint32_t live_sum(void) {
  uint32_t sum = 0;
  for (uint32_t i = 1; i < admission.fresh; i++) {
    sum += atom_load_relaxed_u32(&admission.nodes[i].live);
  }
  return sum;
}

/* ---- lists ---- */

START_TEST(without_lists_all_are_admitted) {
  SET_UP();
  ck_assert_int_eq(enter_text("192.0.2.1"), XCHG_FINISHED);
  ck_assert_int_eq(enter_text("2001:db8::1"), XCHG_FINISHED);
  struct accepted_conn accepted = parsed("192.0.2.1");
  accepted.ip_slot = 5;
  ck_assert_int_eq(enter(&accepted), XCHG_FINISHED);
  ck_assert_uint_eq(accepted.ip_slot, NO_IP_SLOT); /* nothing to release */
  admission_release(&admission, accepted.ip_slot);
  ck_assert_ptr_null(admission.nodes);
  tear_down();
}
END_TEST

START_TEST(deny_wins_over_allow) {
  SET_UP("XCHG_ALLOW=10.0.0.0/8,2001:db8::/32", "XCHG_DENY=10.1.2.3/16,2001:db8:5::/48");
  ck_assert_int_eq(enter_text("10.0.0.1"), XCHG_FINISHED);
  ck_assert_int_eq(enter_text("10.2.0.0"), XCHG_FINISHED);
  ck_assert_int_eq(enter_text("10.1.0.0"), XCHG_DENIED); /* the list's host bits are masked */
  ck_assert_int_eq(enter_text("10.1.255.255"), XCHG_DENIED);
  ck_assert_int_eq(enter_text("11.0.0.1"), XCHG_DENIED); /* not allowed */
  ck_assert_int_eq(enter_text("2001:db8::1"), XCHG_FINISHED);
  ck_assert_int_eq(enter_text("2001:db8:5::1"), XCHG_DENIED);
  ck_assert_int_eq(enter_text("2001:db9::1"), XCHG_DENIED);
  tear_down();
}
END_TEST

START_TEST(deny_alone_admits_the_rest) {
  SET_UP("XCHG_DENY=192.0.2.7");
  ck_assert_int_eq(enter_text("192.0.2.7"), XCHG_DENIED);
  ck_assert_int_eq(enter_text("192.0.2.6"), XCHG_FINISHED);
  ck_assert_int_eq(enter_text("::1"), XCHG_FINISHED);
  tear_down();
}
END_TEST

START_TEST(mapped_addresses_are_ipv4) {
  SET_UP("XCHG_DENY=192.0.2.0/24", "XCHG_MAX_PER_IP=1", "XCHG_MAX_CONNECTIONS=8");
  ck_assert_int_eq(enter_text("::ffff:192.0.2.9"), XCHG_DENIED);
  ck_assert_int_eq(enter_text("::ffff:198.51.100.1"), XCHG_FINISHED);
  ck_assert_int_eq(enter_text("198.51.100.1"), XCHG_PER_IP);
  tear_down();
  SET_UP("XCHG_ALLOW=::ffff:192.0.2.0/120");
  ck_assert_int_eq(enter_text("192.0.2.9"), XCHG_FINISHED);
  ck_assert_int_eq(enter_text("192.0.3.9"), XCHG_DENIED);
  tear_down();
}
END_TEST

START_TEST(unix_sockets_are_exempt) {
  SET_UP("XCHG_ALLOW=10.0.0.0/8", "XCHG_DENY=0.0.0.0/0,::/0", "XCHG_MAX_PER_IP=1",
         "XCHG_MAX_CONNECTIONS=8");
  for (int i = 0; i < 20; i++) {
    struct accepted_conn accepted = {.fd = -1, .addr.family = ADDR_UNIX, .ip_slot = 3};
    ck_assert_int_eq(enter(&accepted), XCHG_FINISHED);
    ck_assert_uint_eq(accepted.ip_slot, NO_IP_SLOT);
  }
  ck_assert_uint_eq(live_sum(), 0);
  tear_down();
}
END_TEST

/* ---- the limit per address ---- */

START_TEST(an_ipv6_64_counts_as_one_address) {
  SET_UP("XCHG_MAX_PER_IP=3", "XCHG_MAX_CONNECTIONS=16");
  struct accepted_conn accepted[3];
  for (uint64_t i = 0; i < 3; i++) {
    accepted[i] = ipv6(7, i << 40 | i);
    ck_assert_int_eq(enter(&accepted[i]), XCHG_FINISHED);
  }
  struct accepted_conn more = ipv6(7, UINT64_MAX);
  ck_assert_int_eq(enter(&more), XCHG_PER_IP);
  ck_assert_uint_eq(more.ip_slot, NO_IP_SLOT); /* nothing to release */
  struct accepted_conn neighbour = ipv6(8, 0);
  ck_assert_int_eq(enter(&neighbour), XCHG_FINISHED);
  admission_release(&admission, accepted[1].ip_slot);
  ck_assert_int_eq(enter(&more), XCHG_FINISHED);
  ck_assert_uint_eq(live_sum(), 4);
  tear_down();
}
END_TEST

START_TEST(ports_do_not_matter) {
  SET_UP("XCHG_MAX_PER_IP=1", "XCHG_MAX_CONNECTIONS=16");
  struct accepted_conn first = ipv4(1), second = ipv4(1);
  second.addr.port = 4711;
  ck_assert_int_eq(enter(&first), XCHG_FINISHED);
  ck_assert_int_eq(enter(&second), XCHG_PER_IP);
  tear_down();
}
END_TEST

/* An IPv4 address and the IPv6 network that begins with the same bytes are counted apart. */
START_TEST(families_are_counted_apart) {
  SET_UP("XCHG_MAX_PER_IP=1", "XCHG_MAX_CONNECTIONS=16");
  struct accepted_conn four = ipv4(0x20010db8), six = ipv6(0, 0);
  ck_assert_mem_eq(four.addr.bytes, six.addr.bytes, 16);
  ck_assert_int_eq(enter(&four), XCHG_FINISHED);
  ck_assert_int_eq(enter(&six), XCHG_FINISHED);
  ck_assert_int_eq(enter(&four), XCHG_PER_IP);
  ck_assert_int_eq(enter(&six), XCHG_PER_IP);
  tear_down();
}
END_TEST

#define CUSTOMERS 500
#define LIVE_MAX 64
#define LIMIT 3
#define STEPS 30000

static uint64_t next_random(uint64_t *state) {
  *state += UINT64_C(0x9e3779b97f4a7c15);
  uint64_t z = *state;
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

/* A connection from the ${customer}th address: even ones IPv4, odd ones an IPv6 /64. */
static struct accepted_conn of_customer(uint32_t customer, uint64_t *random) {
  return customer % 2 == 0 ? ipv4(0x0a000000 + customer * 77) : ipv6(customer, next_random(random));
}

START_TEST(random_sequences_match_a_naive_model) {
  const char *text = getenv("CHECK_SEED");
  const uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : sys_now_ns();
  printf("CHECK_SEED=%llu\n", (unsigned long long)seed);
  uint64_t random = seed;
  SET_UP("XCHG_MAX_PER_IP=3", "XCHG_MAX_CONNECTIONS=64");
  static uint32_t live[CUSTOMERS], customer_of[LIVE_MAX], ticket_of[LIVE_MAX];
  uint32_t count = 0, refused = 0;
  for (int step = 0; step < STEPS; step++) {
    bool few = next_random(&random) % 4 == 0; /* a quarter of them share a few addresses */
    uint32_t customer = (uint32_t)(next_random(&random) % (few ? 5 : CUSTOMERS));
    if (count == LIVE_MAX || (count > 0 && next_random(&random) % 100 < 45)) {
      uint32_t i = (uint32_t)(next_random(&random) % count);
      admission_release(&admission, ticket_of[i]);
      live[customer_of[i]]--;
      customer_of[i] = customer_of[--count];
      ticket_of[i] = ticket_of[count];
      continue;
    }
    struct accepted_conn accepted = of_customer(customer, &random);
    enum xchg_reason want = live[customer] < LIMIT ? XCHG_FINISHED : XCHG_PER_IP;
    enum xchg_reason got = enter(&accepted);
    ck_assert_msg(got == want, "seed %llu, step %d: %s, want %s", (unsigned long long)seed, step,
                  xchg_reason_name(got), xchg_reason_name(want));
    if (got == XCHG_FINISHED) {
      live[customer]++;
      customer_of[count] = customer;
      ticket_of[count++] = accepted.ip_slot;
    } else {
      refused++;
    }
  }
  ck_assert_msg(refused > 0, "seed %llu: the limit was never reached", (unsigned long long)seed);
  ck_assert_uint_eq(live_sum(), count);
  check_nodes();
  tear_down();
}
END_TEST

/* Unused nodes stay in their chains until a later look-up or a sweep reclaims them. */
START_TEST(a_sweep_reclaims_unused_nodes) {
  SET_UP("XCHG_MAX_PER_IP=1", "XCHG_MAX_CONNECTIONS=64");
  for (uint32_t i = 0; i + 1 < LIVE_MAX; i++) {
    struct accepted_conn stays = ipv4(i);
    ck_assert_int_eq(enter(&stays), XCHG_FINISHED);
  }
  bool exhausted = false, swept = false;
  for (uint32_t i = 0; i < 100000 && !swept; i++) {
    uint32_t before = check_nodes();
    exhausted = exhausted || before == 0;
    struct accepted_conn passes = ipv4(1000 + i);
    ck_assert_int_eq(enter(&passes), XCHG_FINISHED);
    admission_release(&admission, passes.ip_slot);
    swept = before == 0 && check_nodes() >= admission.nodes_count / 2 - 1;
  }
  ck_assert(exhausted && swept);
  ck_assert_uint_eq(live_sum(), LIVE_MAX - 1);
  for (uint32_t i = 0; i + 1 < LIVE_MAX; i++) { /* addresses that are still used are found */
    struct accepted_conn again = ipv4(i);
    ck_assert_int_eq(enter(&again), XCHG_PER_IP);
  }
  tear_down();
}
END_TEST

/* ---- two threads ---- */

#define PASSING 20000

struct leaver {
  struct ring ring; /* connections that may be released */
  atom_u32 left;    /* connections that have been */
};

static void *leave_all(void *argument) {
  struct leaver *leaver = argument;
  for (uint32_t count = 0; count < PASSING;) {
    struct accepted_conn accepted;
    if (!ring_pop_spsc(&leaver->ring, &accepted)) {
      sched_yield();
      continue;
    }
    admission_release(&admission, accepted.ip_slot);
    atom_store_release_u32(&leaver->left, ++count);
  }
  return NULL;
}

START_TEST(one_thread_admits_while_another_releases) {
  SET_UP("XCHG_MAX_PER_IP=4", "XCHG_MAX_CONNECTIONS=64");
  static struct leaver leaver;
  ck_assert_int_eq(ring_open(&leaver.ring, LIVE_MAX), 0);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, leave_all, &leaver), 0);
  uint64_t random = 1;
  for (uint32_t entered = 0; entered < PASSING;) {
    if (entered - atom_load_acquire_u32(&leaver.left) == LIVE_MAX) {
      sched_yield();
      continue;
    }
    struct accepted_conn accepted = of_customer((uint32_t)(next_random(&random) % 200), &random);
    if (enter(&accepted) == XCHG_FINISHED) {
      ck_assert_int_eq(ring_push_spsc(&leaver.ring, &accepted), 0);
      entered++;
    }
  }
  pthread_join(thread, NULL);
  ck_assert_uint_eq(live_sum(), 0);
  check_nodes();
  ring_close(&leaver.ring);
  tear_down();
}
END_TEST

/* ---- the acceptor's wait flag ---- */

static uint64_t signals(void) {
  uint64_t count = 0;
  return read(waker.fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

START_TEST(only_a_waiting_acceptor_is_woken_and_once) {
  SET_UP();
  room_wake(&admission);
  ck_assert_uint_eq(signals(), 0);
  room_prepare_wait(&admission);
  room_wake(&admission);
  room_wake(&admission);
  ck_assert_uint_eq(signals(), 1);
  room_prepare_wait(&admission);
  room_finish_wait(&admission);
  room_wake(&admission);
  ck_assert_uint_eq(signals(), 0);
  tear_down();
}
END_TEST

#define ROUNDS 3000

static atom_u32 room;

static void *free_rooms(void *unused) {
  (void)unused;
  for (int i = 0; i < ROUNDS; i++) {
    while (atom_load_acquire_u32(&room) != 0) {
      sched_yield();
    }
    atom_store_release_u32(&room, 1);
    room_wake(&admission);
  }
  return NULL;
}

START_TEST(no_wake_is_lost) {
  SET_UP();
  atom_store_relaxed_u32(&room, 1);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, free_rooms, NULL), 0);
  for (int i = 0; i < ROUNDS; i++) {
    atom_store_release_u32(&room, 0);
    room_prepare_wait(&admission);
    while (atom_load_acquire_u32(&room) == 0) {
      struct pollfd pollfd = {.fd = waker.fd, .events = POLLIN};
      ck_assert_msg(poll(&pollfd, 1, (int)(FIXTURE_TIMEOUT_NS / NS_PER_MS)) == 1, "round %d: lost",
                    i);
      signals();
    }
    room_finish_wait(&admission);
  }
  pthread_join(thread, NULL);
  tear_down();
}
END_TEST

/* ---- proxies ---- */

static enum xchg_reason enter_proxied(const char *text) {
  struct accepted_conn accepted = parsed(text);
  accepted.proxy = ADDR_PROXY_V2;
  enum xchg_reason refused = enter(&accepted);
  ck_assert_uint_eq(accepted.ip_slot, NO_IP_SLOT);
  return refused;
}

/* Behind a listener with headers the trust list alone decides; it has no limit per address. */
START_TEST(proxies_must_be_trusted) {
  SET_UP("XCHG_LISTEN=:1;proxy=v2", "XCHG_PROXY_TRUST=192.0.2.0/24,2001:db8::/32",
         "XCHG_DENY=192.0.2.0/24", "XCHG_MAX_PER_IP=1");
  for (int i = 0; i < 3; i++) {
    ck_assert_int_eq(enter_proxied("192.0.2.1"), XCHG_FINISHED);
    ck_assert_int_eq(enter_proxied("2001:db8::1"), XCHG_FINISHED);
  }
  ck_assert_int_eq(enter_proxied("192.0.3.1"), XCHG_PROXY);
  ck_assert_int_eq(enter_proxied("::1"), XCHG_PROXY);
  ck_assert_int_eq(enter_text("192.0.2.1"), XCHG_DENIED);
  struct accepted_conn local = {.addr = {.family = ADDR_UNIX}, .proxy = ADDR_PROXY_V2};
  ck_assert_int_eq(enter(&local), XCHG_FINISHED);
  tear_down();
}
END_TEST

/* They count, over the limit too, and their ends make room for new ones. */
START_TEST(adopted_ones_are_not_refused) {
  uint32_t ip_slot = NO_IP_SLOT;
  SET_UP("XCHG_MAX_PER_IP=2");
  struct accepted_conn one = ipv4(1), two = ipv4(2);
  for (int i = 0; i < 3; i++) {
    ip_slot = admission_adopt(&admission, &one.addr, false);
  }
  ck_assert_int_eq(enter(&one), XCHG_PER_IP);
  ck_assert_int_eq(enter(&two), XCHG_FINISHED);
  admission_release(&admission, ip_slot);
  ck_assert_int_eq(enter(&one), XCHG_PER_IP);
  admission_release(&admission, ip_slot);
  ck_assert_int_eq(enter(&one), XCHG_FINISHED);
  tear_down();
}
END_TEST

/* Behind a proxy or on a UNIX socket: for no address. */
START_TEST(adopted_ones_without_an_address) {
  struct accepted_conn one = ipv4(1);
  const struct addr local = {.family = ADDR_UNIX}, none = {.family = ADDR_NONE};
  SET_UP("XCHG_MAX_PER_IP=1");
  ck_assert_uint_eq(admission_adopt(&admission, &one.addr, true), NO_IP_SLOT);
  ck_assert_uint_eq(admission_adopt(&admission, &local, false), NO_IP_SLOT);
  ck_assert_uint_eq(admission_adopt(&admission, &none, false), NO_IP_SLOT);
  ck_assert_int_eq(enter(&one), XCHG_FINISHED);
  tear_down();
}
END_TEST

/* More addresses than nodes: none is refused, the last are not counted, and no new client comes. */
START_TEST(more_adopted_ones_than_nodes) {
  SET_UP("XCHG_MAX_PER_IP=1", "XCHG_MAX_CONNECTIONS=4", "XCHG_OFFLOAD_THREADS=0");
  uint32_t ip_slot = NO_IP_SLOT;
  for (uint32_t i = 1; i <= admission.nodes_count; i++) {
    struct accepted_conn accepted = ipv4(i);
    ip_slot = admission_adopt(&admission, &accepted.addr, false);
    ck_assert_uint_ne(ip_slot, NO_IP_SLOT);
  }
  struct accepted_conn more = ipv4(admission.nodes_count + 1);
  ck_assert_uint_eq(admission_adopt(&admission, &more.addr, false), NO_IP_SLOT);
  ck_assert_int_eq(enter(&more), XCHG_PER_IP);
  admission_release(&admission, ip_slot);
  ck_assert_int_eq(enter(&more), XCHG_FINISHED);
  tear_down();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {without_lists_all_are_admitted, 1},
      {proxies_must_be_trusted, 1},
      {deny_wins_over_allow, 1},
      {deny_alone_admits_the_rest, 1},
      {mapped_addresses_are_ipv4, 1},
      {unix_sockets_are_exempt, 1},
      {an_ipv6_64_counts_as_one_address, 1},
      {ports_do_not_matter, 1},
      {families_are_counted_apart, 1},
      {random_sequences_match_a_naive_model, 1},
      {a_sweep_reclaims_unused_nodes, 1},
      {one_thread_admits_while_another_releases, 1},
      {only_a_waiting_acceptor_is_woken_and_once, 1},
      {no_wake_is_lost, 1},
      {adopted_ones_are_not_refused, 1},
      {adopted_ones_without_an_address, 1},
      {more_adopted_ones_than_nodes, 1},
  };
  return run_suite("admit", tests, count_of(tests));
}
