/*
 * worker_kit: a worker with what it borrows, and a thread to run it on.
 *
 * What belongs to the worker's thread is looked at after the join only.
 */
#ifndef TESTS_WORKER_KIT_H
#define TESTS_WORKER_KIT_H

#include "pool/worker.h"

#include "net/exchange.h"
#include "tests/unit/pool_kit.h"

#include <pthread.h>
#include <stdlib.h>

static struct config config;
static struct exchange exchange;
static struct admit admit;
static struct wake freed = {.fd = -1}; /* where an acceptor would wait */
static struct worker *worker;
static pthread_t thread;

static inline struct worker_setup setup_of(void) {
  return (struct worker_setup){.config = &config, .handler = &exchange.handler, .admit = &admit};
}

static inline void prepare(const char *const *entries) {
  ck_assert_msg(load(&config, entries, &plenty) == 0, "%s", said);
  ck_assert_int_eq(wake_open(&freed), 0);
  ck_assert_int_eq(exchange_init(&exchange, &config), 0);
  ck_assert_int_eq(admit_init(&admit, &config, &freed), 0);
  worker = aligned_alloc(CACHE_LINE, sizeof(*worker));
  ck_assert_ptr_nonnull(worker);
}

#define PREPARE(...) prepare((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

#define OPEN(...)                                                   \
  do {                                                              \
    PREPARE("XCHG_MAX_CONNECTIONS=600" __VA_OPT__(, ) __VA_ARGS__); \
    const struct worker_setup setup_ = setup_of();                  \
    ck_assert_int_eq(worker_open(worker, &setup_), 0);              \
  } while (0)

static inline void finish(void) {
  worker_close(worker);
  free(worker);
  admit_fini(&admit);
  exchange_fini(&exchange);
  wake_close(&freed);
  config_fini(&config);
}

static inline void *run(void *unused) {
  (void)unused;
  worker_run(worker);
  return NULL;
}

static inline void start(void) { ck_assert_int_eq(pthread_create(&thread, NULL, run, NULL), 0); }

static inline void join(void) { ck_assert_int_eq(pthread_join(thread, NULL), 0); }

static inline uint64_t ended(enum xchg_reason reason) {
  return atom_load_relaxed_u64(&worker->stats.ended[reason]);
}

/* As the acceptor does it. */
static inline void hand_over(const struct guest *guest) {
  atom_add_relaxed_u32(&worker->live, 1);
  ck_assert_int_ne(inbox_push_spsc(&worker->inbox, guest), -1);
}

static inline int hand_over_new(void) {
  struct guest guest;
  int client = kit_guest(&guest);
  hand_over(&guest);
  return client;
}

static inline int hand_over_unix(void) {
  struct guest guest;
  int client = kit_guest_unix(&guest);
  hand_over(&guest);
  return client;
}

static inline void echo_once(int client) {
  kit_send(client, "ping", 4);
  kit_expect(client, "ping", 4);
}

#endif
