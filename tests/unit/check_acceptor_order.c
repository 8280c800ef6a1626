/* check_acceptor_order: an acceptor is held, goes on, counts clients of others, and leaves. */
#include "pool/acceptor_order.h"

#include "tests/fixtures/acceptor_fixture.h"

#include <poll.h>

static struct acceptor_order order;

static void send_order(enum acceptor_what what) {
  acceptor_order_send(&order, &acceptor, what);
  AWAIT(acceptor_order_answered(&order));
}

static void begin(void) {
  acceptor_order_init(&order, &done);
  ck_assert(acceptor_order_answered(&order));
  start();
}

/* Clients that come while it is held wait in the queue, and are accepted later. */
START_TEST(a_held_acceptor_accepts_later) {
  SET_UP();
  begin();
  int first = connect_to_port(port());
  AWAIT(placed() == 1);
  send_order(ACCEPTOR_HOLD);
  int second = connect_to_port(port());
  ck_assert_uint_eq(placed(), 1);
  send_order(ACCEPTOR_RELEASE);
  AWAIT(placed() == 2);
  stop();
  join();
  close(first);
  close(second);
  tear_down();
}
END_TEST

/* A stop reaches it while it is held: it ends at the drain timeout at the latest. */
START_TEST(a_stop_ends_a_held_acceptor) {
  SET_UP("XCHG_DRAIN_TIMEOUT=10ms");
  begin();
  send_order(ACCEPTOR_HOLD);
  stop();
  join();
  tear_down();
}
END_TEST

START_TEST(clients_of_others_are_counted) {
  static struct conn_batch batch;
  SET_UP("XCHG_MAX_PER_IP=2");
  begin();
  batch.count = 3;
  for (uint32_t i = 0; i < 3; i++) {
    batch.items[i].wanted = i < 2;
    batch.items[i].record.addr = (struct addr){.bytes = {127, 0, 0, 1}, .family = ADDR_IPV4};
    batch.items[i].record.owned.ip_slot = NO_IP_SLOT;
  }
  order.batch = &batch;
  order.count = 2;
  send_order(ACCEPTOR_ADOPT);
  ck_assert_uint_ne(batch.items[1].record.owned.ip_slot, NO_IP_SLOT);
  ck_assert_uint_eq(batch.items[0].record.owned.ip_slot, batch.items[1].record.owned.ip_slot);
  ck_assert_uint_eq(batch.items[2].record.owned.ip_slot, NO_IP_SLOT);
  int client = connect_to_port(port());
  AWAIT(counted(&acceptor.stats.ended[XCHG_PER_IP]) == 1);
  admission_release(&admission, batch.items[0].record.owned.ip_slot);
  int other = connect_to_port(port());
  AWAIT(placed() == 1);
  stop();
  join();
  close(client);
  close(other);
  tear_down();
}
END_TEST

/* The socket is shared with another process, which goes on: it is neither filtered nor shut. */
START_TEST(leaving_closes_only_its_own_descriptor) {
  SET_UP();
  int copy = dup(listeners[0].fd);
  uint16_t at = port();
  begin();
  order.taken = 1;
  send_order(ACCEPTOR_HOLD);
  send_order(ACCEPTOR_LEAVE);
  join();
  ck_assert_int_eq(listeners[0].fd, -1);
  int client = connect_to_port(at);
  struct pollfd ready = {.fd = copy, .events = POLLIN};
  ck_assert_int_eq(poll(&ready, 1, -1), 1);
  int accepted = accept(copy, NULL, NULL);
  ck_assert_int_ne(accepted, -1);
  close(accepted);
  close(client);
  close(copy);
  tear_down();
}
END_TEST

START_TEST(leaving_keeps_the_socket_file) {
  char entry[96];
  snprintf(unix_path, sizeof(unix_path), "/tmp/xchg-check-order-%d", (int)getpid());
  snprintf(entry, sizeof(entry), "XCHG_LISTEN=unix:%s", unix_path);
  SET_UP(entry);
  begin();
  order.taken = 1;
  send_order(ACCEPTOR_LEAVE);
  join();
  ck_assert_int_eq(access(unix_path, F_OK), 0);
  ck_assert_int_eq(unlink(unix_path), 0);
  tear_down();
}
END_TEST

/* An order is sent once; without an acceptor there is none. */
START_TEST(what_was_asked_for_is_not_asked_again) {
  SET_UP();
  begin();
  ck_assert(acceptor_order_reach(&order, ACCEPTOR_LEAVE));
  order.acceptor = &acceptor;
  ck_assert(acceptor_order_reach(&order, ACCEPTOR_RELEASE));
  AWAIT(acceptor_order_reach(&order, ACCEPTOR_HOLD));
  ck_assert(acceptor.held);
  AWAIT(acceptor_order_reach(&order, ACCEPTOR_RELEASE));
  ck_assert(!acceptor.held);
  stop();
  join();
  tear_down();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {a_held_acceptor_accepts_later, 1}, {a_stop_ends_a_held_acceptor, 1},
      {clients_of_others_are_counted, 1}, {leaving_closes_only_its_own_descriptor, 1},
      {leaving_keeps_the_socket_file, 1}, {what_was_asked_for_is_not_asked_again, 1},
  };
  return run_suite("acceptor_order", tests, count_of(tests));
}
