/* check_conn_linger: when on_drain is called, and a body that is sent piece by piece there. */
#include "tests/fixtures/handler_fixture.h"

static void send_five(struct xchg_conn *conn) {
  for (int i = 0; i < 5; i++) {
    ck_assert_int_eq(xchg_send(conn, "5", 1), 0);
  }
}

static uint8_t big[1000000];

static void send_big(struct xchg_conn *conn) {
  ck_assert_int_eq(send_ref(conn, big, sizeof(big)), 0);
  ck_assert_int_eq(xchg_send(conn, "x", 1), 0);
}

START_TEST(test_on_drain_comes_once_a_turn) {
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "m\0");
  fixture_settle();
  ck_assert_uint_eq(call_count[AT_DRAIN], 0); /* nothing was sent */
  acts[AT_MESSAGE] = send_five;
  CLIENT_SEND(fd, "m\0m\0m\0");
  CLIENT_EXPECT(fd, "555555555555555");
  fixture_settle();
  ck_assert_uint_eq(call_count[AT_DRAIN], 1);
  acts[AT_MESSAGE] = send_big;
  CLIENT_SEND(fd, "m\0");
  fixture_settle();
  ck_assert_uint_eq(call_count[AT_DRAIN], 1); /* not before the kernel has taken everything */
  static uint8_t got[sizeof(big) + 1];
  ck_assert_uint_eq(client_recv(fd, got, sizeof(got)), sizeof(got));
  fixture_settle();
  ck_assert_uint_eq(call_count[AT_DRAIN], 2);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* Output of a posted call and of a publication counts as well. */
START_TEST(test_on_drain_after_a_post_and_a_publication) {
  int fd = start_and_connect(_i == 1);
  ck_assert_int_eq(xchg_join(fixture_conn(), 1, XCHG_SLOW_SKIP), 0);
  fixture_settle();
  ck_assert_uint_eq(call_count[AT_DRAIN], 0);
  post_act(xchg_id(fixture_conn()), send_five);
  ck_assert_uint_eq(call_count[AT_DRAIN], 1);
  publish_bytes(1, "P", 1, TASK_BUDGET);
  fixture_settle();
  ck_assert_uint_eq(call_count[AT_DRAIN], 2);
  CLIENT_EXPECT(fd, "55555P");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

START_TEST(test_on_drain_after_the_greeting) {
  fixture.greeting = "hello";
  int fd = start_and_connect(_i == 1);
  fixture_settle();
  ck_assert_uint_eq(call_count[AT_DRAIN], 1);
  CLIENT_EXPECT(fd, "hello");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* A body in pieces: each is sent when the kernel has taken the one before. */
#define PIECE ((size_t)50000)
enum { PIECES = 40 };

static void send_piece(struct xchg_conn *conn) {
  act_fn *last = test_data;
  uint32_t n = call_count[AT_DRAIN];
  if (n == PIECES) {
    if (last != NULL) {
      last(conn);
    }
  } else if (n < PIECES) {
    static uint8_t piece[PIECE];
    memset(piece, 'a' + (int)(n % 26), sizeof(piece));
    ck_assert_int_eq(n % 2 == 0 ? xchg_send(conn, piece, PIECE) : send_ref(conn, piece, PIECE), 0);
  }
}

static void read_pieces(int fd) {
  static char got[PIECE];
  for (uint32_t i = 0; i < PIECES; i++) {
    uint32_t drains = call_count[AT_DRAIN];
    fixture_turn(0);
    ck_assert_uint_le(call_count[AT_DRAIN],
                      drains + 1); /* other connections get turns in between */
    ck_assert_uint_eq(client_recv(fd, got, sizeof(got)), sizeof(got));
    ck_assert(all_bytes(got, sizeof(got), (char)('a' + i % 26)));
  }
}

START_TEST(test_body_is_sent_piece_by_piece) {
  act_fn *lasts[] = {NULL, act_finish, act_abort};
  test_data = lasts[_i / 2];
  acts[AT_MESSAGE] = acts[AT_DRAIN] = send_piece;
  int fd = start_and_connect((_i & 1) != 0);
  CLIENT_SEND(fd, "m\0");
  read_pieces(fd);
  if (test_data == NULL) {
    client_expect_nothing(fd);
    ck_assert_uint_eq(call_count[AT_DRAIN], PIECES);
  } else {
    client_expect_end(fd);
  }
  close_and_expect_end(fd, _i / 2 == 2 ? XCHG_ERROR : XCHG_FINISHED);
  ck_assert_uint_eq(call_count[AT_DRAIN], PIECES);
}
END_TEST

/* A body that has begun is finished at a stop. */
START_TEST(test_body_is_finished_at_a_stop) {
  acts[AT_MESSAGE] = acts[AT_DRAIN] = send_piece;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "m\0");
  fixture_settle();
  ck_assert_uint_lt(call_count[AT_DRAIN], PIECES);
  fixture_stop();
  read_pieces(fd);
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_on_drain_comes_once_a_turn, 2},  {test_on_drain_after_a_post_and_a_publication, 2},
      {test_on_drain_after_the_greeting, 2}, {test_body_is_sent_piece_by_piece, 6},
      {test_body_is_finished_at_a_stop, 2},
  };
  return run_suite_fixture("conn_drain", tests, count_of(tests), handler_fixture_init_silent,
                           handler_fixture_fini);
}
