/*
 * check_api_offload: xchg_offload: jobs on other threads, whose completion returns to the
 * connection.
 *
 * A job that must last waits at a gate that the test opens, so that no test depends on time.
 */
#include "tests/fixtures/server_fixture.h"

#include "core/atom.h"
#include "pool/offload.h"

#include <semaphore.h>
#include <unistd.h>

static sem_t gate; /* a job whose text begins with 'w' waits for it */

/* The record of one job. */
struct job_record {
  char text[32];
  uint32_t size;
  pid_t worker; /* the connection's thread */
  uint64_t id;
  atom_u32 begun, done, nulls;
};

static struct job_record record; /* of the last job that a line started */
static atom_u32 all_done;        /* calls of fill_done */
static atom_ptr seen;            /* a live connection, for the test's thread */
static atom_u32 refusal;         /* errno of a refused xchg_offload */
static int after_finish;         /* the same after xchg_finish */
static atom_u32 filled;          /* jobs that "fill" has queued */

static void work(void *argument) {
  struct job_record *of = argument;
  ck_assert_int_ne(gettid(), of->worker);
  atom_store_release_u32(&of->begun, 1);
  if (of->text[0] == 'w') {
    while (sem_wait(&gate) == -1) {
      ck_assert_int_eq(errno, EINTR);
    }
  }
  of->text[0] = 'W';
}

static void work_done(struct xchg_conn *conn, void *argument) {
  struct job_record *of = argument;
  if (conn != NULL) {
    ck_assert_int_eq(gettid(), of->worker);
    (void)xchg_send(conn, of->text, of->size); /* fails with EPIPE if the connection is ending */
  } else {
    atom_add_relaxed_u32(&of->nulls, 1);
  }
  atom_store_release_u32(&of->done, atom_load_relaxed_u32(&of->done) + 1);
}

static void fill_work(void *argument) { (void)argument; }

static void fill_done(struct xchg_conn *conn, void *argument) {
  (void)argument;
  if (conn != NULL) {
    (void)xchg_send(conn, ".", 1);
  }
  atom_add_relaxed_u32(&all_done, 1);
}

/* Offload jobs until one is refused. */
static void fill(struct xchg_conn *conn) {
  while (xchg_offload(conn, fill_work, fill_done, NULL) == 0) {
    atom_add_relaxed_u32(&filled, 1);
  }
  atom_store_release_u32(&refusal, (uint32_t)errno);
  ck_assert_int_eq(xchg_send(conn, "full", 4), 0);
}

/* "fill" fills the queue, "echo..." is echoed, and any other line starts a job. */
static void on_line(struct xchg_conn *conn, const struct xchg_message *message) {
  const char *text = message->data;
  if (message->size == 4 && memcmp(text, "fill", 4) == 0) {
    fill(conn);
    return;
  }
  if (message->size > 4 && memcmp(text, "echo", 4) == 0) {
    ck_assert_int_eq(xchg_send(conn, message->frame, message->frame_size), 0);
    return;
  }
  ck_assert_uint_le(message->frame_size, sizeof(record.text));
  record.size = (uint32_t)message->frame_size;
  record.worker = gettid();
  record.id = xchg_id(conn);
  atom_store_relaxed_u32(&record.begun, 0);
  memcpy(record.text, message->frame, message->frame_size);
  if (xchg_offload(conn, work, work_done, &record) == -1) {
    const char *why = strerror(errno);
    ck_assert_int_eq(xchg_send(conn, why, strlen(why)), 0);
  }
}

static const struct xchg_handler endless = {
    .size = sizeof(endless), .frame = {.kind = XCHG_FRAME_LINE}, .on_message = on_line};
static const struct xchg_handler counted = {.size = sizeof(counted),
                                            .frame = {.kind = XCHG_FRAME_LINE},
                                            .messages = 2,
                                            .on_message = on_line};

static void serve(const struct xchg_handler *handler) {
  ck_assert_int_eq(sem_init(&gate, 0, 0), 0);
  start_server(handler);
}

static uint32_t value(const atom_u32 *of) { return atom_load_acquire_u32(of); }

/* Start a job and wait until it runs. */
static int begin_work(void) {
  int client = connect_to_port(port_of(server));
  send_bytes(client, "work\n", 5);
  AWAIT(value(&record.begun) == 1);
  return client;
}

/* ---- completion ---- */

START_TEST(jobs_complete_on_the_connections_thread) {
  SETTINGS();
  serve(&endless);
  int client = connect_to_port(port_of(server));
  for (int i = 0; i < 50; i++) {
    send_bytes(client, "quick\n", 6);
    expect_bytes(client, "Wuick\n", 6);
  }
  AWAIT(count_threads("xchg-off-") == 4); /* each thread sets its own name */
  ck_assert_uint_eq(read_stats().offloads, 50);
  ck_assert_uint_eq(read_stats().offloads_refused, 0);
  ck_assert_uint_eq(read_stats().posts, 0); /* those are of other connections */
  close(client);
  xchg_server_destroy(server);
  AWAIT(count_threads("xchg-") == 0);
}
END_TEST

/* Later messages of the connection wait, and those of others do not. */
START_TEST(later_messages_wait_for_the_job) {
  SETTINGS("XCHG_WORKERS=1");
  serve(&endless);
  int client = connect_to_port(port_of(server)), other = connect_to_port(port_of(server));
  send_bytes(client, "echo first\nwork\necho last\n", 26);
  expect_bytes(client, "echo first\n", 11);
  AWAIT(value(&record.begun) == 1);
  send_bytes(other, "echo me\n", 8);
  expect_bytes(other, "echo me\n", 8);
  ck_assert(is_silent(client, 100));
  sem_post(&gate);
  expect_bytes(client, "Work\necho last\n", 15);
  close(client);
  close(other);
  xchg_server_destroy(server);
}
END_TEST

/*
 * The last answer comes from a job: of a counted exchange, and for a client that has half-closed.
 */
START_TEST(a_job_sends_the_last_answer) {
  SETTINGS();
  serve(_i == 0 ? &counted : &endless);
  int client = connect_to_port(port_of(server));
  send_bytes(client, "echo one\nwork\n", 14);
  ck_assert(_i == 0 || shutdown(client, SHUT_WR) == 0);
  expect_bytes(client, "echo one\n", 9);
  AWAIT(value(&record.begun) == 1);
  ck_assert(is_silent(client, 100));
  sem_post(&gate);
  expect_bytes(client, "Work\n", 5);
  expect_end(client);
  close(client);
  AWAIT(read_stats().open == 0);
  ck_assert_uint_eq(read_stats().ended[XCHG_FINISHED], 1);
  xchg_server_destroy(server);
}
END_TEST

static void give_up(struct xchg_conn *conn, void *unused) {
  (void)unused;
  ck_assert_int_eq(xchg_abort(conn), 0);
}

/* The connection ends by its timeout, or by a post. */
START_TEST(the_connection_ends_before_its_job) {
  SETTINGS(_i == 0 ? "XCHG_IDLE_TIMEOUT=100ms" : "XCHG_IDLE_TIMEOUT=0");
  serve(&endless);
  int client = begin_work();
  ck_assert(_i == 0 || xchg_post(server, record.id, give_up, NULL) == 0);
  expect_closed(client);
  AWAIT(read_stats().ended[_i == 0 ? XCHG_IDLE : XCHG_ERROR] == 1);
  ck_assert_uint_eq(value(&record.done), 0);
  sem_post(&gate);
  AWAIT(value(&record.done) == 1);
  ck_assert_uint_eq(value(&record.nulls), 1);
  xchg_server_destroy(server);
  ck_assert_uint_eq(value(&record.done), 1);
}
END_TEST

/* ---- refusals ---- */

START_TEST(a_full_queue_refuses_jobs) {
  SETTINGS("XCHG_OFFLOAD_THREADS=1");
  serve(&endless);
  int client = begin_work(), other = connect_to_port(port_of(server));
  send_bytes(other, "fill\n", 5);
  expect_bytes(other, "full", 4);
  ck_assert_uint_eq(value(&refusal), EAGAIN);
  ck_assert_uint_eq(value(&filled), OFFLOAD_QUEUE_MAX);
  ck_assert_uint_eq(read_stats().offloads, OFFLOAD_QUEUE_MAX + 1);
  ck_assert_uint_eq(read_stats().offloads_refused, 1);
  send_bytes(other, "echo behind\n", 12);
  sem_post(&gate);
  expect_bytes(client, "Work\n", 5);
  for (uint32_t i = 0; i < value(&filled); i++) {
    expect_bytes(other, ".", 1);
  }
  expect_bytes(other, "echo behind\n", 12);
  close(client);
  close(other);
  xchg_server_destroy(server);
  ck_assert_uint_eq(value(&all_done), value(&filled));
}
END_TEST

START_TEST(without_threads_jobs_are_refused) {
  SETTINGS("XCHG_OFFLOAD_THREADS=0");
  serve(&endless);
  int client = connect_to_port(port_of(server));
  send_bytes(client, "work\necho on\n", 13);
  expect_bytes(client, strerror(ENOTSUP), strlen(strerror(ENOTSUP)));
  expect_bytes(client, "echo on\n", 8);
  ck_assert_uint_eq(read_stats().offloads, 0);
  ck_assert_uint_eq(read_stats().offloads_refused, 0); /* with EAGAIN */
  close(client);
  xchg_server_destroy(server);
}
END_TEST

static void on_word(struct xchg_conn *conn, const struct xchg_message *message) {
  ck_assert_int_eq(xchg_offload(conn, NULL, work_done, &record), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_int_eq(xchg_offload(conn, work, NULL, &record), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_ptr_null(atom_exchange_acquire_ptr(&seen, NULL));
  void *nulls = NULL;
  ck_assert(atom_cas_release_ptr(&seen, &nulls, conn));
  if (*(const char *)message->data == 'f') {
    ck_assert_int_eq(xchg_send(conn, message->frame, message->frame_size), 0);
    ck_assert_int_eq(xchg_finish(conn), 0);
    after_finish = xchg_offload(conn, work, work_done, &record) == -1 ? errno : 0;
  }
}

static void on_end(struct xchg_conn *conn, enum xchg_reason reason) {
  (void)reason;
  ck_assert_int_eq(xchg_offload(conn, work, work_done, &record), -1);
  ck_assert_int_eq(errno, EPIPE);
}

START_TEST(jobs_are_refused_where_they_cannot_complete) {
  static const struct xchg_handler handler = {.size = sizeof(handler),
                                              .frame = {.kind = XCHG_FRAME_LINE},
                                              .on_message = on_word,
                                              .on_close = on_end};
  SETTINGS();
  serve(&handler);
  int client = connect_to_port(port_of(server));
  send_bytes(client, "stay\n", 5);
  struct xchg_conn *conn = NULL;
  AWAIT((conn = atom_exchange_acquire_ptr(&seen, NULL)) != NULL);
  errno = 0;
  ck_assert_int_eq(xchg_offload(conn, work, work_done, &record), -1);
  ck_assert_int_eq(errno, EPERM);
  send_bytes(client, "finish\n", 7);
  expect_bytes(client, "finish\n", 7);
  expect_end(client);
  close(client);
  xchg_server_destroy(server);
  ck_assert_int_eq(after_finish, EPIPE);
  ck_assert_uint_eq(value(&record.begun), 0);
  ck_assert_uint_eq(value(&record.done), 0);
}
END_TEST

/* ---- drain and stop ---- */

START_TEST(a_drain_waits_for_the_job) {
  SETTINGS("XCHG_DRAIN_TIMEOUT=5m");
  serve(&endless);
  int client = begin_work();
  xchg_server_drain(server);
  ck_assert(is_silent(client, 100));
  sem_post(&gate);
  expect_bytes(client, "Work\n", 5);
  expect_end(client);
  close(client);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  ck_assert_uint_eq(value(&record.done), 1);
  ck_assert_uint_eq(value(&record.nulls), 0);
  xchg_server_destroy(server);
}
END_TEST

static atom_u32 waited;

static atom_u32 waiter; /* the job's thread, while it waits */

static void *wait_for_it(void *unused) {
  (void)unused;
  atom_store_release_u32(&waiter, (uint32_t)gettid());
  ck_assert_int_eq(xchg_server_wait(server), 0);
  atom_store_release_u32(&waited, 1);
  return NULL;
}

/*
 * A stop ends the connections at once. xchg_server_wait returns when the job has finished, as its
 * thread belongs to the server.
 */
START_TEST(a_stop_waits_for_running_jobs) {
  SETTINGS("XCHG_DRAIN_TIMEOUT=5m", "XCHG_OFFLOAD_THREADS=1");
  serve(&endless);
  int client = begin_work(), other = connect_to_port(port_of(server));
  send_bytes(other, "fill\n", 5); /* these jobs do not start */
  expect_bytes(other, "full", 4);
  xchg_server_stop(server);
  expect_closed(client);
  expect_closed(other);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_it, NULL), 0);
  AWAIT(count_threads("xchg-work-") == 0);
  AWAIT(value(&waiter) != 0 && thread_sleeps((pid_t)value(&waiter)));
  ck_assert_uint_eq(value(&waited), 0);
  sem_post(&gate);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  AWAIT(count_threads("xchg-") == 0);
  xchg_server_destroy(server);
  ck_assert_uint_eq(value(&record.done), 1);
  ck_assert_uint_eq(value(&record.nulls), 1);
  ck_assert_uint_eq(value(&all_done), value(&filled));
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {jobs_complete_on_the_connections_thread, 1},
      {later_messages_wait_for_the_job, 1},
      {a_job_sends_the_last_answer, 2},
      {the_connection_ends_before_its_job, 2},
      {a_full_queue_refuses_jobs, 1},
      {without_threads_jobs_are_refused, 1},
      {jobs_are_refused_where_they_cannot_complete, 1},
      {a_drain_waits_for_the_job, 1},
      {a_stop_waits_for_running_jobs, 1},
  };
  return run_suite("remote_work", tests, count_of(tests));
}
