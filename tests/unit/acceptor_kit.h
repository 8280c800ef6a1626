/*
 * acceptor_kit: an acceptor with real listeners and a model that does what the test says.
 *
 * The model lives on the acceptor's thread; what the test changes meanwhile is atomic.  Some tests
 * need no thread: the model sends the stop itself when it has seen enough.
 */
#ifndef TESTS_ACCEPTOR_KIT_H
#define TESTS_ACCEPTOR_KIT_H

#include "pool/acceptor.h"

#include "tests/unit/pool_kit.h"

#include <pthread.h>
#include <stdlib.h>

#define GUESTS_MAX 512

struct fake {
  struct model model;
  /* the test writes */
  atom_u32 places;     /* room for so many more */
  atom_u32 refuse;     /* place fails so often, with EAGAIN */
  atom_u32 keep;       /* 1: guests stay open until the end, else they are closed at once */
  uint32_t stop_after; /* the acceptor is told to stop with this guest; 0 = not */
  /* the acceptor writes */
  atom_u32 placed;
  atom_u32 live;
  atom_u32 refused;
  bool overfull; /* placed without room */
  struct guest guests[GUESTS_MAX];
  uint32_t batch[GUESTS_MAX]; /* of the first door, when the guest came */
};

static struct config config;
static struct log logger;
static struct admit admit;
static struct wake done = {.fd = -1};
static struct listener listeners[2];
static uint32_t listeners_count;
static struct acceptor acceptor;
static struct fake fake;
static pthread_t thread;
static char unix_path[64];

/* ---- the model ---- */

static inline bool fake_room(struct model *model) {
  (void)model;
  return atom_load_acquire_u32(&fake.places) > 0;
}

static inline uint32_t fake_live(struct model *model) {
  (void)model;
  return atom_load_relaxed_u32(&fake.live);
}

static inline int fake_place(struct model *model, const struct guest *guest) {
  if (atom_load_relaxed_u32(&fake.refuse) > 0) {
    atom_sub_release_u32(&fake.refuse, 1);
    atom_add_relaxed_u32(&fake.refused, 1);
    errno = EAGAIN;
    return -1;
  }
  fake.overfull = fake.overfull || !fake_room(model);
  uint32_t i = atom_load_relaxed_u32(&fake.placed);
  fake.guests[i] = *guest;
  fake.batch[i] = acceptor.door_of[0]->batch;
  if (atom_load_relaxed_u32(&fake.keep) == 0) {
    guest_close(guest);
    admit_leave(&admit, guest->ticket);
  } else {
    atom_add_relaxed_u32(&fake.live, 1);
  }
  atom_sub_release_u32(&fake.places, 1);
  atom_store_release_u32(&fake.placed, i + 1);
  if (i + 1 == fake.stop_after) {
    acceptor_send_stop(&acceptor, sys_now_ns());
  }
  return i % 2 == 0; /* every other one woke somebody */
}

static inline bool fake_last(struct model *model) {
  (void)model;
  return true;
}

/* ---- beginning and end ---- */

static inline void set_up(const char *const *entries) {
  static const struct model_ops ops = {
      .room = fake_room, .live = fake_live, .place = fake_place, .last = fake_last};
  ck_assert_msg(load(&config, entries, &plenty) == 0, "%s", said);
  kit_log_open(&logger);
  ck_assert_int_eq(wake_open(&done), 0);
  ck_assert_int_eq(acceptor_open_inbox(&acceptor), 0);
  ck_assert_int_eq(admit_init(&admit, &config, &acceptor.inbox.wake), 0);
  listeners_count = config.listen_count;
  for (uint32_t i = 0; i < listeners_count; i++) {
    ck_assert_int_eq(listener_open(&listeners[i], &config.listen[i], &config, &logger), 0);
  }
  fake = (struct fake){.model = {.ops = &ops, .setup = {.done = &done}}, .places = 1000};
}

#define SET_UP(...)                                                                  \
  set_up((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) "XCHG_LISTEN=127.0.0.1:0", \
                               "XCHG_MAX_CONNECTIONS=1000", "XCHG_STOP_GRACE=0", NULL})

static inline void open_acceptor(void) {
  const struct acceptor_setup setup = {.config = &config,
                                       .log = &logger,
                                       .admit = &admit,
                                       .model = &fake.model,
                                       .listeners = listeners,
                                       .listeners_count = listeners_count};
  ck_assert_int_eq(acceptor_open(&acceptor, &setup), 0);
}

static inline void tear_down(void) {
  for (uint32_t i = 0; i < atom_load_relaxed_u32(&fake.live); i++) {
    guest_close(&fake.guests[i]);
  }
  acceptor_close(&acceptor);
  for (uint32_t i = 0; i < listeners_count; i++) {
    listener_close(&listeners[i]);
  }
  admit_fini(&admit);
  wake_close(&done);
  kit_log_close(&logger);
  config_fini(&config);
}

static uint64_t cpu_ns; /* that acceptor_run took */

static inline void *run(void *unused) {
  (void)unused;
  acceptor_run(&acceptor);
  cpu_ns = kit_cpu_ns();
  return NULL;
}

static inline void start(void) {
  open_acceptor();
  ck_assert_int_eq(pthread_create(&thread, NULL, run, NULL), 0);
}

static inline void stop(void) { acceptor_send_stop(&acceptor, sys_now_ns()); }

static inline void join(void) { ck_assert_int_eq(pthread_join(thread, NULL), 0); }

static inline uint16_t port(void) { return listeners[0].where.addr.port; }

static inline uint32_t placed(void) { return atom_load_acquire_u32(&fake.placed); }

static inline uint64_t counted(const atom_u64 *counter) { return atom_load_relaxed_u64(counter); }

/* The server closes: an end or a reset. */
static inline void expect_closed(int client) {
  char byte;
  ssize_t count = recv(client, &byte, 1, 0);
  ck_assert_msg(count == 0 || (count == -1 && errno == ECONNRESET), "recv: %zd (%s)", count,
                strerror(errno));
  close(client);
}

#endif
