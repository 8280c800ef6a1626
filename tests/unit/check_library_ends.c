/*
 * check_library_ends: how connections end when the client does not cooperate: members that never
 * read, clients that acknowledge nothing or reset, and clients that have ended their stream long
 * before the body is sent.
 */
#include "tests/fixtures/handler_fixture.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#define GROUP 7

/* ---- publications to members that do not read ---- */

#define SLOW 4               /* members; each alone could use all references of the worker */
#define PUBLICATIONS 3000    /* each is its own number, in four bytes */
#define BATCH 50             /* publications between two reads of the fast member */
#define PENDING_MAX 6000     /* bytes; ${SLOW} times as many references exceed the limit */
#define BURST 1000           /* publications within one turn */
#define SNDBUF_SMALLEST 4096 /* close to the kernel's minimum */

static void join(struct xchg_conn *conn) {
  const enum xchg_slow *slow = test_data;
  ck_assert_int_eq(xchg_join(conn, GROUP, *slow), 0);
}

static void prepare_members(enum xchg_slow *slow) {
  test_data = slow;
  acts[AT_OPEN] = join;
}

static int connect_slow(void) {
  uint64_t id;
  int fd = client_connect_id(&id), size = SNDBUF_SMALLEST;
  int server = fixture_newest()->fd;
  ck_assert_int_eq(setsockopt(server, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
  return fd;
}

/* No connection has more than CONN_REFS_MAX references. */
static void check_shares(void) {
  const struct slab *slab = &fixture.slab;
  for (uint32_t slot = 0; (slot = slab_next(slab, slot)) != SLAB_NONE; slot++) {
    const struct xchg_conn *conn = conn_of(slab_at(slab, slot));
    require(send_queue_refs(&conn->out) <= CONN_REFS_MAX,
            "the references of a connection are bounded");
  }
}

static void publish_numbers(uint32_t from, uint32_t count) {
  for (uint32_t i = from; i < from + count; i++) {
    publish_bytes(GROUP, &i, sizeof(i), TASK_BUDGET);
    check_shares();
  }
}

static void check_numbers(const uint32_t *numbers, uint32_t from, size_t count) {
  for (uint32_t i = 0; i < count; i++) {
    require(numbers[i] == from + i, "publications arrive in order and whole");
  }
}

static void get_numbers(int fd, uint32_t from, uint32_t count) {
  static uint32_t got[BURST];
  size_t size = count * sizeof(*got);
  ck_assert_uint_le(size, sizeof(got));
  ck_assert_uint_eq(client_recv(fd, got, size), size);
  check_numbers(got, from, count);
}

/* A slow member reads at last: it gets the first publications without a gap. Return: how many. */
static size_t get_rest(int fd) {
  static uint32_t got[PUBLICATIONS];
  client_shutdown(fd);
  size_t size = client_recv(fd, got, sizeof(got));
  ck_assert_uint_eq(size % sizeof(*got), 0);
  check_numbers(got, 0, size / sizeof(*got));
  return size / sizeof(*got);
}

/*
 * A publication costs a reference however small it is. Members that never read must not use all of
 * them.
 */
START_TEST(test_slow_members_take_nothing_from_the_fast) {
  enum xchg_slow slow = _i == 0 ? XCHG_SLOW_SKIP : XCHG_SLOW_DROP;
  prepare_members(&slow);
  fixture.config.max_pending_bytes = PENDING_MAX;
  fixture_start(false);
  int slows[SLOW], fast = client_connect();
  for (int i = 0; i < SLOW; i++) {
    slows[i] = connect_slow();
  }
  for (uint32_t i = 0; i < PUBLICATIONS; i += BATCH) {
    publish_numbers(i, BATCH);
    get_numbers(fast, i, BATCH);
  }
  uint64_t published = atom_load_relaxed_u64(&fixture.stats.published);
  ck_assert_uint_gt(atom_load_relaxed_u64(&fixture.stats.skipped), 0);
  ck_assert_uint_eq(fixture_ended(XCHG_WRITE), slow == XCHG_SLOW_DROP ? SLOW : 0);
  for (int i = 0; i < SLOW; i++) {
    published -= slow == XCHG_SLOW_SKIP ? get_rest(slows[i]) : 0;
    close(slows[i]);
  }
  ck_assert(slow == XCHG_SLOW_DROP || published == PUBLICATIONS);
  close(fast);
  fixture_until_all_closed();
  ck_assert_uint_eq(fixture_ended(XCHG_FINISHED), slow == XCHG_SLOW_SKIP ? SLOW + 1 : 1);
}
END_TEST

/* A burst of more than CONN_REFS_MAX publications within one turn does not make a member slow. */
START_TEST(test_a_burst_reaches_a_member_that_reads) {
  enum xchg_slow slow = _i == 0 ? XCHG_SLOW_SKIP : XCHG_SLOW_DROP;
  prepare_members(&slow);
  int fd = start_and_connect(false);
  for (uint32_t i = 0; i < 3 * BURST; i += BURST) {
    publish_numbers(i, BURST);
    get_numbers(fd, i, BURST);
  }
  ck_assert_uint_eq(atom_load_relaxed_u64(&fixture.stats.skipped), 0);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* ---- lingering ---- */

static void answer_and_finish(struct xchg_conn *conn) {
  const bool *pauses = test_data;
  ck_assert_int_eq(*pauses ? xchg_pause(conn) : 0, 0);
  ck_assert_int_eq(xchg_send(conn, "answer", 6), 0);
  ck_assert_int_eq(xchg_finish(conn), 0);
}

/*
 * A reset while the connection lingers comes after the exchange, whether or not the handler has
 * paused it.
 */
START_TEST(test_a_reset_while_lingering_changes_nothing) {
  bool pauses = (_i & 2) != 0;
  test_data = &pauses;
  acts[AT_MESSAGE] = answer_and_finish;
  fixture_start((_i & 1) != 0);
  int fd = client_connect_tcp();
  CLIENT_SEND(fd, "get\0more");
  CLIENT_EXPECT(fd, "answer");
  fixture_settle();
  ck_assert_int_eq(fixture_conn()->state, CONN_LINGERING);
  client_reset(fd);
  fixture_expect_end(XCHG_FINISHED);
}
END_TEST

/* A reset before that ends a paused connection. */
START_TEST(test_a_reset_while_paused_is_noticed) {
  acts[AT_MESSAGE] = act_pause;
  fixture_start(false);
  int fd = client_connect_tcp();
  CLIENT_SEND(fd, "get\0more");
  fixture_settle();
  client_reset(fd);
  fixture_expect_end(XCHG_RESET);
}
END_TEST

/* ---- XCHG_LINGER ---- */

#define UNREAD ((size_t)100000) /* more than the client's window, less than the socket buffer */

static void send_unread(struct xchg_conn *conn) {
  static const uint8_t bytes[UNREAD];
  ck_assert_int_eq(xchg_send(conn, bytes, sizeof(bytes)), 0);
}

static void set_size(int fd, int option, int size) {
  ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, option, &size, sizeof(size)), 0);
}

/* Like client_connect_tcp, with the smallest receive buffer for the client. */
static int connect_narrow(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof(at);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  set_size(client, SO_RCVBUF, 4096);
  ck_assert_int_eq(bind(listener, (struct sockaddr *)&at, size), 0);
  ck_assert_int_eq(listen(listener, 1), 0);
  ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&at, &size), 0);
  ck_assert_int_eq(connect(client, (struct sockaddr *)&at, size), 0);
  int server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  ck_assert_int_ne(server, -1);
  set_size(server, SO_SNDBUF, 2 * (int)UNREAD);
  close(listener);
  fixture_open(server, ADDR_IPV4);
  return client;
}

static size_t kernel_says(int fd, unsigned long request) {
  int bytes;
  ck_assert_int_eq(ioctl(fd, request, &bytes), 0);
  return (size_t)bytes;
}

/* Wait until all bytes that have arrived are acknowledged. Return: how many. */
static size_t await_acknowledged(int client, size_t sent) {
  size_t arrived = 0;
  int server = fixture_conn()->fd;
  FIXTURE_UNTIL((arrived = kernel_says(client, FIONREAD)) > 0 &&
                arrived + kernel_says(server, SIOCOUTQ) == sent);
  return arrived;
}

/*
 * Lingering ends when nothing has been acknowledged for XCHG_LINGER, and not before. A window probe
 * may still deliver a byte. Only then does the time restart.
 */
START_TEST(test_linger_restarts_only_with_an_acknowledgement) {
  acts[AT_OPEN] = send_unread;
  fixture_start((_i & 1) != 0);
  int client = connect_narrow();
  FIXTURE_UNTIL(send_queue_empty(&fixture_conn()->out)); /* it takes more than one turn */
  size_t arrived = await_acknowledged(client, UNREAD);
  post_act(xchg_id(fixture_conn()), act_finish);
  for (int i = 0; i < 20; i++) {
    ck_assert_int_eq(fixture_conn()->state, CONN_LINGERING);
    fixture_advance(fixture.config.linger_ns - NS_PER_MS);
    ck_assert_uint_eq(fixture.slab.used, 1);
    fixture_advance(20 * NS_PER_MS);
    if (fixture.slab.used == 0 || kernel_says(client, FIONREAD) == arrived) {
      break;
    }
    arrived = await_acknowledged(client, UNREAD + 1); /* the half-close counts as a byte */
  }
  ck_assert_uint_eq(fixture.slab.used, 0);
  expect_end_then_close(client, XCHG_FINISHED);
}
END_TEST

/* ---- a body that is sent after the last input ---- */

#define BLOCK ((size_t)64 * 1024)
#define BLOCKS 160 /* 10 MiB */

/* Why no more input comes: the client's end, the number of messages, or both. */
enum over { BY_END, BY_COUNT, BY_BOTH, TOO_EARLY, OVERS };

struct body {
  uint32_t sent, waits_at; /* blocks; the block before which it pauses, 0 = none */
  bool finishes;           /* ends with xchg_finish instead of sending no more */
};

static void send_block(struct xchg_conn *conn) {
  static uint8_t block[BLOCK];
  struct body *body = test_data;
  if (body->sent == BLOCKS) {
    ck_assert_int_eq(body->finishes ? xchg_finish(conn) : 0, 0);
    return;
  }
  if (body->sent > 0 && body->sent == body->waits_at) {
    body->waits_at = 0;
    ck_assert_int_eq(xchg_pause(conn), 0);
    return;
  }
  memset(block, 'a' + (int)(body->sent++ % 26), sizeof(block));
  ck_assert_int_eq(xchg_send(conn, block, sizeof(block)), 0);
}

static void go_on(struct xchg_conn *conn) {
  act_resume(conn);
  send_block(conn);
}

static void get_blocks(int fd, uint32_t from, uint32_t to) {
  static char got[BLOCK];
  for (uint32_t i = from; i < to; i++) {
    ck_assert_uint_eq(client_recv(fd, got, sizeof(got)), sizeof(got));
    ck_assert(all_bytes(got, sizeof(got), (char)('a' + i % 26)));
  }
}

/* A client has asked for the body and can send no other message. */
static int ask_for_body(struct body *body, enum over over, bool single) {
  test_data = body;
  acts[AT_MESSAGE] = acts[AT_DRAIN] = send_block;
  fixture.handler.messages = over == BY_END ? 0 : over == TOO_EARLY ? 2 : 1;
  int fd = start_and_connect(single);
  if (over == BY_COUNT) {
    CLIENT_SEND(fd, "m\0m\0m\0m");
  } else {
    ck_assert_int_eq(send(fd, "m", 2, MSG_NOSIGNAL), 2);
    client_shutdown(fd);
  }
  fixture_settle();
  return fd;
}

static void end_body(int fd, enum xchg_reason reason) {
  client_expect_end(fd);
  close_and_expect_end(fd, reason);
  ck_assert_uint_eq(call_count[AT_MESSAGE], 1);
}

START_TEST(test_a_body_is_sent_to_its_end) {
  enum over over = (enum over)(_i / 4);
  struct body body = {.finishes = (_i & 2) != 0};
  int fd = ask_for_body(&body, over, (_i & 1) != 0);
  ck_assert_uint_lt(body.sent, BLOCKS);
  get_blocks(fd, 0, BLOCKS / 2);
  if (over == BY_COUNT) {
    CLIENT_SEND(fd, "m\0m\0");
  }
  get_blocks(fd, BLOCKS / 2, BLOCKS);
  end_body(fd, over == TOO_EARLY && !body.finishes ? XCHG_PEER : XCHG_FINISHED);
}
END_TEST

/* The handler pauses while it waits for the next block, and the connection stays. */
START_TEST(test_a_body_may_pause) {
  enum over over = (enum over)(_i / 2);
  struct body body = {.waits_at = 3};
  int fd = ask_for_body(&body, over, (_i & 1) != 0);
  uint64_t id = xchg_id(fixture_conn());
  get_blocks(fd, 0, 3);
  client_expect_nothing(fd);
  ck_assert_uint_eq(body.sent, 3);
  post_act(id, go_on);
  get_blocks(fd, 3, BLOCKS);
  end_body(fd, over == TOO_EARLY ? XCHG_PEER : XCHG_FINISHED);
}
END_TEST

/*
 * The client resets while the body is sent: the connection ends as reset, although its input is not
 * read.
 */
START_TEST(test_a_reset_ends_the_body) {
  struct body body = {.sent = 0};
  test_data = &body;
  acts[AT_MESSAGE] = acts[AT_DRAIN] = send_block;
  fixture.handler.messages = 1;
  fixture_start(_i == 1);
  int fd = client_connect_tcp();
  CLIENT_SEND(fd, "m\0");
  get_blocks(fd, 0, 2);
  client_reset(fd);
  fixture_expect_end(XCHG_RESET);
  ck_assert_uint_lt(body.sent, BLOCKS);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_slow_members_take_nothing_from_the_fast, 2},
      {test_a_burst_reaches_a_member_that_reads, 2},
      {test_a_reset_while_lingering_changes_nothing, 4},
      {test_a_reset_while_paused_is_noticed, 1},
      {test_linger_restarts_only_with_an_acknowledgement, 2},
      {test_a_body_is_sent_to_its_end, 4 * OVERS},
      {test_a_body_may_pause, 2 * OVERS},
      {test_a_reset_ends_the_body, 2},
  };
  return run_suite_fixture("library_ends", tests, count_of(tests), handler_fixture_init_silent,
                           handler_fixture_fini);
}
