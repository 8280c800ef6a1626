/*
 * check_conn_fault: a connection whose system calls fail, one after the other.
 *
 * The test goes through every kind of call that a connection makes, every errno that the manual
 * names for it, and N = 1, 2, 3... until a run in which the Nth call is not made.  In each run
 * nothing crashes, and no descriptor and no buffer is left.  Each descriptor is closed once.  The
 * connection is counted once, under the reason that the errno means.  The client receives what it
 * should, or the beginning of it.
 */
#include "tests/fault/driver.h"
#include "tests/fixtures/run_suite.h"

#include <inttypes.h>

/* An exchange in which calls fail. */
struct scene {
  const char *name;
  const char *greeting;
  struct xchg_frame frame;
  uint64_t messages;
  enum rig_reply reply;
  bool by_reference; /* echo: the first byte is copied, the rest sent by two references */
  size_t long_bytes;
  struct driver driver;
  const char *expected; /* NULL: long_bytes times the first byte sent */
  size_t expected_size;
};

/* One message, ended by the end of stream; its block grows to the largest size. */
#define LONG_MESSAGE 600000
static char long_message[LONG_MESSAGE];

#define TEXT(text) (text), sizeof(text) - 1

/* clang-format off */
enum { GREET = 0, ECHO = 3 }; /* indices in scenes */

static const struct scene scenes[] = {
    {.name = "greet", .greeting = "hello", .reply = RIG_SILENT,
     .frame = {.kind = XCHG_FRAME_DELIMITER}, .messages = 1,
     .driver = {TEXT("hi\0"), .tcp = true}, .expected = "hello", .expected_size = 5},
    {.name = "greet, excess", .greeting = "hello", .reply = RIG_SILENT,
     .frame = {.kind = XCHG_FRAME_DELIMITER}, .messages = 1,
     .driver = {TEXT("hi\0more"), .half_closes = true}, .expected = "hello", .expected_size = 5},
    {.name = "greet, drained", .greeting = "hello", .reply = RIG_SILENT,
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
     .reply = RIG_LONG, .long_bytes = 600000, .driver = {TEXT("z\0"), .half_closes = true},
     .expected_size = 600000},
    {.name = "long reply, polled", .frame = {.kind = XCHG_FRAME_DELIMITER}, .messages = 1,
     .reply = RIG_LONG, .long_bytes = 600000,
     .driver = {TEXT("z\0"), .half_closes = true, .single = true},
     .expected_size = 600000},
    {.name = "long message", .frame = {.kind = XCHG_FRAME_DELIMITER},
     .driver = {.sends = long_message, .sends_size = LONG_MESSAGE, .half_closes = true},
     .expected = long_message, .expected_size = LONG_MESSAGE},
    {.name = "echo by reference", .by_reference = true,
     .frame = {.kind = XCHG_FRAME_DELIMITER},
     .driver = {TEXT("one\0two\0three\0four"), .half_closes = true},
     .expected = "one\0two\0three\0four", .expected_size = 18},
    {.name = "long message by reference", .by_reference = true,
     .frame = {.kind = XCHG_FRAME_DELIMITER},
     .driver = {.sends = long_message, .sends_size = LONG_MESSAGE, .half_closes = true},
     .expected = long_message, .expected_size = LONG_MESSAGE},
};
/* clang-format on */

/* ---- a handler that sends by reference ---- */

static unsigned refs_sent, released;

static void free_piece(void *data) {
  released++;
  free(data);
}

static void send_piece(struct xchg_conn *conn, const uint8_t *data, size_t size) {
  uint8_t *copy = malloc(
      size > 0 ? size : 1); /* a separate block, so that ASan sees a byte that is read too late */
  ck_assert_ptr_nonnull(copy);
  memcpy(copy, data, size);
  refs_sent++;
  if (xchg_send_ref(conn, copy, size, free_piece, copy) == -1) {
    refs_sent--;
    free(copy);
  }
}

static void send_by_reference(struct xchg_conn *conn, const struct xchg_message *message) {
  const uint8_t *frame = message->frame;
  size_t first = message->frame_size > 0 ? 1 : 0, half = first + (message->frame_size - first) / 2;
  (void)xchg_send(conn, frame, first);
  send_piece(conn, frame + first, half - first);
  send_piece(conn, frame + half, message->frame_size - half);
}

static void check_releases(void) {
  ck_assert_msg(refs_sent == released, "%u references, %u releases", refs_sent, released);
}

/* ---- one run ---- */

static void prepare(struct rig *rig, const struct scene *scene) {
  rig_init(rig);
  rig->greeting = scene->greeting;
  rig->reply = scene->reply;
  rig->long_bytes = scene->long_bytes;
  rig->handler.frame = scene->frame;
  rig->handler.messages = scene->messages;
  rig->handler.max_message = DRIVER_BYTES_MAX;
  rig->handler.on_message = scene->by_reference ? send_by_reference : rig->handler.on_message;
  rig_start(rig, scene->driver.single);
}

/* The client received what it must, or (not ${whole}) the beginning of it. */
static void check_bytes(const struct scene *scene, const struct driver *driver, bool whole) {
  ck_assert_uint_le(driver->got_size, scene->expected_size);
  if (whole) {
    ck_assert_msg(driver->got_size == scene->expected_size, "%s: %zu bytes", scene->name,
                  driver->got_size);
  }
  if (scene->expected != NULL) {
    ck_assert_mem_eq(driver->got, scene->expected, driver->got_size);
  } else {
    ck_assert(rig_all(driver->got, driver->got_size, scene->driver.sends[0]));
  }
}

/* How a run with one fault ended. */
struct outcome {
  bool hit;
  enum xchg_reason reason;
  size_t got;
};

/* Run ${scene} with the ${nth} ${call} failing; check what must hold in any case. */
static struct outcome run(const struct scene *scene, enum fault_call call, uint64_t nth,
                          int error) {
  unsigned before = rig_descriptors();
  struct rig rig;
  struct driver driver = scene->driver;
  prepare(&rig, scene);
  fault_reset();
  orders_follow(error == EAGAIN);
  if (nth > 0) {
    orders_fail(call, nth, error, 1);
  }
  driver_run(&driver, &rig);
  struct outcome outcome = {.hit = orders_hits() > 0, .got = driver.got_size};
  fault_reset();
  for (int i = 0; i < XCHG_REASONS; i++) {
    outcome.reason =
        rig_ended(&rig, (enum xchg_reason)i) > 0 ? (enum xchg_reason)i : outcome.reason;
  }
  ck_assert_uint_eq(fault_bad_closes(), 0);
  check_bytes(scene, &driver, outcome.reason == XCHG_FINISHED && !outcome.hit);
  driver_fini(&driver);
  rig_fini(&rig); /* one end, no object, no buffer */
  check_releases();
  ck_assert_uint_eq(rig_descriptors(), before);
  return outcome;
}

/* The effect of a failed call on the connection. */
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
 * Does ${effect} allow ${reason}?  A fault after the end of the exchange, in lingering, does not
 * change the reason.  A failed close may cost the peer bytes that it had not read, and then the
 * client's own reset comes first.
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

/* Fail every Nth call until one is not made. Return: how many were made. */
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

/* Without a fault every scene completes, or the other tests would prove nothing. */
START_TEST(test_no_fault) {
  struct outcome outcome = run(&scenes[_i], FAULT_RECV, 0, 0);
  ck_assert(!outcome.hit);
  ck_assert_int_eq(outcome.reason, XCHG_FINISHED);
}
END_TEST

/* A call fails for ever: the connection still ends, at the latest by a time-out. */
START_TEST(test_every_call_fails_for_ever) {
  const struct fault *fault = &faults[_i];
  bool repeats =
      fault->call == FAULT_RECV || fault->call == FAULT_SEND || fault->call == FAULT_SENDMSG;
  if (fault->error == EINTR && repeats) {
    return; /* repeated as long as it is interrupted */
  }
  for (size_t i = 0; i < count_of(scenes); i++) {
    struct rig rig;
    struct driver driver = scenes[i].driver;
    driver.patience = 120;
    prepare(&rig, &scenes[i]);
    fault_reset();
    orders_fail(fault->call, 1, fault->error, UINT64_MAX);
    driver_run(&driver, &rig);
    fault_reset();
    check_bytes(&scenes[i], &driver, false);
    driver_fini(&driver);
    rig_fini(&rig);
    check_releases();
  }
}
END_TEST

/* ---- short reads and writes ---- */

static void run_shortened(const struct scene *scene, size_t reads, size_t writes) {
  struct rig rig;
  struct driver driver = scene->driver;
  prepare(&rig, scene);
  fault_reset();
  orders_follow(true);
  orders_shorten(FAULT_RECV, 1, reads, UINT64_MAX);
  orders_shorten(FAULT_SEND, 1, writes, UINT64_MAX);
  orders_shorten(FAULT_SENDMSG, 1, writes, UINT64_MAX);
  driver_run(&driver, &rig);
  fault_reset();
  ck_assert_uint_eq(rig_ended(&rig, XCHG_FINISHED), 1);
  check_bytes(scene, &driver, true);
  driver_fini(&driver);
  rig_fini(&rig);
  check_releases();
}

/*
 * Reads and writes of every size from 1 to more than everything: the same bytes come.  Long scenes
 * are tested with a few sizes.
 */
START_TEST(test_short_reads_and_writes) {
  const struct scene *scene = &scenes[_i];
  bool in_short = scene->driver.sends_size < 100, out_short = scene->expected_size < 100;
  for (size_t reads = in_short ? 1 : 77; reads <= scene->driver.sends_size + 1;
       reads = in_short ? reads + 1 : reads * 9) {
    for (size_t writes = out_short ? 1 : 4000; writes <= scene->expected_size + 1;
         writes = out_short ? writes + 1 : writes * 5) {
      run_shortened(scene, reads, writes);
    }
  }
}
END_TEST

/* ---- no memory, no descriptor ---- */

/* epoll refuses the connection: closed as memory before a byte of the greeting is sent. */
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
  struct rig rig;
  prepare(&rig, &scenes[GREET]);
  fault_reset();
  int fd = rig_connect_tcp(&rig);
  RIG_GET(&rig, fd, "hello");
  RIG_PUT(&rig, fd, "hi\0");
  RIG_UNTIL(&rig, rig.slab.used == 0);
  check_count(FAULT_SEND, 1);
  check_count(FAULT_EPOLL_CTL, 1);
  check_count(FAULT_RECV, 1);
  check_count(FAULT_IOCTL, 1);
  check_count(FAULT_CLOSE, 1);
  check_count(FAULT_SHUTDOWN, 0);
  check_count(FAULT_SETSOCKOPT, 0);
  check_count(FAULT_UNMAP, 0);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

/* With XCHG_LINGER=0 it makes no ioctl. */
START_TEST(test_cost_of_greet_without_linger) {
  struct rig rig;
  prepare(&rig, &scenes[GREET]);
  rig.config.linger_ns = 0;
  fault_reset();
  int fd = rig_connect_tcp(&rig);
  RIG_PUT(&rig, fd, "hi\0");
  RIG_UNTIL(&rig, rig.slab.used == 0);
  check_count(FAULT_SEND, 1);
  check_count(FAULT_EPOLL_CTL, 1);
  check_count(FAULT_RECV, 1);
  check_count(FAULT_IOCTL, 0);
  check_count(FAULT_CLOSE, 1);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

/* An echoed message: one recv, one send, and a share of a wait; no memory, no call for a timer. */
START_TEST(test_cost_of_a_message) {
  enum { CLIENTS = 32, ROUNDS = 10 };
  struct rig rig;
  prepare(&rig, &scenes[ECHO]);
  int fds[CLIENTS];
  for (int i = 0; i < CLIENTS; i++) {
    fds[i] = rig_connect_tcp(&rig);
    RIG_PUT(&rig, fds[i], "warm\0");
    RIG_GET(&rig, fds[i], "warm\0");
  }
  rig_settle(&rig);
  fault_reset();
  uint64_t turns = 0;
  for (int round = 1; round <= ROUNDS; round++) {
    for (int i = 0; i < CLIENTS; i++) {
      ck_assert_int_eq(send(fds[i], "ping\0", 5, 0), 5);
    }
    uint64_t all = (uint64_t)CLIENTS * (uint64_t)(round + 1);
    for (; atom_load_relaxed_u64(&rig.stats.messages) < all; turns++) {
      ck_assert_uint_lt(turns, 1000000);
      rig_turn(&rig, sys_now_ns() + NS_PER_S);
    }
    for (int i = 0; i < CLIENTS; i++) {
      RIG_GET(&rig, fds[i], "ping\0");
    }
  }
  check_count(FAULT_RECV, CLIENTS * ROUNDS);
  check_count(FAULT_SEND, CLIENTS * ROUNDS);
  check_count(FAULT_EPOLL_CTL, 0);
  check_count(FAULT_IOCTL, 0);
  check_count(FAULT_MAP, 0);
  ck_assert_uint_le(turns, CLIENTS * ROUNDS); /* a wait serves at least one message */
  for (int i = 0; i < CLIENTS; i++) {
    close(fds[i]);
  }
  RIG_UNTIL(&rig, rig.slab.used == 0);
  check_count(FAULT_CLOSE, CLIENTS);
  rig_fini(&rig);
}
END_TEST

/* Messages of one read are answered by one send. */
START_TEST(test_cost_of_pipelined_messages) {
  struct rig rig;
  prepare(&rig, &scenes[ECHO]);
  int fd = rig_connect_tcp(&rig);
  fault_reset();
  RIG_PUT(&rig, fd, "a\0b\0c\0d\0e\0f\0g\0h\0");
  RIG_GET(&rig, fd, "a\0b\0c\0d\0e\0f\0g\0h\0");
  check_count(FAULT_RECV, 1);
  check_count(FAULT_SEND, 1);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
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
  return run_suite("conn_fault", tests, count_of(tests));
}
