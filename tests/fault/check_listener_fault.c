/*
 * check_listener_fault: the meaning of each errno of accept4, and a listener whose options the
 * system refuses.
 */
#include "tests/fault/fault.h"
#include "tests/fixtures/conn_fixture.h"
#include "tests/fixtures/log_to_fd.h"

#include "net/listener.h"

#include <netinet/tcp.h>
#include <stdio.h>

static int said[2]; /* a pipe: the lines of the log */
static struct log logger;
static struct config config;
static struct listener listener;

static void set_up(void) {
  fault_reset();
  ck_assert_int_eq(pipe2(said, O_CLOEXEC | O_NONBLOCK), 0);
  log_to_fd(&logger, said[1], LOG_WARN, LOG_LOGFMT);
  config = (struct config){.backlog = 8};
  listener = (struct listener){.fd = -1};
}

static void tear_down(void) {
  listener_close(&listener);
  ck_assert_uint_eq(fault_bad_closes(), 0);
  fault_reset();
  close(said[0]);
  close(said[1]);
}

static void open_at(const char *text) {
  struct addr_listen where;
  ck_assert_int_eq(addr_parse_listen(text, &where), 0);
  ck_assert_int_eq(listener_open(&listener, &where, &config, &logger), 0);
}

/* A client that waits in the queue. */
static int dial(void) {
  struct sockaddr_storage at;
  socklen_t size = sizeof(at);
  ck_assert_int_eq(getsockname(listener.fd, (struct sockaddr *)&at, &size), 0);
  int fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_eq(connect(fd, (struct sockaddr *)&at, size), 0);
  return fd;
}

/* Count the logged lines. The first names ${want}; NULL: any. */
static int lines_logged(const char *want) {
  char text[8192];
  ssize_t got = read(said[0], text, sizeof(text) - 1);
  int count = 0;
  text[got > 0 ? got : 0] = 0;
  ck_assert_msg(want == NULL || strstr(text, want) != NULL, "no %s in %s", want, text);
  ck_assert_msg(got <= 0 || strstr(text, " addr=") != NULL, "no address in %s", text);
  for (ssize_t i = 0; i < got; i++) {
    count += text[i] == '\n';
  }
  return count;
}

static int lines(void) { return lines_logged(NULL); }

static const struct {
  int error;
  enum sock_accepted means;
} errors[] = {
    {EAGAIN, ACCEPT_NONE},       {EMFILE, ACCEPT_EXHAUSTED}, {ENFILE, ACCEPT_EXHAUSTED},
    {ENOBUFS, ACCEPT_EXHAUSTED}, {ENOMEM, ACCEPT_EXHAUSTED}, {EINTR, ACCEPT_NEXT},
    {ECONNABORTED, ACCEPT_NEXT}, {EPROTO, ACCEPT_NEXT},      {ENETDOWN, ACCEPT_NEXT},
    {ENOPROTOOPT, ACCEPT_NEXT},  {EHOSTDOWN, ACCEPT_NEXT},   {ENONET, ACCEPT_NEXT},
    {EHOSTUNREACH, ACCEPT_NEXT}, {ENETUNREACH, ACCEPT_NEXT}, {ETIMEDOUT, ACCEPT_NEXT},
    {EPERM, ACCEPT_NEXT},        {EBADF, ACCEPT_BROKEN},     {ENOTSOCK, ACCEPT_BROKEN},
    {EINVAL, ACCEPT_BROKEN},     {EFAULT, ACCEPT_BROKEN},
};

/* The client stays in the queue, and the next call accepts it. */
START_TEST(test_accept_fails) {
  open_at("127.0.0.1:0");
  int client = dial();
  struct accepted_conn accepted = {.fd = -1};
  orders_fail(FAULT_ACCEPT, 1, errors[_i].error, 1);
  ck_assert_int_eq(listener_accept(&listener, &accepted), errors[_i].means);
  ck_assert_int_eq(errno, errors[_i].error);
  ck_assert_int_eq(accepted.fd, -1);
  ck_assert_int_eq(listener_accept(&listener, &accepted), ACCEPTED);
  accepted_conn_close(&accepted);
  close(client);
  ck_assert_int_eq(lines(), 0); /* logging is up to the acceptor */
}
END_TEST

/*
 * EINVAL means that the queue of a stopped UNIX listener has ended; it breaks any other listener.
 */
START_TEST(test_invalid_accept) {
  struct accepted_conn accepted;
  char text[64], path[48] = "/tmp/check_listener_fault.XXXXXX";
  ck_assert_ptr_nonnull(mkdtemp(path));
  snprintf(text, sizeof(text), "unix:%s/s", path);
  open_at(text);
  orders_fail(FAULT_ACCEPT, 1, EINVAL, 1);
  ck_assert_int_eq(listener_accept(&listener, &accepted), ACCEPT_BROKEN);
  listener_stop(&listener);
  orders_fail(FAULT_ACCEPT, 1, EINVAL, 1);
  ck_assert_int_eq(listener_accept(&listener, &accepted), ACCEPT_NONE);
  orders_fail(FAULT_ACCEPT, 1, EBADF, 1);
  ck_assert_int_eq(listener_accept(&listener, &accepted), ACCEPT_BROKEN);
  listener_close(&listener);
  ck_assert_int_eq(rmdir(path), 0);
  open_at("127.0.0.1:0");
  listener_stop(&listener);
  orders_fail(FAULT_ACCEPT, 1, EINVAL, 1);
  ck_assert_int_eq(listener_accept(&listener, &accepted), ACCEPT_BROKEN);
}
END_TEST

/* An option that cannot be set is a warning, and the listener works. */
START_TEST(test_options_fail) {
  config.nodelay = config.keepalive = true;
  config.sndbuf_bytes = 20000;
  config.defer_accept_s = 1;
  config.fastopen = 5;
  static const char *const variables[] = {"XCHG_SNDBUF",    "XCHG_NODELAY",
                                          "XCHG_KEEPALIVE", "XCHG_DEFER_ACCEPT",
                                          "XCHG_FASTOPEN",  "a blocking accept"};
  for (uint64_t nth = 1; nth <= count_of(variables); nth++) {
    fault_reset();
    orders_fail(FAULT_SETSOCKOPT, nth, ENOPROTOOPT, 1);
    open_at("127.0.0.1:0");
    ck_assert_uint_eq(orders_count(FAULT_SETSOCKOPT), count_of(variables));
    ck_assert_int_eq(lines_logged(variables[nth - 1]), 1);
    listener_close(&listener);
  }
  orders_fail(FAULT_SETSOCKOPT, 1, ENOPROTOOPT, UINT64_MAX);
  config.defer_accept_s = 0;
  open_at("127.0.0.1:0");
  ck_assert_int_eq(lines(), 5);
  int client = dial();
  struct accepted_conn accepted;
  ck_assert_int_eq(listener_accept(&listener, &accepted), ACCEPTED);
  accepted_conn_close(&accepted);
  close(client);
}
END_TEST

/* A UNIX connection whose send buffer cannot be set is served. */
START_TEST(test_sndbuf_of_a_connection_fails) {
  char text[64], path[48] = "/tmp/check_listener_fault.XXXXXX";
  ck_assert_ptr_nonnull(mkdtemp(path));
  snprintf(text, sizeof(text), "unix:%s/s", path);
  config.sndbuf_bytes = 20000;
  open_at(text);
  int client = dial();
  struct accepted_conn accepted;
  orders_fail(FAULT_SETSOCKOPT, 1, ENOMEM, 1);
  ck_assert_int_eq(listener_accept(&listener, &accepted), ACCEPTED);
  ck_assert_uint_eq(orders_hits(), 1);
  accepted_conn_close(&accepted);
  close(client);
  orders_fail(FAULT_SHUTDOWN, 1, ENOBUFS, 1);
  listener_stop(&listener);
  ck_assert_int_eq(lines_logged("a client that connects now can be lost"), 1);
  orders_fail(FAULT_CLOSE, 1, EINTR, 1);
  listener_close(&listener);
  ck_assert_int_eq(listener.fd, -1);
  ck_assert_int_eq(rmdir(path), 0);
}
END_TEST

/* Start to connect to the listener. Return: 0, or the errno. */
static int dial_late(void) {
  struct sockaddr_storage at;
  socklen_t size = sizeof(at);
  ck_assert_int_eq(getsockname(listener.fd, (struct sockaddr *)&at, &size), 0);
  int fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int error = connect(fd, (struct sockaddr *)&at, size) == 0 ? 0 : errno;
  close(fd);
  return error;
}

/* Unprivileged, or in a container: without the filter new clients are refused, and none is lost. */
START_TEST(test_filter_refused) {
  open_at("127.0.0.1:0");
  int client = dial();
  struct accepted_conn accepted;
  orders_fail(FAULT_SETSOCKOPT, 1, _i == 0 ? EPERM : ENOMEM, 1);
  listener_stop(&listener);
  ck_assert_uint_eq(orders_hits(), 1);
  ck_assert_int_eq(lines(), 0);
  ck_assert_int_eq(dial_late(), ECONNREFUSED);
  ck_assert_int_eq(listener_accept(&listener, &accepted), ACCEPTED);
  accepted_conn_close(&accepted);
  ck_assert_int_eq(listener_accept(&listener, &accepted), ACCEPT_NONE);
  close(client);
}
END_TEST

/* Neither is permitted: one line names the promise, and clients in the queue are accepted. */
START_TEST(test_new_clients_cannot_be_refused) {
  open_at("127.0.0.1:0");
  int client = dial();
  struct accepted_conn accepted;
  orders_fail(FAULT_SETSOCKOPT, 1, EPERM, 2);
  listener_stop(&listener);
  ck_assert_int_eq(lines_logged("one that connects now can be lost"), 1);
  ck_assert_int_eq(dial_late(), 0);
  ck_assert_int_eq(listener_accept(&listener, &accepted), ACCEPTED);
  accepted_conn_close(&accepted);
  close(client);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_accept_fails, count_of(errors)},
      {test_invalid_accept, 1},
      {test_options_fail, 1},
      {test_sndbuf_of_a_connection_fails, 1},
      {test_filter_refused, 2},
      {test_new_clients_cannot_be_refused, 1},
  };
  return run_suite_fixture("listener_fault", tests, count_of(tests), set_up, tear_down);
}
