/*
 * check_conn_batch: a real worker packs its connections, gets them back, and loses or keeps them.
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

/* Read the records as the receiver does. */
static void read_records(void) {
  for (uint32_t i = 0; i < batch->count; i++) {
    struct conn_batch_item *item = &batch->items[i];
    struct conn_owned owned = item->record.owned;
    ck_assert_ptr_null(conn_record_read(&item->record, item->bytes, item->size));
    item->record.owned = owned;
    item->wanted = true;
  }
}

START_TEST(connections_come_back) {
  begin(CLIENTS);
  batch->cursor = 0;
  uint32_t packed = 0;
  while (packed < CLIENTS) {
    pack(CONN_BATCH_MAX);
    ck_assert_uint_eq(batch->count, packed == 0 ? CONN_BATCH_MAX : CLIENTS - CONN_BATCH_MAX);
    packed += batch->count;
    ck_assert_uint_eq(atom_load_relaxed_u32(&worker->live), CLIENTS);
    read_records();
    send_batch(CONN_BATCH_UNPACK);
    for (uint32_t i = 0; i < batch->count; i++) {
      ck_assert(batch->items[i].taken);
    }
    send_batch(CONN_BATCH_RESUME);
  }
  for (int i = 0; i < CLIENTS; i++) {
    echo_once(clients[i]);
  }
  end(CLIENTS);
}
END_TEST

START_TEST(an_unwanted_record_is_closed) {
  begin(3);
  batch->cursor = 0;
  pack(2);
  ck_assert_uint_eq(batch->count, 2);
  ck_assert(!batch->over);
  read_records();
  batch->items[0].wanted = false;
  send_batch(CONN_BATCH_UNPACK);
  ck_assert(!batch->items[0].taken && batch->items[1].taken);
  batch->items[0].lost = true;
  send_batch(CONN_BATCH_RESUME);
  atom_sub_release_u32(&worker->live, 1);
  ck_assert_uint_eq(ended(XCHG_MEMORY), 1);
  ck_assert_int_eq(batch->items[0].record.owned.fd, -1);
  uint32_t served = 0;
  for (int i = 0; i < 3; i++) {
    char byte;
    if (send(clients[i], "p", 1, MSG_NOSIGNAL) == 1 && recv(clients[i], &byte, 1, 0) == 1) {
      served++;
    }
  }
  ck_assert_uint_eq(served, 2);
  end(3);
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
  read_records();
  send_batch(CONN_BATCH_UNPACK);
  send_batch(CONN_BATCH_RESUME);
  batch->cursor = 0;
  batch->room = 4 * size; /* a record needs more room than it has bytes */
  uint32_t packed = 0;
  while (packed < 3) {
    pack(CONN_BATCH_MAX);
    ck_assert_uint_ge(batch->count, 1);
    ck_assert_uint_le(batch->used, batch->room);
    packed += batch->count;
    ck_assert(batch->over || packed < 3);
    read_records();
    send_batch(CONN_BATCH_UNPACK);
    send_batch(CONN_BATCH_RESUME);
  }
  for (int i = 0; i < 3; i++) {
    echo_once(clients[i]);
  }
  end(3);
}
END_TEST

/* In place of PACK: in one turn, a connection that waits for its turn goes and comes back. */
static void there_and_back(struct conn_batch *unused, struct conn_ctx *ctx) {
  static uint8_t bytes[65536];
  (void)unused; /* the test has only one */
  uint32_t slot = slab_next(ctx->reactor->slab, 0);
  struct source *source = slab_at(ctx->reactor->slab, slot);
  struct conn_batch_item *item = &batch->items[0];
  struct conn_owned owned;
  reactor_requeue(ctx->reactor, source);
  ck_assert_uint_le(conn_record_room(conn_of(source)), sizeof(bytes));
  size_t size = conn_pack(conn_of(source), bytes, &owned);
  ck_assert_ptr_null(conn_record_read(&item->record, bytes, size));
  item->record.owned = owned;
  item->conn = conn_unpack(ctx, &item->record);
  item->taken = item->conn != NULL;
  batch->count = 1;
}

START_TEST(a_full_worker_has_a_slot) {
  PREPARE("XCHG_EXCHANGE=echo", "XCHG_MAX_CONNECTIONS=1", "XCHG_UPGRADE=on");
  const struct worker_setup setup = setup_of();
  ck_assert_int_eq(worker_open(worker, &setup), 0);
  ck_assert_int_eq(wake_open(&answers), 0);
  batch = conn_batch_create(&answers);
  ck_assert_ptr_nonnull(batch);
  start();
  clients[0] = hand_over_new();
  echo_once(clients[0]);
  conn_batch_clear(batch);
  atom_store_relaxed_u32(&batch->answered, 0);
  batch->run = there_and_back;
  batch->task = (struct task){.kind = TASK_BATCH};
  inbox_push_mpsc(&worker->inbox, &batch->task);
  AWAIT(conn_batch_answered(batch));
  ck_assert(batch->items[0].taken);
  send_batch(CONN_BATCH_RESUME);
  echo_once(clients[0]);
  end(1);
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
      {an_unwanted_record_is_closed, 1},
      {the_arena_limits_a_batch, 1},
      {a_full_worker_has_a_slot, 1},
      {what_stays_ends_after_the_drain_timeout, 1},
  };
  return run_suite("conn_batch", tests, count_of(tests));
}
