/*
 * check_sock: reading and writing a socket, the meaning of every errno, and addresses in both
 * directions.
 *
 * Failing calls are tested in tests/fault, except those that the kernel itself can produce here.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/socket_fixture.h"

#include "net/sock.h"

#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/un.h>

/* A pair of connected UNIX sockets. */
static void make_pair(int fds[2]) {
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

START_TEST(test_recv) {
  int fds[2];
  char data[8];
  size_t count = 99;
  make_pair(fds);
  ck_assert_int_eq(sock_recv(fds[0], data, sizeof(data), &count), IO_AGAIN);
  ck_assert_uint_eq(count, 0);
  CLIENT_WRITE(fds[1], "abc");
  ck_assert_int_eq(sock_recv(fds[0], data, sizeof(data), &count), IO_OK);
  ck_assert_uint_eq(count, 3);
  ck_assert_mem_eq(data, "abc", 3);
  close(fds[1]);
  ck_assert_int_eq(sock_recv(fds[0], data, sizeof(data), &count), IO_EOF);
  ck_assert_uint_eq(count, 0);
  close(fds[0]);
  ck_assert_int_eq(sock_recv(fds[0], data, sizeof(data), &count), IO_ERROR);
  ck_assert_int_eq(errno, EBADF);
  ck_assert_uint_eq(count, 0);
}
END_TEST

/* A full buffer takes a part, then EAGAIN. A closed peer raises no SIGPIPE. */
START_TEST(test_send) {
  int fds[2];
  static char data[1 << 20];
  size_t count = 0, all = 0;
  make_pair(fds);
  enum io io;
  while ((io = sock_send(fds[0], data, sizeof(data), &count)) == IO_OK) {
    ck_assert_uint_gt(count, 0);
    all += count;
  }
  ck_assert_int_eq(io, IO_AGAIN);
  ck_assert_uint_eq(count, 0);
  ck_assert_uint_gt(all, 0);
  ck_assert_uint_ge(sock_unacked(fds[0]), all / 2);
  while (recv(fds[1], data, sizeof(data), 0) > 0) {
  }
  ck_assert_uint_eq(sock_unacked(fds[0]), 0);
  close(fds[1]);
  ck_assert_int_eq(sock_send(fds[0], data, 1, &count), IO_ERROR); /* and no SIGPIPE */
  ck_assert_int_eq(errno, EPIPE);
  close(fds[0]);
}
END_TEST

/* A child that shares the descriptor has made it a blocking one: reads and writes do not wait. */
START_TEST(test_blocking_descriptor) {
  int fds[2];
  static char data[1 << 20];
  const struct iovec part = {data, sizeof(data)};
  size_t count;
  make_pair(fds);
  ck_assert_int_eq(fcntl(fds[0], F_SETFL, 0), 0);
  ck_assert_int_eq(sock_recv(fds[0], data, sizeof(data), &count), IO_AGAIN);
  while (sock_send(fds[0], data, sizeof(data), &count) == IO_OK) {
  }
  ck_assert_int_eq(sock_sendv(fds[0], &part, 1, &count), IO_AGAIN);
  close(fds[0]);
  close(fds[1]);
}
END_TEST

/* All parts are sent in order by one call, empty ones included. */
START_TEST(test_sendv) {
  int fds[2];
  char data[16], text[] = "abcdef";
  size_t sent = 99;
  struct iovec parts[] = {{text, 2}, {NULL, 0}, {text + 2, 3}, {text + 5, 1}};
  make_pair(fds);
  for (int count = 1; count <= (int)count_of(parts); count++) {
    size_t size = 0;
    for (int i = 0; i < count; i++) {
      size += parts[i].iov_len;
    }
    ck_assert_int_eq(sock_sendv(fds[0], parts, count, &sent), IO_OK);
    ck_assert_uint_eq(sent, size);
    ck_assert_int_eq(recv(fds[1], data, sizeof(data), 0), size);
    ck_assert_mem_eq(data, text, size);
  }
  ck_assert_ptr_null(parts[1].iov_base); /* unchanged */
  ck_assert_uint_eq(parts[2].iov_len, 3);
  close(fds[0]);
  ck_assert_int_eq(sock_sendv(fds[0], parts, 1, &sent), IO_ERROR);
  ck_assert_int_eq(errno, EBADF);
  ck_assert_uint_eq(sent, 0);
  close(fds[1]);
}
END_TEST

/* The largest number of parts into a full buffer: the bytes arrive in order without a gap. */
START_TEST(test_sendv_until_full) {
  int fds[2], server;
  static char data[4096];
  struct iovec parts[IOV_MAX];
  size_t sent = 0, all = 0, at = 0;
  for (size_t i = 0; i < sizeof(data); i++) {
    data[i] = (char)(i % 251);
  }
  for (size_t i = 0; i < count_of(parts); i++) {
    parts[i] = (struct iovec){data, sizeof(data)};
  }
  fds[0] = tcp_pair(&server);
  fds[1] = server;
  enum io io;
  while ((io = sock_sendv(fds[0], parts, IOV_MAX, &sent)) == IO_OK) {
    ck_assert_uint_gt(sent, 0);
    if (sent < sizeof(data) * IOV_MAX) { /* the next call continues where this one ended */
      parts[0].iov_base = data + (all + sent) % sizeof(data);
      parts[0].iov_len = sizeof(data) - (all + sent) % sizeof(data);
    }
    all += sent;
  }
  ck_assert_int_eq(io, IO_AGAIN);
  ck_assert_uint_eq(sent, 0);
  ck_assert_uint_gt(all, sizeof(data));
  client_shutdown(fds[0]);
  while (at < all) {
    static char got[sizeof(data)];
    struct pollfd readable = {.fd = fds[1], .events = POLLIN};
    ck_assert_int_eq(poll(&readable, 1, 60000), 1);
    ssize_t count = recv(fds[1], got, sizeof(got) - at % sizeof(got), 0);
    ck_assert_int_gt(count, 0);
    ck_assert_mem_eq(got, data + at % sizeof(data), (size_t)count);
    at += (size_t)count;
  }
  ck_assert_int_eq(recv(fds[1], data, 1, 0), 0);
  close(fds[0]);
  close(fds[1]);
}
END_TEST

/* A closed peer raises no SIGPIPE. */
START_TEST(test_sendv_to_a_closed_peer) {
  int fds[2];
  size_t sent = 99;
  char text[] = "ab";
  const struct iovec parts[] = {{text, 1}, {text + 1, 1}};
  make_pair(fds);
  close(fds[1]);
  ck_assert_int_eq(sock_sendv(fds[0], parts, 2, &sent), IO_ERROR);
  ck_assert_int_eq(errno, EPIPE);
  ck_assert_uint_eq(sent, 0);
  close(fds[0]);
}
END_TEST

START_TEST(test_unacked_of_an_invalid_descriptor) {
  ck_assert_uint_eq(sock_unacked(-1), 0);
  int fds[2];
  ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
  ck_assert_uint_eq(sock_unacked(fds[0]), 0);
  close(fds[0]);
  close(fds[1]);
}
END_TEST

START_TEST(test_reasons) {
  static const int resets[] = {ECONNRESET, EPIPE, ECONNABORTED, ETIMEDOUT, EHOSTUNREACH};
  for (int error = 1; error < 134; error++) {
    bool reset = false;
    for (size_t i = 0; i < count_of(resets); i++) {
      reset = reset || resets[i] == error;
    }
    ck_assert_int_eq(sock_reason(error), reset ? XCHG_RESET : XCHG_ERROR);
  }
}
END_TEST

/* ---- accept ---- */

static int listen_on(const char *text, struct addr_listen *where) {
  struct sockaddr_storage to;
  ck_assert_int_eq(addr_parse_listen(text, where), 0);
  socklen_t size = sock_addr_to(where, &to);
  int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  ck_assert_int_ne(fd, -1);
  ck_assert_int_eq(bind(fd, (struct sockaddr *)&to, size), 0);
  ck_assert_int_eq(listen(fd, 8), 0);
  return fd;
}

START_TEST(test_accept) {
  static const char *const texts[] = {"127.0.0.1:0", "[::1]:0"};
  struct addr_listen where;
  struct sockaddr_storage at;
  socklen_t size = sizeof(at);
  struct addr peer;
  int got = -1;
  if (_i == 1 && !has_ipv6()) {
    return;
  }
  int fd = listen_on(texts[_i], &where);
  ck_assert_int_eq(sock_accept(fd, &got, &peer), ACCEPT_NONE);
  ck_assert_int_eq(errno, EAGAIN);
  ck_assert_int_eq(got, -1);
  ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&at, &size), 0);
  int client = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_eq(connect(client, (struct sockaddr *)&at, size), 0);
  ck_assert_int_eq(sock_accept(fd, &got, &peer), ACCEPTED);
  ck_assert_int_ne(fcntl(got, F_GETFD) & FD_CLOEXEC, 0);
  ck_assert_int_ne(fcntl(got, F_GETFL) & O_NONBLOCK, 0);
  size = sizeof(at);
  ck_assert_int_eq(getsockname(client, (struct sockaddr *)&at, &size), 0);
  struct addr own;
  sock_addr_from(&own, &at);
  ck_assert_mem_eq(&peer, &own, sizeof(own));
  ck_assert_int_eq(peer.family, _i == 0 ? ADDR_IPV4 : ADDR_IPV6);
  close(client);
  close(got);
  close(fd);
  ck_assert_int_eq(sock_accept(fd, &got, &peer), ACCEPT_BROKEN);
}
END_TEST

/* A descriptor that is no listener is a permanent error. */
START_TEST(test_accept_from_what_does_not_listen) {
  int fds[2], got;
  struct addr peer;
  make_pair(fds);
  ck_assert_int_eq(sock_accept(fds[0], &got, &peer), ACCEPT_BROKEN);
  close(fds[0]);
  close(fds[1]);
  ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
  ck_assert_int_eq(sock_accept(fds[0], &got, &peer), ACCEPT_BROKEN);
  close(fds[0]);
  close(fds[1]);
}
END_TEST

/* ---- addresses ---- */

START_TEST(test_addresses_in_both_directions) {
  static const char *const texts[] = {"127.0.0.1:7000", "0.0.0.0:1", "[::1]:65535",
                                      "[2001:db8::1]:80"};
  for (size_t i = 0; i < count_of(texts); i++) {
    struct addr_listen listen;
    struct sockaddr_storage to;
    struct addr back;
    char text[ADDR_TEXT_MAX];
    ck_assert_int_eq(addr_parse_listen(texts[i], &listen), 0);
    ck_assert_uint_gt(sock_addr_to(&listen, &to), 0);
    sock_addr_from(&back, &to);
    ck_assert_str_eq(addr_format(&back, text), texts[i]);
  }
}
END_TEST

START_TEST(test_mapped_address_is_ipv4) {
  struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
  struct sockaddr_storage from = {0};
  struct addr addr;
  char text[ADDR_TEXT_MAX];
  ck_assert_int_eq(inet_pton(AF_INET6, "::ffff:10.1.2.3", &in6.sin6_addr), 1);
  memcpy(&from, &in6, sizeof(in6));
  sock_addr_from(&addr, &from);
  ck_assert_str_eq(addr_format(&addr, text), "10.1.2.3:9");
}
END_TEST

START_TEST(test_unix_addresses) {
  struct addr_listen listen;
  struct sockaddr_storage to;
  struct addr addr;
  ck_assert_int_eq(addr_parse_listen("unix:/run/x.sock;mode=0600", &listen), 0);
  socklen_t size = sock_addr_to(&listen, &to);
  const struct sockaddr_un *un = (const struct sockaddr_un *)&to;
  ck_assert_int_eq(un->sun_family, AF_UNIX);
  ck_assert_str_eq(un->sun_path, "/run/x.sock");
  ck_assert_uint_eq(size, offsetof(struct sockaddr_un, sun_path) + sizeof("/run/x.sock"));
  sock_addr_from(&addr, &to);
  ck_assert_int_eq(addr.family, ADDR_UNIX);
  to.ss_family = AF_UNSPEC; /* an unnamed peer */
  sock_addr_from(&addr, &to);
  ck_assert_int_eq(addr.family, ADDR_UNIX);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_recv, 1},
      {test_send, 1},
      {test_blocking_descriptor, 1},
      {test_sendv, 1},
      {test_sendv_until_full, 1},
      {test_sendv_to_a_closed_peer, 1},
      {test_unacked_of_an_invalid_descriptor, 1},
      {test_reasons, 1},
      {test_accept, 2},
      {test_accept_from_what_does_not_listen, 1},
      {test_addresses_in_both_directions, 1},
      {test_mapped_address_is_ipv4, 1},
      {test_unix_addresses, 1},
  };
  return run_suite("sock", tests, count_of(tests));
}
