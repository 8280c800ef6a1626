/*
 * check_conn_batch: a real worker packs its connections, and gets them back or forgets them.
 */
#include "pool/conn_batch.h"

#include "core/sys.h"
#include "tests/fixtures/worker_fixture.h"

enum { CLIENTS = 100 };

static struct wake answers = {.fd = -1};
static struct conn_batch *batch;
static int clients[CLIENTS];

static void begin(int count) {
  OPEN("XCHG_EXCHANGE=echo");
  ck_assert_int_eq(wake_open(&answers), 0);
  batch = conn_batch_create(&answers);
  ck_assert_ptr_nonnull(batch);
  ck_assert(conn_batch_answered(batch));
  start();
  for (int i = 0; i < count; i++) {
    clients[i] = hand_over_new();
    echo_once(clients[i]);
  }
}

static void end(int count) {
  for (int i = 0; i < count; i++) {
    close(clients[i]);
  }
  worker_send_no_more_conns(worker);
  join();
  conn_batch_destroy(batch);
  wake_close(&answers);
  finish();
}

/* Let the worker do ${what}. */
static void send_batch(enum conn_batch_what what) {
  conn_batch_send(batch, &worker->inbox, what);
  AWAIT(conn_batch_answered(batch));
}

/* Let the worker pack up to ${want}, from where the last call has stopped. */
static void pack(uint32_t want) {
  conn_batch_clear(batch);
  batch->want = want;
  batch->over = false;
  memset(batch->stays, 0, sizeof(batch->stays));
  send_batch(CONN_BATCH_PACK);
}

/* Connections of the batch are served by another worker, or come back. */
static void settle(bool gone) {
  for (uint32_t i = 0; i < batch->count; i++) {
    ck_assert_ptr_nonnull(batch->items[i].conn);
    batch->items[i].gone = gone;
  }
  send_batch(CONN_BATCH_SETTLE);
}

START_TEST(connections_come_back) {
  begin(CLIENTS);
  batch->cursor = 0;
  uint32_t packed = 0;
  while (packed < CLIENTS) {
    pack(CONN_BATCH_MAX);
    ck_assert_uint_eq(batch->count, packed == 0 ? CONN_BATCH_MAX : CLIENTS - CONN_BATCH_MAX);
    packed += batch->count;
    settle(false);
    ck_assert_uint_eq(atom_load_relaxed_u32(&worker->live), CLIENTS);
  }
  for (int i = 0; i < CLIENTS; i++) {
    echo_once(clients[i]);
  }
  end(CLIENTS);
}
END_TEST

/* The worker that takes them is the same one: both connections have the descriptor for a while. */
START_TEST(connections_move) {
  static struct conn_batch_item old[CONN_BATCH_MAX];
  begin(CLIENTS);
  batch->cursor = 0;
  pack(CONN_BATCH_MAX);
  size_t at = 0;
  for (uint32_t i = 0; i < batch->count; i++) {
    struct conn_batch_item *item = &batch->items[i];
    old[i] = *item;
    ck_assert_ptr_null(conn_record_read(&item->record, batch->arena + at, item->size));
    item->record.owned = old[i].record.owned;
    item->wanted = i != 0;
    at += item->size;
  }
  send_batch(CONN_BATCH_UNPACK);
  for (uint32_t i = 0; i < batch->count; i++) {
    ck_assert((batch->items[i].conn != NULL) == (i != 0));
  }
  send_batch(CONN_BATCH_SETTLE);
  memcpy(batch->items, old, sizeof(old));
  settle(true);
  for (uint32_t i = 0; i < batch->count; i++) {
    ck_assert_int_eq(batch->items[i].record.owned.fd, old[i].record.owned.fd);
  }
  close(batch->items[0].record.owned.fd); /* it was not unpacked */
  atom_sub_release_u32(&worker->live, 1);
  char byte;
  int served = 0;
  for (int i = 0; i < CLIENTS; i++) {
    served += send(clients[i], "p", 1, MSG_NOSIGNAL) == 1 && recv(clients[i], &byte, 1, 0) == 1;
  }
  ck_assert_int_eq(served, CLIENTS - 1);
  end(CLIENTS);
}
END_TEST

static void note(struct xchg_conn *conn, void *argument) {
  (void)conn;
  atom_store_release_u32(argument, 1);
}

/* A posted call waits while connections are parked, and other connections are served. */
START_TEST(tasks_wait) {
  atom_u32 noted = 0;
  begin(2);
  batch->cursor = 0;
  pack(1);
  task_send(&worker->inbox, &posted_call_create(0, note, &noted)->task);
  echo_once(clients[1]);
  echo_once(clients[1]);
  ck_assert_uint_eq(atom_load_acquire_u32(&noted), 0);
  settle(false);
  AWAIT(atom_load_acquire_u32(&noted) == 1);
  end(2);
}
END_TEST

/* A batch is full at CONN_BATCH_FULL bytes, and takes no record for which it has no room. */
START_TEST(the_arena_limits_a_batch) {
  begin(3);
  batch->cursor = 0;
  batch->room = 1;
  pack(CONN_BATCH_MAX);
  ck_assert_uint_eq(batch->count, 0);
  ck_assert(batch->over);
  ck_assert_uint_eq(batch->stays[CONN_STAYS_LARGE], 3);
  batch->cursor = 0;
  batch->room = CONN_RECORD_MAX;
  pack(1);
  size_t size = batch->used;
  ck_assert_uint_eq(batch->count, 1);
  ck_assert_uint_eq(batch->items[0].size, size);
  settle(false);
  batch->cursor = 0;
  batch->room = 4 * size; /* a record needs more room than it has bytes */
  uint32_t packed = 0;
  while (packed < 3) {
    pack(CONN_BATCH_MAX);
    ck_assert_uint_ge(batch->count, 1);
    ck_assert_uint_le(batch->used, batch->room);
    packed += batch->count;
    ck_assert(batch->over || packed < 3);
    settle(false);
  }
  for (int i = 0; i < 3; i++) {
    echo_once(clients[i]);
  }
  end(3);
}
END_TEST

START_TEST(what_stays_ends_after_the_drain_timeout) {
  OPEN("XCHG_EXCHANGE=echo", "XCHG_DRAIN_TIMEOUT=1ms");
  start();
  int client = hand_over_new();
  echo_once(client);
  worker_send_leave(worker, sys_now_ns());
  char byte;
  ck_assert_int_le(recv(client, &byte, 1, 0), 0);
  worker_send_no_more_conns(worker);
  join();
  ck_assert_uint_eq(ended(XCHG_DRAIN), 1);
  close(client);
  finish();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {connections_come_back, 1},
      {connections_move, 1},
      {tasks_wait, 1},
      {the_arena_limits_a_batch, 1},
      {what_stays_ends_after_the_drain_timeout, 1},
  };
  return run_suite("conn_batch", tests, count_of(tests));
}
