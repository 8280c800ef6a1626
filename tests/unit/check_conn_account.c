/*
 * check_conn_account: what a connection knows about itself for /connections: its opening, its
 * listener, and the bytes that it has read and sent, in every state.
 */
#include "tests/fixtures/conn_fixture.h"

#define FOUR_GIB (UINT64_C(1) << 32)

static uint64_t all_in(void) { return atom_load_relaxed_u64(&fixture.stats.bytes_in); }
static uint64_t all_out(void) { return atom_load_relaxed_u64(&fixture.stats.bytes_out); }

/* The counts of the only connection are these, and those of its worker are the same. */
static void expect_counts(uint64_t bytes_in, uint64_t bytes_out) {
  ck_assert_uint_eq(fixture_conn()->bytes_in, bytes_in);
  ck_assert_uint_eq(fixture_conn()->bytes_out, bytes_out);
  ck_assert_uint_eq(all_in(), bytes_in);
  ck_assert_uint_eq(all_out(), bytes_out);
}

/* Time of opening and listener come from the acceptor, the last index and a late time too. */
START_TEST(test_opening_and_listener) {
  fixture_start(false);
  for (uint32_t i = 0; i < 3; i++) {
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    const struct accepted_conn accepted = {
        .accepted_ns = (const uint64_t[]){1, fixture.reactor.now_ns, CONN_OPENED_MASK}[i],
        .addr = {.family = ADDR_UNIX},
        .fd = fds[1],
        .ip_slot = NO_IP_SLOT,
        .listener = (const uint32_t[]){0, 5, CONFIG_LISTEN_MAX - 1}[i]};
    fixture.accepted++;
    ck_assert_int_eq(conn_open(&fixture.ctx, &accepted), 0);
    const struct conn_peer *peer = conn_peer(fixture_newest());
    ck_assert_uint_eq(peer->opened_ns, accepted.accepted_ns);
    ck_assert_uint_eq(peer->listener, accepted.listener);
    ck_assert_uint_eq(peer->ip_slot, NO_IP_SLOT);
    close(fds[0]);
  }
  fixture_until_all_closed();
}
END_TEST

/* The greeting, messages, halves of messages and replies count, each byte once. */
START_TEST(test_bytes_of_an_open_connection) {
  fixture.greeting = "hello";
  int fd = start_and_connect(_i == 1);
  expect_counts(0, 5);
  CLIENT_EXPECT(fd, "hello");
  CLIENT_SEND(fd, "one\0two\0");
  CLIENT_EXPECT(fd, "one\0two\0");
  expect_counts(8, 13);
  CLIENT_SEND(fd, "half");
  fixture_settle();
  expect_counts(12, 13);
  CLIENT_SEND(fd, "\0");
  CLIENT_EXPECT(fd, "half\0");
  expect_counts(13, 18);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* Bytes that wait in the queue are not sent yet: queued + sent = all of the reply. */
START_TEST(test_bytes_that_wait_are_pending) {
  fixture.reply = FIXTURE_LONG;
  fixture.long_bytes = 1000000;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "z\0");
  fixture_settle();
  const struct xchg_conn *conn = fixture_conn();
  ck_assert_uint_lt(conn->bytes_out, fixture.long_bytes);
  ck_assert_uint_eq(conn->bytes_out + send_queue_size(&conn->out), fixture.long_bytes);
  client_expect_all(fd, fixture.long_bytes, 'z');
  expect_counts(2, fixture.long_bytes);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* Discarded bytes are read, too; their bound counts from the end of OPEN. */
START_TEST(test_discarded_bytes_count) {
  fixture.reply = FIXTURE_LONG;
  fixture.long_bytes = 1000000;
  fixture.handler.messages = 1;
  int fd = start_and_connect(false);
  fixture_advance(NS_PER_S); /* the clock of the message is not 0 when OPEN ends */
  CLIENT_SEND(fd, "z\0");
  fixture_settle();
  ck_assert_int_eq(fixture_conn()->state, CONN_ENDING);
  ck_assert_uint_eq(fixture_conn()->discarded, 0);
  CLIENT_SEND(fd, "noise");
  fixture_settle();
  ck_assert_uint_eq(fixture_conn()->discarded, 5);
  ck_assert_uint_eq(fixture_conn()->bytes_in, 7);
  ck_assert_uint_eq(all_in(), 7);
  close_and_expect_end(fd, XCHG_RESET);
}
END_TEST

/* The counts pass 2^32; what the peer has acknowledged is compared modulo 2^32. */
START_TEST(test_counts_pass_four_gib) {
  fixture.reply = FIXTURE_LONG;
  fixture.long_bytes = 1000000;
  int fd = start_and_connect(_i == 1);
  fixture_conn()->bytes_in = fixture_conn()->bytes_out = FOUR_GIB - 3;
  CLIENT_SEND(fd, "z\0");
  fixture_settle();
  ck_assert(fixture_conn()->stalled);
  uint64_t before = fixture_conn()->bytes_out;
  ck_assert_uint_gt(before, FOUR_GIB);
  static char some[65536];
  for (int i = 0; i < 3; i++) { /* the peer reads on: no write timeout */
    ck_assert_uint_eq(client_recv(fd, some, sizeof(some)), sizeof(some));
    fixture_advance(fixture.config.write_timeout_ns + 10 * NS_PER_MS);
    ck_assert_uint_eq(fixture.closes, 0);
  }
  client_expect_all(fd, fixture.long_bytes - 3 * sizeof(some), 'z');
  ck_assert_uint_eq(fixture_conn()->bytes_in, FOUR_GIB - 3 + 2);
  ck_assert_uint_eq(fixture_conn()->bytes_out, FOUR_GIB - 3 + fixture.long_bytes);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_opening_and_listener, 1},        {test_bytes_of_an_open_connection, 2},
      {test_bytes_that_wait_are_pending, 2}, {test_discarded_bytes_count, 1},
      {test_counts_pass_four_gib, 2},
  };
  return run_suite_fixture("conn_account", tests, count_of(tests), conn_fixture_init,
                           conn_fixture_fini);
}
