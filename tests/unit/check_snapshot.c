/*
 * check_snapshot: the first n connections of several workers against a sorted reference, workers
 * that are late or end, and an asker that leaves, in every order.
 *
 * The fixture's connections stand for those of each worker: the test runs each worker's visit with
 * the worker's index.  The asker is one of them.
 */
#include "pool/snapshot.h"
#include "tests/fixtures/handler_fixture.h"

#include <stdio.h>

enum { CLIENTS = 40, WORKERS = 3 };

static int fds[CLIENTS];
static uint64_t ids[CLIENTS]; /* as worker 0 sees them */

/* Two servers that have inboxes, and nothing runs behind them. */
static struct inbox inboxes[WORKERS + 1]; /* the last one is the asker's */
static struct xchg_server data, admin;
static uint32_t workers; /* of data */
static struct config data_config;

static struct inbox *data_inbox(struct model *model, uint32_t i) {
  (void)model;
  return i < workers ? &inboxes[i] : NULL;
}
static struct inbox *admin_inbox(struct model *model, uint32_t i) {
  (void)model;
  return i == 0 ? &inboxes[WORKERS] : NULL;
}

static const struct model_ops data_ops = {.inbox = data_inbox}, admin_ops = {.inbox = admin_inbox};
static struct model data_model = {.ops = &data_ops}, admin_model = {.ops = &admin_ops};

static void set_up(void) {
  handler_fixture_init_silent();
  for (int i = 0; i <= WORKERS; i++) {
    ck_assert_int_eq(inbox_open(&inboxes[i], 2), 0);
  }
  data = (struct xchg_server){.model = &data_model, .config = &data_config, .listeners_count = 2};
  admin = (struct xchg_server){.model = &admin_model};
  snprintf(data.listeners[0].addr.path, ADDR_PATH_MAX, "/run/\"x\".sock");
  data.listeners[0].addr.addr.family = ADDR_UNIX;
  addr_from_ipv4(&data.listeners[1].addr.addr, (const uint8_t[]){127, 0, 0, 1}, 7000);
  workers = WORKERS;
  fixture.config.workers = WORKERS;
  fixture_start(false);
  fixture.ctx.server = &admin;
  for (int i = 0; i < CLIENTS; i++) {
    fds[i] = client_connect_id(&ids[i]);
  }
}

static void tear_down(void) {
  ck_assert_ptr_null(data.walk);
  for (int i = 0; i < CLIENTS; i++) {
    close(fds[i]);
  }
  fixture_until_all_closed();
  for (int i = 0; i <= WORKERS; i++) {
    ck_assert_ptr_null(inbox_take_all(&inboxes[i]));
    inbox_close(&inboxes[i]);
  }
  handler_fixture_fini();
}

static struct xchg_conn *conn_at(int i) { return conn_find(&fixture.ctx, ids[i]); }

/* ---- running it ---- */

static uint32_t readies;

static void on_ready(struct xchg_conn *asker, struct snapshot *snapshot) {
  ck_assert_ptr_eq(asker, conn_at(0));
  readies++;
  snapshot_finish(snapshot);
}

static struct snapshot *start(const struct snapshot_query *query) {
  readies = 0;
  struct snapshot *snapshot = snapshot_start(&data, query, conn_at(0), on_ready);
  ck_assert_ptr_nonnull(snapshot);
  ck_assert_ptr_eq(data.walk, snapshot);
  return snapshot;
}

static struct snapshot_query query_of(const char *text) {
  struct snapshot_query query;
  char why[128];
  const struct http_text part = {.at = text, .size = strlen(text)};
  ck_assert_msg(snapshot_query_parse(part, &query, why, sizeof(why)) == 0, "%s", why);
  return query;
}

static struct snapshot *start_text(const char *text) {
  const struct snapshot_query query = query_of(text);
  return start(&query);
}

/* Run a slice of ${task} as worker ${worker}. Return: is it done? */
static bool run_slice(uint32_t worker, struct task *task, uint32_t slice) {
  fixture.ctx.index = worker;
  bool done = task_run(&fixture.ctx, &inboxes[worker], task, &slice);
  fixture.ctx.index = 0;
  return done;
}

static void run_worker(uint32_t worker, uint32_t slice) {
  struct task *task = inbox_take_all(&inboxes[worker]);
  ck_assert(task == NULL || task->next == NULL);
  while (task != NULL && !run_slice(worker, task, slice)) {
  }
}

/* The asker's worker runs what was posted to it. Return: was something? */
static bool run_asker(void) {
  struct task *task = inbox_take_all(&inboxes[WORKERS]);
  uint32_t budget = 1;
  if (task == NULL) {
    return false;
  }
  ck_assert_ptr_null(task->next);
  ck_assert(task_run(&fixture.ctx, &inboxes[WORKERS], task, &budget));
  return true;
}

/* ---- the reference ---- */

static uint64_t dice_state;

static uint64_t dice(uint64_t sides) {
  dice_state = dice_state * UINT64_C(6364136223846793005) + 1442695040888963407U;
  return (dice_state >> 33) % sides;
}

/* Few different values, so that there are ties. */
static void randomize(uint64_t seed) {
  dice_state = seed;
  uint64_t now_ns = sys_now_ns();
  for (int i = 0; i < CLIENTS; i++) {
    struct xchg_conn *conn = conn_at(i);
    struct conn_peer *peer = conn_peer(conn);
    uint8_t bytes[4] = {10, (uint8_t)dice(3), 0, (uint8_t)i};
    addr_from_ipv4(&peer->addr, bytes, (uint16_t)(1000 + i));
    peer->opened_ns = (now_ns - (1 + dice(10)) * NS_PER_S) & CONN_OPENED_MASK;
    peer->listener = dice(2) & CONN_LISTENER_MASK;
    conn->active_ns = now_ns - dice(10) * NS_PER_MS;
    conn->bytes_in = dice(10) << dice(40);
    conn->bytes_out = dice(10) << dice(40);
    conn->messages = dice(1000);
    if (dice(2) == 0) {
      ck_assert_int_eq(xchg_send(conn, "0123456789", 1 + dice(9)), 0);
    }
    if (dice(4) == 0) {
      ck_assert_int_eq(xchg_pause(conn), 0);
    }
  }
}

/* A reference row: what decides, and the id. */
struct want {
  uint64_t rank, id;
};

static int compare_wants(const void *a, const void *b) {
  const struct want *x = a, *y = b;
  if (x->rank != y->rank) {
    return x->rank > y->rank ? -1 : 1;
  }
  return x->id < y->id ? -1 : x->id > y->id;
}

static uint64_t want_rank(const struct xchg_conn *conn, enum snapshot_sort sort) {
  switch (sort) {
    case SORT_AGE:
      return UINT64_MAX - conn_peer(conn)->opened_ns;
    case SORT_IDLE:
      return UINT64_MAX - conn->active_ns;
    case SORT_IN:
      return conn->bytes_in;
    case SORT_OUT:
      return conn->bytes_out;
    default:
      return xchg_pending(conn);
  }
}

/* The id of connection ${i} as worker ${worker} sees it. */
static uint64_t id_of(uint32_t worker, int i) {
  fixture.ctx.index = worker;
  uint64_t id = xchg_id(conn_at(i));
  fixture.ctx.index = 0;
  return id;
}

static bool wanted(int i, const struct snapshot_query *query) {
  const struct conn_peer *peer = conn_peer(conn_at(i));
  return (query->peer.family == ADDR_NONE || peer->addr.bytes[1] == query->peer.bytes[1]) &&
         sys_now_ns() - peer->opened_ns >= query->min_age_ns;
}

/* Compare a finished walk of the workers from ${first} to ${last} with what the query asks for. */
static void expect_rows(const struct snapshot *snapshot, const struct snapshot_query *query,
                        uint32_t first, uint32_t last) {
  static struct want wants[WORKERS * CLIENTS];
  uint32_t count = 0;
  for (uint32_t worker = first; worker <= last; worker++) {
    for (int i = 0; i < CLIENTS; i++) {
      if (wanted(i, query)) {
        wants[count++] = (struct want){want_rank(conn_at(i), query->sort), id_of(worker, i)};
      }
    }
  }
  qsort(wants, count, sizeof(wants[0]), compare_wants);
  const struct snapshot_row *rows;
  uint32_t found = snapshot_rows(snapshot, &rows);
  ck_assert_uint_eq(found, min_u64(count, query->rows));
  ck_assert_uint_eq(snapshot_seen(snapshot), (last - first + 1) * CLIENTS);
  ck_assert_uint_eq(snapshot_matched(snapshot), count);
  for (uint32_t i = 0; i < found; i++) {
    require(rows[i].id == wants[i].id, "the rows in order");
    uint32_t worker = conn_id_worker(rows[i].id, WORKERS);
    const struct xchg_conn *conn =
        conn_find(&fixture.ctx, rows[i].id & UINT64_MAX >> fixture.reactor.owner_bits);
    require(rows[i].worker == worker, "the worker");
    require(rows[i].opened_ns == conn_peer(conn)->opened_ns, "the opening");
    require(rows[i].active_ns == conn->active_ns, "the last byte");
    require(rows[i].bytes_in == conn->bytes_in && rows[i].bytes_out == conn->bytes_out, "bytes");
    require(rows[i].messages == conn->messages, "messages");
    require(rows[i].pending == xchg_pending(conn), "pending bytes");
    require(rows[i].listener == conn_peer(conn)->listener, "the listener");
    require(rows[i].paused == (conn->hold_reasons != 0), "paused");
    require(memcmp(&rows[i].peer, &conn_peer(conn)->addr, sizeof(struct addr)) == 0, "the peer");
  }
}

static void check_query(const struct snapshot_query *query, uint32_t slice) {
  bool all = query->worker == SNAPSHOT_ALL_WORKERS;
  struct snapshot *snapshot = start(query);
  for (uint32_t i = WORKERS; i-- > 0;) {
    if (all || query->worker == i) {
      ck_assert(!run_asker());
      run_worker(i, slice);
    }
  }
  ck_assert(run_asker());
  ck_assert_uint_eq(readies, 1);
  ck_assert_ptr_null(data.walk);
  expect_rows(snapshot, query, all ? 0 : query->worker, all ? WORKERS - 1 : query->worker);
  for (uint32_t i = 0; i < WORKERS; i++) {
    ck_assert(!snapshot_is_missing(snapshot, i));
  }
  snapshot_free(snapshot);
}

/* Every order, many numbers of rows, slices of several sizes. */
START_TEST(test_first_rows_of_all_workers) {
  static const char *const texts[] = {"sort=age", "sort=idle", "sort=in", "sort=out",
                                      "sort=pending"};
  static const uint32_t counts[] = {1, 2, 3, 7, 64, WORKERS * CLIENTS - 1, WORKERS * CLIENTS, 1000};
  static const uint32_t slices[] = {1, 7, CLIENTS, CLIENTS + 1, VISIT_BATCH};
  randomize((uint64_t)_i);
  struct snapshot_query query = query_of(texts[_i]);
  for (size_t i = 0; i < count_of(counts); i++) {
    query.rows = counts[i];
    check_query(&query, slices[i % count_of(slices)]);
  }
}
END_TEST

START_TEST(test_filters) {
  static const char *const texts[] = {
      "worker=0",         "worker=2&sort=in",
      "peer=10.1.0.0/16", "peer=10.2.0.0/16&n=3&sort=out",
      "min_age=5s",       "min_age=5s&peer=10.0.0.0/16&sort=idle&worker=1",
      "min_age=60m"};
  randomize(77);
  for (size_t i = 0; i < count_of(texts); i++) {
    struct snapshot_query query = query_of(texts[i]);
    check_query(&query, 5);
  }
}
END_TEST

/* Rows of one state: the exchange serves, must leave, or is over. */
START_TEST(test_states) {
  static const uint32_t counts[][SHOWS_ALL + 1] = {{CLIENTS, 0, 0, CLIENTS},
                                                   {CLIENTS - 1, 1, 0, CLIENTS},
                                                   {CLIENTS - 2, 1, 1, CLIENTS},
                                                   {0, CLIENTS - 1, 1, CLIENTS}};
  static const char *const texts[] = {"worker=0&state=open", "worker=0&state=draining",
                                      "worker=0&state=ending", "worker=0"};
  static const char much[1000000];
  for (size_t step = 0; step < count_of(counts); step++) {
    if (step == 1) {
      conn_at(1)->lifetime_over = true;
    } else if (step == 2) {
      ck_assert_int_eq(xchg_send(conn_at(2), much, sizeof(much)), 0);
      ck_assert_int_eq(xchg_finish(conn_at(2)), 0);
      fixture_settle();
      ck_assert_int_eq(conn_at(2)->state, CONN_ENDING);
    } else if (step == 3) {
      fixture.ctx.stop_ns = fixture.reactor.now_ns;
    }
    for (size_t i = 0; i < count_of(texts); i++) {
      struct snapshot *snapshot = start_text(texts[i]);
      run_worker(0, VISIT_BATCH);
      ck_assert(run_asker());
      ck_assert_uint_eq(snapshot_matched(snapshot), counts[step][i]);
      const struct snapshot_row *rows;
      uint32_t found = snapshot_rows(snapshot, &rows);
      ck_assert_uint_eq(found, counts[step][i]);
      for (uint32_t row = 0; row < found && i < SHOWS_ALL; row++) {
        ck_assert_uint_eq(rows[row].state, i);
      }
      snapshot_free(snapshot);
    }
  }
  fixture.ctx.stop_ns = NEVER;
}
END_TEST

/* ---- what can go wrong ---- */

static void expect_refusal(struct xchg_server *server, const char *text, int error) {
  const struct snapshot_query query = query_of(text);
  errno = 0;
  ck_assert_ptr_null(snapshot_start(server, &query, conn_at(0), on_ready));
  ck_assert_int_eq(errno, error);
}

START_TEST(test_refusals) {
  expect_refusal(&data, "worker=3", EINVAL);
  workers = 0; /* another model */
  expect_refusal(&data, "", ENOTSUP);
  workers = WORKERS;
  struct snapshot *snapshot = start_text("");
  expect_refusal(&data, "", EBUSY);
  for (uint32_t i = 0; i < WORKERS; i++) {
    run_worker(i, VISIT_BATCH);
    expect_refusal(&data, "", EBUSY);
  }
  ck_assert(run_asker()); /* finishes it */
  struct snapshot *other = start_text("worker=1");
  snapshot_free(snapshot);
  ck_assert_ptr_eq(data.walk, other);
  run_worker(1, VISIT_BATCH);
  snapshot_free(other); /* before the post arrives */
  ck_assert(run_asker());
  ck_assert_uint_eq(readies, 0);
}
END_TEST

/*
 * A worker that does not answer in time is missing, with all that it has seen, and gets no second
 * visit.  Once it has answered it takes part again.
 */
START_TEST(test_a_missing_worker) {
  struct snapshot *snapshot = start_text("n=1000");
  struct task *late = inbox_take_all(&inboxes[1]);
  ck_assert(!run_slice(1, late, 3));
  run_worker(0, VISIT_BATCH);
  run_worker(2, VISIT_BATCH);
  snapshot_finish(snapshot); /* the asker's timer */
  snapshot_finish(snapshot);
  ck_assert(!snapshot_is_missing(snapshot, 0));
  ck_assert(snapshot_is_missing(snapshot, 1));
  ck_assert(!snapshot_is_missing(snapshot, 2));
  ck_assert_uint_eq(snapshot_seen(snapshot), 2 * CLIENTS);
  char text[256];
  (void)snapshot_json(snapshot, text, sizeof(text));
  ck_assert_ptr_nonnull(memmem(text, sizeof(text), "\"missing\":[1]", 13));
  if (_i == 0) { /* the asker leaves before the answer comes */
    snapshot_free(snapshot);
    snapshot = NULL;
  }
  for (int again = 0; again < 2; again++) {
    struct snapshot *next = start_text("");
    run_worker(0, VISIT_BATCH);
    run_worker(2, VISIT_BATCH);
    ck_assert_ptr_null(inbox_take_all(&inboxes[1]));
    ck_assert(run_asker()); /* all that were asked have answered */
    ck_assert(snapshot_is_missing(next, 1));
    snapshot_free(next);
  }
  while (!run_slice(1, late, 3)) {
  }
  ck_assert_int_eq(run_asker(), _i == 1);
  ck_assert_uint_eq(readies, 1); /* of the walk in between: this one was finished */
  snapshot_free(snapshot);
  struct snapshot_query query = query_of("");
  check_query(&query, VISIT_BATCH);
}
END_TEST

/* Workers that have ended before have no connections. If all have, the answer is empty. */
START_TEST(test_workers_that_have_ended) {
  for (uint32_t ended = 1; ended <= WORKERS; ended++) {
    atom_store_relaxed_u32(&inboxes[ended - 1].owner_ended, 1);
    struct snapshot *snapshot = start_text("");
    for (uint32_t i = ended; i < WORKERS; i++) {
      run_worker(i, VISIT_BATCH);
    }
    ck_assert(run_asker());
    ck_assert_uint_eq(snapshot_seen(snapshot), (WORKERS - ended) * CLIENTS);
    ck_assert(!snapshot_is_missing(snapshot, 0));
    snapshot_free(snapshot);
  }
}
END_TEST

/* The asker has closed when the post arrives. */
START_TEST(test_the_asker_has_closed) {
  struct snapshot *snapshot = start_text("");
  for (uint32_t i = 0; i < WORKERS; i++) {
    run_worker(i, VISIT_BATCH);
  }
  close(fds[0]);
  fixture_settle(); /* its on_close would do this: */
  snapshot_free(snapshot);
  uint32_t budget = 1;
  struct task *task = inbox_take_all(&inboxes[WORKERS]);
  if (_i == 0) {
    ck_assert(task_run(&fixture.ctx, &inboxes[WORKERS], task, &budget));
  } else {
    task_discard(task); /* the asker's server ends */
  }
  ck_assert_uint_eq(readies, 0);
  fds[0] = client_connect_id(&ids[0]);
}
END_TEST

/*
 * Every order of: the asker leaves, and each worker answers in two slices, is discarded after none
 * or one slice.  Each memory is freed once (the sanitizers and valgrind look), and a post is sent
 * only to an asker that was there when the last worker ended.
 */
START_TEST(test_every_order_of_the_ends) {
  enum { KINDS = 3 };
  for (uint32_t order = 0; order < 24 * KINDS * KINDS * KINDS; order++) {
    uint32_t rest = order % 24, kinds = order / 24, places[WORKERS + 1] = {0, 1, 2, 3};
    for (uint32_t i = WORKERS; i > 0; i--) { /* the permutation of this number */
      uint32_t j = rest % (i + 1), swap = places[i];
      rest /= i + 1;
      places[i] = places[j];
      places[j] = swap;
    }
    struct snapshot *snapshot = start_text("n=5");
    bool there = true;
    for (int at = 0; at <= WORKERS; at++) {
      uint32_t who = places[at], kind = kinds / (who == 0 ? 1 : who == 1 ? 3 : 9) % KINDS;
      if (who == WORKERS) {
        snapshot_free(snapshot);
        there = false;
        continue;
      }
      struct task *task = inbox_take_all(&inboxes[who]);
      bool done = kind != 0 && run_slice(who, task, CLIENTS / 2);
      ck_assert(!done);
      if (kind == 2) {
        ck_assert(run_slice(who, task, VISIT_BATCH));
      } else {
        task_discard(task);
        atom_store_relaxed_u32(&inboxes[who].visits, 0); /* it has ended with its inbox */
      }
      bool last = at == WORKERS || (at == WORKERS - 1 && places[WORKERS] == WORKERS);
      ck_assert_int_eq(run_asker(), last && there);
      ck_assert_uint_eq(readies, last && there);
      for (uint32_t i = 0; i < WORKERS && last && there; i++) {
        uint32_t its = kinds / (i == 0 ? 1 : i == 1 ? 3 : 9) % KINDS;
        ck_assert_int_eq(snapshot_is_missing(snapshot, i), its != 2);
      }
    }
  }
}
END_TEST

/* ---- JSON ---- */

START_TEST(test_json) {
  uint64_t now_ns = sys_now_ns();
  for (int i = 0; i < CLIENTS; i++) {
    conn_peer(conn_at(i))->opened_ns = now_ns & CONN_OPENED_MASK;
  }
  struct xchg_conn *conn = conn_at(5);
  struct conn_peer *peer = conn_peer(conn);
  addr_from_ipv6(&peer->addr, (const uint8_t[16]){0x20, 1, 0xd, 0xb8, [15] = 1}, 443);
  peer->opened_ns = (now_ns - 90 * NS_PER_S) & CONN_OPENED_MASK;
  peer->listener = 1;
  conn->active_ns = now_ns + NS_PER_S; /* later than the start of the walk */
  conn->messages = 12;
  conn->bytes_in = 34;
  conn->bytes_out = UINT64_MAX;
  ck_assert_int_eq(xchg_pause(conn), 0);
  struct snapshot *snapshot = start_text("n=2&worker=0");
  run_worker(0, VISIT_BATCH);
  ck_assert(run_asker());
  char text[2048], want[2048], part[2048];
  size_t size = snapshot_json(snapshot, text, sizeof(text));
  ck_assert_uint_lt(size, sizeof(text));
  const struct snapshot_row *rows;
  ck_assert_uint_eq(snapshot_rows(snapshot, &rows), 2);
  snprintf(want, sizeof(want),
           "{\"schema\":1,\"sort\":\"age\",\"seen\":40,\"matched\":40,\"missing\":[],"
           "\"connections\":[\n{\"id\":\"%016llx\",\"worker\":0,\"peer\":\"[2001:db8::1]:443\","
           "\"listener\":\"127.0.0.1:7000\",\"state\":\"open\",\"age_ms\":90",
           (unsigned long long)ids[5]);
  ck_assert_mem_eq(text, want, strlen(want));
  const char *rest =
      "\"idle_ms\":0,\"messages\":12,\"bytes_in\":34,\"bytes_out\":"
      "18446744073709551615,\"pending_bytes\":0,\"paused\":true},\n{\"id\":";
  ck_assert_ptr_nonnull(memmem(text, size, rest, strlen(rest)));
  rest = "\"listener\":\"unix:/run/\\\"x\\\".sock\"";
  ck_assert_ptr_nonnull(memmem(text, size, rest, strlen(rest)));
  ck_assert_mem_eq(text + size - 3, "]}\n", 3);
  for (size_t room = 0; room < size; room++) { /* a shorter buffer is filled, and no more */
    memset(part, 'x', sizeof(part));
    ck_assert_uint_eq(snapshot_json(snapshot, part, room), size);
    require(memcmp(part, text, room) == 0 && part[room] == 'x', "a bounded text");
  }
  snapshot_free(snapshot);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_first_rows_of_all_workers, 5},
      {test_filters, 1},
      {test_states, 1},
      {test_refusals, 1},
      {test_a_missing_worker, 2},
      {test_workers_that_have_ended, 1},
      {test_the_asker_has_closed, 2},
      {test_every_order_of_the_ends, 1},
      {test_json, 1},
  };
  return run_suite_fixture("snapshot", tests, count_of(tests), set_up, tear_down);
}
