/*
 * check_worker_tasks: a real worker gets more tasks than it runs in one turn, from several threads:
 * no task is lost, each sender's order holds, connections are served meanwhile, and late calls get
 * NULL.
 */
#include "pool/task.h"
#include "tests/fixtures/worker_fixture.h"

#include <sys/resource.h>

#define GROUP 3
enum { MEMBERS = 300, ISSUES = 8, POSTS = 5000, SENDERS = 3 };

static atom_u64 ids[MEMBERS]; /* in the order of opening */
static atom_u32 opened;

static void note_and_join(struct xchg_conn *conn) {
  uint32_t i = atom_load_relaxed_u32(&opened);
  atom_store_relaxed_u64(&ids[i], xchg_id(conn));
  if (xchg_join(conn, GROUP, XCHG_SLOW_SKIP) == -1) {
    abort(); /* no libcheck on the worker's thread */
  }
  atom_store_release_u32(&opened, i + 1); /* and before what connect_one reads */
}

/* A worker whose connections are members of the group and echo. */
static void open_worker(void) {
  PREPARE("XCHG_EXCHANGE=echo", "XCHG_MAX_CONNECTIONS=600");
  builtin.handler.on_open = note_and_join;
  atom_store_relaxed_u32(&opened, 0);
  const struct worker_setup setup = setup_of();
  ck_assert_int_eq(worker_open(worker, &setup), 0);
  start();
}

static int connect_one(void) {
  uint32_t before = atom_load_relaxed_u32(&opened);
  int client = hand_over_unix();
  AWAIT(atom_load_acquire_u32(&opened) == before + 1);
  return client;
}

static void end_worker(void) {
  worker_send_no_more_conns(worker);
  join();
  finish();
}

/* ---- posted calls ---- */

struct sender {
  pthread_t thread;
  uint64_t id;   /* of the connection */
  char name;     /* the byte that its calls send */
  uint32_t next; /* number of the next call; the worker's */
};

struct post {
  struct sender *sender;
  uint32_t number;
};

static void come(struct xchg_conn *conn, void *argument) {
  struct post *post = argument;
  if (conn == NULL || post->number != post->sender->next++ ||
      xchg_send(conn, &post->sender->name, 1) == -1) {
    abort();
  }
  free(post);
}

static void *send_posts(void *argument) {
  struct sender *sender = argument;
  for (uint32_t i = 0; i < POSTS; i++) {
    struct post *post = malloc(sizeof(*post));
    if (post == NULL) {
      abort();
    }
    *post = (struct post){.sender = sender, .number = i};
    struct posted_call *posted = posted_call_create(sender->id, come, post);
    if (posted == NULL) {
      abort();
    }
    task_send(&worker->inbox, &posted->task);
  }
  return NULL;
}

START_TEST(posts_of_several_threads_keep_each_order) {
  static char got[SENDERS * POSTS];
  open_worker();
  int client = connect_one(), other = connect_one();
  struct sender senders[SENDERS];
  for (int i = 0; i < SENDERS; i++) {
    senders[i] = (struct sender){.id = atom_load_relaxed_u64(&ids[0]), .name = (char)('a' + i)};
    ck_assert_int_eq(pthread_create(&senders[i].thread, NULL, send_posts, &senders[i]), 0);
  }
  echo_once(other); /* in between */
  ck_assert_int_eq(recv_bytes(client, got, sizeof(got)), (ssize_t)sizeof(got));
  uint32_t counts[SENDERS] = {0};
  for (size_t i = 0; i < sizeof(got); i++) {
    counts[got[i] - 'a']++;
  }
  for (int i = 0; i < SENDERS; i++) {
    ck_assert_int_eq(pthread_join(senders[i].thread, NULL), 0);
    ck_assert_uint_eq(counts[i], POSTS);
  }
  AWAIT(atom_load_relaxed_u32(&worker->inbox.tasks_waiting) == 0);
  close(client);
  close(other);
  end_worker();
  ck_assert_uint_eq(senders[0].next, POSTS);
}
END_TEST

/* ---- publications ---- */

static void publish(const void *data, size_t size) {
  struct publication *publication = publication_create(GROUP, data, size, 1);
  ck_assert_ptr_nonnull(publication);
  task_send(&worker->inbox, publication_task(publication, 0));
  publication_release(publication);
}

/* More members than one turn visits: each gets every publication, in order. */
START_TEST(publications_to_a_large_group_arrive_in_order) {
  static int clients[MEMBERS];
  open_worker();
  for (int i = 0; i < MEMBERS; i++) {
    clients[i] = connect_one();
  }
  for (char i = 0; i < ISSUES; i++) {
    publish((const char[]){'0', (char)('0' + i)}, 2);
  }
  for (int i = 0; i < MEMBERS; i++) {
    expect_bytes(clients[i], "0001020304050607", 2 * ISSUES);
    close(clients[i]);
  }
  AWAIT(atom_load_relaxed_u32(&worker->inbox.tasks_waiting) == 0);
  ck_assert_uint_eq(atom_load_relaxed_u64(&worker->stats.published), MEMBERS * ISSUES);
  end_worker();
}
END_TEST

/* ---- visits ---- */

enum { VISITED = 3 * VISIT_BATCH + 7 };

struct tour {
  struct visit visit;
  uint32_t shown, complete;
  uint32_t calls[VISITED / VISIT_BATCH + 2]; /* calls that ran after each slice; the worker's */
  atom_u32 ended;
};

static struct tour tour;

static void count_shown(struct visit *visit, const struct xchg_conn *conn) {
  (void)visit;
  (void)conn;
  tour.shown++;
}

static void count_ended(struct visit *visit, bool complete) {
  (void)visit;
  tour.complete += complete;
  atom_store_release_u32(&tour.ended, 1);
}

static void count_call(struct xchg_conn *conn, void *argument) {
  (void)conn;
  (void)argument;
  tour.calls[(tour.shown + VISIT_BATCH - 1) / VISIT_BATCH]++;
}

/* Has the worker taken what was sent? */
static bool inbox_is_taken(void) { return atom_load_relaxed_ptr(&worker->inbox.tasks) == NULL; }

/* Block the worker until ${argument} is 1. */
static void await_sent(struct xchg_conn *conn, void *argument) {
  (void)conn;
  while (atom_load_acquire_u32(argument) == 0) {
    poll(NULL, 0, 1);
  }
}

static void post(void (*call)(struct xchg_conn *conn, void *argument), void *argument) {
  struct posted_call *posted = posted_call_create(1, call, argument);
  ck_assert_ptr_nonnull(posted);
  task_send(&worker->inbox, &posted->task);
}

/* A visit to more connections than a turn shows goes first, and others run between its slices. */
START_TEST(a_visit_goes_first_and_in_slices) {
  static int clients[VISITED];
  enum { CALLS = 5000 };
  atom_u32 sent = 0;
  struct rlimit limit; /* the soft one of a user is 1,024 in many systems */
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
  PREPARE("XCHG_EXCHANGE=echo", "XCHG_MAX_CONNECTIONS=1000");
  const struct worker_setup setup = setup_of();
  ck_assert_int_eq(worker_open(worker, &setup), 0);
  start();
  for (int i = 0; i < VISITED; i++) {
    clients[i] = hand_over_unix();
  }
  for (int i = 0; i < VISITED; i++) {
    echo_once(clients[i]);
  }
  tour = (struct tour){.visit = {.each = count_shown, .ended = count_ended}};
  post(await_sent, &sent);
  AWAIT(inbox_is_taken());
  for (int i = 0; i < CALLS; i++) {
    post(count_call, NULL);
  }
  ck_assert(visit_send(&worker->inbox, &tour.visit));
  atom_store_release_u32(&sent, 1);
  AWAIT(atom_load_acquire_u32(&tour.ended) != 0);
  AWAIT(atom_load_relaxed_u32(&worker->inbox.tasks_waiting) == 0);
  for (int i = 0; i < VISITED; i++) {
    close(clients[i]);
  }
  end_worker();
  ck_assert_uint_eq(tour.shown, VISITED);
  ck_assert_uint_eq(tour.complete, 1);
  ck_assert_uint_eq(tour.calls[0], 0);
  uint32_t calls = 0;
  for (size_t i = 1; i < count_of(tour.calls); i++) {
    ck_assert_uint_gt(tour.calls[i], 0);
    calls += tour.calls[i];
  }
  ck_assert_uint_eq(calls, CALLS);
}
END_TEST

/* ---- the end ---- */

static void expect_null(struct xchg_conn *conn, void *argument) {
  if (conn != NULL) {
    abort();
  }
  (*(uint32_t *)argument)++;
}

/* Tasks that arrive after the worker has ended are discarded by its close: calls get NULL. */
START_TEST(late_calls_get_null) {
  uint32_t gone = 0;
  open_worker();
  int client = connect_one();
  close(client);
  worker_send_no_more_conns(worker);
  join();
  for (int i = 0; i < 5; i++) {
    struct posted_call *posted =
        posted_call_create(atom_load_relaxed_u64(&ids[0]), expect_null, &gone);
    ck_assert_ptr_nonnull(posted);
    task_send(&worker->inbox, &posted->task);
    publish("late", 4);
  }
  tour = (struct tour){.visit = {.each = count_shown, .ended = count_ended}};
  ck_assert(visit_send(&worker->inbox, &tour.visit));
  ck_assert_uint_eq(gone, 0);
  finish();
  ck_assert_uint_eq(gone, 5);
  ck_assert_uint_eq(atom_load_relaxed_u32(&tour.ended), 1);
  ck_assert_uint_eq(tour.complete, 0);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {posts_of_several_threads_keep_each_order, 1},
      {publications_to_a_large_group_arrive_in_order, 1},
      {a_visit_goes_first_and_in_slices, 1},
      {late_calls_get_null, 1},
  };
  return run_suite("worker_mail", tests, count_of(tests));
}
