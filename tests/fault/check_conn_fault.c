/*
 * check_conn_fault: a connection whose system calls fail, one after the other.
 *
 * For every kind of call that a connection makes, every errno that the manual names for it, and
 * N = 1, 2, 3... until a run in which the Nth call does not come: nothing crashes, no descriptor
 * and no buffer is left, each descriptor is closed once, the connection is counted once under the
 * reason that the errno means, and what the client got is what it would have got, or begins it.
 */
#include "tests/fault/driver.h"
#include "tests/fixtures/conn_fixture.h"

#include <inttypes.h>

/* An exchange to be broken. */
struct scene {
  const char *name;
  const char *greeting;
  struct xchg_frame frame;
  uint64_t messages;
  enum fixture_reply reply;
  bool sends_ref; /* the echo: the frame's first byte copied, the rest as two references */
  size_t long_bytes;
  struct driver driver;
  const char *expected; /* NULL: long_bytes times the first byte sent */
  size_t expected_size;
};

/* One message, ended by the end of the stream; it is kept in a block that grows to the largest. */
#define LONG_MESSAGE 600000
static char long_message[LONG_MESSAGE];

#define TEXT(text) (text), sizeof(text) - 1

/* clang-format off */
enum { GREET = 0, ECHO = 3 }; /* places in scenes */

static const struct scene scenes[] = {
    {.name = "greet", .greeting = "hello", .reply = FIXTURE_SILENT,
     .frame = {.kind = XCHG_FRAME_DELIMITER}, .messages = 1,
     .driver = {TEXT("hi\0"), .tcp = true}, .expected = "hello", .expected_size = 5},
    {.name = "greet, excess", .greeting = "hello", .reply = FIXTURE_SILENT,
     .frame = {.kind = XCHG_FRAME_DELIMITER}, .messages = 1,
     .driver = {TEXT("hi\0more"), .half_closes = true}, .expected = "hello", .expected_size = 5},
    {.name = "greet, drained", .greeting = "hello", .reply = FIXTURE_SILENT,
     .frame = {.kind = XCHG_FRAME_DELIMITER}, .messages = 1,
     .driver = {TEXT("hi\0more"), .half_closes = false}, .expected = "hello", .expected_size = 5},
    {.name = "echo", .frame = {.kind = XCHG_FRAME_DELIMITER},
     .driver = {TEXT("one\0two\0three\0four"), .half_closes = true},
     .expected = "one\0two\0three\0four", .expected_size = 18},
    {.name = "echo, polled", .frame = {.kind = XCHG_FRAME_DELIMITER},
     .driver = {TEXT("one\0two\0three\0four"), .half_closes = true, .single = true},
     .expected = "one\0two\0three\0four", .expected_size = 18},
    {.name = "line", .frame = {.kind = XCHG_FRAME_LINE}, .messages = 1,
     .driver = {TEXT("one\r\n"), .tcp = true, .half_closes = true},
     .expected = "one\r\n", .expected_size = 5},
    {.name = "long reply", .frame = {.kind = XCHG_FRAME_DELIMITER}, .messages = 1,
     .reply = FIXTURE_LONG, .long_bytes = 600000, .driver = {TEXT("z\0"), .half_closes = true},
     .expected_size = 600000},
    {.name = "long reply, polled", .frame = {.kind = XCHG_FRAME_DELIMITER}, .messages = 1,
     .reply = FIXTURE_LONG, .long_bytes = 600000,
     .driver = {TEXT("z\0"), .half_closes = true, .single = true},
     .expected_size = 600000},
    {.name = "long message", .frame = {.kind = XCHG_FRAME_DELIMITER},
     .driver = {.sends = long_message, .sends_size = LONG_MESSAGE, .half_closes = true},
     .expected = long_message, .expected_size = LONG_MESSAGE},
    {.name = "echo, referenced", .sends_ref = true, .frame = {.kind = XCHG_FRAME_DELIMITER},
     .driver = {TEXT("one\0two\0three\0four"), .half_closes = true},
     .expected = "one\0two\0three\0four", .expected_size = 18},
    {.name = "long message, referenced", .sends_ref = true, .frame = {.kind = XCHG_FRAME_DELIMITER},
     .driver = {.sends = long_message, .sends_size = LONG_MESSAGE, .half_closes = true},
     .expected = long_message, .expected_size = LONG_MESSAGE},
};
/* clang-format on */

/* ---- a handler that sends references ---- */

static unsigned refs_sent, released;

static void take_back(void *data) {
  released++;
  free(data);
}

static void send_ref(struct xchg_conn *conn, const uint8_t *data, size_t size) {
  uint8_t *copy = malloc(size > 0 ? size : 1); /* a byte read too late is one that ASan sees */
  ck_assert_ptr_nonnull(copy);
  memcpy(copy, data, size);
  refs_sent++;
  if (xchg_send_ref(conn, copy, size, take_back, copy) == -1) {
    refs_sent--;
    free(copy);
  }
}

static void send_ref_on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  const uint8_t *frame = message->frame;
  size_t first = message->frame_size > 0 ? 1 : 0, half = first + (message->frame_size - first) / 2;
  (void)xchg_send(conn, frame, first);
  send_ref(conn, frame + first, half - first);
  send_ref(conn, frame + half, message->frame_size - half);
}

static void check_refs(void) {
  ck_assert_msg(refs_sent == released, "%u references, %u releases", refs_sent, released);
}

/* ---- one run ---- */

static void prepare(const struct scene *scene) {
  fixture.greeting = scene->greeting;
  fixture.reply = scene->reply;
  fixture.long_bytes = scene->long_bytes;
  fixture.handler.frame = scene->frame;
  fixture.handler.messages = scene->messages;
  fixture.handler.max_message = DRIVER_BYTES_MAX;
  fixture.handler.on_message = scene->sends_ref ? send_ref_on_message : fixture.handler.on_message;
  fixture_start(scene->driver.single);
}

/* What the client got is what it must get, or (not ${whole}) begins it. */
static void check_bytes(const struct scene *scene, const struct driver *driver, bool whole) {
  ck_assert_uint_le(driver->got_size, scene->expected_size);
  if (whole) {
    ck_assert_msg(driver->got_size == scene->expected_size, "%s: %zu bytes", scene->name,
                  driver->got_size);
  }
  if (scene->expected != NULL) {
    ck_assert_mem_eq(driver->got, scene->expected, driver->got_size);
  } else {
    ck_assert(all_bytes(driver->got, driver->got_size, scene->driver.sends[0]));
  }
}

/* How a run with one fault ended. */
struct outcome {
  bool hit;
  enum xchg_reason reason;
  size_t got;
};

/* Run ${scene} with the ${nth} ${call} failing; check what must hold whatever fails. */
static struct outcome run(const struct scene *scene, enum fault_call call, uint64_t nth,
                          int error) {
  unsigned before = count_descriptors();
  struct driver driver = scene->driver;
  prepare(scene);
  fault_reset();
  orders_follow(error == EAGAIN);
  if (nth > 0) {
    orders_fail(call, nth, error, 1);
  }
  driver_run(&driver);
  struct outcome outcome = {.hit = orders_hits() > 0, .got = driver.got_size};
  fault_reset();
  for (int i = 0; i < XCHG_REASONS; i++) {
    outcome.reason = fixture_ended((enum xchg_reason)i) > 0 ? (enum xchg_reason)i : outcome.reason;
  }
  ck_assert_uint_eq(fault_bad_closes(), 0);
  check_bytes(scene, &driver, outcome.reason == XCHG_FINISHED && !outcome.hit);
  driver_fini(&driver);
  conn_fixture_reset(); /* one end, no object, no buffer */
  check_refs();
  ck_assert_uint_eq(count_descriptors(), before);
  return outcome;
}

/* What a failed call must do to the connection. */
enum effect { NONE, RESET, ERROR, MEMORY };

struct fault {
  enum fault_call call;
  int error;
  enum effect effect;
};

static const struct fault faults[] = {
    {FAULT_RECV, EINTR, NONE},         {FAULT_RECV, EAGAIN, NONE},
    {FAULT_RECV, ECONNRESET, RESET},   {FAULT_RECV, ETIMEDOUT, RESET},
    {FAULT_RECV, EHOSTUNREACH, RESET}, {FAULT_RECV, ECONNREFUSED, ERROR},
    {FAULT_RECV, ENETDOWN, ERROR},     {FAULT_RECV, ENOMEM, ERROR},
    {FAULT_RECV, ENOTCONN, ERROR},     {FAULT_SEND, EINTR, NONE},
    {FAULT_SEND, EAGAIN, NONE},        {FAULT_SEND, EPIPE, RESET},
    {FAULT_SEND, ECONNRESET, RESET},   {FAULT_SEND, ECONNABORTED, RESET},
    {FAULT_SEND, ETIMEDOUT, RESET},    {FAULT_SEND, ENOBUFS, ERROR},
    {FAULT_SEND, ENOMEM, ERROR},       {FAULT_SHUTDOWN, ENOTCONN, NONE},
    {FAULT_SHUTDOWN, ENOBUFS, NONE},   {FAULT_CLOSE, EINTR, NONE},
    {FAULT_CLOSE, EIO, NONE},          {FAULT_IOCTL, EINVAL, NONE},
    {FAULT_EPOLL_CTL, ENOMEM, MEMORY}, {FAULT_EPOLL_CTL, ENOSPC, MEMORY},
    {FAULT_EPOLL_WAIT, EINTR, NONE},   {FAULT_EPOLL_WAIT, 0, NONE},
    {FAULT_POLL, EINTR, NONE},         {FAULT_POLL, ENOMEM, NONE},
    {FAULT_MAP, ENOMEM, MEMORY},       {FAULT_REMAP, ENOMEM, MEMORY},
    {FAULT_SENDMSG, EINTR, NONE},      {FAULT_SENDMSG, EAGAIN, NONE},
    {FAULT_SENDMSG, EPIPE, RESET},     {FAULT_SENDMSG, ETIMEDOUT, RESET},
    {FAULT_SENDMSG, ENOBUFS, ERROR},
};

/*
 * Is ${reason} what ${effect} allows?  A fault once the exchange is over, in the drain, leaves the
 * connection as it was to be counted; a close, though, may cost the peer bytes that it had not
 * read, and the client's own reset then comes first.
 */
static bool allowed(enum effect effect, enum xchg_reason reason) {
  switch (effect) {
    case NONE:
      return reason == XCHG_FINISHED;
    case RESET:
      return reason == XCHG_RESET || reason == XCHG_FINISHED;
    case ERROR:
      return reason == XCHG_ERROR || reason == XCHG_FINISHED;
    case MEMORY:
      return reason == XCHG_MEMORY;
  }
  return false;
}

/* Every Nth call until one that does not come. Return: how many came. */
static uint64_t run_all(const struct scene *scene, const struct fault *fault) {
  for (uint64_t nth = 1;; nth++) {
    struct outcome outcome = run(scene, fault->call, nth, fault->error);
    if (!outcome.hit) {
      ck_assert_int_eq(outcome.reason, XCHG_FINISHED);
      return nth - 1;
    }
    ck_assert_msg(allowed(fault->effect, outcome.reason), "%s: %s %" PRIu64 " fails with %s: %s",
                  scene->name, fault_name(fault->call), nth, strerror(fault->error),
                  xchg_reason_name(outcome.reason));
    if (fault->effect == NONE && fault->call != FAULT_SHUTDOWN) {
      ck_assert_msg(outcome.got == scene->expected_size, "%s: %s %" PRIu64 " fails with %s: %zu",
                    scene->name, fault_name(fault->call), nth, strerror(fault->error), outcome.got);
    }
  }
}

START_TEST(test_every_call_fails_once) {
  uint64_t came = 0;
  for (size_t i = 0; i < count_of(scenes); i++) {
    came += run_all(&scenes[i], &faults[_i]);
  }
  ck_assert_msg(came > 0, "%s never came", fault_name(faults[_i].call));
}
END_TEST

/* Without a fault every scene is whole: else the others prove nothing. */
START_TEST(test_no_fault) {
  struct outcome outcome = run(&scenes[_i], FAULT_RECV, 0, 0);
  ck_assert(!outcome.hit);
  ck_assert_int_eq(outcome.reason, XCHG_FINISHED);
}
END_TEST

/* A call that fails for ever: it still ends, by a timeout at the latest. */
START_TEST(test_every_call_fails_for_ever) {
  const struct fault *fault = &faults[_i];
  bool repeats =
      fault->call == FAULT_RECV || fault->call == FAULT_SEND || fault->call == FAULT_SENDMSG;
  if (fault->error == EINTR && repeats) {
    return; /* repeated for as long as the kernel says so */
  }
  for (size_t i = 0; i < count_of(scenes); i++) {
    struct driver driver = scenes[i].driver;
    driver.patience = 120;
    prepare(&scenes[i]);
    fault_reset();
    orders_fail(fault->call, 1, fault->error, UINT64_MAX);
    driver_run(&driver);
    fault_reset();
    check_bytes(&scenes[i], &driver, false);
    driver_fini(&driver);
    conn_fixture_reset();
    check_refs();
  }
}
END_TEST

/* ---- short reads and writes ---- */

static void run_cut(const struct scene *scene, size_t reads, size_t writes) {
  struct driver driver = scene->driver;
  prepare(scene);
  fault_reset();
  orders_follow(true);
  orders_shorten(FAULT_RECV, 1, reads, UINT64_MAX);
  orders_shorten(FAULT_SEND, 1, writes, UINT64_MAX);
  orders_shorten(FAULT_SENDMSG, 1, writes, UINT64_MAX);
  driver_run(&driver);
  fault_reset();
  ck_assert_uint_eq(fixture_ended(XCHG_FINISHED), 1);
  check_bytes(scene, &driver, true);
  driver_fini(&driver);
  conn_fixture_reset();
  check_refs();
}

/*
 * Reads and writes of every size, 1 to more than all: the same bytes come.  Of what is long a few
 * sizes must do.
 */
START_TEST(test_short_reads_and_writes) {
  const struct scene *scene = &scenes[_i];
  bool in_short = scene->driver.sends_size < 100, out_short = scene->expected_size < 100;
  for (size_t reads = in_short ? 1 : 77; reads <= scene->driver.sends_size + 1;
       reads = in_short ? reads + 1 : reads * 9) {
    for (size_t writes = out_short ? 1 : 4000; writes <= scene->expected_size + 1;
         writes = out_short ? writes + 1 : writes * 5) {
      run_cut(scene, reads, writes);
    }
  }
}
END_TEST

/* ---- no memory, no descriptor ---- */

/* epoll refuses the connection: closed as memory before a byte of the greeting has left. */
START_TEST(test_epoll_refuses_before_the_greeting) {
  for (int error = 0; error < 2; error++) {
    struct outcome outcome = run(&scenes[GREET], FAULT_EPOLL_CTL, 1, error == 0 ? ENOMEM : ENOSPC);
    ck_assert(outcome.hit);
    ck_assert_int_eq(outcome.reason, XCHG_MEMORY);
    ck_assert(outcome.got == 0 || outcome.got == 5); /* whole or nothing */
  }
}
END_TEST

/* ---- what an exchange costs ---- */

static void check_count(enum fault_call call, uint64_t count) {
  ck_assert_msg(orders_count(call) == count, "%s: %" PRIu64 " calls, not %" PRIu64,
                fault_name(call), orders_count(call), count);
}

/* greet: send, epoll_ctl, recv, ioctl, close (and the acceptor's accept4). */
START_TEST(test_cost_of_greet) {
  prepare(&scenes[GREET]);
  fault_reset();
  int fd = client_connect_tcp();
  CLIENT_EXPECT(fd, "hello");
  CLIENT_SEND(fd, "hi\0");
  fixture_until_all_closed();
  check_count(FAULT_SEND, 1);
  check_count(FAULT_EPOLL_CTL, 1);
  check_count(FAULT_RECV, 1);
  check_count(FAULT_IOCTL, 1);
  check_count(FAULT_CLOSE, 1);
  check_count(FAULT_SHUTDOWN, 0);
  check_count(FAULT_SETSOCKOPT, 0);
  check_count(FAULT_UNMAP, 0);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* ... and with XCHG_LINGER=0 no ioctl. */
START_TEST(test_cost_of_greet_without_linger) {
  prepare(&scenes[GREET]);
  fixture.config.linger_ns = 0;
  fault_reset();
  int fd = client_connect_tcp();
  CLIENT_SEND(fd, "hi\0");
  fixture_until_all_closed();
  check_count(FAULT_SEND, 1);
  check_count(FAULT_EPOLL_CTL, 1);
  check_count(FAULT_RECV, 1);
  check_count(FAULT_IOCTL, 0);
  check_count(FAULT_CLOSE, 1);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* An echoed message: one recv, one send, and its share of a wait; no memory, no timer call. */
START_TEST(test_cost_of_a_message) {
  enum { CLIENTS = 32, ROUNDS = 10 };
  prepare(&scenes[ECHO]);
  int fds[CLIENTS];
  for (int i = 0; i < CLIENTS; i++) {
    fds[i] = client_connect_tcp();
    CLIENT_SEND(fds[i], "warm\0");
    CLIENT_EXPECT(fds[i], "warm\0");
  }
  fixture_settle();
  fault_reset();
  uint64_t turns = 0;
  for (int round = 1; round <= ROUNDS; round++) {
    for (int i = 0; i < CLIENTS; i++) {
      CLIENT_WRITE(fds[i], "ping\0");
    }
    uint64_t all = (uint64_t)CLIENTS * (uint64_t)(round + 1);
    for (; atom_load_relaxed_u64(&fixture.stats.messages) < all; turns++) {
      ck_assert_uint_lt(turns, 1000000);
      fixture_turn(sys_now_ns() + NS_PER_S);
    }
    for (int i = 0; i < CLIENTS; i++) {
      CLIENT_EXPECT(fds[i], "ping\0");
    }
  }
  check_count(FAULT_RECV, CLIENTS * ROUNDS);
  check_count(FAULT_SEND, CLIENTS * ROUNDS);
  check_count(FAULT_EPOLL_CTL, 0);
  check_count(FAULT_IOCTL, 0);
  check_count(FAULT_MAP, 0);
  ck_assert_uint_le(turns, CLIENTS * ROUNDS); /* a wait serves one message at least */
  for (int i = 0; i < CLIENTS; i++) {
    close(fds[i]);
  }
  fixture_until_all_closed();
  check_count(FAULT_CLOSE, CLIENTS);
}
END_TEST

/* Messages of one read are answered by one send. */
START_TEST(test_cost_of_pipelined_messages) {
  prepare(&scenes[ECHO]);
  int fd = client_connect_tcp();
  fault_reset();
  CLIENT_SEND(fd, "a\0b\0c\0d\0e\0f\0g\0h\0");
  CLIENT_EXPECT(fd, "a\0b\0c\0d\0e\0f\0g\0h\0");
  check_count(FAULT_RECV, 1);
  check_count(FAULT_SEND, 1);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

int main(void) {
  for (size_t i = 0; i < LONG_MESSAGE; i++) {
    long_message[i] = (char)(1 + i % 251);
  }
  const struct suite_test tests[] = {
      {test_no_fault, count_of(scenes)},
      {test_every_call_fails_once, count_of(faults)},
      {test_every_call_fails_for_ever, count_of(faults)},
      {test_short_reads_and_writes, count_of(scenes)},
      {test_epoll_refuses_before_the_greeting, 1},
      {test_cost_of_greet, 1},
      {test_cost_of_greet_without_linger, 1},
      {test_cost_of_a_message, 1},
      {test_cost_of_pipelined_messages, 1},
  };
  return run_suite_fixture("conn_fault", tests, count_of(tests), conn_fixture_init,
                           conn_fixture_fini);
}
