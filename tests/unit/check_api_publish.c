/*
 * check_api_publish: publications from a thread that runs no connection.
 */
#include "tests/fixtures/api_fixture.h"

/* ---- publications ---- */

/* Wait until the worker of ${client} has run all tasks that were sent to it so far. */
static void settle(int client, uint64_t id) {
  struct note note = {0};
  post_to(id, &note);
  expect_bytes(client, "posted", 6);
  AWAIT(calls(&note) == 1);
}

START_TEST(publishing_to_an_empty_group) {
  SETTINGS();
  start_server(&talker);
  uint64_t id;
  int client = connect_for_id(&id);
  ck_assert_int_eq(xchg_publish(server, GROUP, "nobody", 6), 0); /* the group does not exist */
  settle(client, id);
  say(client, "join\n");
  ck_assert_int_eq(xchg_publish(server, GROUP + 1, "nobody", 6), 0);
  settle(client, id);
  say(client, "leave\n");
  ck_assert_int_eq(xchg_publish(server, GROUP, "nobody", 6), 0);
  settle(client, id);
  ck_assert_uint_eq(read_stats().published, 0);
  close(client);
  xchg_server_destroy(server);
}
END_TEST

START_TEST(publishing_0_bytes_sends_nothing) {
  SETTINGS();
  start_server(&talker);
  uint64_t id;
  int client = connect_for_id(&id);
  say(client, "join\n");
  ck_assert_int_eq(xchg_publish(server, GROUP, NULL, 0), 0);
  ck_assert_int_eq(xchg_publish(server, GROUP, "", 0), 0);
  ck_assert_int_eq(xchg_publish(server, GROUP, "after", 5), 0);
  expect_bytes(client, "after", 5);
  ck_assert_int_eq(xchg_publish(server, GROUP, "after", XCHG_MESSAGE_MAX + 1), -1);
  ck_assert_int_eq(errno, EMSGSIZE);
  ck_assert_int_eq(xchg_publish(NULL, GROUP, "after", 5), -1);
  ck_assert_int_eq(errno, EINVAL);
  say(client, "whole\n");
  close(client);
  xchg_server_destroy(server);
}
END_TEST

#define MEMBERS 9
#define PUBLICATIONS 200

START_TEST(members_of_several_workers_get_a_publication) {
  SETTINGS("XCHG_WORKERS=3", "XCHG_DISPATCH=round-robin");
  start_server(&talker);
  uint64_t id, workers = 0;
  int clients[MEMBERS], stranger = connect_for_id(&id), leaver = connect_for_id(&id);
  say(leaver, "join\n");
  say(leaver, "leave\n");
  for (int i = 0; i < MEMBERS; i++) {
    clients[i] = connect_for_id(&id);
    workers |= UINT64_C(1) << conn_id_worker(id, 3);
    say(clients[i], "join\n");
    say(clients[i], "join again\n"); /* a member once */
  }
  ck_assert_uint_eq(workers, 7);
  for (uint32_t i = 0; i < PUBLICATIONS; i++) {
    ck_assert_int_eq(xchg_publish(server, GROUP, &i, sizeof(i)), 0);
  }
  for (int i = 0; i < MEMBERS; i++) {
    for (uint32_t j = 0; j < PUBLICATIONS; j++) {
      expect_bytes(clients[i], &j, sizeof(j));
    }
    say(clients[i], "nothing else\n");
    close(clients[i]);
  }
  say(stranger, "nothing at all\n");
  say(leaver, "nothing either\n");
  close(stranger);
  close(leaver);
  AWAIT(read_stats().open == 0);
  ck_assert_uint_eq(read_stats().published, MEMBERS * PUBLICATIONS);
  ck_assert_int_eq(xchg_publish(server, GROUP, "gone", 4), 0);
  xchg_server_destroy(server);
}
END_TEST

enum { BURST = 3000, BURST_BYTES = 1024 };

/* Read a burst to its end as fast as it arrives. Return: NULL if the end comes too early. */
static void *read_burst(void *argument) {
  char got[BURST_BYTES];
  ssize_t count = 1;
  for (ssize_t at = 0; at < BURST * BURST_BYTES && count > 0; at += count) {
    count = recv(*(const int *)argument, got, sizeof(got), 0);
  }
  return count > 0 ? argument : NULL;
}

/*
 * A burst of many times XCHG_MAX_PENDING is queued as tasks at once: a member that reads gets every
 * byte.
 */
START_TEST(a_burst_makes_no_member_slow) {
  static const char text[BURST_BYTES];
  uint64_t id;
  pthread_t reader;
  void *all = NULL;
  SETTINGS("XCHG_WORKERS=1");
  start_server(&talker);
  int client = connect_for_id(&id);
  say(client, "join\n");
  ck_assert_int_eq(pthread_create(&reader, NULL, read_burst, &client), 0);
  for (int i = 0; i < BURST; i++) {
    ck_assert_int_eq(xchg_publish(server, GROUP, text, sizeof(text)), 0);
  }
  pthread_join(reader, &all);
  ck_assert(all != NULL && close(client) == 0);
  ck_assert_uint_eq(read_stats().skipped, 0);
  xchg_server_destroy(server);
}
END_TEST

/* A member that reads nothing is skipped, and the others are not delayed. */
START_TEST(a_slow_member_is_skipped) {
  SETTINGS("XCHG_MAX_PENDING=4KiB", "XCHG_SNDBUF=4KiB", "XCHG_WRITE_TIMEOUT=0");
  start_server(&talker);
  static char large[16 * 1024];
  uint64_t id;
  int slow = connect_for_id(&id), quick = connect_for_id(&id);
  say(slow, "join\n");
  say(quick, "join\n");
  for (unsigned sent = 0; read_stats().skipped == 0; sent++) {
    ck_assert_uint_lt(sent, 10000);
    ck_assert_int_eq(xchg_publish(server, GROUP, large, sizeof(large)), 0);
    for (size_t got = 0; got < sizeof(large); got += 256) {
      expect_bytes(quick, large + got, 256);
    }
  }
  say(quick, "quick\n");
  close(slow);
  close(quick);
  xchg_server_destroy(server);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {publishing_to_an_empty_group, 1},
      {publishing_0_bytes_sends_nothing, 1},
      {members_of_several_workers_get_a_publication, 1},
      {a_burst_makes_no_member_slow, 1},
      {a_slow_member_is_skipped, 1},
  };
  return run_suite("remote_publish", tests, count_of(tests));
}
