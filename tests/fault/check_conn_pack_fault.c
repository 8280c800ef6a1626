/*
 * check_conn_pack_fault: the Nth request for memory fails while a connection is unpacked, for every
 * N; then the kernel cannot register its descriptor.
 *
 * A failed unpack leaves nothing at the receiver, and the connection is the sender's as before: it
 * resumes it, and the client notices nothing.  on_restore is called for none that fails.  So one
 * side serves, never both, never none.
 */
#include "tests/fault/fault.h"
#include "tests/fixtures/handler_fixture.h"
#include "tests/fixtures/other_worker.h"

#include <fcntl.h>

#define LONG_BYTES ((size_t)1 << 20)

/* Groups, a timer, references and copied output. */
static void set_all(struct xchg_conn *conn) {
  static uint8_t many[LONG_BYTES];
  memset(many, 'm', sizeof(many));
  ck_assert_int_eq(xchg_join(conn, 1, XCHG_SLOW_SKIP), 0);
  ck_assert_int_eq(xchg_join(conn, 2, XCHG_SLOW_DROP), 0);
  ck_assert_int_eq(xchg_timer(conn, 5 * NS_PER_S), 0);
  ck_assert_int_eq(send_ref(conn, many, sizeof(many)), 0);
  ck_assert_int_eq(xchg_send(conn, "end", 3), 0);
}

static uint32_t restored, released; /* calls of on_restore, of on_gone */

static ssize_t save(struct xchg_conn *conn, void *data, size_t size) {
  (void)conn;
  memset(data, 's', size);
  return (ssize_t)size;
}

/* Called last: there is memory for all else. */
static int restore(struct xchg_conn *conn, uint32_t version, const void *data, size_t size) {
  (void)conn, (void)version;
  ck_assert(size == XCHG_SAVE_MAX && all_bytes(data, size, 's'));
  restored++;
  return 0;
}

static void gone(struct xchg_conn *conn) {
  (void)conn;
  released++;
}

/*
 * A connection with half a message, much output and a state of the handler.
 * Return: the client's end.
 */
static int connect_full(void) {
  static char half[300000];
  uint64_t id;
  memset(half, 'h', sizeof(half));
  fixture.handler.max_message = LONG_BYTES;
  fixture.config.max_pending_bytes = 4 * LONG_BYTES;
  fixture.handler.state_version = 1;
  fixture.handler.on_save = save;
  fixture.handler.on_restore = restore;
  fixture.handler.on_gone = gone;
  fixture_start(false);
  int fd = client_connect_id(&id);
  client_send(fd, half, sizeof(half));
  post_act(id, set_all);
  ck_assert(fixture_conn()->stalled);
  ck_assert_uint_eq(buf_size(fixture_conn()->in), sizeof(half));
  return fd;
}

/* The output arrives, and the message ends. */
static void expect_full(int fd) {
  char *got = malloc(LONG_BYTES + 3);
  ck_assert_ptr_nonnull(got);
  ck_assert_uint_eq(client_recv(fd, got, LONG_BYTES + 3), LONG_BYTES + 3);
  ck_assert(all_bytes(got, LONG_BYTES, 'm'));
  ck_assert_mem_eq(got + LONG_BYTES, "end", 3);
  free(got);
  client_send(fd, "", 1);
  fixture_settle();
  ck_assert_uint_eq(fixture.messages, 1);
  ck_assert_uint_eq(fixture.got_size, 300001);
}

/* Unpack ${packed} in the other worker, where the ${nth} mapping fails. Return: did one? */
static bool unpack_with_fault(const struct packed *packed, uint64_t nth) {
  struct conn_record record = packed_read(packed);
  fault_reset();
  orders_fail(FAULT_MAP, nth, ENOMEM, 1);
  errno = 0;
  struct xchg_conn *conn = conn_unpack(&other.ctx, &record);
  bool hit = orders_hits() > 0;
  fault_reset();
  ck_assert((conn == NULL) == hit);
  if (hit) {
    ck_assert_int_eq(errno, ENOMEM);
  } else {
    ck_assert_int_eq(conn->fd, packed->owned.fd);
    conn_resume(conn);
    struct packed again = pack(conn); /* the receiver gives it back */
    ck_assert_int_eq(again.owned.fd, packed->owned.fd);
    packed_free(&again);
  }
  return hit;
}

START_TEST(test_every_mapping_fails) {
  uint64_t nth = 1;
  int fd = connect_full();
  for (bool hit = true; hit; nth++) {
    struct xchg_conn *conn = fixture_conn();
    struct packed packed = park(conn);
    packed.owned.fd = conn->fd;
    ck_assert_ptr_null(fixture_conn());
    other_open(); /* new: every chunk is mapped again */
    hit = unpack_with_fault(&packed, nth);
    other_close();
    packed_free(&packed);
    conn_resume(conn); /* given back */
    ck_assert_ptr_eq(conn, fixture_conn());
    ck_assert_int_ne(fcntl(conn->fd, F_GETFD), -1);
  }
  ck_assert_uint_gt(nth, 5);
  ck_assert_uint_eq(restored, 1);
  ck_assert_uint_eq(released, 1); /* at the receiver, which has given it back */
  expect_full(fd);
  close(fd);
  fixture_until_all_closed();
}
END_TEST

/* The receiver has said that it takes the connection: then it ends there, counted once. */
START_TEST(test_kernel_cannot_register) {
  int fd = connect_full();
  struct packed packed = pack(fixture_conn());
  struct conn_record record = packed_read(&packed);
  struct xchg_conn *conn = conn_unpack(&fixture.ctx, &record);
  ck_assert_ptr_nonnull(conn);
  fault_reset();
  orders_fail(FAULT_EPOLL_CTL, 1, ENOSPC, 1);
  conn_resume(conn);
  ck_assert_uint_eq(orders_hits(), 1);
  fault_reset();
  fixture_settle();
  fixture_expect_end(XCHG_MEMORY);
  ck_assert_uint_eq(fault_bad_closes(), 0);
  packed_free(&packed);
  close(fd);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {{test_every_mapping_fails, 1},
                                     {test_kernel_cannot_register, 1}};
  return run_suite_fixture("conn_pack_fault", tests, count_of(tests), handler_fixture_init_silent,
                           handler_fixture_fini);
}
