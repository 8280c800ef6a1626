/* check_sock_fault: a write of several parts that the kernel refuses, or takes only in part. */
#include "tests/fault/fault.h"
#include "tests/fixtures/conn_fixture.h"

#include "net/sock.h"

#include <sys/uio.h>

#define TEXT "abcdefghijkl"

static char text[] = TEXT;
static const struct iovec parts[] = {{text, 3}, {text + 3, 1}, {text + 4, 4}, {text + 8, 4}};

static int fds[2];

static void set_up(void) {
  fault_reset();
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

static void tear_down(void) {
  fault_reset();
  close(fds[0]);
  close(fds[1]);
}

/* The other end has exactly ${want} to read. */
static void expect(const char *want) {
  char got[sizeof(TEXT)];
  ssize_t size = recv(fds[1], got, sizeof(got), 0);
  ck_assert_int_eq(size, want[0] == '\0' ? -1 : (ssize_t)strlen(want));
  if (size > 0) {
    ck_assert_mem_eq(got, want, (size_t)size);
  }
}

/* An interrupted write is repeated, however often. */
START_TEST(test_interrupted) {
  size_t sent = 99;
  orders_fail(FAULT_SENDMSG, 1, EINTR, 3);
  ck_assert_int_eq(sock_sendv(fds[0], parts, (int)count_of(parts), &sent), IO_OK);
  ck_assert_uint_eq(orders_count(FAULT_SENDMSG), 4);
  ck_assert_uint_eq(sent, strlen(TEXT));
  expect(TEXT);
}
END_TEST

START_TEST(test_refused) {
  static const int errors[] = {EPIPE, ECONNRESET, ETIMEDOUT, ENOBUFS, ENOMEM, EMSGSIZE, EBADF};
  size_t sent = 99;
  orders_fail(FAULT_SENDMSG, 1, EAGAIN, 1);
  ck_assert_int_eq(sock_sendv(fds[0], parts, 2, &sent), IO_AGAIN);
  ck_assert_uint_eq(sent, 0);
  for (size_t i = 0; i < count_of(errors); i++) {
    sent = 99;
    orders_fail(FAULT_SENDMSG, 1, errors[i], 1);
    ck_assert_int_eq(sock_sendv(fds[0], parts, 2, &sent), IO_ERROR);
    ck_assert_int_eq(errno, errors[i]);
    ck_assert_uint_eq(sent, 0);
  }
  expect("");
  ck_assert_int_eq(sock_sendv(fds[0], parts, 2, &sent), IO_OK); /* one order, one failure */
  expect("abcd");
}
END_TEST

/* A write that ends within a part or between two reports the right size. */
START_TEST(test_shortened) {
  size_t all = strlen(TEXT);
  for (size_t most = 1; most <= all + 1; most++) {
    char begin[sizeof(TEXT)] = TEXT;
    size_t sent = 0, want = most < all ? most : all;
    orders_shorten(FAULT_SENDMSG, 1, most, UINT64_MAX);
    ck_assert_int_eq(sock_sendv(fds[0], parts, (int)count_of(parts), &sent), IO_OK);
    ck_assert_uint_eq(sent, want);
    begin[want] = '\0';
    expect(begin);
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_interrupted, 1},
      {test_refused, 1},
      {test_shortened, 1},
  };
  return run_suite_fixture("sock_fault", tests, count_of(tests), set_up, tear_down);
}
