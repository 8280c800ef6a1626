/*
 * check_snapshot: the first n connections of several workers against a sorted reference, in every
 * order and by every filter, and their JSON.
 */
#include "tests/fixtures/snapshot_fixture.h"
#include "tests/fixtures/random.h"

/* ---- the reference ---- */

static uint64_t random_state;

static uint64_t below(uint64_t limit) { return random_next(&random_state) % limit; }

/* Few different values, so that there are ties. */
static void randomize(uint64_t seed) {
  random_state = seed + 1;
  uint64_t now_ns = sys_now_ns();
  for (int i = 0; i < CLIENTS; i++) {
    struct xchg_conn *conn = conn_at(i);
    struct conn_peer *peer = conn_peer(conn);
    uint8_t bytes[4] = {10, (uint8_t)below(3), 0, (uint8_t)i};
    addr_from_ipv4(&peer->addr, bytes, (uint16_t)(1000 + i));
    peer->opened_ns = (now_ns - (1 + below(10)) * NS_PER_S) & CONN_OPENED_MASK;
    peer->listener = below(2) & CONN_LISTENER_MASK;
    conn->active_ns = now_ns - below(10) * NS_PER_MS;
    conn->bytes_in = below(10) << below(40);
    conn->bytes_out = below(10) << below(40);
    conn->messages = below(1000);
    if (below(2) == 0) {
      ck_assert_int_eq(xchg_send(conn, "0123456789", 1 + below(9)), 0);
    }
    if (below(4) == 0) {
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
  static const uint32_t counts[][SHOWS_ALL + 1] = {{CLIENTS, 0, 0, 0, CLIENTS},
                                                   {CLIENTS - 1, 1, 0, 0, CLIENTS},
                                                   {CLIENTS - 2, 1, 1, 0, CLIENTS},
                                                   {0, CLIENTS - 1, 1, 0, CLIENTS}};
  static const char *const texts[] = {"worker=0&state=open", "worker=0&state=draining",
                                      "worker=0&state=ending", "worker=0&state=header", "worker=0"};
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
      {test_json, 1},
  };
  return run_suite_fixture("snapshot", tests, count_of(tests), snapshot_fixture_init,
                           snapshot_fixture_fini);
}
