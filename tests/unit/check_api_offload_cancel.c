/*
 * check_api_offload_cancel: offloaded work of connections that have ended: XCHG_OFFLOAD_CANCEL, and
 * the place of the address in XCHG_MAX_PER_IP.
 *
 * There is one offload thread. A line is the letter of a job: "w" waits at a gate that the test
 * opens, a capital letter is offloaded with the flag.
 */
#include "tests/fixtures/server_fixture.h"

#include "core/atom.h"
#include "pool/offload.h"

#include <ctype.h>
#include <semaphore.h>

#define LETTERS 128

static sem_t gate;
static atom_u32 begun[LETTERS], done[LETTERS], nulls[LETTERS];

static uint32_t value(const atom_u32 *of) { return atom_load_acquire_u32(of); }

static void add(atom_u32 *to) { atom_store_release_u32(to, atom_load_relaxed_u32(to) + 1); }

static void work(void *argument) {
  const char *letter = argument;
  add(&begun[(int)*letter]);
  if (*letter == 'w') {
    while (sem_wait(&gate) == -1) {
    }
  }
}

static void work_done(struct xchg_conn *conn, void *argument) {
  const char *letter = argument;
  if (conn == NULL) {
    add(&nulls[(int)*letter]);
  } else {
    (void)xchg_send(conn, letter, 1);
  }
  add(&done[(int)*letter]);
  free(argument);
}

/* Offload a job for each letter. */
static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  for (size_t i = 0; i < message->size; i++) {
    char *letter = malloc(1);
    ck_assert_ptr_nonnull(letter);
    *letter = ((const char *)message->data)[i];
    unsigned flags = isupper(*letter) ? XCHG_OFFLOAD_CANCEL : 0;
    if (xchg_offload_flags(conn, work, work_done, letter, flags) == -1) {
      ck_assert_int_eq(errno, EAGAIN);
      ck_assert_int_eq(xchg_send(conn, "full", 4), 0);
      free(letter);
    }
  }
}

static const struct xchg_handler handler = {.size = sizeof(handler),
                                            .frame = {.kind = XCHG_FRAME_LINE},
                                            .max_message = 4096,
                                            .on_message = on_message};

/* A client whose line has been handled. */
static int say(const char *line) {
  int client = connect_to_port(port_of(server));
  uint64_t messages = read_stats().messages;
  send_bytes(client, line, strlen(line));
  AWAIT(read_stats().messages == messages + 1);
  return client;
}

/* Reset ${client}, and wait until its connection has ended. */
static void leave(int client) {
  uint64_t open = read_stats().open;
  client_reset(client);
  AWAIT(read_stats().open == open - 1);
}

/* Start a server, and occupy the thread. Return: the client of the job that waits at the gate. */
static int occupy(void) {
  ck_assert_int_eq(sem_init(&gate, 0, 0), 0);
  start_server(&handler);
  int client = say("w\n");
  AWAIT(value(&begun['w']) == 1);
  return client;
}

#define OCCUPY(...) (load_some((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL}), occupy())

static void load_some(const char *const *entries) {
  SETTINGS("XCHG_OFFLOAD_THREADS=1", "XCHG_WORKERS=1");
  for (; *entries != NULL; entries++) {
    settings.max_per_ip = strtoul(strchr(*entries, '=') + 1, NULL, 10);
  }
}

static void end(void) {
  xchg_server_drain(server);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  xchg_server_destroy(server);
}

/* ---- XCHG_OFFLOAD_CANCEL ---- */

/* Each queued job with the flag is cancelled at once, wherever it stands, and others are done. */
START_TEST(work_for_nobody_does_not_begin) {
  int waits = OCCUPY();
  int others = say("xY\n"), leaves = say("AbCDe\n");
  leave(leaves);
  AWAIT(value(&nulls['A']) + value(&nulls['C']) + value(&nulls['D']) == 3);
  ck_assert_uint_eq(value(&done['b']) + value(&done['e']) + value(&done['Y']), 0);
  sem_post(&gate);
  expect_bytes(waits, "w", 1);
  expect_bytes(others, "xY", 2); /* in their order */
  AWAIT(value(&nulls['b']) + value(&nulls['e']) == 2);
  for (const char *letter = "AbCDe"; *letter != 0; letter++) {
    ck_assert_uint_eq(value(&begun[(int)*letter]), islower(*letter) ? 1 : 0);
    ck_assert_uint_eq(value(&done[(int)*letter]), 1);
  }
  close(waits);
  close(others);
  end();
}
END_TEST

/* Work that has begun is completed, and its place in the list of the connection is given up. */
START_TEST(work_that_has_begun_is_completed) {
  int waits = OCCUPY();
  int client = say("ABC\n");
  sem_post(&gate);
  expect_bytes(client, "ABC", 3);
  expect_bytes(waits, "w", 1);
  send_bytes(client, "w\n", 2);
  AWAIT(value(&begun['w']) == 2);
  leave(client);
  ck_assert_uint_eq(value(&done['w']), 1);
  sem_post(&gate);
  AWAIT(value(&nulls['w']) == 1);
  close(waits);
  end();
}
END_TEST

/* The places in the queue are free for others. */
START_TEST(a_client_that_leaves_frees_its_places) {
  char line[OFFLOAD_QUEUE_MAX + 2];
  int waits = OCCUPY();
  memset(line, 'A', OFFLOAD_QUEUE_MAX);
  memcpy(line + OFFLOAD_QUEUE_MAX, "\n", 2);
  for (uint32_t round = 1; round <= 3; round++) {
    int leaves = say(line), refused = say("b\n");
    expect_bytes(refused, "full", 4);
    leave(leaves);
    AWAIT(value(&nulls['A']) == round * OFFLOAD_QUEUE_MAX);
    close(refused);
  }
  ck_assert_uint_eq(value(&begun['A']), 0);
  sem_post(&gate);
  expect_bytes(waits, "w", 1);
  close(waits);
  end();
}
END_TEST

/* The end of the server, which no connection outlives, cancels too. */
START_TEST(a_stop_calls_done_once) {
  int waits = OCCUPY(), client = say("AbC\n");
  xchg_server_stop(server);
  expect_end(waits);
  expect_end(client);
  sem_post(&gate);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  xchg_server_destroy(server);
  for (const char *letter = "AbC"; *letter != 0; letter++) {
    ck_assert_uint_eq(value(&done[(int)*letter]), 1);
    ck_assert_uint_eq(value(&nulls[(int)*letter]), 1);
  }
  close(waits);
  close(client);
}
END_TEST

static atom_u32 refusals;

static void try_flags(struct xchg_conn *conn, const struct xchg_message *message) {
  (void)message;
  for (unsigned flags = 2; flags != 0; flags <<= 1) {
    errno = 0;
    ck_assert_int_eq(xchg_offload_flags(conn, work, work_done, NULL, flags), -1);
    ck_assert_int_eq(errno, EINVAL);
    add(&refusals);
  }
  ck_assert_int_eq(xchg_send(conn, "ok", 2), 0);
}

START_TEST(unknown_flags_are_refused) {
  static const struct xchg_handler tries = {
      .size = sizeof(tries), .frame = {.kind = XCHG_FRAME_LINE}, .on_message = try_flags};
  SETTINGS();
  start_server(&tries);
  int client = connect_to_port(port_of(server));
  send_bytes(client, "x\n", 2);
  expect_bytes(client, "ok", 2);
  ck_assert_uint_eq(value(&refusals), 31);
  close(client);
  xchg_server_destroy(server);
}
END_TEST

/* ---- XCHG_MAX_PER_IP ---- */

/* A further client of the address is refused, or (${served}) it is served. */
static void expect_place(bool served) {
  int client = connect_to_port(port_of(server));
  if (served) {
    send_bytes(client, "e\n", 2);
    expect_bytes(client, "e", 1);
    close(client);
    AWAIT(read_stats().open == 0);
  } else {
    expect_closed(client);
    close(client);
  }
}

START_TEST(an_address_keeps_its_place_until_its_work_ends) {
  int client = OCCUPY("XCHG_MAX_PER_IP=1");
  expect_place(false);
  leave(client);
  expect_place(false); /* although no connection is open */
  sem_post(&gate);
  AWAIT(value(&nulls['w']) == 1);
  expect_place(true);
  expect_place(true);
  ck_assert_uint_eq(read_stats().ended[XCHG_PER_IP], 2);
  end();
}
END_TEST

/* One place, however many works there are; cancelled ones need none. */
START_TEST(several_works_keep_one_place) {
  int waits = OCCUPY("XCHG_MAX_PER_IP=2"), leaves = say(_i == 0 ? "xyz\n" : "XYZ\n");
  leave(leaves);
  if (_i == 0) {
    expect_place(false);
    sem_post(&gate);
    AWAIT(value(&nulls['z']) == 1);
  } else {
    AWAIT(value(&nulls['X']) + value(&nulls['Y']) + value(&nulls['Z']) == 3);
  }
  int next = say("\n"); /* beside the client that waits */
  expect_place(false);
  sem_post(&gate);
  expect_bytes(waits, "w", 1);
  close(waits);
  close(next);
  AWAIT(read_stats().open == 0);
  expect_place(true);
  end();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {work_for_nobody_does_not_begin, 1},
      {work_that_has_begun_is_completed, 1},
      {a_client_that_leaves_frees_its_places, 1},
      {a_stop_calls_done_once, 1},
      {unknown_flags_are_refused, 1},
      {an_address_keeps_its_place_until_its_work_ends, 1},
      {several_works_keep_one_place, 2},
  };
  return run_suite("api_offload_cancel", tests, count_of(tests));
}
