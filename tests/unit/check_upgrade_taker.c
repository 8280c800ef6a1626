/*
 * check_upgrade_taker: a server takes over the connections of another one in this process, whose
 * giver sends them.  All of them; those that can be read; none, while a client waits for room.
 */
#include "pool/upgrade_taker.h"

#include "core/sys.h"
#include "pool/upgrade_giver.h"
#include "tests/fixtures/pool_fixture.h"

#include <stdlib.h>

enum { CLIENTS = 100, ROOM = 64 };

struct side {
  struct config config;
  struct log log;
  struct xchg_server *server;
  struct upgrade_channel channel;
};

static struct side from, to;
static struct upgrade_giver giver;
static struct upgrade_taker taker;
static int clients[CLIENTS], waiting[ROOM];

static void open_side(struct side *side, const char *const *entries) {
  const struct server_setup setup = {.config = &side->config, .log = &side->log};
  size_t size = (sizeof(*side->server) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
  ck_assert_msg(load(&side->config, entries, &plenty) == 0, "%s", said);
  log_fixture_open(&side->log);
  side->server = aligned_alloc(CACHE_LINE, size);
  ck_assert_ptr_nonnull(side->server);
  ck_assert_int_eq(server_open(side->server, &setup), 0);
  ck_assert_int_eq(server_start(side->server), 0);
}

static void close_side(struct side *side) {
  server_drain(side->server);
  AWAIT(server_finished(side->server));
  upgrade_channel_close(&side->channel);
  server_close(side->server);
  free(side->server);
  log_fixture_close(&side->log);
  config_fini(&side->config);
}

#define SIDE(side, ...)                                                                       \
  open_side(side, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) "XCHG_LISTEN=127.0.0.1:0", \
                                        "XCHG_EXCHANGE=echo", "XCHG_UPGRADE=on", NULL})

static void connect_channel(void) {
  int fd;
  ck_assert_int_eq(upgrade_channel_pair(&from.channel, &fd), 0);
  ck_assert_int_eq(upgrade_channel_open(&to.channel, fd), 0);
  ck_assert_int_eq(giver_open(&giver, from.server, &from.channel), 0);
  ck_assert_int_eq(taker_open(&taker, to.server, &to.channel, &to.log), 0);
}

static void close_all(void) {
  giver_close(&giver);
  taker_close(&taker);
  close_side(&from);
  close_side(&to);
}

static uint32_t live(const struct side *side) {
  return side->server->model->ops->live(side->server->model);
}

static int connect_side(const struct side *side) {
  return connect_to_port(side->server->listeners[0].addr.addr.port);
}

static void echo(int fd) {
  send_bytes(fd, "p", 1);
  expect_bytes(fd, "p", 1);
}

static void (*spoil)(int file); /* what happens to the file of a batch; NULL = nothing */

static void shorten(int file) { ck_assert_int_eq(ftruncate(file, 0), 0); }

/* The first field of the first record is one that must be understood. */
static void change(int file) { ck_assert_int_eq(pwrite(file, "\xff\xff", 2, 0), 2); }

/* The new process: if it is idle, a batch may come. Return: has one come? */
static bool take(void) {
  struct upgrade_packet packet;
  const char *why;
  if (!taker_tend(&taker) || upgrade_channel_recv(&to.channel, &packet, &why) != CHANNEL_OK) {
    return false;
  }
  ck_assert_int_eq(packet.kind, UPGRADE_BATCH);
  if (spoil != NULL) {
    spoil(packet.batch.file);
  }
  taker_on_batch(&taker, &packet);
  return true;
}

/* The old process. Return: is the round over? */
static bool give(void) {
  struct upgrade_packet packet;
  const char *why;
  if (upgrade_channel_recv(&from.channel, &packet, &why) == CHANNEL_OK) {
    ck_assert(giver_on_taken(&giver, packet.number, packet.taken));
  }
  enum giver_result result = giver_tend(&giver, sys_now_ns());
  ck_assert_int_ne(result, GIVER_FAILED);
  return result == GIVER_DONE;
}

/* Has the acceptor of the new process no room? */
static bool pauses(void) {
  bool paused;
  (void)pause_clock_ns(&to.server->acceptor.pauses, sys_now_ns(), &paused); /* not how long */
  return paused;
}

START_TEST(all_connections_move) {
  SIDE(&from, "XCHG_WORKERS=2", "XCHG_MAX_CONNECTIONS=200");
  SIDE(&to, "XCHG_WORKERS=1", "XCHG_MAX_CONNECTIONS=200", "XCHG_MAX_PER_IP=100");
  connect_channel();
  for (int i = 0; i < CLIENTS; i++) {
    clients[i] = connect_side(&from);
    echo(clients[i]);
  }
  giver_begin(&giver, UINT32_MAX, NEVER / 2);
  AWAIT((take(), give()));
  AWAIT(taker_tend(&taker));
  ck_assert_uint_eq(taker.taken, CLIENTS);
  ck_assert_uint_eq(taker.refused, 0);
  ck_assert_uint_eq(live(&from), 0);
  ck_assert_uint_eq(live(&to), CLIENTS);
  for (int i = 0; i < CLIENTS; i++) {
    echo(clients[i]);
  }
  int one_more = connect_side(&to); /* all count in XCHG_MAX_PER_IP */
  expect_closed(one_more);
  for (int i = 0; i < CLIENTS; i++) {
    close(clients[i]);
  }
  close_all();
}
END_TEST

/* Nothing is served before the commit. */
START_TEST(all_connections_move_together) {
  SIDE(&from, "XCHG_WORKERS=2", "XCHG_MAX_CONNECTIONS=200");
  SIDE(&to, "XCHG_WORKERS=2", "XCHG_MAX_CONNECTIONS=200");
  connect_channel();
  giver.together = taker.together = true;
  for (int i = 0; i < CLIENTS; i++) {
    clients[i] = connect_side(&from);
    echo(clients[i]);
    send_bytes(clients[i], "q", 1); /* perhaps it is answered before */
  }
  giver_begin(&giver, UINT32_MAX, NEVER / 2);
  AWAIT((take(), give()));
  AWAIT(taker_tend(&taker));
  ck_assert_uint_eq(taker.taken, CLIENTS);
  ck_assert_uint_eq(live(&from), CLIENTS);
  ck_assert_uint_eq(live(&to), CLIENTS);
  for (int i = 0; i < CLIENTS; i++) {
    send_bytes(clients[i], "r", 1);
  }
  giver_commit(&giver);
  taker_commit(&taker);
  AWAIT(give());
  AWAIT(taker_tend(&taker));
  ck_assert_uint_eq(live(&from), 0);
  for (int i = 0; i < CLIENTS; i++) {
    expect_bytes(clients[i], "qr", 2);
    close(clients[i]);
  }
  close_all();
}
END_TEST

/* What cannot be read is refused, and served by the old process again. */
START_TEST(records_cannot_be_read) {
  SIDE(&from, "XCHG_WORKERS=1");
  SIDE(&to, "XCHG_WORKERS=1");
  connect_channel();
  spoil = _i == 0 ? shorten : change;
  for (int i = 0; i < CLIENTS; i++) {
    clients[i] = connect_side(&from);
    echo(clients[i]);
  }
  giver_begin(&giver, UINT32_MAX, NEVER / 2);
  AWAIT((take(), give()));
  AWAIT(taker_tend(&taker));
  ck_assert_uint_eq(taker.taken, _i == 0 ? 0 : CLIENTS - 1);
  ck_assert_uint_eq(live(&from), _i == 0 ? CLIENTS : 1);
  ck_assert_uint_eq(live(&to), taker.taken);
  ck_assert_ptr_nonnull(strstr(log_fixture_text(&to.log), "a connection cannot be taken over"));
  for (int i = 0; i < CLIENTS; i++) {
    echo(clients[i]);
    close(clients[i]);
  }
  close_all();
}
END_TEST

/* A client that has come while refused ones held the room is accepted afterwards. */
START_TEST(refused_ones_leave_their_room) {
  static const char header[] = "PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\n";
  SIDE(&from, "XCHG_LISTEN=127.0.0.1:0;proxy=v1", "XCHG_PROXY_TRUST=127.0.0.1", "XCHG_WORKERS=1");
  SIDE(&to, "XCHG_WORKERS=1", "XCHG_MAX_CONNECTIONS=64", "XCHG_OVERLOAD=wait");
  connect_channel();
  for (int i = 0; i < 10; i++) {
    clients[i] = connect_side(&from);
    send_bytes(clients[i], header, sizeof(header) - 1);
    echo(clients[i]);
  }
  for (int i = 0; i < ROOM - 4; i++) {
    waiting[i] = connect_side(&to);
    echo(waiting[i]);
  }
  giver_begin(&giver, UINT32_MAX, NEVER / 2);
  AWAIT((give(), take())); /* the batch has the room from now on */
  AWAIT(acceptor_order_answered(&taker.adopt));
  waiting[ROOM - 4] = connect_side(&to);
  AWAIT(pauses());
  AWAIT((take(), give()));
  ck_assert_uint_eq(giver.moved, 0);
  ck_assert_uint_eq(taker.taken, 0);
  ck_assert_uint_ge(taker.refused, 10);
  echo(waiting[ROOM - 4]);
  for (int i = 0; i < 10; i++) {
    echo(clients[i]);
    close(clients[i]);
  }
  for (int i = 0; i <= ROOM - 4; i++) {
    close(waiting[i]);
  }
  close_all();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {all_connections_move, 1},
      {all_connections_move_together, 1},
      {records_cannot_be_read, 2},
      {refused_ones_leave_their_room, 1},
  };
  return run_suite("upgrade_taker", tests, count_of(tests));
}
