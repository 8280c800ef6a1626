/*
 * check_parked: all parked connections of a server are served again, or are gone, and those that
 * were only suspended go on.
 */
#include "pool/parked.h"

#include "core/sys.h"
#include "pool/conn_batch.h"
#include "pool/worker.h"
#include "pool/server.h"
#include "tests/fixtures/pool_fixture.h"

#include <semaphore.h>
#include <stdlib.h>

enum { CLIENTS = 150 };

static int connected;

static struct config config;
static struct log logger;
static struct xchg_server *server;
static struct conn_batch *batch;
static int clients[CLIENTS];

static void set_up_with(int count) {
  static const char *const entries[] = {"XCHG_LISTEN=127.0.0.1:0", "XCHG_EXCHANGE=echo",
                                        "XCHG_WORKERS=2",          "XCHG_UPGRADE=on",
                                        "XCHG_DRAIN_TIMEOUT=0",    NULL};
  const struct server_setup setup = {.config = &config, .log = &logger};
  size_t size = (sizeof(*server) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
  ck_assert_msg(load(&config, entries, &plenty) == 0, "%s", said);
  log_fixture_open(&logger);
  server = aligned_alloc(CACHE_LINE, size);
  ck_assert_ptr_nonnull(server);
  ck_assert_int_eq(server_open(server, &setup), 0);
  ck_assert_int_eq(server_start(server), 0);
  batch = conn_batch_create(&server->done);
  ck_assert_ptr_nonnull(batch);
  connected = count;
  for (int i = 0; i < count; i++) {
    clients[i] = connect_to_port(server->listeners[0].addr.addr.port);
    send_bytes(clients[i], "p", 1);
    expect_bytes(clients[i], "p", 1);
  }
}

static void set_up(void) { set_up_with(CLIENTS); }

static void tear_down(void) {
  for (int i = 0; i < connected; i++) {
    close(clients[i]);
  }
  server_drain(server);
  AWAIT(server_finished(server));
  conn_batch_destroy(batch);
  server_close(server);
  free(server);
  log_fixture_close(&logger);
  config_fini(&config);
}

static uint32_t live(void) { return server->model->ops->live(server->model); }

static void ask(uint32_t worker, enum conn_batch_what what) {
  conn_batch_send(batch, server_inbox(server, worker), what);
  AWAIT(conn_batch_answered(batch));
}

/* No worker gives turns. */
static void suspend(void) {
  for (uint32_t i = 0; i < 2; i++) {
    ask(i, CONN_BATCH_SUSPEND);
    ck_assert_uint_eq(batch->waiting, 0);
  }
}

/* Park all connections of a worker, but not more than ${most}. Return: how many. */
static uint32_t park(uint32_t worker, uint32_t most) {
  uint32_t count = 0;
  batch->cursor = 0;
  batch->over = false;
  for (uint32_t i = 0; i < CONN_STAYS_COUNT; i++) {
    batch->stays[i] = 0;
  }
  while (!batch->over && count < most) {
    conn_batch_clear(batch);
    batch->want = (uint32_t)min_u64(CONN_BATCH_MAX, most - count);
    ask(worker, CONN_BATCH_PACK);
    count += batch->count;
  }
  conn_batch_clear(batch);
  return count;
}

static void settle(bool gone) {
  server_settle(server, gone);
  AWAIT(server_settled(server));
}

static void send_to_all(void) {
  for (int i = 0; i < CLIENTS; i++) {
    send_bytes(clients[i], "q", 1);
  }
}

static void expect_from_all(void) {
  for (int i = 0; i < CLIENTS; i++) {
    expect_bytes(clients[i], "q", 1);
  }
}

/* What they have sent meanwhile is answered: _i of ten were not parked, and only had no turns. */
START_TEST(they_come_back) {
  set_up();
  suspend();
  send_to_all();
  suspend(); /* the workers have seen it, perhaps */
  uint32_t count = park(0, UINT32_MAX) + park(1, _i == 0 ? UINT32_MAX : 10);
  ck_assert(_i == 1 || count == CLIENTS);
  char byte;
  ck_assert_int_eq(recv(clients[0], &byte, 1, MSG_DONTWAIT), -1);
  settle(false);
  ck_assert_uint_eq(live(), CLIENTS);
  expect_from_all();
  tear_down();
}
END_TEST

START_TEST(they_are_gone) {
  set_up();
  suspend();
  ck_assert_uint_eq(park(0, UINT32_MAX) + park(1, UINT32_MAX), CLIENTS);
  ck_assert_uint_eq(live(), CLIENTS);
  settle(true);
  ck_assert_uint_eq(live(), 0);
  for (int i = 0; i < CLIENTS; i++) {
    expect_closed(clients[i]);
  }
  tear_down();
}
END_TEST

/* Nothing is parked, and nothing was suspended. */
START_TEST(there_are_none) {
  set_up();
  settle(_i == 0);
  send_to_all();
  expect_from_all();
  tear_down();
}
END_TEST

/*
 * A stop has begun: a worker without connections ends, one that has parked ones does not.  Those
 * that come back are closed, although the others were closed before.
 */
START_TEST(during_a_stop) {
  set_up_with(_i / 2 == 0 ? CLIENTS : 1);
  suspend();
  ck_assert_uint_eq(park(0, UINT32_MAX) + park(1, UINT32_MAX), (uint32_t)connected);
  server_drain(server);
  if (connected > 1) { /* else one of the workers may have ended */
    suspend();
    suspend();
  }
  settle(_i % 2 == 0);
  AWAIT(server_finished(server));
  for (int i = 0; i < connected; i++) {
    expect_closed(clients[i]);
  }
  tear_down();
}
END_TEST

static sem_t go;

static void block(struct conn_batch *stuck, struct conn_ctx *ctx) {
  (void)stuck, (void)ctx;
  while (sem_wait(&go) == -1) {
  }
}

static uint32_t answered(void) {
  uint32_t count = 0;
  char byte;
  for (int i = 0; i < CLIENTS; i++) {
    count += recv(clients[i], &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 1;
  }
  return count;
}

/* A callback of one worker blocks: the connections of the other one are served again. */
START_TEST(a_worker_is_stuck) {
  static struct conn_batch stuck;
  set_up();
  suspend();
  uint32_t count = park(0, UINT32_MAX);
  ck_assert_uint_lt(count, CLIENTS);
  (void)park(1, UINT32_MAX); /* the others */
  ck_assert_int_eq(sem_init(&go, 0, 0), 0);
  stuck = (struct conn_batch){.task = {.kind = TASK_BATCH}, .run = block, .wake = &server->done};
  inbox_push_mpsc(server_inbox(server, 1), &stuck.task);
  send_to_all();
  server_settle(server, false);
  server_settle(server, false); /* the first one goes on */
  AWAIT(answered() == count);
  ck_assert(!server_settled(server));
  ck_assert_int_eq(sem_post(&go), 0);
  AWAIT(server_settled(server));
  expect_from_all();
  tear_down();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {{they_come_back, 2},
                                     {they_are_gone, 1},
                                     {there_are_none, 2},
                                     {during_a_stop, 4},
                                     {a_worker_is_stuck, 1}};
  return run_suite("parked", tests, count_of(tests));
}
