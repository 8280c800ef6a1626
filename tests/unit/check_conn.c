/*
 * check_conn: the beginning of a connection, and the stop: what must end, what may finish.
 *
 * Its reading is in check_conn_in, its sending and closing in check_conn_out, its clocks in
 * check_conn_time; each test checks the invariants of net/conn_data.h after every turn.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/unit/rig.h"

/* ---- the beginning ---- */

/* The greeting leaves before the first wait. */
START_TEST(test_greets_at_once) {
  struct rig rig;
  rig_init(&rig);
  rig.greeting = "hello";
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  char got[8];
  ck_assert_int_eq(recv(fd, got, sizeof(got), 0), 5);
  ck_assert_mem_eq(got, "hello", 5);
  ck_assert_uint_eq(rig.host.bufs.bytes, 0);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

/* What the peer sent before it was watched is read at the first event. */
START_TEST(test_serves_what_came_before) {
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, _i == 1);
  int fds[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  ck_assert_int_eq(send(fds[0], "early\0", 6, 0), 6);
  ck_assert_int_eq(shutdown(fds[0], SHUT_WR), 0);
  rig_admit(&rig, fds[1], ADDR_UNIX);
  RIG_GET(&rig, fds[0], "early\0");
  rig_over(&rig, XCHG_FINISHED);
  close(fds[0]);
  rig_fini(&rig);
}
END_TEST

/* The peer is gone before its turn: an endless exchange without a message is finished. */
START_TEST(test_peer_gone_at_once) {
  struct rig rig;
  rig_init(&rig);
  rig.greeting = _i == 2 ? "hello" : NULL;
  rig_start(&rig, _i == 1);
  int fds[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  close(fds[0]);
  rig_admit(&rig, fds[1], ADDR_UNIX);
  rig_over(&rig, _i == 2 ? XCHG_RESET : XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

START_TEST(test_open_finishes) {
  struct rig rig;
  rig_init(&rig);
  rig.greeting = "bye";
  rig.open_finishes = true;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_GET(&rig, fd, "bye");
  rig_get_end(&rig, fd);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

START_TEST(test_open_aborts) {
  struct rig rig;
  rig_init(&rig);
  rig.greeting = "bye";
  rig.open_aborts = true;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  rig_over(&rig, XCHG_ERROR);
  rig_get_end(&rig, fd); /* nothing was sent */
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* A handler without callbacks: messages are counted and dropped. */
START_TEST(test_handler_without_callbacks) {
  struct rig rig;
  rig_init(&rig);
  rig.handler.on_open = NULL;
  rig.handler.on_message = NULL;
  rig.handler.on_close = NULL;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "a\0b\0c\0");
  rig_get_nothing(&rig, fd);
  close(fd);
  RIG_UNTIL(&rig, rig.slab.used == 0);
  ck_assert_uint_eq(atom_load_relaxed_u64(&rig.stats.messages), 3);
  ck_assert_uint_eq(atom_load_relaxed_u64(&rig.stats.bytes_in), 6);
  ck_assert_uint_eq(rig_ended(&rig, XCHG_FINISHED), 1);
  rig_fini(&rig);
}
END_TEST

/* Over the slab's ceiling: refused, counted, its descriptor closed; the others live. */
START_TEST(test_no_memory_for_the_connection) {
  struct rig rig;
  unsigned before = rig_descriptors();
  rig_init(&rig);
  rig_start(&rig, false);
  int fds[RIG_CONNS_MAX];
  for (int i = 0; i < RIG_CONNS_MAX; i++) {
    fds[i] = rig_connect(&rig);
  }
  int pair[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
  ck_assert_int_eq(rig_admit(&rig, pair[1], ADDR_UNIX), -1);
  ck_assert_uint_eq(rig_ended(&rig, XCHG_MEMORY), 1);
  ck_assert_uint_eq(rig.opens, RIG_CONNS_MAX);
  rig_get_end(&rig, pair[0]);
  close(pair[0]);
  for (int i = 0; i < RIG_CONNS_MAX; i++) {
    RIG_PUT(&rig, fds[i], "a\0");
    RIG_GET(&rig, fds[i], "a\0");
    close(fds[i]);
  }
  RIG_UNTIL(&rig, rig.slab.used == 0);
  ck_assert_uint_eq(rig_ended(&rig, XCHG_FINISHED), RIG_CONNS_MAX);
  rig_fini(&rig);
  ck_assert_uint_eq(rig_descriptors(), before);
}
END_TEST

/* Many at once, each with bytes of its own, begun and ended in turns. */
START_TEST(test_many_at_once) {
  enum { CLIENTS = 50, ROUNDS = 20 };
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, false);
  for (int round = 0; round < ROUNDS; round++) {
    int fds[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
      fds[i] = rig_connect(&rig);
      const char half[2] = {(char)('A' + i), 'x'};
      rig_put(&rig, fds[i], half, 2);
    }
    for (int i = CLIENTS - 1; i >= 0; i--) {
      RIG_PUT(&rig, fds[i], "y\0");
      char back[4];
      ck_assert_uint_eq(rig_get(&rig, fds[i], back, 4), 4);
      ck_assert_int_eq(back[0], 'A' + i);
      ck_assert_mem_eq(back + 1, "xy", 3);
    }
    for (int i = 0; i < CLIENTS; i++) {
      close(fds[i]);
    }
  }
  RIG_UNTIL(&rig, rig.slab.used == 0);
  ck_assert_uint_eq(rig_ended(&rig, XCHG_FINISHED), CLIENTS * ROUNDS);
  rig_fini(&rig);
}
END_TEST

/* ---- the stop ---- */

static void stop(struct rig *rig) {
  rig->host.stop_ns = rig->reactor.now_ns;
  conn_stop(&rig_conn(rig)->source);
  rig_reap(rig);
}

/* Between messages: half-closed and drained; counted or not says how it is counted. */
START_TEST(test_stop_between_messages) {
  struct rig rig;
  rig_init(&rig);
  rig.handler.messages = (_i & 1) != 0 ? 5 : 0;
  rig_start(&rig, (_i & 2) != 0);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "a\0");
  RIG_GET(&rig, fd, "a\0");
  stop(&rig);
  rig_get_end(&rig, fd);
  ck_assert_int_eq(rig_conn(&rig)->state, CONN_DRAINING); /* though all is acknowledged */
  RIG_PUT(&rig, fd, "too late\0");
  close(fd);
  rig_over(&rig, (_i & 1) != 0 ? XCHG_DRAIN : XCHG_FINISHED);
  ck_assert_uint_eq(rig.messages, 1);
  rig_fini(&rig);
}
END_TEST

/* What is unread when the stop comes is served. */
START_TEST(test_stop_serves_what_is_unread) {
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "a\0");
  rig_settle(&rig);
  ck_assert_int_eq(send(fd, "b\0", 2, 0), 2);
  stop(&rig);
  RIG_GET(&rig, fd, "a\0b\0");
  rig_get_end(&rig, fd);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

/* What has begun may complete. */
START_TEST(test_stop_lets_a_message_finish) {
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "beg");
  stop(&rig);
  rig_advance(&rig, 5 * NS_PER_S);
  ck_assert_int_eq(rig_conn(&rig)->state, CONN_OPEN);
  RIG_PUT(&rig, fd, "un\0");
  RIG_GET(&rig, fd, "begun\0");
  rig_get_end(&rig, fd);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

/* ... within its time-out. */
START_TEST(test_stop_does_not_prolong_a_message) {
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "beg");
  stop(&rig);
  rig_advance(&rig, rig.config.message_timeout_ns + 50 * NS_PER_MS);
  rig_over(&rig, XCHG_MESSAGE);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* Who has not spoken gets a second in an endless exchange... */
START_TEST(test_stop_of_one_that_is_silent) {
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  stop(&rig);
  rig_advance(&rig, NS_PER_S - 50 * NS_PER_MS);
  ck_assert_int_eq(rig_conn(&rig)->state, CONN_OPEN);
  rig_advance(&rig, 100 * NS_PER_MS);
  rig_get_end(&rig, fd);
  close(fd);
  rig_over(&rig, XCHG_DRAIN);
  rig_fini(&rig);
}
END_TEST

/* ... and its message time-out in a counted one. */
START_TEST(test_stop_of_a_silent_counted_one) {
  struct rig rig;
  rig_init(&rig);
  rig.handler.messages = 1;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  stop(&rig);
  rig_advance(&rig, rig.config.message_timeout_ns - NS_PER_S);
  ck_assert_int_eq(rig_conn(&rig)->state, CONN_OPEN);
  rig_advance(&rig, NS_PER_S + 50 * NS_PER_MS);
  rig_over(&rig, XCHG_MESSAGE);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* Queued output is sent before it leaves. */
START_TEST(test_stop_sends_what_is_queued) {
  struct rig rig;
  rig_init(&rig);
  rig.reply = RIG_LONG;
  rig.long_bytes = 1000000;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "z\0");
  stop(&rig);
  ck_assert_int_eq(rig_conn(&rig)->state, CONN_OPEN);
  char *reply = malloc(rig.long_bytes);
  ck_assert_ptr_nonnull(reply);
  ck_assert_uint_eq(rig_get(&rig, fd, reply, rig.long_bytes), rig.long_bytes);
  ck_assert(rig_all(reply, rig.long_bytes, 'z'));
  free(reply);
  rig_get_end(&rig, fd);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

/* The server's patience is over, in every state. */
START_TEST(test_cut) {
  struct rig rig;
  rig_init(&rig);
  rig.reply = _i == 1 ? RIG_LONG : RIG_ECHO;
  rig.long_bytes = 1000000;
  rig.handler.messages = 1;
  rig_start(&rig, false);
  int fd = rig_connect(&rig);
  rig_put(&rig, fd, "z\0", _i == 0 ? 1 : 2);
  rig_settle(&rig);
  static const enum conn_state states[] = {CONN_OPEN, CONN_ENDING, CONN_DRAINING};
  ck_assert_int_eq(rig_conn(&rig)->state, states[_i]);
  conn_cut(&rig_conn(&rig)->source);
  rig_over(&rig, XCHG_DRAIN);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* A stop while draining, or while the last reply is sent, changes nothing. */
START_TEST(test_stop_of_one_that_ends) {
  struct rig rig;
  rig_init(&rig);
  rig.handler.messages = 1;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "z\0");
  rig_settle(&rig);
  ck_assert_int_eq(rig_conn(&rig)->state, CONN_DRAINING);
  stop(&rig);
  ck_assert_uint_eq(rig.closes, 0);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_greets_at_once, 2},
      {test_serves_what_came_before, 2},
      {test_peer_gone_at_once, 3},
      {test_open_finishes, 2},
      {test_open_aborts, 2},
      {test_handler_without_callbacks, 2},
      {test_no_memory_for_the_connection, 1},
      {test_many_at_once, 1},
      {test_stop_between_messages, 4},
      {test_stop_serves_what_is_unread, 2},
      {test_stop_lets_a_message_finish, 2},
      {test_stop_does_not_prolong_a_message, 2},
      {test_stop_of_one_that_is_silent, 2},
      {test_stop_of_a_silent_counted_one, 2},
      {test_stop_sends_what_is_queued, 2},
      {test_cut, 3},
      {test_stop_of_one_that_ends, 2},
  };
  return run_suite("conn", tests, count_of(tests));
}
