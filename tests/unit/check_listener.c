/* check_listener: each kind of address is bound, adopted, retired and closed; options inherited. */
#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/socket_fixture.h"

#include "net/listener.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>

static char folder[64]; /* of the socket files; made for each test */
static int said[2];     /* a pipe: what the log said */
static struct log logger;
static struct config config;

static void set_up(void) {
  snprintf(folder, sizeof(folder), "/tmp/check_listener.XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(folder));
  ck_assert_int_eq(pipe2(said, O_CLOEXEC | O_NONBLOCK), 0);
  log_init(&logger, said[1], LOG_WARN, LOG_LOGFMT);
  config = (struct config){.backlog = 8};
}

static void tear_down(void) {
  log_fini(&logger);
  close(said[0]);
  close(said[1]);
  ck_assert_int_eq(rmdir(folder), 0); /* no file is left */
}

/* The log said one line with ${text} in it; NULL: nothing. */
static void check_said(const char *text) {
  char line[LOG_LINE_MAX + 1];
  ssize_t got = read(said[0], line, sizeof(line) - 1);
  if (text == NULL) {
    ck_assert_int_eq(got, -1);
    return;
  }
  ck_assert_int_gt(got, 0);
  line[got] = 0;
  ck_assert_msg(strstr(line, text) != NULL, "%s", line);
  ck_assert_ptr_eq(strchr(line, '\n'), line + got - 1);
}

static int open_at(struct listener *listener, const char *text) {
  struct addr_listen where;
  ck_assert_int_eq(addr_parse_listen(text, &where), 0);
  return listener_open(listener, &where, &config, &logger);
}

/* Text for the socket file ${name} with ${options} behind it. */
static const char *unix_text(const char *name, const char *options) {
  static char text[128];
  snprintf(text, sizeof(text), "unix:%s/%s%s", folder, name, options);
  return text;
}

static const char *unix_path(const char *name) { return unix_text(name, "") + strlen("unix:"); }

/* Begin to connect to ${port} of ${address}. Return: the nonblocking socket. */
static int dial(const char *address, uint16_t port) {
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
  struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  bool v4 = inet_pton(AF_INET, address, &in.sin_addr) == 1;
  ck_assert(v4 || inet_pton(AF_INET6, address, &in6.sin6_addr) == 1);
  int fd = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  ck_assert_int_ne(fd, -1);
  int result = v4 ? connect(fd, (struct sockaddr *)&in, sizeof(in))
                  : connect(fd, (struct sockaddr *)&in6, sizeof(in6));
  ck_assert(result == 0 || errno == EINPROGRESS || errno == ECONNREFUSED);
  return fd;
}

/* How the connecting of ${fd}, which comes to an end, has ended: 0 or an errno. */
static int dialled(int fd) {
  struct pollfd ready = {.fd = fd, .events = POLLOUT};
  int error = -1;
  socklen_t size = sizeof(error);
  ck_assert_int_eq(poll(&ready, 1, 60000), 1);
  ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size), 0);
  bool reset = error == 0 && (ready.revents & POLLHUP) != 0; /* connect itself has reported it */
  return reset ? ECONNREFUSED : error;
}

/* Nobody listens there. */
static void check_refused(const char *address, uint16_t port) {
  int fd = dial(address, port);
  ck_assert_int_eq(dialled(fd), ECONNREFUSED);
  close(fd);
}

static struct sockaddr_un unix_address(const char *name) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  ck_assert_uint_lt(strlen(unix_path(name)), sizeof(at.sun_path));
  memcpy(at.sun_path, unix_path(name), strlen(unix_path(name)));
  return at;
}

static int dial_unix(const char *name) {
  struct sockaddr_un at = unix_address(name);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  ck_assert_int_ne(fd, -1);
  if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == -1) {
    int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  return fd;
}

/* The connection that is on its way in. */
static struct guest welcome(const struct listener *listener) {
  struct guest guest = {.fd = -1};
  uint64_t before_ns = sys_now_ns(), until_ns = before_ns + FIXTURE_TIMEOUT_NS;
  enum sock_accepted result;
  while ((result = listener_accept(listener, &guest)) == ACCEPT_NONE) {
    ck_assert_uint_lt(sys_now_ns(), until_ns);
  }
  ck_assert_int_eq(result, ACCEPTED);
  ck_assert_uint_ge(guest.accepted_ns, before_ns);
  ck_assert_uint_le(guest.accepted_ns, sys_now_ns());
  return guest;
}

static int option(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof(value);
  ck_assert_int_eq(getsockopt(fd, level, name, &value, &size), 0);
  return value;
}

/* Instructions of the filter that is attached to ${fd}. */
static int filter_length(int fd) {
  socklen_t size = 0;
  ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &size), 0);
  return (int)size;
}

/* ---- TCP ---- */

static void check_reaches(const struct listener *listener, const char *address) {
  int client = dial(address, listener->where.addr.port);
  struct guest guest = welcome(listener);
  struct addr_listen from;
  char text[ADDR_TEXT_MAX];
  snprintf(text, sizeof(text), strchr(address, ':') != NULL ? "[%s]:1" : "%s:1", address);
  ck_assert_int_eq(addr_parse_listen(text, &from), 0);
  ck_assert_int_eq(guest.addr.family, from.addr.family); /* a mapped one is IPv4 */
  ck_assert_mem_eq(guest.addr.bytes, from.addr.bytes, 16);
  guest_close(&guest);
  close(client);
}

START_TEST(test_ipv4) {
  struct listener listener;
  ck_assert_int_eq(open_at(&listener, "127.0.0.1:0"), 0);
  check_said(NULL);
  ck_assert_uint_ne(listener.where.addr.port, 0);
  ck_assert_int_ne(fcntl(listener.fd, F_GETFD) & FD_CLOEXEC, 0);
  ck_assert_int_ne(fcntl(listener.fd, F_GETFL) & O_NONBLOCK, 0);
  check_reaches(&listener, "127.0.0.1");
  check_refused("127.0.0.2", listener.where.addr.port);
  listener_close(&listener);
  ck_assert_int_eq(listener.fd, -1);
  listener_close(&listener);
  check_refused("127.0.0.1", listener.where.addr.port);
}
END_TEST

START_TEST(test_ipv6) {
  struct listener listener;
  if (!has_ipv6()) {
    return;
  }
  ck_assert_int_eq(open_at(&listener, "[::]:0"), 0);
  check_reaches(&listener, "::1");
  check_refused("127.0.0.1", listener.where.addr.port); /* IPv6 alone */
  listener_close(&listener);
}
END_TEST

/* ":port": both families, or IPv4 where there is no other. */
START_TEST(test_any) {
  struct listener listener;
  ck_assert_int_eq(open_at(&listener, ":0"), 0);
  check_reaches(&listener, "127.0.0.1");
  if (has_ipv6()) {
    check_reaches(&listener, "::1");
    ck_assert_int_eq(listener.where.addr.family, ADDR_IPV6);
  } else {
    ck_assert_int_eq(listener.where.addr.family, ADDR_IPV4);
  }
  listener_close(&listener);
}
END_TEST

START_TEST(test_address_in_use) {
  struct listener one, two;
  char text[ADDR_TEXT_MAX], want[ADDR_TEXT_MAX + 8];
  unsigned before = count_descriptors();
  ck_assert_int_eq(open_at(&one, "127.0.0.1:0"), 0);
  addr_format(&one.where.addr, text);
  ck_assert_int_eq(open_at(&two, text), -1);
  ck_assert_int_eq(errno, EADDRINUSE);
  ck_assert_int_eq(two.fd, -1);
  snprintf(want, sizeof(want), "addr=%s", text);
  check_said(want);
  listener_close(&two);
  listener_close(&one);
  ck_assert_int_eq(open_at(&one, "192.0.2.1:0"), -1);
  ck_assert_int_eq(errno, EADDRNOTAVAIL);
  check_said("cannot bind");
  ck_assert_uint_eq(count_descriptors(), before);
}
END_TEST

START_TEST(test_reuseport) {
  struct listener one, two;
  char text[ADDR_TEXT_MAX];
  config.reuseport = true;
  ck_assert_int_eq(open_at(&one, "127.0.0.1:0"), 0);
  ck_assert_int_eq(open_at(&two, addr_format(&one.where.addr, text)), 0);
  ck_assert_uint_eq(one.where.addr.port, two.where.addr.port);
  listener_close(&one);
  listener_close(&two);
}
END_TEST

/* Set once on the listener and inherited by what it accepts. */
START_TEST(test_tcp_options) {
  struct listener listener;
  bool on = _i == 1;
  config.nodelay = config.keepalive = on;
  config.sndbuf_bytes = on ? 20000 : 0;
  config.defer_accept_s = on ? 3 : 0;
  config.fastopen = on ? 5 : 0;
  ck_assert_int_eq(open_at(&listener, "127.0.0.1:0"), 0);
  ck_assert_int_eq(option(listener.fd, IPPROTO_TCP, TCP_DEFER_ACCEPT) > 0, on);
  int client = dial("127.0.0.1", listener.where.addr.port);
  ck_assert_int_eq(dialled(client), 0);
  CLIENT_WRITE(client, "x"); /* what a deferred accept waits for */
  struct guest guest = welcome(&listener);
  ck_assert_int_eq(option(guest.fd, IPPROTO_TCP, TCP_NODELAY) != 0, on);
  ck_assert_int_eq(option(guest.fd, SOL_SOCKET, SO_KEEPALIVE) != 0, on);
  ck_assert_int_eq(option(guest.fd, SOL_SOCKET, SO_SNDBUF) == 40000, on); /* the kernel doubles */
  guest_close(&guest);
  close(client);
  listener_close(&listener);
}
END_TEST

/* Handshakes that are complete are accepted after the stop has begun; no new one begins. */
START_TEST(test_retire_tcp) {
  struct listener listener;
  ck_assert_int_eq(open_at(&listener, _i == 0 ? "127.0.0.1:0" : ":0"), 0);
  ck_assert_int_eq(filter_length(listener.fd), 0);
  int early[3];
  for (int i = 0; i < 3; i++) {
    early[i] = dial("127.0.0.1", listener.where.addr.port);
    ck_assert_int_eq(dialled(early[i]), 0);
  }
  listener_retire(&listener);
  ck_assert_int_ne(listener.fd, -1);
  ck_assert_int_eq(filter_length(listener.fd), 4);
  int late = dial("127.0.0.1", listener.where.addr.port);
  for (int i = 0; i < 3; i++) {
    struct guest guest = welcome(&listener);
    CLIENT_WRITE(early[i], "x"); /* the filter lets through what is no SYN */
    char byte;
    struct pollfd ready = {.fd = guest.fd, .events = POLLIN};
    ck_assert_int_eq(poll(&ready, 1, 60000), 1);
    ck_assert_int_eq(recv(guest.fd, &byte, 1, 0), 1);
    guest_close(&guest);
    close(early[i]);
  }
  struct guest guest;
  ck_assert_int_eq(listener_accept(&listener, &guest), ACCEPT_NONE);
  struct tcp_info info; /* its SYN was neither answered nor refused */
  socklen_t size = sizeof(info);
  ck_assert_int_eq(getsockopt(late, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
  ck_assert_int_eq(info.tcpi_state, TCP_SYN_SENT);
  close(late);
  listener_close(&listener);
}
END_TEST

/* ---- UNIX ---- */

START_TEST(test_unix) {
  struct listener listener;
  struct stat st;
  config.sndbuf_bytes = _i == 1 ? 30000 : 0;
  ck_assert_int_eq(open_at(&listener, unix_text("s", _i == 1 ? ";mode=0612" : "")), 0);
  ck_assert_int_eq(stat(unix_path("s"), &st), 0);
  ck_assert(S_ISSOCK(st.st_mode));
  if (_i == 1) {
    ck_assert_uint_eq(st.st_mode & 07777, 0612);
  }
  int client = dial_unix("s");
  struct guest guest = welcome(&listener);
  ck_assert_int_eq(guest.addr.family, ADDR_UNIX);
  ck_assert_int_eq(option(guest.fd, SOL_SOCKET, SO_SNDBUF) == 60000, _i == 1);
  guest_close(&guest);
  close(client);
  listener_close(&listener);
  ck_assert_int_eq(lstat(unix_path("s"), &st), -1);
}
END_TEST

/* A file that a dead server left is replaced. */
START_TEST(test_unix_stale) {
  struct listener listener;
  struct sockaddr_un at = unix_address("s");
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
  close(fd);
  ck_assert_int_eq(open_at(&listener, unix_text("s", "")), 0);
  int client = dial_unix("s");
  ck_assert_int_ne(client, -1);
  close(client);
  listener_close(&listener);
}
END_TEST

/* A live server, or a file that is no socket, stays as it is. */
START_TEST(test_unix_live_or_foreign) {
  struct listener live, second;
  struct stat before, after;
  ck_assert_int_eq(open_at(&live, unix_text("s", "")), 0);
  ck_assert_int_eq(stat(unix_path("s"), &before), 0);
  ck_assert_int_eq(open_at(&second, unix_text("s", "")), -1);
  ck_assert_int_eq(errno, EADDRINUSE);
  check_said("cannot bind");
  ck_assert_int_eq(stat(unix_path("s"), &after), 0);
  ck_assert_uint_eq(before.st_ino, after.st_ino);
  struct guest probe;
  ck_assert_int_eq(listener_accept(&live, &probe), ACCEPTED); /* the look at who is there */
  guest_close(&probe);
  listener_close(&live);

  int fd = open(unix_path("f"), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  ck_assert_int_ne(fd, -1);
  ck_assert_int_eq(write(fd, "mine", 4), 4);
  close(fd);
  ck_assert_int_eq(open_at(&second, unix_text("f", "")), -1);
  ck_assert_int_eq(errno, EADDRINUSE);
  check_said("cannot bind");
  ck_assert_int_eq(stat(unix_path("f"), &after), 0);
  ck_assert_int_eq(after.st_size, 4);
  ck_assert_int_eq(unlink(unix_path("f")), 0);
}
END_TEST

/* A successor has taken the path over: its file stays. */
START_TEST(test_unix_file_of_a_successor_stays) {
  struct listener one, two;
  struct stat st;
  ck_assert_int_eq(open_at(&one, unix_text("s", "")), 0);
  ck_assert_int_eq(unlink(unix_path("s")), 0);
  ck_assert_int_eq(open_at(&two, unix_text("s", "")), 0);
  if (_i == 1) {
    listener_retire(&one);
  }
  listener_close(&one);
  ck_assert_int_eq(stat(unix_path("s"), &st), 0);
  int client = dial_unix("s");
  ck_assert_int_ne(client, -1);
  close(client);
  listener_close(&two);
  ck_assert_int_eq(stat(unix_path("s"), &st), -1);
}
END_TEST

START_TEST(test_retire_unix) {
  struct listener listener;
  ck_assert_int_eq(open_at(&listener, unix_text("s", "")), 0);
  int early[3];
  for (int i = 0; i < 3; i++) {
    early[i] = dial_unix("s");
    ck_assert_int_ne(early[i], -1);
  }
  int late = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_un at = unix_address("s");
  listener_retire(&listener);
  ck_assert_int_eq(connect(late, (struct sockaddr *)&at, sizeof(at)), -1);
  ck_assert_int_eq(errno, ENOENT);
  close(late);
  for (int i = 0; i < 3; i++) {
    struct guest guest = welcome(&listener);
    guest_close(&guest);
    close(early[i]);
  }
  struct guest guest;
  ck_assert_int_eq(listener_accept(&listener, &guest), ACCEPT_NONE);
  listener_close(&listener);
}
END_TEST

/* ---- LISTEN_FDS ---- */

/* A filter that somebody left behind on the shared socket. */
static void leave_filter(int fd) {
  static struct sock_filter keep[] = {{.code = BPF_RET | BPF_K, .k = UINT32_MAX}};
  struct sock_fprog program = {.len = 1, .filter = keep};
  ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0);
}

START_TEST(test_adopt_tcp) {
  struct listener own, adopted;
  ck_assert_int_eq(open_at(&own, "127.0.0.1:0"), 0);
  leave_filter(own.fd);
  int passed = dup(own.fd);
  ck_assert_int_eq(fcntl(passed, F_SETFL, 0), 0); /* blocking, as a service manager gives it */
  config.nodelay = true;
  ck_assert_int_eq(listener_adopt(&adopted, passed, &config, &logger), 0);
  check_said(NULL);
  ck_assert(adopted.passed);
  ck_assert_uint_eq(adopted.where.addr.port, own.where.addr.port);
  ck_assert_int_ne(fcntl(passed, F_GETFD) & FD_CLOEXEC, 0);
  ck_assert_int_ne(fcntl(passed, F_GETFL) & O_NONBLOCK, 0);
  ck_assert_int_eq(filter_length(own.fd), 0);
  int client = dial("127.0.0.1", own.where.addr.port);
  struct guest guest = welcome(&adopted);
  ck_assert_int_ne(option(guest.fd, IPPROTO_TCP, TCP_NODELAY), 0);
  guest_close(&guest);
  close(client);

  listener_retire(&adopted); /* left at once, its queue being another's */
  ck_assert_int_eq(adopted.fd, -1);
  ck_assert_int_eq(filter_length(own.fd), 0);
  check_reaches(&own, "127.0.0.1");
  listener_close(&adopted);
  listener_close(&own);
}
END_TEST

START_TEST(test_adopt_unix) {
  struct listener own, adopted;
  ck_assert_int_eq(open_at(&own, unix_text("s", "")), 0);
  ck_assert_int_eq(listener_adopt(&adopted, dup(own.fd), &config, &logger), 0);
  ck_assert_int_eq(adopted.where.addr.family, ADDR_UNIX);
  ck_assert_str_eq(adopted.where.path, unix_path("s"));
  if (_i == 1) {
    listener_retire(&adopted);
  }
  listener_close(&adopted);
  int client = dial_unix("s"); /* its file stays, and it still listens */
  ck_assert_int_ne(client, -1);
  struct guest guest = welcome(&own);
  guest_close(&guest);
  close(client);
  listener_close(&own);
}
END_TEST

START_TEST(test_adopt_what_does_not_listen) {
  int fds[4];
  fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  fds[1] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  fds[2] = open("/dev/null", O_RDWR | O_CLOEXEC);
  fds[3] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  ck_assert_int_eq(bind(fds[3], (struct sockaddr *)&(sa_family_t){AF_UNIX}, sizeof(sa_family_t)),
                   0);
  ck_assert_int_eq(listen(fds[3], 1), 0); /* it listens, but is no stream */
  for (size_t i = 0; i < count_of(fds); i++) {
    struct listener listener;
    ck_assert_int_eq(listener_adopt(&listener, fds[i], &config, &logger), -1);
    check_said("no listening stream socket");
    ck_assert_int_ne(fcntl(fds[i], F_GETFD), -1); /* still the caller's */
    close(fds[i]);
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_ipv4, 1},
      {test_ipv6, 1},
      {test_any, 1},
      {test_address_in_use, 1},
      {test_reuseport, 1},
      {test_tcp_options, 2},
      {test_retire_tcp, 2},
      {test_unix, 2},
      {test_unix_stale, 1},
      {test_unix_live_or_foreign, 1},
      {test_unix_file_of_a_successor_stays, 2},
      {test_retire_unix, 1},
      {test_adopt_tcp, 1},
      {test_adopt_unix, 2},
      {test_adopt_what_does_not_listen, 1},
  };
  return run_suite_fixture("listener", tests, count_of(tests), set_up, tear_down);
}
