/*
 * check_listener: TCP addresses are bound, adopted, stopped and closed, and options are inherited.
 */
#include "tests/fixtures/listener_fixture.h"

#include <ifaddrs.h>
#include <net/if.h>

/* ---- TCP ---- */

static void check_reaches(const struct listener *listener, const char *address) {
  int client = dial(address, listener->addr.addr.port);
  struct accepted_conn accepted = welcome(listener);
  struct addr_listen from;
  char text[ADDR_TEXT_MAX];
  snprintf(text, sizeof(text), strchr(address, ':') != NULL ? "[%s]:1" : "%s:1", address);
  ck_assert_int_eq(addr_parse_listen(text, &from), 0);
  ck_assert_int_eq(accepted.addr.family, from.addr.family); /* a mapped address is IPv4 */
  ck_assert_mem_eq(accepted.addr.bytes, from.addr.bytes, 16);
  accepted_conn_close(&accepted);
  close(client);
}

START_TEST(test_ipv4) {
  struct listener listener;
  ck_assert_int_eq(open_at(&listener, "127.0.0.1:0"), 0);
  check_said(NULL);
  ck_assert_uint_ne(listener.addr.addr.port, 0);
  ck_assert_int_ne(fcntl(listener.fd, F_GETFD) & FD_CLOEXEC, 0);
  ck_assert_int_ne(fcntl(listener.fd, F_GETFL) & O_NONBLOCK, 0);
  check_reaches(&listener, "127.0.0.1");
  check_refused("127.0.0.2", listener.addr.addr.port);
  listener_close(&listener);
  ck_assert_int_eq(listener.fd, -1);
  listener_close(&listener);
  check_refused("127.0.0.1", listener.addr.addr.port);
}
END_TEST

START_TEST(test_ipv6) {
  struct listener listener;
  if (!has_ipv6()) {
    return;
  }
  ck_assert_int_eq(open_at(&listener, "[::]:0"), 0);
  check_reaches(&listener, "::1");
  check_refused("127.0.0.1", listener.addr.addr.port); /* only IPv6 */
  listener_close(&listener);
}
END_TEST

/* ":port" means both families, or IPv4 if there is no IPv6. */
START_TEST(test_any) {
  struct listener listener;
  ck_assert_int_eq(open_at(&listener, ":0"), 0);
  check_reaches(&listener, "127.0.0.1");
  if (has_ipv6()) {
    check_reaches(&listener, "::1");
    ck_assert_int_eq(listener.addr.addr.family, ADDR_IPV6);
  } else {
    ck_assert_int_eq(listener.addr.addr.family, ADDR_IPV4);
  }
  listener_close(&listener);
}
END_TEST

START_TEST(test_address_in_use) {
  struct listener one, two;
  char text[ADDR_TEXT_MAX], want[ADDR_TEXT_MAX + 8];
  unsigned before = count_descriptors();
  ck_assert_int_eq(open_at(&one, "127.0.0.1:0"), 0);
  addr_format(&one.addr.addr, text);
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
  ck_assert_int_eq(open_at(&two, addr_format(&one.addr.addr, text)), 0);
  ck_assert_uint_eq(one.addr.addr.port, two.addr.addr.port);
  listener_close(&one);
  listener_close(&two);
}
END_TEST

/* Options are set once on the listener, and accepted connections inherit them. */
START_TEST(test_tcp_options) {
  struct listener listener;
  bool on = _i == 1;
  config.nodelay = config.keepalive = on;
  config.sndbuf_bytes = on ? 20000 : 0;
  config.defer_accept_s = on ? 3 : 0;
  config.fastopen = on ? 5 : 0;
  ck_assert_int_eq(open_at(&listener, "127.0.0.1:0"), 0);
  ck_assert_int_eq(option(listener.fd, IPPROTO_TCP, TCP_DEFER_ACCEPT) > 0, on);
  int client = dial("127.0.0.1", listener.addr.addr.port);
  ck_assert_int_eq(dialled(client), 0);
  CLIENT_WRITE(client, "x"); /* a deferred accept waits for it */
  struct accepted_conn accepted = welcome(&listener);
  ck_assert_int_eq(option(accepted.fd, IPPROTO_TCP, TCP_NODELAY) != 0, on);
  ck_assert_int_eq(option(accepted.fd, SOL_SOCKET, SO_KEEPALIVE) != 0, on);
  ck_assert_int_eq(option(accepted.fd, SOL_SOCKET, SO_SNDBUF) == 40000,
                   on); /* the kernel doubles it */
  accepted_conn_close(&accepted);
  close(client);
  listener_close(&listener);
}
END_TEST

/* No new handshake is completed: by the filter, or where that is refused, without an interface. */
static void check_refuses(const struct listener *listener, int late) {
  struct tcp_info info;
  socklen_t size = sizeof(info);
  if (filter_length(listener->fd) == 4) {
    ck_assert_int_eq(getsockopt(late, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
    ck_assert_int_eq(info.tcpi_state, TCP_SYN_SENT); /* neither answered nor refused */
  } else {
    ck_assert_int_eq(option(listener->fd, SOL_SOCKET, SO_BINDTOIFINDEX), 2147483632);
    ck_assert_int_eq(dialled(late), ECONNREFUSED);
  }
}

/* After the stop has begun, completed handshakes are accepted and no new one is answered. */
START_TEST(test_retire_tcp) {
  struct listener listener;
  ck_assert_int_eq(open_at(&listener, _i == 0 ? "127.0.0.1:0" : ":0"), 0);
  ck_assert_int_eq(filter_length(listener.fd), 0);
  int early[3];
  for (int i = 0; i < 3; i++) {
    early[i] = dial("127.0.0.1", listener.addr.addr.port);
    ck_assert_int_eq(dialled(early[i]), 0);
  }
  listener_stop(&listener);
  ck_assert_int_ne(listener.fd, -1);
  check_said(NULL);
  int late = dial("127.0.0.1", listener.addr.addr.port);
  for (int i = 0; i < 3; i++) {
    struct accepted_conn accepted = welcome(&listener);
    CLIENT_WRITE(early[i], "x"); /* everything but SYNs passes */
    char byte;
    struct pollfd ready = {.fd = accepted.fd, .events = POLLIN};
    ck_assert_int_eq(poll(&ready, 1, 60000), 1);
    ck_assert_int_eq(recv(accepted.fd, &byte, 1, 0), 1);
    accepted_conn_close(&accepted);
    close(early[i]);
  }
  struct accepted_conn accepted;
  ck_assert_int_eq(listener_accept(&listener, &accepted), ACCEPT_NONE);
  check_refuses(&listener, late);
  close(late);
  listener_close(&listener);
}
END_TEST

/* A link-local address of this machine and its interface. Return: is there one? */
static bool find_link_local(struct sockaddr_in6 *found) {
  struct ifaddrs *all;
  bool any = false;
  ck_assert_int_eq(getifaddrs(&all), 0);
  for (const struct ifaddrs *at = all; at != NULL && !any; at = at->ifa_next) {
    if (at->ifa_addr != NULL && at->ifa_addr->sa_family == AF_INET6) {
      memcpy(found, at->ifa_addr, sizeof(*found));
      any = IN6_IS_ADDR_LINKLOCAL(&found->sin6_addr);
    }
  }
  freeifaddrs(all);
  return any;
}

/* A link-local address needs its interface, by name or by number. */
START_TEST(test_link_local) {
  struct listener listener, adopted;
  struct sockaddr_in6 own;
  char host[INET6_ADDRSTRLEN], name[IF_NAMESIZE], text[128], want[160];
  if (!find_link_local(&own)) {
    return;
  }
  inet_ntop(AF_INET6, &own.sin6_addr, host, sizeof(host));
  ck_assert_ptr_nonnull(if_indextoname(own.sin6_scope_id, name));
  snprintf(text, sizeof(text), "[%s%%%s]:0", host, name);
  ck_assert_int_eq(open_at(&listener, text), 0);
  ck_assert_uint_ne(listener.addr.addr.port, 0);
  snprintf(want, sizeof(want), "[%s%%%s]:%u", host, name, listener.addr.addr.port);
  ck_assert_str_eq(addr_format_listen(&listener.addr, text, sizeof(text)), want);
  ck_assert_int_eq(listener_adopt(&adopted, dup(listener.fd), &config, &logger), 0);
  ck_assert_str_eq(addr_format_listen(&adopted.addr, text, sizeof(text)), want);
  listener_close(&adopted);
  listener_close(&listener);
  snprintf(text, sizeof(text), "[%s%%%u]:0", host, own.sin6_scope_id);
  ck_assert_int_eq(open_at(&listener, text), 0);
  listener_close(&listener);
  check_said(NULL);
}
END_TEST

/* Every refusal says what helps. */
START_TEST(test_link_local_is_refused) {
  struct listener listener;
  if (!has_ipv6()) {
    return;
  }
  ck_assert_int_eq(open_at(&listener, "[fe80::1]:0"), -1);
  ck_assert_int_eq(errno, EINVAL);
  check_said("fix=\"name the interface of a link-local address: [fe80::1%eth0]:7000\"");
  ck_assert_int_eq(open_at(&listener, "[fe80::1%no-such-0]:0"), -1);
  ck_assert_int_eq(errno, ENODEV);
  check_said("fix=\"name an interface that `ip link` shows\"");
  ck_assert_int_eq(open_at(&listener, "[fe80::1%2147483647]:0"), -1);
  ck_assert_int_eq(errno, ENODEV);
  check_said("addr=[fe80::1%2147483647]:0");
  ck_assert_int_eq(listener.fd, -1);
}
END_TEST

/* ---- LISTEN_FDS ---- */

/*
 * Attach a filter, as another process may have left it on the shared socket.  Return: was it
 * permitted?
 */
static bool leave_filter(int fd) {
  static struct sock_filter keep[] = {{.code = BPF_RET | BPF_K, .k = UINT32_MAX}};
  struct sock_fprog program = {.len = 1, .filter = keep};
  int result = setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
  ck_assert(result == 0 || errno == EPERM);
  return result == 0;
}

START_TEST(test_adopt_tcp) {
  struct listener own, adopted;
  ck_assert_int_eq(open_at(&own, "127.0.0.1:0"), 0);
  (void)leave_filter(own.fd); /* without the right there is none to remove */
  const struct linger patient = {.l_onoff = 1, .l_linger = 60};
  ck_assert_int_eq(setsockopt(own.fd, SOL_SOCKET, SO_LINGER, &patient, sizeof(patient)), 0);
  int passed = dup(own.fd);
  ck_assert_int_eq(fcntl(passed, F_SETFL, 0), 0); /* blocking, as a service manager gives it */
  config.nodelay = true;
  ck_assert_int_eq(listener_adopt(&adopted, passed, &config, &logger), 0);
  check_said(NULL);
  ck_assert(adopted.inherited);
  ck_assert_uint_eq(adopted.addr.addr.port, own.addr.addr.port);
  ck_assert_int_ne(fcntl(passed, F_GETFD) & FD_CLOEXEC, 0);
  ck_assert_int_ne(fcntl(passed, F_GETFL) & O_NONBLOCK, 0);
  ck_assert_int_eq(filter_length(own.fd), 0);
  int client = dial("127.0.0.1", own.addr.addr.port);
  struct accepted_conn accepted = welcome(&adopted);
  ck_assert_int_ne(option(accepted.fd, IPPROTO_TCP, TCP_NODELAY), 0);
  struct linger inherited;
  socklen_t size = sizeof(inherited);
  ck_assert_int_eq(getsockopt(accepted.fd, SOL_SOCKET, SO_LINGER, &inherited, &size), 0);
  ck_assert_int_eq(inherited.l_onoff, 0); /* a close does not wait */
  accepted_conn_close(&accepted);
  close(client);

  listener_stop(&adopted); /* closed at once, as the backlog belongs to another process */
  ck_assert_int_eq(adopted.fd, -1);
  ck_assert_int_eq(filter_length(own.fd), 0);
  check_reaches(&own, "127.0.0.1");
  listener_close(&adopted);
  listener_close(&own);
}
END_TEST

/*
 * The process that is replaced may go on: until listener_own a stop only closes, and the options
 * stay until listener_configure.
 */
START_TEST(test_handed_over) {
  struct listener own, given;
  ck_assert_int_eq(open_at(&own, "127.0.0.1:0"), 0);
  config.defer_accept_s = 3;
  listener_inherit(&given, dup(own.fd), &own.addr, &config, &logger);
  ck_assert_int_eq(option(own.fd, IPPROTO_TCP, TCP_DEFER_ACCEPT), 0);
  listener_stop(&given);
  ck_assert_int_eq(given.fd, -1);
  ck_assert_int_eq(filter_length(own.fd), 0);
  check_reaches(&own, "127.0.0.1");

  listener_inherit(&given, dup(own.fd), &own.addr, &config, &logger);
  listener_configure(&given, &config);
  ck_assert_int_gt(option(own.fd, IPPROTO_TCP, TCP_DEFER_ACCEPT), 0);
  listener_own(&given, 0, 0, false);
  listener_stop(&given);
  int late = dial("127.0.0.1", own.addr.addr.port);
  check_refuses(&given, late);
  close(late);
  check_said(NULL);
  listener_close(&given);
  listener_close(&own);
}
END_TEST

/* A filter that cannot be removed is a warning. */
START_TEST(test_adopt_locked_filter) {
  struct listener own, adopted;
  const int on = 1;
  ck_assert_int_eq(open_at(&own, "127.0.0.1:0"), 0);
  if (leave_filter(own.fd)) {
    ck_assert_int_eq(setsockopt(own.fd, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof(on)), 0);
    ck_assert_int_eq(listener_adopt(&adopted, dup(own.fd), &config, &logger), 0);
    check_said("cannot remove the filter of a passed socket");
    listener_close(&adopted);
  }
  listener_close(&own);
}
END_TEST

/* Bound to an interface that does not exist it accepts no client: refused, and left as it was. */
START_TEST(test_adopt_without_an_interface) {
  struct listener own, adopted;
  const int gone = 2147483632;
  ck_assert_int_eq(open_at(&own, "127.0.0.1:0"), 0);
  ck_assert_int_eq(setsockopt(own.fd, SOL_SOCKET, SO_BINDTOIFINDEX, &gone, sizeof(gone)), 0);
  ck_assert_int_eq(listener_adopt(&adopted, own.fd, &config, &logger), -1);
  check_said("is bound to a network interface that does not exist");
  ck_assert_int_eq(option(own.fd, SOL_SOCKET, SO_BINDTOIFINDEX), gone);
  listener_close(&own);
}
END_TEST

/* Another process has made the shared socket a blocking one: an accept waits only briefly. */
START_TEST(test_blocking_accept_ends) {
  struct listener own, adopted;
  struct accepted_conn accepted;
  ck_assert_int_eq(open_at(&own, _i == 0 ? "127.0.0.1:0" : unix_text("s", "")), 0);
  ck_assert_int_eq(listener_adopt(&adopted, dup(own.fd), &config, &logger), 0);
  ck_assert_int_eq(fcntl(own.fd, F_SETFL, fcntl(own.fd, F_GETFL) & ~O_NONBLOCK), 0);
  ck_assert_int_eq(listener_accept(&own, &accepted), ACCEPT_NONE);
  ck_assert_int_eq(listener_accept(&adopted, &accepted), ACCEPT_NONE);
  listener_close(&adopted);
  listener_close(&own);
  check_said(NULL);
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
  ck_assert_int_eq(listen(fds[3], 1), 0); /* listens, but is no stream socket */
  for (size_t i = 0; i < count_of(fds); i++) {
    struct listener listener;
    ck_assert_int_eq(listener_adopt(&listener, fds[i], &config, &logger), -1);
    check_said("no listening stream socket");
    ck_assert_int_ne(fcntl(fds[i], F_GETFD), -1); /* still open */
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
      {test_link_local, 1},
      {test_link_local_is_refused, 1},
      {test_adopt_tcp, 1},
      {test_adopt_what_does_not_listen, 1},
      {test_handed_over, 1},
      {test_adopt_locked_filter, 1},
      {test_adopt_without_an_interface, 1},
      {test_blocking_accept_ends, 2},
  };
  return run_suite_fixture("listener", tests, count_of(tests), set_up, tear_down);
}
