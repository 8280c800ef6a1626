/*
 * check_api_post: posts to connections from threads that do not run them.
 *
 * Every connection sends its own id first. The test's thread runs no connection.
 */
#include "tests/fixtures/api_fixture.h"

START_TEST(a_post_finds_its_connection) {
  SETTINGS("XCHG_DISPATCH=round-robin");
  start_server(&talker);
  uint64_t ids[4];
  int clients[4];
  struct note notes[4] = {0};
  for (int i = 0; i < 4; i++) {
    clients[i] = connect_for_id(&ids[i]);
  }
  for (int i = 3; i >= 0; i--) {
    post_to(ids[i], &notes[i]);
  }
  for (int i = 0; i < 4; i++) {
    expect_bytes(clients[i], "posted", 6);
    close(clients[i]);
    AWAIT(calls(&notes[i]) == 1);
    ck_assert_uint_eq(nulls(&notes[i]), 0);
  }
  AWAIT(read_stats().posts == 4);
  xchg_server_destroy(server);
}
END_TEST

/* An id of an ended connection finds none, even if its slot is in use again. */
START_TEST(the_id_of_an_ended_connection_finds_none) {
  SETTINGS("XCHG_WORKERS=1");
  start_server(&talker);
  uint64_t dead, live;
  close(connect_for_id(&dead));
  AWAIT(read_stats().open == 0);
  post_in_vain(dead);
  int client = connect_for_id(&live);
  ck_assert_uint_ne(dead, live);
  post_in_vain(dead);
  const uint64_t slots = live - dead; /* the generation's last bit: the slot is the same */
  ck_assert_uint_eq(slots & (slots - 1), 0);
  post_in_vain(live + slots);       /* a later generation */
  post_in_vain(live + 1);           /* an empty slot */
  post_in_vain(live | (slots - 1)); /* the last slot */
  post_in_vain(5);                  /* generation 0 */
  post_in_vain(live + (UINT64_C(1) << 32));
  post_in_vain(live + (UINT64_C(1) << 60));
  say(client, "alive\n");
  close(client);
  xchg_server_destroy(server);
}
END_TEST

START_TEST(ids_that_never_existed_find_none) {
  SETTINGS("XCHG_WORKERS=3");
  start_server(&talker);
  struct note note = {0};
  uint64_t worker = UINT64_C(1) << 62; /* one of three */
  const uint64_t ids[] = {0, 3 * worker, 3 * worker | 1, UINT64_MAX};
  for (size_t i = 0; i < count_of(ids); i++) {
    errno = 0;
    ck_assert_int_eq(xchg_post(server, ids[i], take_note, &note), -1);
    ck_assert_int_eq(errno, EINVAL);
  }
  ck_assert_int_eq(xchg_post(server, 1, NULL, &note), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_int_eq(xchg_post(NULL, 1, take_note, &note), -1);
  ck_assert_int_eq(errno, EINVAL);
  xchg_server_destroy(server);
  ck_assert_uint_eq(calls(&note), 0);
}
END_TEST

/* Posts after the end are run by destroy, and so are posts that those make. */
static void post_again(struct xchg_conn *conn, void *argument) {
  struct note *note = argument;
  take_note(conn, note);
  if (calls(note) < 10) {
    ck_assert_int_eq(xchg_post(server, note->id ^ WORKER_ONE, post_again, note), 0);
    note->id ^= WORKER_ONE;
  }
}

START_TEST(posts_after_the_end) {
  SETTINGS();
  start_server(&talker);
  uint64_t id;
  int client = connect_for_id(&id);
  xchg_server_stop(server);
  expect_closed(client);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  struct note notes[2] = {0};
  post_to(id, &notes[0]);
  notes[1].id = id;
  ck_assert_int_eq(xchg_post(server, id, post_again, &notes[1]), 0);
  ck_assert_int_eq(xchg_publish(server, GROUP, "late", 4), 0);
  xchg_server_destroy(server);
  ck_assert_uint_eq(calls(&notes[0]), 1);
  ck_assert_uint_eq(nulls(&notes[0]), 1);
  ck_assert_uint_eq(calls(&notes[1]), 10);
  ck_assert_uint_eq(nulls(&notes[1]), 10);
}
END_TEST

/* ---- order and bounds ---- */

struct sequence {
  uint64_t id;
  atom_u32 next; /* the worker's; read by the test */
};

struct step {
  struct sequence *of;
  uint32_t number;
};

static void take_step(struct xchg_conn *conn, void *argument) {
  struct step *step = argument;
  (void)conn;
  ck_assert_uint_eq(atom_load_relaxed_u32(&step->of->next), step->number);
  atom_store_release_u32(&step->of->next, step->number + 1);
  free(step);
}

static int post_step(struct sequence *sequence, uint32_t number) {
  struct step *step = malloc(sizeof(*step));
  ck_assert_ptr_nonnull(step);
  *step = (struct step){.of = sequence, .number = number};
  int result = xchg_post(server, sequence->id, take_step, step);
  if (result == -1) {
    free(step); /* it is still the caller's */
  }
  return result;
}

#define STEPS 20000

static void *post_steps(void *argument) {
  for (uint32_t i = 0; i < STEPS; i++) {
    while (post_step(argument, i) == -1) {
      ck_assert_int_eq(errno, EAGAIN);
      poll(NULL, 0, 1);
    }
  }
  return NULL;
}

START_TEST(posts_of_a_thread_keep_their_order) {
  SETTINGS("XCHG_WORKERS=1");
  start_server(&talker);
  uint64_t id;
  int client = connect_for_id(&id);
  struct sequence sequences[3] = {{.id = id}, {.id = id}, {.id = id + 1}};
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, post_steps, &sequences[i]), 0);
  }
  say(client, "meanwhile\n");
  for (int i = 0; i < 3; i++) {
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    AWAIT(atom_load_acquire_u32(&sequences[i].next) == STEPS);
  }
  AWAIT(read_stats().posts == 3 * STEPS);
  close(client);
  xchg_server_destroy(server);
}
END_TEST

/* Before the start no worker takes them, so the queue fills. */
START_TEST(as_many_posts_as_fit_may_wait) {
  SETTINGS();
  create_server(&talker);
  struct sequence sequence = {.id = 1}, other = {.id = 1 | WORKER_ONE};
  for (uint32_t i = 0; i < TASK_QUEUE_MAX; i++) {
    ck_assert_int_eq(post_step(&sequence, i), 0);
  }
  ck_assert_int_eq(post_step(&sequence, TASK_QUEUE_MAX), -1);
  ck_assert_int_eq(errno, EAGAIN);
  ck_assert_int_eq(xchg_publish(server, GROUP, "x", 1), -1);
  ck_assert_int_eq(errno, EAGAIN);
  ck_assert_int_eq(post_step(&other, 0), 0); /* another worker has its own limit */
  if (_i == 1) {
    ck_assert_int_eq(xchg_server_start(server), 0);
    AWAIT(atom_load_acquire_u32(&sequence.next) == TASK_QUEUE_MAX);
    AWAIT(read_stats().posts == TASK_QUEUE_MAX + 1);
    ck_assert_int_eq(post_step(&sequence, TASK_QUEUE_MAX), 0);
    ck_assert_int_eq(xchg_publish(server, GROUP, "x", 1), 0);
  }
  xchg_server_destroy(server);
  ck_assert_uint_eq(atom_load_relaxed_u32(&sequence.next), TASK_QUEUE_MAX + (_i == 1));
  ck_assert_uint_eq(atom_load_relaxed_u32(&other.next), 1);
}
END_TEST

/* ---- other models ---- */

static const char *const models[] = {"XCHG_MODEL=iterative", "XCHG_MODEL=fork",
                                     "XCHG_MODEL=thread"};

static void work(void *argument) { (void)argument; }

static void work_done(struct xchg_conn *conn, void *argument) {
  (void)conn;
  work(argument);
}

/*
 * Make the calls that only the pool model has, and one that all models have. No assertion here: in
 * a forked child libcheck's locks may be held by a thread that does not exist.
 */
static void try_all(struct xchg_conn *conn) {
  struct xchg_server *own = xchg_server_of(conn);
  char answer[] = "----";
  if (xchg_post(own, xchg_id(conn), work_done, NULL) == -1 && errno == ENOTSUP) {
    answer[0] = 'p';
  }
  if (xchg_publish(own, GROUP, "all", 3) == -1 && errno == ENOTSUP) {
    answer[1] = 'u';
  }
  if (xchg_offload(conn, work, work_done, NULL) == -1 && errno == ENOTSUP) {
    answer[2] = 'o';
  }
  if (xchg_join(conn, GROUP, XCHG_SLOW_SKIP) == 0 && xchg_leave(conn, GROUP) == 0) {
    answer[3] = 'j';
  }
  (void)xchg_send(conn, answer, 4);
  (void)xchg_finish(conn);
}

START_TEST(posts_need_the_pool_model) {
  static const struct xchg_handler handler = {.size = sizeof(handler), .on_open = try_all};
  static struct config config;
  struct log log;
  const char *const entries[] = {models[_i], "XCHG_LISTEN=127.0.0.1:0", "XCHG_STOP_GRACE=0",
                                 "XCHG_MAX_CONNECTIONS=10", NULL};
  ck_assert_uint_eq(load(&config, entries, &plenty), 0);
  log_fixture_open(&log);
  const struct server_setup setup = {.config = &config, .log = &log, .handler = &handler};
  server = aligned_alloc(CACHE_LINE, (sizeof(*server) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
  ck_assert_ptr_nonnull(server);
  ck_assert_int_eq(server_open(server, &setup), 0);
  ck_assert_int_eq(server_start(server), 0);
  int client = connect_to_port(port_of(server));
  expect_bytes(client, "puoj", 4);
  expect_end(client);
  close(client);
  server_drain(server);
  AWAIT((server_sigchld(server), server_finished(server)));
  server_close(server);
  free(server);
  log_fixture_close(&log);
  config_fini(&config);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {a_post_finds_its_connection, 1},
      {the_id_of_an_ended_connection_finds_none, 1},
      {ids_that_never_existed_find_none, 1},
      {posts_after_the_end, 1},
      {posts_of_a_thread_keep_their_order, 1},
      {as_many_posts_as_fit_may_wait, 2},
      {posts_need_the_pool_model, count_of(models)},
  };
  return run_suite("remote", tests, count_of(tests));
}
