/* check_conn_drain: on_drain: when it comes, and a body that goes on there. */
#include "tests/fixtures/run_suite.h"
#include "tests/unit/stage.h"

static void send_five(struct stage *stage, struct xchg_conn *conn) {
  (void)stage;
  for (int i = 0; i < 5; i++) {
    ck_assert_int_eq(xchg_send(conn, "5", 1), 0);
  }
}

static uint8_t big[1000000];

static void send_big(struct stage *stage, struct xchg_conn *conn) {
  (void)stage;
  ck_assert_int_eq(stage_lend(conn, big, sizeof(big)), 0);
  ck_assert_int_eq(xchg_send(conn, "x", 1), 0);
}

START_TEST(test_drained_once_a_turn) {
  struct stage stage;
  stage_quiet(&stage);
  stage_start(&stage, _i == 1);
  int fd = rig_connect(&stage.rig);
  RIG_PUT(&stage.rig, fd, "m\0");
  rig_settle(&stage.rig);
  ck_assert_uint_eq(stage.count[AT_DRAIN], 0); /* nothing was sent */
  stage.acts[AT_MESSAGE] = send_five;
  RIG_PUT(&stage.rig, fd, "m\0m\0m\0");
  RIG_GET(&stage.rig, fd, "555555555555555");
  rig_settle(&stage.rig);
  ck_assert_uint_eq(stage.count[AT_DRAIN], 1);
  stage.acts[AT_MESSAGE] = send_big;
  RIG_PUT(&stage.rig, fd, "m\0");
  rig_settle(&stage.rig);
  ck_assert_uint_eq(stage.count[AT_DRAIN], 1); /* not before everything was taken */
  static uint8_t got[sizeof(big) + 1];
  ck_assert_uint_eq(rig_get(&stage.rig, fd, got, sizeof(got)), sizeof(got));
  rig_settle(&stage.rig);
  ck_assert_uint_eq(stage.count[AT_DRAIN], 2);
  close(fd);
  rig_over(&stage.rig, XCHG_FINISHED);
  stage_fini(&stage);
}
END_TEST

/* Whoever queued it: a posted call, a publication. */
START_TEST(test_drained_of_what_others_sent) {
  struct stage stage;
  stage_quiet(&stage);
  stage_start(&stage, _i == 1);
  int fd = rig_connect(&stage.rig);
  ck_assert_int_eq(xchg_join(rig_conn(&stage.rig), 1, XCHG_SLOW_SKIP), 0);
  rig_settle(&stage.rig);
  ck_assert_uint_eq(stage.count[AT_DRAIN], 0);
  stage_post(&stage, xchg_id(rig_conn(&stage.rig)), send_five);
  ck_assert_uint_eq(stage.count[AT_DRAIN], 1);
  stage_publish(&stage, 1, "P", 1, STAGE_BUDGET);
  rig_settle(&stage.rig);
  ck_assert_uint_eq(stage.count[AT_DRAIN], 2);
  RIG_GET(&stage.rig, fd, "55555P");
  close(fd);
  rig_over(&stage.rig, XCHG_FINISHED);
  stage_fini(&stage);
}
END_TEST

START_TEST(test_greeting_is_drained) {
  struct stage stage;
  stage_quiet(&stage);
  stage.rig.greeting = "hello";
  stage_start(&stage, _i == 1);
  int fd = rig_connect(&stage.rig);
  rig_settle(&stage.rig);
  ck_assert_uint_eq(stage.count[AT_DRAIN], 1);
  RIG_GET(&stage.rig, fd, "hello");
  close(fd);
  rig_over(&stage.rig, XCHG_FINISHED);
  stage_fini(&stage);
}
END_TEST

/* A body in pieces, each begun when the one before was taken. */
#define PIECE ((size_t)50000)
enum { PIECES = 40 };

static void send_piece(struct stage *stage, struct xchg_conn *conn) {
  act_fn *last = stage->script;
  uint32_t n = stage->count[AT_DRAIN];
  if (n == PIECES) {
    if (last != NULL) {
      last(stage, conn);
    }
  } else if (n < PIECES) {
    static uint8_t piece[PIECE];
    memset(piece, 'a' + (int)(n % 26), sizeof(piece));
    ck_assert_int_eq(n % 2 == 0 ? xchg_send(conn, piece, PIECE) : stage_lend(conn, piece, PIECE),
                     0);
  }
}

static void read_pieces(struct stage *stage, int fd) {
  static char got[PIECE];
  for (uint32_t i = 0; i < PIECES; i++) {
    uint32_t drains = stage->count[AT_DRAIN];
    rig_turn(&stage->rig, 0);
    ck_assert_uint_le(stage->count[AT_DRAIN], drains + 1); /* others come in between */
    ck_assert_uint_eq(rig_get(&stage->rig, fd, got, sizeof(got)), sizeof(got));
    ck_assert(rig_all(got, sizeof(got), (char)('a' + i % 26)));
  }
}

START_TEST(test_streaming) {
  act_fn *lasts[] = {NULL, stage_finish, stage_abort};
  struct stage stage;
  stage_quiet(&stage);
  stage.script = lasts[_i / 2];
  stage.acts[AT_MESSAGE] = stage.acts[AT_DRAIN] = send_piece;
  stage_start(&stage, (_i & 1) != 0);
  int fd = rig_connect(&stage.rig);
  RIG_PUT(&stage.rig, fd, "m\0");
  read_pieces(&stage, fd);
  if (stage.script == NULL) {
    rig_get_nothing(&stage.rig, fd);
    ck_assert_uint_eq(stage.count[AT_DRAIN], PIECES);
  } else {
    rig_get_end(&stage.rig, fd);
  }
  close(fd);
  rig_over(&stage.rig, _i / 2 == 2 ? XCHG_ERROR : XCHG_FINISHED);
  ck_assert_uint_eq(stage.count[AT_DRAIN], PIECES);
  stage_fini(&stage);
}
END_TEST

/* What was begun is finished at a stop: a body is one answer. */
START_TEST(test_streaming_while_the_server_stops) {
  struct stage stage;
  stage_quiet(&stage);
  stage.acts[AT_MESSAGE] = stage.acts[AT_DRAIN] = send_piece;
  stage_start(&stage, _i == 1);
  int fd = rig_connect(&stage.rig);
  RIG_PUT(&stage.rig, fd, "m\0");
  rig_settle(&stage.rig);
  ck_assert_uint_lt(stage.count[AT_DRAIN], PIECES);
  stage.rig.host.stop_ns = stage.rig.reactor.now_ns;
  conn_stop(&rig_conn(&stage.rig)->source);
  rig_reap(&stage.rig);
  read_pieces(&stage, fd);
  rig_get_end(&stage.rig, fd);
  close(fd);
  rig_over(&stage.rig, XCHG_FINISHED);
  stage_fini(&stage);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_drained_once_a_turn, 2},
      {test_drained_of_what_others_sent, 2},
      {test_greeting_is_drained, 2},
      {test_streaming, 6},
      {test_streaming_while_the_server_stops, 2},
  };
  return run_suite("conn_drain", tests, count_of(tests));
}
