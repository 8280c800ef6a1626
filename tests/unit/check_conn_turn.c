/*
 * check_conn_turn: what one turn of a connection serves at most, counted in bytes: read, delivered
 * to the handler and given to the kernel, however many calls that takes.
 */
#include "tests/fixtures/conn_fixture.h"

/* The most bytes of one turn so far, and what the handler has got. */
static struct {
  void (*on_event)(struct source *source, uint32_t events);
  uint64_t read_max, written_max;
  size_t delivered_max, delivered, all;
  uint64_t turns;
} served;

static uint64_t bytes_in(void) { return atom_load_relaxed_u64(&fixture.stats.bytes_in); }

static uint64_t bytes_out(void) { return atom_load_relaxed_u64(&fixture.stats.bytes_out); }

static void counted_turn(struct source *source, uint32_t events) {
  uint64_t in = bytes_in(), out = bytes_out();
  served.delivered = 0;
  served.on_event(source, events);
  served.turns++;
  served.read_max = max_u64(served.read_max, bytes_in() - in);
  served.written_max = max_u64(served.written_max, bytes_out() - out);
  served.delivered_max = max_u64(served.delivered_max, served.delivered);
}

static void count_message(struct xchg_conn *conn, const struct xchg_message *message) {
  (void)conn;
  served.delivered += message->frame_size;
  served.all += message->frame_size;
}

static void start(bool single) {
  if (fixture.handler.on_message == fixture_on_message) {
    fixture.handler.on_message = count_message;
  }
  fixture_start(single);
  memset(&served, 0, sizeof(served));
  served.on_event = fixture.reactor.on_event;
  fixture.reactor.on_event = counted_turn;
}

static void expect_budget(void) {
  ck_assert_uint_gt(served.turns, 0);
  ck_assert_uint_le(served.read_max, CONN_TURN_BYTES);
  ck_assert_uint_le(served.written_max, CONN_TURN_BYTES);
  ck_assert_uint_le(served.delivered_max, CONN_TURN_BYTES);
}

/* ---- input ---- */

/* Messages of ${size} bytes until the socket is full, or ${most} bytes. Return: bytes. */
static size_t flood(int fd, size_t size, size_t most) {
  size_t all = max_u64(32000 / size, 1) * size;
  char *block = malloc(all);
  ck_assert_ptr_nonnull(block);
  for (size_t i = 0; i < all; i++) {
    block[i] = i % size == size - 1 ? 0 : 'x';
  }
  size_t sent = 0;
  for (ssize_t put = 1; put > 0 && sent < most;) {
    put = send(fd, block + sent % all, all - sent % all, MSG_NOSIGNAL);
    sent += put == -1 ? 0 : (size_t)put;
  }
  free(block);
  return sent;
}

/* Send ${size} bytes with a descriptor, which ends a read. Return: was there room? */
static bool send_with_descriptor(int fd, char *data, size_t size) {
  char control[CMSG_SPACE(sizeof(int))] = {0};
  struct iovec part = {.iov_base = data, .iov_len = size};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  struct cmsghdr *head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(head), &fd, sizeof(int));
  return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)size;
}

static void enlarge(int fd) {
  const int bytes = 4 * 1024 * 1024;
  ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
}

static void expect_all(size_t sent) {
  ck_assert_uint_gt(sent, 2 * CONN_TURN_BYTES);
  FIXTURE_UNTIL(bytes_in() == sent);
  expect_budget();
}

/* Sizes of messages: short, some in a read, about a read, longer than a read. */
static const size_t sizes[] = {1, 1000, 20000, 33000, 60000, 65536};

START_TEST(test_turn_of_a_tcp_flood) {
  start(false);
  int fd = client_connect_tcp();
  enlarge(fd);
  expect_all(flood(fd, sizes[_i], SIZE_MAX));
  close(fd);
  fixture_until_all_closed();
}
END_TEST

/* After an urgent byte a short read does not show that nothing is left. */
START_TEST(test_turn_after_an_urgent_byte) {
  start(false);
  int fd = client_connect_tcp();
  enlarge(fd);
  ck_assert_int_eq(send(fd, "!", 1, MSG_OOB), 1);
  expect_all(flood(fd, sizes[_i], SIZE_MAX));
  close(fd);
  fixture_until_all_closed();
}
END_TEST

/*
 * Each urgent byte ends a read: a turn has many short reads. The last size would be over the limit.
 */
START_TEST(test_turn_with_many_urgent_bytes) {
  start(false);
  int fd = client_connect_tcp();
  enlarge(fd);
  for (int i = 0; i < 30; i++) {
    (void)flood(fd, sizes[_i], 20000);
    (void)send(fd, "!", 1, MSG_OOB); /* may not fit */
  }
  fixture_settle();
  ck_assert_uint_gt(bytes_in(), CONN_TURN_BYTES);
  expect_budget();
  close(fd);
  fixture_until_all_closed();
}
END_TEST

START_TEST(test_turn_of_a_half_closed_flood) {
  start(false);
  int fd = client_connect_tcp();
  enlarge(fd);
  size_t sent = flood(fd, sizes[_i], SIZE_MAX);
  client_shutdown(fd);
  expect_all(sent);
  close(fd);
  fixture_until_all_closed();
}
END_TEST

START_TEST(test_turn_of_a_unix_flood) {
  start(false);
  int fd = client_connect();
  enlarge(fd);
  expect_all(flood(fd, sizes[_i], SIZE_MAX));
  close(fd);
  fixture_until_all_closed();
}
END_TEST

/* Each descriptor ends a read: three sends of 20,000 bytes are three short reads. */
START_TEST(test_turn_of_descriptors_over_unix) {
  start(false);
  int fd = client_connect();
  enlarge(fd);
  char block[20000];
  memset(block, 'x', sizeof(block) - 1);
  block[sizeof(block) - 1] = 0;
  size_t sent = 0;
  for (int i = 0; i < 40 && send_with_descriptor(fd, block, sizeof(block)); i++) {
    sent += sizeof(block);
  }
  expect_all(sent);
  ck_assert_uint_eq(served.all, sent);
  close(fd);
  fixture_until_all_closed();
}
END_TEST

/* The exchange is over: what the client still sends is discarded under the same bound. */
START_TEST(test_turn_of_a_lingering_connection) {
  fixture.reply = FIXTURE_ECHO;
  fixture.handler.messages = 1;
  fixture.handler.on_message = fixture_on_message;
  start(false);
  int fd = client_connect();
  enlarge(fd);
  CLIENT_WRITE(fd, "ping\0");
  size_t sent = flood(fd, 1000, 600000);
  fixture_settle();
  ck_assert_uint_eq(bytes_in(), sent + 5);
  expect_budget();
  close(fd);
  fixture_until_all_closed();
}
END_TEST

/* ---- kept messages ---- */

static void pause_at_long(struct xchg_conn *conn, const struct xchg_message *message) {
  count_message(conn, message);
  if (message->size > 1000) {
    xchg_pause(conn);
  }
}

/*
 * A long message is complete with a read that brings many short ones.  They were kept, because the
 * handler paused, or (_i == 0) because they exceed the bound together with the long one.
 */
START_TEST(test_turn_of_kept_messages) {
  enum { LONG = 60000 };
  bool pauses = _i > 0;
  if (pauses) {
    fixture.handler.on_message = pause_at_long;
  }
  start(_i == 2);
  int fd = client_connect();
  enlarge(fd);
  char *block = malloc(LONG);
  ck_assert_ptr_nonnull(block);
  memset(block, 'x', LONG);
  client_send(fd, block, LONG - 1);
  fixture_settle();
  ck_assert_uint_eq(served.all, 0);
  block[0] = 0;
  client_write(fd, block, 1);
  size_t sent = LONG + flood(fd, 10, 200000);
  free(block);
  fixture_settle();
  if (pauses) {
    ck_assert_uint_eq(served.all, LONG);
    xchg_resume(fixture_conn());
    fixture_settle();
  }
  ck_assert_uint_eq(served.all, sent / 10 * 10);
  expect_budget();
  close(fd);
  fixture_until_all_closed();
}
END_TEST

/* A parser that wants much before it says where the first of many messages ends. */
static size_t parse_late(struct xchg_conn *conn, const void *data, size_t size) {
  (void)data;
  return conn->messages == 0 && size < 300000 ? 300000 : 10;
}

START_TEST(test_turn_after_a_late_parser) {
  fixture.handler.frame = (struct xchg_frame){.kind = XCHG_FRAME_CUSTOM, .parse = parse_late};
  fixture.handler.max_message = 1000000;
  start(_i == 1);
  int fd = client_connect_tcp();
  char block[1000] = {0};
  for (int i = 0; i < 400; i++) {
    client_send(fd, block, sizeof(block));
  }
  fixture_settle();
  ck_assert_uint_eq(served.all, 400 * sizeof(block));
  expect_budget();
  close(fd);
  fixture_until_all_closed();
}
END_TEST

/*
 * A deadline passes in the turn whose bytes are all kept ones: the client whose data has arrived in
 * the socket is not timed out.
 */
START_TEST(test_deadline_after_kept_messages) {
  fixture.handler.on_message = pause_at_long;
  fixture.handler.max_message = 300000;
  start(false);
  int fd = client_connect();
  enlarge(fd);
  char *block = calloc(1, 250000);
  ck_assert_ptr_nonnull(block);
  memset(block, 'x', 250000 - CONN_TURN_BYTES);
  client_write(fd, block, 250000);
  client_write(fd, "last\0", 5);
  fixture_settle();
  ck_assert_uint_gt(buf_size(fixture_conn()->in), 0);
  fixture.reactor.now_ns += 2 * fixture.config.idle_timeout_ns;
  fixture_conn()->hold_reasons = 0; /* as xchg_resume, in the turn of the timer */
  reactor_dispatch(&fixture.reactor);
  fixture_reap();
  fixture_settle();
  ck_assert_uint_eq(served.all, 250005);
  ck_assert_uint_eq(fixture.closes, 0);
  free(block);
  close(fd);
  fixture_until_all_closed();
}
END_TEST

/* ---- turns in an iteration ---- */

static struct {
  const struct source *busy;
  int busy_turns, other_turns;
} iteration;

static void count_turn(struct source *source, uint32_t events) {
  if (source == iteration.busy) {
    iteration.busy_turns++;
  } else {
    iteration.other_turns++;
  }
  served.on_event(source, events);
}

/*
 * A client that floods asks for another turn each time, and its next bytes are an event, too.  It
 * has one turn in an iteration, as the client that sends a message now and then.
 */
START_TEST(test_flood_has_one_turn_in_an_iteration) {
  start(false);
  int busy = client_connect_tcp(), other = client_connect_tcp();
  iteration.busy = &fixture_conn()->source;
  fixture.reactor.on_event = count_turn;
  enlarge(busy);
  for (int i = 0; i < 20; i++) {
    (void)flood(busy, 1000, SIZE_MAX);
    CLIENT_WRITE(other, "m\0");
    iteration.busy_turns = iteration.other_turns = 0;
    fixture_turn(0);
    ck_assert_int_eq(iteration.busy_turns, 1);
    ck_assert_int_eq(iteration.other_turns, 1);
  }
  close(busy);
  close(other);
  fixture_until_all_closed();
}
END_TEST

/* ---- output ---- */

enum { REPLY = 1000000 };
static char reply[REPLY];

static void send_copy(struct xchg_conn *conn, const struct xchg_message *message) {
  (void)message;
  ck_assert_int_eq(xchg_send(conn, reply, REPLY), 0);
}

static void send_one_reference(struct xchg_conn *conn, const struct xchg_message *message) {
  (void)message;
  ck_assert_int_eq(xchg_send_ref(conn, reply, REPLY, NULL, NULL), 0);
}

static void send_references(struct xchg_conn *conn, const struct xchg_message *message) {
  (void)message;
  for (size_t at = 0; at < REPLY; at += REPLY / 50) {
    ck_assert_int_eq(xchg_send(conn, reply, 10), 0);
    ck_assert_int_eq(xchg_send_ref(conn, reply + 10, REPLY / 50 - 10, NULL, NULL), 0);
  }
}

START_TEST(test_turn_of_long_output) {
  static void (*const senders[])(struct xchg_conn *, const struct xchg_message *) = {
      send_copy, send_one_reference, send_references};
  fixture.handler.on_message = senders[_i / 2];
  fixture.long_bytes = REPLY; /* for the fixture's bound of queued bytes */
  start(false);
  int fd = _i % 2 == 0 ? client_connect_tcp() : client_connect(), server = fixture_conn()->fd;
  enlarge(server);
  memset(reply, 'r', sizeof(reply));
  CLIENT_SEND(fd, "m\0m\0");
  client_expect_all(fd, REPLY, 'r');
  client_expect_all(fd, REPLY, 'r');
  expect_budget();
  ck_assert_uint_eq(served.written_max, CONN_TURN_BYTES); /* and no less than it may be */
  close(fd);
  fixture_until_all_closed();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_turn_of_a_tcp_flood, count_of(sizes)},
      {test_turn_after_an_urgent_byte, count_of(sizes)},
      {test_turn_with_many_urgent_bytes, count_of(sizes) - 1},
      {test_turn_of_a_half_closed_flood, count_of(sizes)},
      {test_turn_of_a_unix_flood, count_of(sizes)},
      {test_turn_of_descriptors_over_unix, 1},
      {test_turn_of_a_lingering_connection, 1},
      {test_turn_of_kept_messages, 3},
      {test_turn_after_a_late_parser, 2},
      {test_deadline_after_kept_messages, 1},
      {test_flood_has_one_turn_in_an_iteration, 1},
      {test_turn_of_long_output, 6},
  };
  return run_suite_fixture("conn_turn", tests, count_of(tests), conn_fixture_init,
                           conn_fixture_fini);
}
