/*
 * check_conn_send: what a handler sends, copied or by reference: order, one write a turn, slow
 * clients, when a reference is released, and xchg_pending.
 */
#include "tests/fixtures/handler_fixture.h"

/* ---- order ---- */

/* What a handler sent in one callback, and where each of its references ended. */
struct sent {
  uint64_t random;
  uint8_t *bytes; /* owns */
  size_t size;
  size_t ends[1000];
  uint32_t references;
};

static uint32_t dice(struct sent *sent, uint32_t sides) {
  sent->random = sent->random * UINT64_C(6364136223846793005) + 1442695040888963407U;
  return (uint32_t)(sent->random >> 33) % sides;
}

/* ${size} more bytes of a pattern. */
static const uint8_t *compose(struct sent *sent, size_t size) {
  sent->bytes = realloc(sent->bytes, sent->size + size + 1);
  ck_assert_ptr_nonnull(sent->bytes);
  for (size_t i = sent->size; i < sent->size + size; i++) {
    sent->bytes[i] = (uint8_t)(i * 31 + (i >> 8));
  }
  sent->size += size;
  return sent->bytes + sent->size - size;
}

static void send_parts(struct sent *sent, struct xchg_conn *conn) {
  struct iovec parts[5];
  int count = (int)dice(sent, count_of(parts) + 1);
  size_t sizes[count_of(parts)], all = 0;
  for (int i = 0; i < count; i++) {
    sizes[i] = dice(sent, 300);
    all += sizes[i];
  }
  compose(sent, all);
  uint8_t *data = sent->bytes + sent->size - all;
  for (int i = 0; i < count; i++) {
    parts[i] = (struct iovec){.iov_base = data, .iov_len = sizes[i]};
    data += sizes[i];
  }
  ck_assert_int_eq(xchg_sendv(conn, parts, count), 0);
}

static void send_mixed(struct xchg_conn *conn) {
  struct sent *sent = test_data;
  for (uint32_t n = 50 + dice(sent, 200); n > 0; n--) {
    size_t size = dice(sent, 10) == 0 ? dice(sent, 20000) : dice(sent, 200), before = sent->size;
    switch (dice(sent, 3)) {
      case 0:
        ck_assert_int_eq(xchg_send(conn, compose(sent, size), size), 0);
        break;
      case 1:
        send_parts(sent, conn);
        break;
      default:
        ck_assert_int_eq(send_ref(conn, compose(sent, size + 1), size + 1), 0);
        sent->ends[sent->references] = sent->size;
        sent->references += !refs.copied;
        break;
    }
    ck_assert_uint_ge(sent->size, before);
    require(xchg_pending(conn) + conn->bytes_out == sent->size,
            "xchg_pending is what the kernel has not taken");
  }
}

/* Between turns a reference is released if and only if the kernel has taken all its bytes. */
static void check_references(const struct sent *sent) {
  const struct xchg_conn *conn = fixture_conn();
  uint32_t back = 0;
  while (back < sent->references && sent->ends[back] <= conn->bytes_out) {
    back++;
  }
  require(refs.back == back, "a reference is released when all of it was taken");
  require(xchg_pending(conn) + conn->bytes_out == sent->size,
          "xchg_pending is what the kernel has not taken");
}

static void read_all(struct sent *sent, int fd) {
  uint64_t until_ns = sys_now_ns() + FIXTURE_TIMEOUT_NS;
  static uint8_t got[50000];
  for (size_t at = 0; at < sent->size;) {
    ck_assert_uint_lt(sys_now_ns(), until_ns);
    ssize_t count = recv(fd, got, 1 + dice(sent, sizeof(got)), 0);
    ck_assert(count > 0 || (count == -1 && errno == EAGAIN));
    if (count > 0) {
      ck_assert_int_eq(memcmp(got, sent->bytes + at, (size_t)count), 0);
      at += (size_t)count;
    }
    fixture_turn(0);
    check_references(sent);
  }
}

/* Copies, vectors and references arrive in order, also at a slow client. */
START_TEST(test_mixed_sends_arrive_in_order) {
  bool slow = (_i & 1) != 0;
  struct sent sent = {.random = (uint64_t)_i};
  test_data = &sent;
  acts[AT_MESSAGE] = send_mixed;
  int fd = start_and_connect((_i & 2) != 0);
  int small = 4096;
  if (slow) {
    ck_assert_int_eq(setsockopt(fixture_conn()->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)),
                     0);
  }
  for (int round = 0; round < 3; round++) {
    sent.size = sent.references = 0;
    fixture_conn()->bytes_out = 0; /* restart the count */
    refs.sent = refs.released = refs.kept = refs.back = 0;
    CLIENT_SEND(fd, "m\0");
    read_all(&sent, fd);
    fixture_settle();
    ck_assert_uint_eq(refs.back, sent.references);
    ck_assert_uint_eq(refs.released, refs.sent);
    ck_assert_uint_eq(xchg_pending(fixture_conn()), 0);
  }
  close(fd);
  fixture_until_all_closed();
  free(sent.bytes);
}
END_TEST

/* ---- one write a turn ---- */

static void send_pieces(struct xchg_conn *conn) {
  struct iovec parts[] = {{.iov_base = (char[]){'c'}, .iov_len = 1},
                          {.iov_base = (char[]){'d'}, .iov_len = 1}};
  for (int i = 0; i < 10; i++) {
    ck_assert_int_eq(xchg_send(conn, "a", 1), 0);
    ck_assert_int_eq(send_ref(conn, "b", 1), 0);
    ck_assert_int_eq(xchg_sendv(conn, parts, 2), 0);
  }
}

static void send_copies(struct xchg_conn *conn) {
  for (int i = 0; i < 10; i++) {
    ck_assert_int_eq(xchg_send(conn, "ab", 2), 0);
    ck_assert_int_eq(xchg_send(conn, "cd", 2), 0);
  }
}

static void expect_record(int fd, size_t times) {
  char record[256];
  fixture_settle();
  ck_assert_int_eq(recv(fd, record, sizeof(record), 0), (ssize_t)(4 * times));
  for (size_t i = 0; i < times; i++) {
    ck_assert_mem_eq(record + 4 * i, "abcd", 4);
  }
  client_expect_nothing(fd);
}

/* One record is one write: the output of one turn, and that of posted calls between two turns. */
START_TEST(test_one_write_a_turn) {
  act_fn *act = (_i & 1) != 0 ? send_pieces : send_copies;
  acts[AT_OPEN] = acts[AT_MESSAGE] = act;
  fixture_start((_i & 2) != 0);
  int fd = client_connect_pair(SOCK_SEQPACKET);
  uint64_t id = xchg_id(fixture_conn());
  expect_record(fd, 10);
  CLIENT_SEND(fd, "m\0");
  expect_record(fd, 10);
  if (act == send_copies) {
    CLIENT_SEND(fd, "m\0m\0");
    expect_record(fd, 20);
    for (int i = 0; i < 3; i++) {
      run_call(id, act, NULL);
    }
    expect_record(fd, 30);
  }
  close(fd);
  fixture_until_all_closed();
}
END_TEST

enum { MANY = 1500 };

static void send_many_refs(struct xchg_conn *conn) {
  for (int i = 0; i < MANY; i++) {
    uint8_t bytes[] = {(uint8_t)i, (uint8_t)(i >> 8)};
    ck_assert_int_eq(send_ref(conn, bytes, 1), 0);
    ck_assert_int_eq(xchg_send(conn, bytes + 1, 1), 0);
  }
}

/* More parts than one sendmsg takes, and more calls than one turn makes. */
START_TEST(test_more_parts_than_a_turn_takes) {
  acts[AT_MESSAGE] = send_many_refs;
  fixture_start(_i == 1);
  int fd = client_connect_tcp();
  CLIENT_SEND(fd, "m\0");
  uint8_t got[2 * MANY];
  ck_assert_uint_eq(client_recv(fd, got, sizeof(got)), sizeof(got));
  for (int i = 0; i < MANY; i++) {
    ck_assert(got[2 * i] == (uint8_t)i && got[2 * i + 1] == (uint8_t)(i >> 8));
  }
  fixture_settle();
  ck_assert_uint_eq(refs.released, MANY);
  ck_assert_uint_eq(call_count[AT_DRAIN], 1);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* ---- when a reference is released ---- */

static uint8_t big[1000000];

static void send_big_refs(struct xchg_conn *conn) {
  for (int i = 0; i < 3; i++) {
    ck_assert_int_eq(send_ref(conn, big, sizeof(big)), 0);
    ck_assert_int_eq(xchg_send(conn, "x", 1), 0);
  }
}

static void none_is_back(struct xchg_conn *conn) {
  ck_assert_uint_gt(xchg_pending(conn), 2 * sizeof(big));
  ck_assert_uint_eq(refs.released, 0);
}

static void reset_peer(int *fd) {
  close(*fd);
  *fd = -1;
  fixture_settle();
}

static void abort_it(int *fd) {
  (void)fd;
  post_act(xchg_id(fixture_conn()), act_abort);
}

static void let_it_time_out(int *fd) {
  (void)fd;
  fixture_advance(2 * fixture.config.write_timeout_ns);
}

static void cut_it(int *fd) {
  (void)fd;
  conn_stop_now(&fixture_conn()->source);
}

/*
 * References that are partly sent or unsent at the end of the connection are released after
 * on_close.
 */
START_TEST(test_references_are_released_after_on_close) {
  const struct {
    void (*end)(int *fd);
    enum xchg_reason reason;
  } ends[] = {{reset_peer, XCHG_RESET},
              {abort_it, XCHG_ERROR},
              {let_it_time_out, XCHG_WRITE},
              {cut_it, XCHG_DRAIN}};
  acts[AT_MESSAGE] = send_big_refs;
  acts[AT_CLOSE] = none_is_back;
  int fd = start_and_connect((_i & 1) != 0);
  CLIENT_SEND(fd, "m\0");
  fixture_settle();
  ck_assert_uint_gt(fixture_conn()->bytes_out, 0); /* a part of the first reference */
  ends[_i / 2].end(&fd);
  fixture_reap();
  fixture_expect_end(ends[_i / 2].reason);
  ck_assert_uint_eq(refs.released, 3);
  ck_assert(refs.closed_first);
  if (fd != -1) {
    close(fd);
  }
}
END_TEST

/* xchg_abort in the same turn: nothing is sent, and every reference is released. */
static void send_refs_and_abort(struct xchg_conn *conn) {
  send_big_refs(conn);
  ck_assert_int_eq(xchg_abort(conn), 0);
  ck_assert_uint_eq(refs.released, 0);
}

START_TEST(test_send_refs_and_abort) {
  acts[_i < 2 ? AT_OPEN : AT_MESSAGE] = send_refs_and_abort;
  int fd = start_and_connect((_i & 1) != 0);
  if (_i >= 2) {
    CLIENT_SEND(fd, "m\0");
  }
  client_expect_end(fd);
  fixture_expect_end(XCHG_ERROR);
  ck_assert_uint_eq(refs.released, 3);
  ck_assert(refs.closed_first);
  close(fd);
}
END_TEST

static void count_up(void *argument) { (*(uint32_t *)argument)++; }

/* Every send fails, and a refused reference is not released. */
static void refuse_all(struct xchg_conn *conn) {
  uint32_t released = 0;
  struct iovec part = {.iov_base = &fixture, .iov_len = 1};
  size_t pending = xchg_pending(conn);
  for (size_t size = 0; size < 2; size++) {
    errno = 0;
    ck_assert_int_eq(xchg_send_ref(conn, "x", size, count_up, &released), -1);
    ck_assert_int_eq(errno, EPIPE);
    ck_assert_int_eq(xchg_send(conn, "x", size), -1);
    ck_assert_int_eq(errno, EPIPE);
  }
  ck_assert_int_eq(xchg_sendv(conn, &part, 1), -1);
  ck_assert_int_eq(errno, EPIPE);
  ck_assert_int_eq(xchg_join(conn, 1, XCHG_SLOW_SKIP), -1);
  ck_assert_int_eq(errno, EPIPE);
  ck_assert_uint_eq(released, 0);
  ck_assert_uint_eq(xchg_pending(conn), pending);
}

static void finish_and_send(struct xchg_conn *conn) {
  ck_assert_int_eq(send_ref(conn, "last", 4), 0);
  ck_assert_int_eq(xchg_finish(conn), 0);
  refuse_all(conn);
}

static void abort_and_send(struct xchg_conn *conn) {
  ck_assert_int_eq(send_ref(conn, "lost", 4), 0);
  ck_assert_int_eq(xchg_abort(conn), 0);
  refuse_all(conn);
}

START_TEST(test_nothing_is_sent_after_the_end) {
  bool aborts = (_i & 1) != 0;
  acts[AT_MESSAGE] = aborts ? abort_and_send : finish_and_send;
  acts[AT_CLOSE] = refuse_all;
  int fd = start_and_connect((_i & 2) != 0);
  CLIENT_SEND(fd, "m\0");
  if (!aborts) {
    CLIENT_EXPECT(fd, "last");
  }
  client_expect_end(fd);
  close_and_expect_end(fd, aborts ? XCHG_ERROR : XCHG_FINISHED);
  ck_assert_uint_eq(call_count[AT_DRAIN], 0);
}
END_TEST

/* Sends of 0 bytes write nothing, and a reference to 0 bytes is released at once. */
START_TEST(test_sends_of_0_bytes) {
  uint32_t released = 0;
  struct iovec parts[] = {{.iov_base = NULL, .iov_len = 0}, {.iov_base = NULL, .iov_len = 0}};
  fixture_start(_i == 1);
  int fd = client_connect_pair(SOCK_SEQPACKET); /* an empty write would be a record */
  struct xchg_conn *conn = fixture_conn();
  ck_assert_int_eq(xchg_send(conn, NULL, 0), 0);
  ck_assert_int_eq(xchg_sendv(conn, NULL, 0), 0);
  ck_assert_int_eq(xchg_sendv(conn, parts, 2), 0);
  ck_assert_int_eq(xchg_send_ref(conn, NULL, 0, count_up, &released), 0);
  ck_assert_int_eq(xchg_send_ref(conn, NULL, 0, NULL, NULL), 0);
  ck_assert_uint_eq(released, 1);
  ck_assert_uint_eq(xchg_pending(conn), 0);
  client_expect_nothing(fd);
  ck_assert_int_eq(xchg_send_ref(conn, "x", 1, NULL, NULL), 0);
  CLIENT_EXPECT(fd, "x");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* ---- out of memory ---- */

/*
 * The call fails, and the connection ends as XCHG_MEMORY whatever the handler requests after that.
 */
START_TEST(test_out_of_memory_ends_the_connection) {
  struct iovec parts[] = {{.iov_base = (char[]){'o', 'k'}, .iov_len = 2},
                          {.iov_base = big, .iov_len = sizeof(big)}};
  uint32_t released = 0;
  fixture_start(false);
  int other = client_connect(), fd = client_connect();
  struct xchg_conn *conn = fixture_newest();
  errno = 0;
  if (_i == 0) {
    fixture.ctx.bufs.bytes_max = 0;
    ck_assert_int_eq(xchg_send(conn, "x", 1), -1);
  } else if (_i == 1) {
    fixture.ctx.bufs.bytes_max = 1000;
    ck_assert_int_eq(xchg_sendv(conn, parts, 2), -1);
  } else {
    for (uint32_t i = 0; i < CONN_REFS_MAX; i++) {
      require(send_ref(conn, "x", 1) == 0, "CONN_REFS_MAX references are allowed");
    }
    fixture.ctx.bufs.bytes_max = 0; /* the next reference would be copied */
    ck_assert_int_eq(xchg_send_ref(conn, "x", 1, count_up, &released), -1);
  }
  ck_assert_int_eq(errno, ENOMEM);
  refuse_all(conn);
  ck_assert_int_eq(_i == 0 ? xchg_abort(conn) : xchg_finish(conn), 0);
  FIXTURE_UNTIL(fixture.closes == 1);
  ck_assert_uint_eq(fixture_ended(XCHG_MEMORY), 1);
  ck_assert_uint_eq(released, 0);
  fixture.ctx.bufs.bytes_max = UINT64_MAX;
  client_expect_end(fd);
  ck_assert_int_eq(send_ref(fixture_conn(), "y", 1), 0); /* the other connection lives on */
  CLIENT_EXPECT(other, "y");
  close(fd);
  close(other);
  fixture_until_all_closed();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_mixed_sends_arrive_in_order, 12},
      {test_one_write_a_turn, 4},
      {test_more_parts_than_a_turn_takes, 2},
      {test_references_are_released_after_on_close, 8},
      {test_send_refs_and_abort, 4},
      {test_nothing_is_sent_after_the_end, 4},
      {test_sends_of_0_bytes, 2},
      {test_out_of_memory_ends_the_connection, 3},
  };
  return run_suite_fixture("conn_send", tests, count_of(tests), handler_fixture_init_silent,
                           handler_fixture_fini);
}
