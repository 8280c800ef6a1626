/*
 * check_upgrade_successor: what a new process says if the old one gives it nothing, that it accepts
 * clients after COMMIT, whatever came before, and how a return begins.
 */
#include "pool/upgrade_successor.h"

#include "pool/upgrade_spawn.h"

#include "core/sys.h"
#include "tests/fixtures/pool_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct upgrade_channel parent;
static struct upgrade_successor successor;

/* Begin as a new process whose old one is this test; ${child} as in pool/upgrade_image. */
static void begin_as(pid_t child) {
  static char variable[64];
  static const char *list[] = {variable, NULL};
  const char *const *environment = list;
  int other;
  ck_assert_int_eq(upgrade_channel_pair(&parent, &other), 0);
  snprintf(variable, sizeof(variable), UPGRADE_CHANNEL_NAME "=%d,%d,/program", other, (int)child);
  ck_assert_int_eq(successor_open(&successor, &environment), 0);
  ck_assert(successor_is(&successor));
  ck_assert_str_eq(successor.program, "/program");
  ck_assert_ptr_null(environment[0]);
}

static void begin(void) { begin_as(0); }

static void end(void) {
  successor_close(&successor);
  upgrade_channel_close(&parent);
}

static void send_packet(struct upgrade_packet packet) {
  ck_assert_int_eq(upgrade_channel_send(&parent, &packet), CHANNEL_OK);
}

static void send_hello(uint64_t listeners) {
  send_packet((struct upgrade_packet){.kind = UPGRADE_HELLO, .hello = {.listeners = listeners}});
}

static void introduce(const char *why) {
  static struct config config;
  static struct config_facts facts;
  ck_assert_int_eq(successor_hear(&successor), 0);
  ck_assert_int_eq(successor_introduce(&successor, &config, &facts, NULL), -1);
  ck_assert_str_eq(successor.why, why);
}

START_TEST(the_old_process_has_ended) {
  begin();
  upgrade_channel_close(&parent);
  ck_assert_int_eq(successor_hear(&successor), -1);
  ck_assert_str_eq(successor.why, "it has ended");
  end();
}
END_TEST

START_TEST(another_packet) {
  begin();
  send_packet((struct upgrade_packet){.kind = UPGRADE_COMMIT});
  ck_assert_int_eq(successor_hear(&successor), -1);
  ck_assert_ptr_nonnull(successor.why);
  end();
}
END_TEST

START_TEST(too_many_listeners) {
  begin();
  send_hello(1000);
  introduce("it has too many listeners");
  end();
}
END_TEST

/* The limit on descriptors has no room for a listener. */
START_TEST(no_room_for_a_listener) {
  begin();
  send_hello(1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_eq(listen(fd, 1), -1); /* it is not bound; the receiver does not look */
  send_packet((struct upgrade_packet){
      .kind = UPGRADE_LISTENER,
      .listener = {.addr = {.addr = {.family = ADDR_UNIX}, .mode = -1}, .fd = fd}});
  int lowest = dup(fd);
  close(lowest);
  struct rlimit limit;
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
  rlim_t before = limit.rlim_cur;
  limit.rlim_cur = (rlim_t)lowest;
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
  introduce("no room for its descriptors");
  limit.rlim_cur = before;
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
  close(fd);
  end();
}
END_TEST

/*
 * The child says HELLO after BACK.  What it has sent before was for the program that this process
 * has replaced: a late answer to TOTALS is of no use, and a stop signal is obeyed.
 */
START_TEST(packets_before_the_return) {
  const char *why;
  struct upgrade_packet packet;
  pid_t child = fork();
  ck_assert_int_ne(child, -1);
  if (child == 0) {
    pause();
  }
  begin_as(child);
  ck_assert_int_eq(upgrade_channel_recv(&parent, &packet, &why), CHANNEL_OK);
  ck_assert_int_eq(packet.kind, UPGRADE_BACK);
  send_packet((struct upgrade_packet){.kind = UPGRADE_STATUS});
  send_packet((struct upgrade_packet){.kind = UPGRADE_SIGNAL, .signal = SIGTERM});
  send_hello(0);
  ck_assert_int_eq(successor_hear(&successor), 0);
  ck_assert_int_eq(successor.signal, SIGTERM);
  end();
  ck_assert(successor_stays_parent(&successor));
  upgrade_forget(&successor.old_fd);
  ck_assert_int_eq(kill(child, SIGKILL), 0);
  ck_assert_int_eq(waitpid(child, NULL, 0), child);
}
END_TEST

/* A number that is that of another process names no child. */
START_TEST(another_process_has_the_number) {
  begin_as(getppid());
  ck_assert_int_eq(successor.old_fd, -1);
  end();
  ck_assert(!successor_stays_parent(&successor));
}
END_TEST

static void *new_server(size_t size) {
  void *server = aligned_alloc(CACHE_LINE, (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
  ck_assert_ptr_nonnull(server);
  return memset(server, 0, size);
}

static void open_held(struct xchg_server *server, const struct server_setup *setup) {
  ck_assert_int_eq(server_open(server, setup), 0);
  ck_assert_int_eq(server_start(server), 0);
}

static void close_drained(struct xchg_server *server) {
  server_drain(server);
  AWAIT(server_finished(server));
  server_close(server);
  free(server);
}

/* Neither a batch nor TOTALS has come. */
START_TEST(commit_is_all_that_comes) {
  static const char *const entries[] = {"XCHG_LISTEN=127.0.0.1:0", "XCHG_EXCHANGE=echo",
                                        "XCHG_WORKERS=1", "XCHG_UPGRADE=on", NULL};
  static struct config config;
  static struct log logger;
  struct listener requests = {.fd = -1};
  struct xchg_server *server = new_server(sizeof(*server));
  ck_assert_msg(load(&config, entries, &plenty) == 0, "%s", said);
  log_fixture_open(&logger);
  const struct server_setup setup = {.config = &config, .log = &logger, .held = true};
  open_held(server, &setup);
  begin();
  ck_assert_int_eq(successor_ready(&successor, server, NULL, &requests, &logger), 0);
  send_packet((struct upgrade_packet){.kind = UPGRADE_COMMIT});
  successor_tend(&successor);
  ck_assert(!successor_waits(&successor));
  int client = connect_to_port(server->listeners[0].addr.addr.port);
  send_bytes(client, "x", 1);
  expect_bytes(client, "x", 1); /* it is accepted */
  close(client);
  end();
  close_drained(server);
  log_fixture_close(&logger);
  config_fini(&config);
}
END_TEST

static void send_totals(uint64_t stays) {
  static const uint8_t none[1];
  send_packet((struct upgrade_packet){.kind = UPGRADE_TOTALS,
                                      .account = {.totals = {none, 0}, .stays = stays}});
}

/*
 * What the old process counts after TOTALS, a client of its admin endpoint may see.  So that of the
 * new one waits for the last TOTALS, if they come soon.
 */
START_TEST(the_admin_endpoint_waits_for_the_last_totals) {
  static const char *const entries[] = {"XCHG_LISTEN=127.0.0.1:0", "XCHG_EXCHANGE=echo",
                                        "XCHG_WORKERS=1", "XCHG_UPGRADE=on", NULL};
  static struct config config;
  static struct log logger;
  struct listener requests = {.fd = -1};
  struct xchg_server *server = new_server(sizeof(*server));
  struct admin *admin = new_server(sizeof(*admin));
  ck_assert_msg(load(&config, entries, &plenty) == 0, "%s", said);
  log_fixture_open(&logger);
  const struct server_setup setup = {.config = &config, .log = &logger, .held = true};
  open_held(server, &setup);
  open_held(&admin->server, &setup);
  begin();
  ck_assert_int_eq(successor_ready(&successor, server, admin, &requests, &logger), 0);
  send_totals(_i == 2);
  send_packet((struct upgrade_packet){.kind = UPGRADE_COMMIT});
  successor_tend(&successor);
  ck_assert(!successor_waits(&successor));
  if (_i != 2) { /* else connections stay, and the last ones come much later */
    ck_assert_uint_ne(successor.admin_ns, NEVER);
    ck_assert_ptr_null(successor.admin_release.acceptor);
  }
  if (_i == 0) {
    send_totals(0);
  } else if (_i == 1) {
    successor.admin_ns = 0; /* they do not come */
  } else if (_i == 3) {
    upgrade_channel_close(&parent);
  }
  successor_tend(&successor);
  ck_assert_uint_eq(successor.admin_ns, NEVER);
  int client = connect_to_port(admin->server.listeners[0].addr.addr.port);
  send_bytes(client, "x", 1);
  expect_bytes(client, "x", 1); /* it is accepted */
  close(client);
  end();
  close_drained(server);
  close_drained(&admin->server);
  log_fixture_close(&logger);
  config_fini(&config);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {the_old_process_has_ended, 1},
      {another_packet, 1},
      {too_many_listeners, 1},
      {no_room_for_a_listener, 1},
      {commit_is_all_that_comes, 1},
      {packets_before_the_return, 1},
      {another_process_has_the_number, 1},
      {the_admin_endpoint_waits_for_the_last_totals, 4},
  };
  return run_suite("upgrade_successor", tests, count_of(tests));
}
