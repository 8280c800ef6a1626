/*
 * check_upgrade_giver: a real server gives its connections to a process that the test plays.  It
 * takes all, takes none, is late, ends, or cannot be reached.
 */
#include "pool/upgrade_giver.h"

#include "core/sys.h"
#include "tests/fixtures/pool_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLIENTS = 150 };

static struct config config;
static struct log logger;
static struct xchg_server *server;
static struct upgrade_channel channel, other;
static struct upgrade_giver giver;
static int clients[CLIENTS];
static uint64_t mask; /* the bits of TAKEN */
static uint32_t sent; /* connections that have come */

static void set_up(void) {
  static const char *const entries[] = {"XCHG_LISTEN=127.0.0.1:0",  "XCHG_EXCHANGE=echo",
                                        "XCHG_WORKERS=2",           "XCHG_UPGRADE=on",
                                        "XCHG_MAX_CONNECTIONS=200", NULL};
  const struct server_setup setup = {.config = &config, .log = &logger};
  int fd;
  ck_assert_msg(load(&config, entries, &plenty) == 0, "%s", said);
  log_fixture_open(&logger);
  server = aligned_alloc(CACHE_LINE, (sizeof(*server) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
  ck_assert_ptr_nonnull(server);
  ck_assert_int_eq(server_open(server, &setup), 0);
  ck_assert_int_eq(upgrade_channel_pair(&channel, &fd), 0);
  ck_assert_int_eq(upgrade_channel_open(&other, fd), 0);
  ck_assert_int_eq(giver_open(&giver, server, &channel), 0);
  mask = UINT64_MAX;
  sent = 0;
}

static void start(int count) {
  ck_assert_int_eq(server_start(server), 0);
  for (int i = 0; i < count; i++) {
    clients[i] = connect_to_port(server->listeners[0].addr.addr.port);
    send_bytes(clients[i], "p", 1);
    expect_bytes(clients[i], "p", 1);
  }
}

/* ${served} of the ${count} clients are served here; the others have lost their connection. */
static void tear_down(int count, int served) {
  for (int i = 0; i < count; i++) {
    char byte;
    served -= send(clients[i], "p", 1, MSG_NOSIGNAL) == 1 && recv(clients[i], &byte, 1, 0) == 1;
    close(clients[i]);
  }
  ck_assert_int_eq(served, 0);
  server_drain(server);
  AWAIT(server_finished(server));
  giver_close(&giver);
  upgrade_channel_close(&channel);
  upgrade_channel_close(&other);
  server_close(server);
  free(server);
  log_fixture_close(&logger);
  config_fini(&config);
}

static uint32_t live(void) { return server->model->ops->live(server->model); }

/* The other process receives a batch, if there is one, and answers. */
static void answer(void) {
  struct upgrade_packet packet;
  const char *why;
  enum channel_result result = upgrade_channel_recv(&other, &packet, &why);
  if (result == CHANNEL_AGAIN) {
    return;
  }
  ck_assert_int_eq(result, CHANNEL_OK);
  ck_assert_int_eq(packet.kind, UPGRADE_BATCH);
  uint32_t count = packet.batch.count;
  uint64_t all = count == 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1;
  const struct upgrade_packet taken = {
      .kind = UPGRADE_TAKEN, .number = packet.number, .taken = all & mask};
  sent += count;
  upgrade_packet_close(&packet);
  ck_assert_int_eq(upgrade_channel_send(&other, &taken), CHANNEL_OK);
}

/* Read TAKEN, as upgrade does. */
static void hear(void) {
  struct upgrade_packet packet;
  const char *why;
  if (upgrade_channel_recv(&channel, &packet, &why) == CHANNEL_OK) {
    ck_assert(giver_on_taken(&giver, packet.number, packet.taken));
  }
}

/* Connections that were sent and not answered. */
static uint32_t under_way(void) { return live() - (uint32_t)giver_staying(&giver); }

static const char *described(void) {
  static char text[UPGRADE_TEXT];
  giver_describe_left(&giver, text);
  return text;
}

static enum giver_result tend(void) { return giver_tend(&giver, sys_now_ns()); }

/* Give, and answer, until the round is over. */
static void give(uint32_t most) {
  enum giver_result result;
  uint64_t until_ns = sys_now_ns() + FIXTURE_TIMEOUT_NS;
  giver_begin(&giver, most, NEVER / 2);
  while ((result = tend()) == GIVER_BUSY) {
    ck_assert_uint_lt(sys_now_ns(), until_ns);
    answer();
    hear();
  }
  ck_assert_int_eq(result, GIVER_DONE);
}

/* Begin, and wait until a batch has gone. */
static void begin(uint64_t patience_ns) {
  giver_begin(&giver, UINT32_MAX, patience_ns);
  AWAIT(tend() == GIVER_BUSY && under_way() > 0);
}

START_TEST(all_go) {
  set_up();
  start(CLIENTS);
  give(8);
  ck_assert_uint_eq(giver.moved, 8);
  give(UINT32_MAX);
  struct upgrade_left left;
  ck_assert_uint_eq(giver.moved, CLIENTS);
  ck_assert_uint_eq(sent, CLIENTS);
  ck_assert_uint_eq(live(), 0);
  ck_assert(!giver_left(&giver, 0, &left));
  ck_assert_str_eq(described(), "");
  tear_down(CLIENTS, 0);
}
END_TEST

/* Those that are refused have one more chance if others went, and then stay, for a reason. */
START_TEST(refused_ones_stay) {
  set_up();
  start(CLIENTS);
  mask = _i == 0 ? 0 : ~UINT64_C(1);
  give(UINT32_MAX);
  struct upgrade_left left;
  uint32_t stays = CLIENTS - (uint32_t)giver.moved;
  ck_assert(_i == 0 ? stays == CLIENTS : stays > 0 && stays < 8);
  ck_assert_uint_le(sent, _i == 0 ? CLIENTS : CLIENTS + 2 * 8);
  ck_assert_uint_eq(live(), stays);
  ck_assert(giver_left(&giver, 0, &left));
  ck_assert_uint_eq(left.count, stays);
  ck_assert_str_eq(left.reason, conn_stays_text(CONN_STAYS_REFUSED));
  ck_assert(!giver_left(&giver, 1, &left));
  char text[UPGRADE_TEXT];
  snprintf(text, sizeof(text), "%u (the new process has refused them)", stays);
  ck_assert_str_eq(described(), text);
  tear_down(CLIENTS, (int)stays);
}
END_TEST

/* Time passes while this process is stopped.  So a deadline must pass twice. */
static enum giver_result pass_deadline(void) {
  ck_assert_int_eq(giver_tend(&giver, giver_next_ns(&giver)), GIVER_BUSY);
  return giver_tend(&giver, giver_next_ns(&giver));
}

START_TEST(the_process_was_stopped) {
  set_up(); /* its threads do not run yet */
  giver_begin(&giver, UINT32_MAX, NS_PER_S);
  ck_assert_int_eq(giver_tend(&giver, giver_next_ns(&giver)), GIVER_BUSY);
  start(1);
  AWAIT((answer(), hear(), tend() == GIVER_DONE));
  tear_down(1, 0);
}
END_TEST

START_TEST(a_worker_is_late) {
  set_up(); /* its threads do not run yet */
  giver_begin(&giver, UINT32_MAX, NS_PER_S);
  ck_assert_int_eq(tend(), GIVER_BUSY);
  ck_assert_int_eq(pass_deadline(), GIVER_FAILED);
  ck_assert_str_eq(giver.why, "a worker does not answer");
  giver_stop(&giver, giver.why);
  ck_assert_uint_eq(giver_next_ns(&giver), NEVER);
  start(1);
  AWAIT(tend() == GIVER_DONE);
  tear_down(1, 1);
}
END_TEST

/* What was sent belongs to the other process if it says so later. */
START_TEST(a_batch_is_taken_late) {
  set_up();
  start(CLIENTS);
  begin(NS_PER_S);
  uint32_t count = under_way();
  ck_assert_int_eq(pass_deadline(), GIVER_FAILED);
  ck_assert_str_eq(giver.why, "the new process does not take connections");
  const char *why = giver.why;
  giver_stop(&giver, why);
  ck_assert_uint_eq(under_way(), count);
  answer();
  hear();
  AWAIT(tend() == GIVER_DONE);
  ck_assert_uint_eq(giver.moved, count);
  ck_assert_uint_eq(live(), CLIENTS - count);
  struct upgrade_left left;
  ck_assert(giver_left(&giver, 0, &left) && !giver_left(&giver, 1, &left));
  ck_assert_uint_eq(left.count, CLIENTS - count);
  ck_assert_str_eq(left.reason, why);
  tear_down(CLIENTS, CLIENTS - (int)count);
}
END_TEST

START_TEST(the_other_process_ends) {
  set_up();
  start(CLIENTS);
  begin(NS_PER_S);
  upgrade_channel_close(&other);
  giver_withdraw(&giver);
  AWAIT(tend() == GIVER_DONE);
  ck_assert_uint_eq(giver.moved, 0);
  ck_assert_uint_gt(giver.returned, 0);
  tear_down(CLIENTS, CLIENTS);
}
END_TEST

/* Without memory for the file all stay, and none is asked twice. */
START_TEST(records_cannot_be_written) {
  set_up();
  start(CLIENTS);
  int file = giver.file;
  giver.file = open("/dev/null", O_RDONLY | O_CLOEXEC);
  give(UINT32_MAX);
  close(giver.file);
  giver.file = file;
  struct upgrade_left left;
  ck_assert_uint_eq(sent, 0);
  ck_assert_uint_eq(giver.returned, CLIENTS);
  ck_assert(giver_left(&giver, 0, &left) && !giver_left(&giver, 1, &left));
  ck_assert_uint_eq(left.count, CLIENTS);
  ck_assert_str_eq(left.reason, conn_stays_text(CONN_STAYS_UNSENT));
  tear_down(CLIENTS, CLIENTS);
}
END_TEST

/* There is room for all reasons. */
START_TEST(reasons_are_described) {
  set_up();
  ck_assert_int_eq(server_start(server), 0);
  char text[2 * UPGRADE_TEXT] = "";
  for (int stays = 1; stays < CONN_STAYS_COUNT; stays++) {
    size_t used = strlen(text);
    giver.stayed[stays] = UINT32_MAX - 1;
    snprintf(text + used, sizeof(text) - used, "%s4294967294 (%s)", used == 0 ? "" : ", ",
             conn_stays_text((enum conn_stays)stays));
  }
  ck_assert_str_eq(described(), text);
  giver.rest = "no connection is here";
  ck_assert_str_eq(described(), "");
  tear_down(0, 0);
}
END_TEST

START_TEST(a_batch_cannot_be_sent) {
  set_up();
  start(CLIENTS);
  int fd = channel.fd;
  channel.fd = server_done_fd(server); /* no socket */
  giver_begin(&giver, UINT32_MAX, NS_PER_S);
  AWAIT(tend() == GIVER_FAILED);
  ck_assert_str_eq(giver.why, "a batch cannot be sent");
  giver_stop(&giver, giver.why);
  AWAIT(tend() == GIVER_DONE);
  channel.fd = fd;
  ck_assert_uint_eq(live(), CLIENTS);
  tear_down(CLIENTS, CLIENTS);
}
END_TEST

/* Give all together, and answer. Return: the result. */
static enum giver_result give_together(void) {
  enum giver_result result;
  giver.together = true;
  giver_begin(&giver, UINT32_MAX, NEVER / 2);
  AWAIT((answer(), hear(), (result = tend()) != GIVER_BUSY));
  return result;
}

/* They are here until COMMIT, which counts them. */
START_TEST(all_go_together) {
  set_up();
  start(CLIENTS);
  ck_assert_int_eq(give_together(), GIVER_DONE);
  ck_assert_uint_eq(sent, CLIENTS);
  ck_assert_uint_eq(live(), CLIENTS);
  ck_assert_uint_eq(giver_staying(&giver), 0);
  ck_assert_uint_eq(giver.moved, 0);
  giver_commit(&giver);
  ck_assert_uint_eq(giver.moved, CLIENTS);
  ck_assert_uint_eq(giver_staying(&giver), 0);
  AWAIT(tend() == GIVER_DONE);
  ck_assert_uint_eq(live(), 0);
  ck_assert_str_eq(described(), "");
  tear_down(CLIENTS, 0);
}
END_TEST

START_TEST(all_come_back_together) {
  set_up();
  start(CLIENTS);
  ck_assert_int_eq(give_together(), GIVER_DONE);
  giver_withdraw(&giver);
  AWAIT(tend() == GIVER_DONE);
  ck_assert_uint_eq(giver.moved, 0);
  ck_assert_uint_eq(giver.returned, CLIENTS);
  tear_down(CLIENTS, CLIENTS);
}
END_TEST

/* One is refused; a batch cannot be written; a batch cannot be sent. */
START_TEST(together_fails) {
  static const char *const reasons[] = {"the new process has refused them", "they cannot be sent",
                                        "a batch cannot be sent"};
  set_up();
  start(CLIENTS);
  int file = giver.file, fd = channel.fd;
  mask = _i == 0 ? ~UINT64_C(1) : UINT64_MAX;
  if (_i == 1) {
    giver.file = open("/dev/null", O_RDONLY | O_CLOEXEC);
  }
  channel.fd = _i == 2 ? server_done_fd(server) : fd;
  giver.together = true;
  giver_begin(&giver, UINT32_MAX, NEVER / 2);
  enum giver_result result = GIVER_BUSY;
  if (_i == 2) {
    AWAIT((result = tend()) != GIVER_BUSY);
  } else {
    AWAIT((answer(), hear(), (result = tend()) != GIVER_BUSY));
  }
  ck_assert_int_eq(result, GIVER_FAILED);
  ck_assert_str_eq(giver.why, reasons[_i]);
  giver_withdraw(&giver);
  AWAIT(tend() == GIVER_DONE);
  if (_i == 1) {
    close(giver.file);
  }
  giver.file = file;
  channel.fd = fd;
  ck_assert_uint_eq(giver.moved, 0);
  tear_down(CLIENTS, CLIENTS);
}
END_TEST

/* Together they wait for a bounded time, and all come back. */
START_TEST(together_for_too_long) {
  set_up();
  start(CLIENTS);
  giver.together = true;
  giver_begin(&giver, UINT32_MAX, NEVER / 2);
  ck_assert_uint_ne(giver_next_ns(&giver), NEVER);
  giver.freeze_ns = 0;
  ck_assert_int_eq(tend(), GIVER_FAILED);
  ck_assert_str_eq(giver.why, "connections wait for too long");
  giver_withdraw(&giver);
  AWAIT(tend() == GIVER_DONE);
  ck_assert_uint_eq(giver.returned, CLIENTS);
  tear_down(CLIENTS, CLIENTS);
}
END_TEST

/* It is withdrawn at any moment: a worker may have the batch. */
START_TEST(together_is_withdrawn) {
  set_up();
  start(CLIENTS);
  giver.together = true;
  giver_begin(&giver, UINT32_MAX, NEVER / 2);
  for (int i = 0; i < _i * 3; i++) {
    (void)tend(); /* how far it comes differs */
    answer();
    hear();
  }
  giver_withdraw(&giver);
  AWAIT(tend() == GIVER_DONE);
  ck_assert_uint_eq(giver.moved, 0);
  tear_down(CLIENTS, CLIENTS);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {all_go, 1},
      {refused_ones_stay, 2},
      {the_process_was_stopped, 1},
      {a_worker_is_late, 1},
      {a_batch_is_taken_late, 1},
      {the_other_process_ends, 1},
      {records_cannot_be_written, 1},
      {reasons_are_described, 1},
      {a_batch_cannot_be_sent, 1},
      {all_go_together, 1},
      {all_come_back_together, 1},
      {together_fails, 3},
      {together_for_too_long, 1},
      {together_is_withdrawn, 30},
  };
  return run_suite("upgrade_giver", tests, count_of(tests));
}
