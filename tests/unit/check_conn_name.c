/* check_conn_name: a connection's id, the handler's state in it, and its peer's address. */
#include "tests/fixtures/handler_fixture.h"

/* ---- ids ---- */

START_TEST(test_ids_are_unique_and_found) {
  fixture.config.workers = 1024;
  fixture_start(false);
  struct conn_ctx *ctx = &fixture.ctx;
  ctx->index = 1023;
  uint64_t dead = 0;
  for (int i = 0; i < 4; i++) {
    uint64_t id;
    int fd = client_connect_id(&id);
    ck_assert_uint_ne(id, 0);
    ck_assert_uint_ne(id, dead);
    ck_assert_uint_eq(conn_id_worker(id, 1024), 1023);
    ck_assert_ptr_eq(conn_find(ctx, id), fixture_conn());
    ck_assert_ptr_null(conn_find(ctx, dead)); /* in the same slot */
    close(fd);
    fixture_until_all_closed();
    ck_assert_ptr_null(conn_find(ctx, id));
    dead = id;
  }
  slab_trim(&fixture.slab);
  ck_assert_ptr_null(conn_find(ctx, dead)); /* the slab has released its chunk */
}
END_TEST

/* Numbers that are no id: whatever their bits say, no connection is found and nothing is read. */
START_TEST(test_invalid_ids_find_no_connection) {
  fixture_start(false);
  struct conn_ctx *ctx = &fixture.ctx;
  uint64_t id;
  int fd = client_connect_id(&id);
  ck_assert_uint_lt(id, 2 * FIXTURE_CONNS_MAX); /* the first generation */
  for (uint64_t slot = 1; slot < FIXTURE_CONNS_MAX; slot++) {
    ck_assert_ptr_null(conn_find(ctx, id + slot));
    ck_assert_ptr_null(conn_find(ctx, slot));
  }
  for (int bit = 6; bit < 63; bit++) { /* the last bit is the worker's */
    ck_assert_ptr_null(conn_find(ctx, id ^ UINT64_C(1) << bit));
  }
  ck_assert_ptr_null(conn_find(ctx, 0)); /* retired connections have generation 0 */
  close(fd);
  fixture_until_all_closed();
  ck_assert_ptr_null(conn_find(ctx, 0));
}
END_TEST

/* The generation has all bits that workers and connections leave. */
START_TEST(test_ids_have_a_long_generation) {
  static const struct {
    uint32_t workers, worker_bits;
  } cases[] = {{1, 1}, {2, 1}, {3, 2}, {16, 4}, {17, 5}, {1024, 10}};
  for (size_t i = 0; i < count_of(cases); i++) {
    ck_assert_uint_eq(conn_id_worker_bits(cases[i].workers), cases[i].worker_bits);
  }
  ck_assert_uint_ge(64 - conn_id_worker_bits(16) - bits_for(1 << 20), 40);
  ck_assert_uint_ge(64 - conn_id_worker_bits(1024) - bits_for(1 << 24), 30);
}
END_TEST

/* Generations wrap around: none is 0 or exceeds its bits, and every live connection is found. */
START_TEST(test_generations_wrap_around) {
  const uint64_t last = UINT64_MAX >> (6 + 1);
  fixture_start(false);
  fixture.reactor.generation = last - 2;
  int fds[5];
  uint64_t ids[5];
  const uint64_t generations[] = {last - 1, last, 1, 2, 3};
  for (uint32_t i = 0; i < count_of(fds); i++) {
    fds[i] = client_connect_id(&ids[i]);
    ck_assert_uint_eq(ids[i], generations[i] << 6 | i);
  }
  for (uint32_t i = 0; i < count_of(fds); i++) {
    ck_assert_uint_eq(xchg_id(conn_find(&fixture.ctx, ids[i])), ids[i]);
    CLIENT_SEND(fds[i], "e\0");
    CLIENT_EXPECT(fds[i], "e\0");
    close(fds[i]);
  }
  fixture_until_all_closed();
}
END_TEST

/* ---- state and address ---- */

static void fill_state(struct xchg_conn *conn) {
  uint8_t *state = xchg_state(conn);
  size_t size = fixture.handler.state_size;
  ck_assert_ptr_nonnull(state);
  ck_assert_uint_eq((uintptr_t)state % 16, 0);
  ck_assert(all_bytes((const char *)state, size, 0));
  memset(state, 0xa5, size);
}

static void read_state(struct xchg_conn *conn) {
  ck_assert(all_bytes(xchg_state(conn), fixture.handler.state_size, (char)0xa5));
}

/* The state is zeroed for each connection, valid until on_close returns, and not shared. */
START_TEST(test_state_is_zeroed_and_kept_until_on_close) {
  const size_t sizes[] = {1, 15, 16, 17, 100, 4096, XCHG_STATE_MAX};
  fixture.handler.state_size = sizes[_i];
  acts[AT_OPEN] = fill_state;
  acts[AT_MESSAGE] = acts[AT_CLOSE] = read_state;
  fixture_start(false);
  for (int round = 0; round < 3; round++) {
    int fds[5];
    for (size_t i = 0; i < count_of(fds); i++) {
      fds[i] = client_connect();
    }
    for (size_t i = 0; i < count_of(fds); i++) {
      CLIENT_SEND(fds[i], "e\0");
      CLIENT_EXPECT(fds[i], "e\0");
      close(fds[i]);
    }
    fixture_until_all_closed();
  }
  ck_assert_uint_eq(call_count[AT_CLOSE], 15);
}
END_TEST

START_TEST(test_without_state_xchg_state_is_null) {
  int fd = start_and_connect(false);
  ck_assert_ptr_null(xchg_state(fixture_conn()));
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

START_TEST(test_address_fits_or_is_refused) {
  fixture_start(false);
  char text[XCHG_ADDRESS_MAX], want[XCHG_ADDRESS_MAX];
  int fd = client_connect();
  struct xchg_conn *conn = fixture_conn();
  ck_assert_int_eq(xchg_address(conn, text, sizeof(text)), 0);
  ck_assert_str_eq(text, "unix");
  conn_peer(conn)->addr = (struct addr){.family = ADDR_IPV4, .port = 5000};
  conn_peer(conn)->addr.bytes[0] = 192;
  conn_peer(conn)->addr.bytes[2] = 2;
  conn_peer(conn)->addr.bytes[3] = 1;
  memset(text, 'x', sizeof(text));
  snprintf(want, sizeof(want), "192.0.2.1:5000");
  for (size_t size = 0; size <= strlen(want); size++) {
    ck_assert_int_eq(xchg_address(conn, text, size), -1);
    ck_assert_int_eq(errno, ENOSPC);
    ck_assert_int_eq(text[0], 'x');
  }
  ck_assert_int_eq(xchg_address(conn, text, strlen(want) + 1), 0);
  ck_assert_str_eq(text, want);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_ids_are_unique_and_found, 1},
      {test_invalid_ids_find_no_connection, 1},
      {test_ids_have_a_long_generation, 1},
      {test_generations_wrap_around, 1},
      {test_state_is_zeroed_and_kept_until_on_close, 7},
      {test_without_state_xchg_state_is_null, 1},
      {test_address_fits_or_is_refused, 1},
  };
  return run_suite_fixture("conn_name", tests, count_of(tests), handler_fixture_init,
                           handler_fixture_fini);
}
