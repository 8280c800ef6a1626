/*
 * check_conn_name: what a connection is to its handler and to others: its id, its state, its
 * peer's address.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/unit/stage.h"

/* ---- names ---- */

START_TEST(test_ids) {
  struct stage stage;
  stage_init(&stage);
  stage_start(&stage, false);
  struct conn_host *host = &stage.rig.host;
  host->index = 1023;
  uint64_t dead = 0;
  for (int i = 0; i < 4; i++) {
    uint64_t id;
    int fd = stage_connect(&stage, &id);
    ck_assert_uint_ne(id, 0);
    ck_assert_uint_ne(id, dead);
    ck_assert_uint_eq(conn_id_worker(id), 1023);
    ck_assert_ptr_eq(conn_find(host, id), rig_conn(&stage.rig));
    ck_assert_ptr_null(conn_find(host, dead)); /* in the same slot */
    close(fd);
    RIG_UNTIL(&stage.rig, stage.rig.slab.used == 0);
    ck_assert_ptr_null(conn_find(host, id));
    dead = id;
  }
  slab_trim(&stage.rig.slab);
  ck_assert_ptr_null(conn_find(host, dead)); /* its chunk is gone */
  stage_fini(&stage);
}
END_TEST

/* What looks like an id and is none: whatever its bits say, nobody is found and nothing is read. */
START_TEST(test_ids_of_nobody) {
  struct stage stage;
  stage_init(&stage);
  stage_start(&stage, false);
  struct conn_host *host = &stage.rig.host;
  uint64_t id;
  int fd = stage_connect(&stage, &id);
  uint64_t generation = id & ((UINT64_C(1) << CONN_ID_GENERATION_BITS) - 1);
  for (uint64_t slot = 1; slot < UINT64_C(1) << CONN_ID_SLOT_BITS; slot = 2 * slot + 1) {
    ck_assert_ptr_null(conn_find(host, slot << CONN_ID_GENERATION_BITS | generation));
    ck_assert_ptr_null(conn_find(host, slot << CONN_ID_GENERATION_BITS));
  }
  ck_assert_ptr_null(conn_find(host, 0));
  ck_assert_ptr_null(conn_find(host, generation + 1));
  ck_assert_ptr_null(conn_find(host, generation - 1));
  ck_assert_ptr_null(conn_find(host, id - generation)); /* retired ones have generation 0 */
  close(fd);
  RIG_UNTIL(&stage.rig, stage.rig.slab.used == 0);
  ck_assert_ptr_null(conn_find(host, id - generation));
  stage_fini(&stage);
}
END_TEST

/* The generations wrap: none is 0, none fills more than its bits, and who lives is found. */
START_TEST(test_ids_wrap) {
  const uint32_t last = (UINT32_C(1) << CONN_ID_GENERATION_BITS) - 1;
  struct stage stage;
  stage_init(&stage);
  stage_start(&stage, false);
  stage.rig.reactor.generation = last - 2;
  int fds[5];
  uint64_t ids[5];
  const uint64_t generations[] = {last - 1, last, 1, 2, 3};
  for (uint32_t i = 0; i < count_of(fds); i++) {
    fds[i] = stage_connect(&stage, &ids[i]);
    ck_assert_uint_eq(ids[i], (uint64_t)i << CONN_ID_GENERATION_BITS | generations[i]);
  }
  for (uint32_t i = 0; i < count_of(fds); i++) {
    ck_assert_uint_eq(xchg_id(conn_find(&stage.rig.host, ids[i])), ids[i]);
    RIG_PUT(&stage.rig, fds[i], "e\0");
    RIG_GET(&stage.rig, fds[i], "e\0");
    close(fds[i]);
  }
  RIG_UNTIL(&stage.rig, stage.rig.slab.used == 0);
  stage_fini(&stage);
}
END_TEST

/* ---- what it is ---- */

static void fill_state(struct stage *stage, struct xchg_conn *conn) {
  uint8_t *state = xchg_state(conn);
  size_t size = stage->rig.handler.state_size;
  ck_assert_ptr_nonnull(state);
  ck_assert_uint_eq((uintptr_t)state % 16, 0);
  ck_assert(rig_all((const char *)state, size, 0));
  memset(state, 0xa5, size);
}

static void read_state(struct stage *stage, struct xchg_conn *conn) {
  ck_assert(rig_all(xchg_state(conn), stage->rig.handler.state_size, (char)0xa5));
}

/* Zeroed for each, whoever had the slot before; valid till on_close returns; nobody else's. */
START_TEST(test_state) {
  const size_t sizes[] = {1, 15, 16, 17, 100, 4096, XCHG_STATE_MAX};
  struct stage stage;
  stage_init(&stage);
  stage.rig.handler.state_size = sizes[_i];
  stage.acts[AT_OPEN] = fill_state;
  stage.acts[AT_MESSAGE] = stage.acts[AT_CLOSE] = read_state;
  stage_start(&stage, false);
  for (int round = 0; round < 3; round++) {
    int fds[5];
    for (size_t i = 0; i < count_of(fds); i++) {
      fds[i] = rig_connect(&stage.rig);
    }
    for (size_t i = 0; i < count_of(fds); i++) {
      RIG_PUT(&stage.rig, fds[i], "e\0");
      RIG_GET(&stage.rig, fds[i], "e\0");
      close(fds[i]);
    }
    RIG_UNTIL(&stage.rig, stage.rig.slab.used == 0);
  }
  ck_assert_uint_eq(stage.count[AT_CLOSE], 15);
  stage_fini(&stage);
}
END_TEST

START_TEST(test_no_state) {
  struct stage stage;
  stage_init(&stage);
  stage_start(&stage, false);
  int fd = rig_connect(&stage.rig);
  ck_assert_ptr_null(xchg_state(rig_conn(&stage.rig)));
  close(fd);
  rig_over(&stage.rig, XCHG_FINISHED);
  stage_fini(&stage);
}
END_TEST

START_TEST(test_address) {
  struct stage stage;
  stage_init(&stage);
  stage_start(&stage, false);
  char text[XCHG_ADDRESS_MAX], want[XCHG_ADDRESS_MAX];
  int fd = rig_connect(&stage.rig);
  struct xchg_conn *conn = rig_conn(&stage.rig);
  ck_assert_int_eq(xchg_address(conn, text, sizeof(text)), 0);
  ck_assert_str_eq(text, "unix");
  conn->peer = (struct addr){.family = ADDR_IPV4, .port = 5000};
  conn->peer.bytes[0] = 192;
  conn->peer.bytes[2] = 2;
  conn->peer.bytes[3] = 1;
  memset(text, 'x', sizeof(text));
  snprintf(want, sizeof(want), "192.0.2.1:5000");
  for (size_t size = 0; size <= strlen(want); size++) {
    ck_assert_int_eq(xchg_address(conn, text, size), -1);
    ck_assert_int_eq(errno, ENOSPC);
    ck_assert_int_eq(text[0], 'x');
  }
  ck_assert_int_eq(xchg_address(conn, text, strlen(want) + 1), 0);
  ck_assert_str_eq(text, want);
  close(fd);
  rig_over(&stage.rig, XCHG_FINISHED);
  stage_fini(&stage);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_ids, 1},   {test_ids_of_nobody, 1}, {test_ids_wrap, 1},
      {test_state, 7}, {test_no_state, 1},      {test_address, 1},
  };
  return run_suite("conn_name", tests, count_of(tests));
}
