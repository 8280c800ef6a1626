/*
 * check_upgrade: an acceptor that does not answer turns an upgrade back.  The new process is a
 * child that waits for a signal.  tests/live has what real processes do.
 */
#include "pool/upgrade.h"

#include "core/sys.h"
#include "pool/log_writer.h"
#include "pool/service.h"
#include "tests/fixtures/pool_fixture.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct config config;
static struct log logger;
static struct xchg_server *server;
static const struct upgrade_channel before = {.fd = -1};
static struct log_writer *writer;
static struct service service = {.notify = {.fd = -1}};
static struct upgrade upgrade;
static int other; /* the end of the new process */

static void set_up(void) {
  static const char *const entries[] = {"XCHG_LISTEN=127.0.0.1:0", "XCHG_EXCHANGE=echo",
                                        "XCHG_WORKERS=1", "XCHG_UPGRADE=on", NULL};
  const struct server_setup setup = {.config = &config, .log = &logger};
  size_t size = (sizeof(*server) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
  ck_assert_msg(load(&config, entries, &plenty) == 0, "%s", said);
  log_fixture_open(&logger);
  server = aligned_alloc(CACHE_LINE, size);
  ck_assert_ptr_nonnull(server);
  ck_assert_int_eq(server_open(server, &setup), 0);
  writer = log_writer_create(-1, LOG_LOGFMT, false);
  ck_assert_ptr_nonnull(writer);
  const struct upgrade_setup upgrades = {.config = &config,
                                         .log = &logger,
                                         .log_writer = writer,
                                         .server = server,
                                         .service = &service,
                                         .before = &before};
  upgrade_open(&upgrade, &upgrades);
}

/* A process has said READY. */
static void make_ready(void) {
  ck_assert_int_eq(upgrade_channel_pair(&upgrade.channel, &other), 0);
  ck_assert_int_eq(giver_open(&upgrade.giver, server, &upgrade.channel), 0);
  upgrade.outcome.code = UINT64_MAX;
  upgrade.step = STEP_HOLD;
  upgrade.deadline_ns = NEVER;
  upgrade.peer = fork();
  ck_assert_int_ne(upgrade.peer, -1);
  if (upgrade.peer == 0) {
    pause();
    _exit(1);
  }
  upgrade.peer_fd = (int)syscall(SYS_pidfd_open, upgrade.peer, 0);
  ck_assert_int_ne(upgrade.peer_fd, -1);
}

static void tear_down(void) {
  upgrade_close(&upgrade);
  close(other);
  server_drain(server);
  AWAIT(server_finished(server));
  server_close(server);
  free(server);
  log_writer_destroy(writer);
  log_fixture_close(&logger);
  config_fini(&config);
}

static bool tend_until(enum upgrade_step step) {
  (void)upgrade_tend(&upgrade); /* AWAIT looks again and again */
  return upgrade.step == step;
}

/* The answer of an upgrade is known when the server accepts again, and not before. */
START_TEST(an_acceptor_does_not_answer) {
  short events;
  set_up(); /* its threads do not run yet */
  make_ready();
  ck_assert(tend_until(STEP_HOLD));
  upgrade.deadline_ns = 0;
  AWAIT(tend_until(STEP_RETURN)); /* the child was killed, and has ended */
  ck_assert(upgrade_running(&upgrade));
  ck_assert_int_eq(upgrade_fd(&upgrade, &events), -1);
  ck_assert_uint_eq(upgrade.outcome.code, UINT64_MAX);
  ck_assert_int_eq(server_start(server), 0);
  AWAIT(tend_until(STEP_NONE));
  ck_assert(!server->acceptor.held);
  ck_assert_uint_eq(upgrade.outcome.code, SERVER_OSERR);
  ck_assert_str_eq(upgrade.outcome.step, "hold");
  ck_assert_str_eq(upgrade.outcome.reason, "the acceptor does not answer");
  ck_assert_ptr_nonnull(strstr(log_fixture_text(&logger), "status=\"signal 9\""));
  tear_down();
}
END_TEST

/* A stop waits for an acceptor for a time only.  That time begins once. */
START_TEST(a_stop_during_the_return) {
  set_up(); /* its threads do not run yet */
  make_ready();
  ck_assert(tend_until(STEP_HOLD));
  upgrade.deadline_ns = 0;
  AWAIT(tend_until(STEP_RETURN));
  ck_assert_uint_eq(upgrade_tend(&upgrade), NEVER);
  ck_assert(upgrade_cancel(&upgrade));
  uint64_t until_ns = upgrade_tend(&upgrade);
  ck_assert_uint_ne(until_ns, NEVER);
  ck_assert(upgrade_cancel(&upgrade));
  ck_assert_uint_eq(upgrade_tend(&upgrade), until_ns);
  upgrade.deadline_ns = 0;
  ck_assert(tend_until(STEP_NONE));
  ck_assert(!upgrade_cancel(&upgrade));
  ck_assert_int_eq(server_start(server), 0);
  tear_down();
}
END_TEST

/* New clients do not wait for its end, and main does not wake up all the time. */
START_TEST(the_new_process_does_not_end) {
  set_up();
  ck_assert_int_eq(server_start(server), 0);
  make_ready();
  AWAIT(acceptor_order_reach(&upgrade.order, ACCEPTOR_HOLD));
  upgrade.giver.state = GIVER_WAIT; /* and its time is over */
  upgrade.giver.deadline_ns = 0;
  upgrade.step = STEP_KILL;
  upgrade.deadline_ns = NEVER;
  AWAIT(upgrade_tend(&upgrade) == NEVER && acceptor_order_reach(&upgrade.order, ACCEPTOR_RELEASE));
  ck_assert_int_eq(upgrade.step, STEP_KILL);
  int client = connect_to_port(server->listeners[0].addr.addr.port);
  send_bytes(client, "p", 1);
  expect_bytes(client, "p", 1);
  close(client);
  upgrade.deadline_ns = 0;
  AWAIT(tend_until(STEP_NONE));
  tear_down();
}
END_TEST

/* It answers neither the batch nor the totals, and a wrong answer does not help. */
START_TEST(the_new_process_is_stuck) {
  static struct upgrade_channel channel;
  const struct upgrade_packet status = {.kind = UPGRADE_STATUS};
  struct upgrade_packet packet;
  const char *why;
  set_up();
  ck_assert_int_eq(server_start(server), 0);
  int client = connect_to_port(server->listeners[0].addr.addr.port);
  send_bytes(client, "p", 1);
  expect_bytes(client, "p", 1);
  make_ready();
  ck_assert_int_eq(upgrade_channel_open(&channel, other), 0);
  upgrade.step = STEP_BATCHES;
  giver_begin(&upgrade.giver, UINT32_MAX, 0);
  AWAIT(tend_until(STEP_TOTALS) && upgrade.totals_sent);
  AWAIT(upgrade_channel_recv(&channel, &packet, &why) == CHANNEL_OK);
  ck_assert_int_eq(packet.kind, UPGRADE_BATCH);
  upgrade_packet_close(&packet);
  AWAIT(upgrade_channel_recv(&channel, &packet, &why) == CHANNEL_OK);
  ck_assert_int_eq(packet.kind, UPGRADE_TOTALS);
  ck_assert_uint_eq(packet.account.stays, 0); /* it is on its way */
  ck_assert_int_eq(upgrade_channel_send(&channel, &status), CHANNEL_OK);
  ck_assert(tend_until(STEP_TOTALS));
  upgrade.deadline_ns = 0;
  AWAIT(tend_until(STEP_NONE));
  ck_assert_str_eq(upgrade.outcome.step, "totals");
  ck_assert_ptr_nonnull(strstr(log_fixture_text(&logger), "returned=1 lost=0"));
  send_bytes(client, "q", 1);
  expect_bytes(client, "q", 1);
  close(client);
  tear_down();
}
END_TEST

/* A stop turns it back before a connection has moved. */
START_TEST(a_stop_comes_early) {
  set_up();
  ck_assert_int_eq(server_start(server), 0);
  make_ready();
  ck_assert(upgrade_cancel(&upgrade));
  AWAIT(tend_until(STEP_NONE));
  ck_assert_str_eq(upgrade.outcome.reason, "a stop has begun");
  ck_assert(!upgrade_cancel(&upgrade));
  ck_assert_int_eq(upgrade_begin(&upgrade, NULL), 75);
  tear_down();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {an_acceptor_does_not_answer, 1},  {a_stop_during_the_return, 1},
      {the_new_process_does_not_end, 1}, {the_new_process_is_stuck, 1},
      {a_stop_comes_early, 1},
  };
  return run_suite("upgrade", tests, count_of(tests));
}
