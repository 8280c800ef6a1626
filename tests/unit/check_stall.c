/* check_stall: turns that last longer than XCHG_STALL, of a server whose threads all wait. */
#include "pool/stall.h"

#include "pool/worker.h"
#include "tests/fixtures/server_fixture.h"

static struct config *config; /* of the server */
static struct stall found;

static void set_up(void) {
  SETTINGS();
  start_server(&echoes);
  config = (struct config *)(uintptr_t)server->config;
  config->stall_ns = 30 * NS_PER_S;
}

static void tear_down(void) { xchg_server_destroy(server); }

/*
 * As if the turn of the ${i}th thread, 0 = the acceptor, had begun ${age_ns} ago; NEVER: it waits.
 */
static void set_age(uint32_t i, uint64_t age_ns) {
  atom_u64 *turn_ns =
      i == 0 ? &server->acceptor.turn_ns
             : &container_of(server_inbox(server, i - 1), struct worker, inbox)->turn_ns;
  atom_store_relaxed_u64(turn_ns, age_ns == NEVER ? 0 : sys_now_ns() - age_ns);
}

START_TEST(a_waiting_thread_is_not_stalled) {
  ck_assert(!stall_find(server, &found));
  set_age(0, 29 * NS_PER_S);
  set_age(2, 0);
  ck_assert(!stall_find(server, &found));
}
END_TEST

START_TEST(the_first_stalled_thread_is_found) {
  static const char *const names[] = {"xchg-accept 31s", "xchg-work-0 31s", "xchg-work-1 31s"};
  char text[STALL_TEXT_MAX];
  for (uint32_t i = (uint32_t)_i; i < 3; i++) {
    set_age(i, 31 * NS_PER_S);
  }
  ck_assert(stall_find(server, &found));
  ck_assert_uint_ge(found.age_ns, 31 * NS_PER_S);
  ck_assert_str_eq(stall_format(&found, text), names[_i]);
  for (uint32_t i = 0; i < 3; i++) {
    set_age(i, NEVER);
  }
  ck_assert(!stall_find(server, &found));
}
END_TEST

/* XCHG_STALL=0 turns it off, and the other models have no such turns. */
START_TEST(off) {
  struct config other = *config; /* the threads of the server read theirs */
  struct xchg_server view = {.config = &other, .model = server->model};
  set_age(1, 3600 * NS_PER_S);
  ck_assert(stall_find(&view, &found));
  other.stall_ns = 0;
  ck_assert(!stall_find(&view, &found));
  other.stall_ns = NS_PER_S;
  other.model = MODEL_THREAD;
  ck_assert(!stall_find(&view, &found));
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {a_waiting_thread_is_not_stalled, 1}, {the_first_stalled_thread_is_found, 3}, {off, 1}};
  return run_suite_fixture("stall", tests, count_of(tests), set_up, tear_down);
}
