/* check_upgrade_ask: what xchgd --upgrade sends, and what it makes of each answer. */
#include "pool/upgrade_ask.h"

#include "core/sys.h"
#include "net/fd_socket.h"
#include "net/upgrade_socket.h"
#include "tests/fixtures/listener_fixture.h"

#include <string.h>
#include <sys/wait.h>

static struct listener listener;
static struct config asks;
static const char *const environment[] = {"PATH=/bin", "XCHG_A=1", "XCHG_B", "XCHG_C=", NULL};
static const char wanted[] = "XCHG_A=1\0XCHG_C="; /* with its last 0 */
static char *out, *errors;

static void begin(void) {
  set_up();
  config.use = USE_REQUESTS;
  asks = (struct config){.upgrade = UPGRADE_SOCKET, .model = MODEL_POOL};
  ck_assert_int_eq(addr_parse_listen(unix_text("u", ""), &asks.upgrade_at), 0);
  ck_assert_int_eq(listener_open(&listener, &asks.upgrade_at, &config, &logger), 0);
}

static void end(void) {
  free(out);
  free(errors);
  out = errors = NULL;
  listener_close(&listener);
  tear_down();
}

/* The server, in a child: compare the request and give ${answer}; NULL = end without one. */
static int serve(const char *answer) {
  static char bytes[FD_PACKET_BYTES_MAX];
  struct pollfd ready = {.fd = listener.fd, .events = POLLIN};
  int fds[FD_PACKET_FDS_MAX];
  unsigned count;
  size_t size;
  uid_t uid;
  (void)poll(&ready, 1, -1);
  ready.fd = upgrade_socket_accept(&listener, &uid);
  (void)poll(&ready, 1, -1);
  if (fd_socket_recv(ready.fd, bytes, &size, fds, &count) != FD_IO_OK || size != sizeof(wanted) ||
      memcmp(bytes, wanted, size) != 0) {
    return 1;
  }
  return answer != NULL && fd_socket_send(ready.fd, answer, strlen(answer), NULL, 0) != FD_IO_OK;
}

/* Ask a server that gives ${answer}. Return: the exit code; the texts are in out and errors. */
static int ask(const char *answer) {
  size_t out_size, errors_size;
  int status;
  FILE *to_out = open_memstream(&out, &out_size),
       *to_errors = open_memstream(&errors, &errors_size);
  pid_t child = fork();
  ck_assert_int_ne(child, -1);
  if (child == 0) {
    _exit(serve(answer));
  }
  int code = upgrade_ask(&asks, environment, to_out, to_errors);
  fclose(to_out);
  fclose(to_errors);
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(status, 0);
  return code;
}

START_TEST(test_answers) {
  static const struct {
    const char *answer;
    int code;
    const char *out, *errors;
  } cases[] = {
      {"0 XCHG_A XCHG_C", 0, "upgraded; changed variables: XCHG_A XCHG_C\n", ""},
      {"0 none; connections that stay: 5 (another exchange)", 0,
       "upgraded; changed variables: none; connections that stay: 5 (another exchange)\n", ""},
      {"69 at step 'listeners': why", 69, "", "the upgrade failed at step 'listeners': why\n"},
      {"75 at step 'request': \x1b[2J", 75, "", "the upgrade failed at step 'request': \\x1b[2J\n"},
      {"128 x", 71, "", "the server has sent no answer\n"},
      {"71", 71, "", "the server has sent no answer\n"},
      {"x 1", 71, "", "the server has sent no answer\n"},
      {NULL, 71, "", "the server has ended without an answer\n"},
  };
  ck_assert_int_eq(ask(cases[_i].answer), cases[_i].code);
  ck_assert_str_eq(out, cases[_i].out);
  ck_assert_str_eq(errors, cases[_i].errors);
}
END_TEST

/* Without a socket, a server or XCHG_MODEL=pool none is asked. */
START_TEST(test_no_server) {
  listener_close(&listener);
  FILE *to = open_memstream(&errors, &(size_t){0});
  ck_assert_int_eq(upgrade_ask(&asks, environment, to, to), 69);
  asks.model = MODEL_FORK;
  ck_assert_int_eq(upgrade_ask(&asks, environment, to, to), 78);
  asks = (struct config){.upgrade = UPGRADE_ON, .model = MODEL_POOL};
  ck_assert_int_eq(upgrade_ask(&asks, environment, to, to), 78);
  fclose(to);
}
END_TEST

/* The variables of one request fit into a packet. */
START_TEST(test_too_long) {
  static char entry[FD_PACKET_BYTES_MAX + 1];
  const char *const list[] = {entry, NULL};
  memset(entry, 'x', sizeof(entry) - 1);
  memcpy(entry, "XCHG_A=", 7);
  FILE *to = open_memstream(&errors, &(size_t){0});
  ck_assert_int_eq(upgrade_ask(&asks, list, to, to), 78);
  fclose(to);
  ck_assert_ptr_nonnull(strstr(errors, "want at most"));
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_answers, 8},
      {test_no_server, 1},
      {test_too_long, 1},
  };
  return run_suite_fixture("upgrade_ask", tests, count_of(tests), begin, end);
}
