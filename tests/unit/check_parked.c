/*
 * check_parked: all parked connections of a server are served again, or are gone, and those that
 * were only suspended go on.
 */
#include "pool/parked.h"

#include "core/sys.h"
#include "pool/worker.h"
#include "tests/fixtures/pool_fixture.h"

#include <stdlib.h>

enum { CLIENTS = 150 };

static struct config config;
static struct log logger;
static struct xchg_server *server;
static struct conn_batch *batch;
static struct parked parked;
static int clients[CLIENTS];

static void set_up(void) {
  static const char *const entries[] = {"XCHG_LISTEN=127.0.0.1:0", "XCHG_EXCHANGE=echo",
                                        "XCHG_WORKERS=2", "XCHG_UPGRADE=on", NULL};
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
  for (int i = 0; i < CLIENTS; i++) {
    clients[i] = connect_to_port(server->listeners[0].addr.addr.port);
    send_bytes(clients[i], "p", 1);
    expect_bytes(clients[i], "p", 1);
  }
}

static void tear_down(void) {
  for (int i = 0; i < CLIENTS; i++) {
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
  parked_begin(&parked, server, batch, gone);
  AWAIT(parked_tend(&parked));
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

int main(void) {
  const struct suite_test tests[] = {{they_come_back, 2}, {they_are_gone, 1}, {there_are_none, 2}};
  return run_suite("parked", tests, count_of(tests));
}
