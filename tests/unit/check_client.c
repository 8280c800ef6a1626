/*
 * check_client: one client of xchg-bench over a socket pair.
 *
 * Each test plays the server byte by byte, and checks outcomes, counters and what was sent.
 */
#include "xchg-bench/client.h"

#include "core/sys.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GREETING "Message from server" /* and its 0 */
#define PIPELINE 4

/* The state of a test; on the heap because an env is large. */
struct fixture {
  struct message_set messages;
  struct client_env env;
  struct client client;
  uint64_t starts[PIPELINE];
  int server; /* the server's end of the socket pair */
};

static uint8_t greeting[] = GREETING;
static uint8_t reply_text[] = "yes";

static const struct config greet = {.has_greeting = true,
                                    .greeting = {greeting, sizeof(greeting) - 1},
                                    .reply = REPLY_NONE,
                                    .frame = {.kind = XCHG_FRAME_DELIMITER},
                                    .messages = 1,
                                    .max_message_bytes = 65536};
static const struct config echo = {
    .reply = REPLY_ECHO, .frame = {.kind = XCHG_FRAME_RAW}, .max_message_bytes = 65536};
static const struct config discard = {
    .reply = REPLY_NONE, .frame = {.kind = XCHG_FRAME_RAW}, .max_message_bytes = 65536};
static const struct config five_lines = {.reply = REPLY_TEXT,
                                         .reply_text = {reply_text, 3},
                                         .frame = {.kind = XCHG_FRAME_LINE},
                                         .messages = 5,
                                         .max_message_bytes = 65536};

/* Make a fixture for ${exchange} with a client that has just connected. */
static struct fixture *set_up(const struct config *exchange, uint64_t size) {
  const struct size_spec spec = {SIZE_FIXED, size, 0};
  struct fixture *fixture = calloc(1, sizeof(*fixture));
  int pair[2];
  ck_assert_ptr_nonnull(fixture);
  ck_assert_int_eq(message_set_init(&fixture->messages, exchange, &spec, 7), 0);
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
  struct client_env *env = &fixture->env;
  env->messages = &fixture->messages;
  env->connections = 1;
  env->pipeline = PIPELINE;
  env->counted = exchange->messages > 0;
  env->per_connection = env->counted ? exchange->messages : NEVER;
  env->replies = message_replies(&fixture->messages);
  env->timeout_ns = NEVER;
  env->address.ss_family = AF_UNIX;
  env->counters = counters_create(false, NEVER);
  ck_assert_ptr_nonnull(env->counters);
  counters_set_window(env->counters, 1, NEVER);
  env->now = sys_now_ns();
  client_init(&fixture->client, 0, fixture->starts);
  if (env->counted) {
    client_begin_counted(env, &fixture->client);
  } else {
    fixture->client.last = NEVER;
  }
  fixture->client.fd = pair[0];
  fixture->client.state = CLIENT_CONNECTING;
  fixture->client.opened_ns = env->now;
  fixture->server = pair[1];
  ck_assert_int_eq(client_on_event(env, &fixture->client, EPOLLOUT), CLIENT_WAITS);
  ck_assert_int_eq(fixture->client.state, CLIENT_OPEN);
  ck_assert_uint_eq(env->counters->connect.count, 1);
  return fixture;
}

static void tear_down(struct fixture *fixture) {
  client_close(&fixture->client);
  if (fixture->server != -1) {
    close(fixture->server);
  }
  counters_destroy(fixture->env.counters);
  message_set_fini(&fixture->messages);
  free(fixture);
}

/* Send from the server, and let the client receive. */
static enum client_outcome say(struct fixture *fixture, const void *bytes, size_t size) {
  ck_assert_int_eq(send(fixture->server, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
  return client_on_event(&fixture->env, &fixture->client, EPOLLIN);
}

/* Close the server's end, and let the client receive. */
static enum client_outcome end(struct fixture *fixture) {
  close(fixture->server);
  fixture->server = -1;
  return client_on_event(&fixture->env, &fixture->client, EPOLLIN | EPOLLRDHUP | EPOLLHUP);
}

/* Receive at the server's end; the bytes must be the messages from number ${first} on. */
static size_t hear(struct fixture *fixture, uint64_t first, uint8_t *bytes, size_t room) {
  const ssize_t got = recv(fixture->server, bytes, room, 0);
  ck_assert_int_gt(got, 0);
  struct message message;
  size_t done = 0;
  for (uint64_t i = first; done < (size_t)got; i++) {
    message_sent(&fixture->messages, 0, i, &message);
    ck_assert_uint_le(done + message.total, (size_t)got);
    ck_assert(message_equals(&message, 0, bytes + done, message.total));
    done += message.total;
  }
  return done;
}

/* ---- greet: counted, a greeting, no reply ---- */

START_TEST(test_greet_byte_by_byte) {
  struct fixture *fixture = set_up(&greet, 64);
  uint8_t bytes[128];
  ck_assert_int_eq(client_send(&fixture->env, &fixture->client), CLIENT_WAITS);
  ck_assert_int_eq(recv(fixture->server, bytes, sizeof(bytes), 0), 65); /* in one write, framed */
  ck_assert_uint_eq(bytes[64], 0);
  for (size_t i = 0; i < sizeof(greeting); i++) {
    ck_assert_int_eq(say(fixture, greeting + i, 1), CLIENT_WAITS);
  }
  ck_assert_uint_eq(fixture->env.counters->exchanges, 0); /* it ends at the end of stream */
  ck_assert_int_eq(end(fixture), CLIENT_DONE);
  const struct counters *counters = fixture->env.counters;
  ck_assert_uint_eq(counters->exchanges, 1);
  ck_assert_uint_eq(counters->latency.count, 1);
  ck_assert_uint_eq(counters->first_byte.count, 1);
  ck_assert_uint_le(counters->first_byte.max_ns, counters->latency.max_ns);
  ck_assert_uint_eq(counters->bytes_in, sizeof(greeting));
  ck_assert_uint_eq(counters->bytes_out, 65);
  ck_assert_uint_eq(counters->begun, 0);
  ck_assert_int_eq(fixture->client.fd, -1);
  tear_down(fixture);
}
END_TEST

START_TEST(test_greet_wrong_byte) {
  struct fixture *fixture = set_up(&greet, 64);
  uint8_t wrong[sizeof(greeting)];
  memcpy(wrong, greeting, sizeof(greeting));
  wrong[_i] ^= 1;
  client_send(&fixture->env, &fixture->client);
  ck_assert_int_eq(say(fixture, wrong, sizeof(wrong)), CLIENT_FAILED);
  ck_assert_int_eq(fixture->env.error, ERROR_WRONG);
  ck_assert_uint_eq(fixture->env.counters->errors[ERROR_WRONG], 1);
  ck_assert_uint_eq(fixture->env.counters->exchanges, 0);
  ck_assert_int_eq(fixture->client.state, CLIENT_CLOSED);
  tear_down(fixture);
}
END_TEST

START_TEST(test_greet_short) {
  struct fixture *fixture = set_up(&greet, 64);
  client_send(&fixture->env, &fixture->client);
  uint8_t bytes[128];
  ck_assert_int_eq(recv(fixture->server, bytes, sizeof(bytes), 0), 65);
  if (_i > 0) {
    ck_assert_int_eq(say(fixture, greeting, (size_t)_i), CLIENT_WAITS);
  }
  ck_assert_int_eq(end(fixture), CLIENT_FAILED);
  ck_assert_int_eq(fixture->env.error, ERROR_SHORT);
  ck_assert_uint_eq(fixture->env.counters->errors[ERROR_SHORT], 1);
  tear_down(fixture);
}
END_TEST

START_TEST(test_greet_too_much) {
  struct fixture *fixture = set_up(&greet, 64);
  client_send(&fixture->env, &fixture->client);
  ck_assert_int_eq(say(fixture, greeting, sizeof(greeting)), CLIENT_WAITS);
  ck_assert_int_eq(say(fixture, "", 1), CLIENT_FAILED);
  ck_assert_int_eq(fixture->env.error, ERROR_WRONG);
  tear_down(fixture);
}
END_TEST

/* A server that closes before it has all messages has answered too early. */
START_TEST(test_greet_unsent) {
  struct fixture *fixture = set_up(&greet, 64);
  ck_assert_int_eq(say(fixture, greeting, sizeof(greeting)), CLIENT_WAITS);
  ck_assert_int_eq(end(fixture), CLIENT_FAILED);
  ck_assert_int_eq(fixture->env.error, ERROR_SHORT);
  tear_down(fixture);
}
END_TEST

/* ---- counted, with replies: the pipeline is refilled as replies come ---- */

START_TEST(test_counted_replies) {
  struct fixture *fixture = set_up(&five_lines, 10);
  uint8_t bytes[256];
  ck_assert_int_eq(client_send(&fixture->env, &fixture->client), CLIENT_WAITS);
  ck_assert_int_eq(recv(fixture->server, bytes, sizeof(bytes), 0), PIPELINE * 11);
  ck_assert_int_eq(say(fixture, "yes\nye", 6), CLIENT_WAITS);
  ck_assert_int_eq(client_send(&fixture->env, &fixture->client), CLIENT_WAITS);
  ck_assert_int_eq(recv(fixture->server, bytes, sizeof(bytes), 0), 11); /* the fifth and last */
  ck_assert_int_eq(say(fixture, "s\nyes\nyes\nyes\n", 14), CLIENT_WAITS);
  ck_assert_int_eq(recv(fixture->server, bytes, sizeof(bytes), 0), -1);
  ck_assert_int_eq(end(fixture), CLIENT_DONE);
  ck_assert_uint_eq(fixture->env.counters->exchanges, 1);
  ck_assert_uint_eq(fixture->env.counters->first_byte.count, 1);
  tear_down(fixture);
}
END_TEST

START_TEST(test_counted_one_reply_missing) {
  struct fixture *fixture = set_up(&five_lines, 10);
  client_send(&fixture->env, &fixture->client);
  ck_assert_int_eq(say(fixture, "yes\nyes\nyes\nyes\n", 16), CLIENT_WAITS);
  client_send(&fixture->env, &fixture->client);
  uint8_t bytes[256];
  ck_assert_int_eq(recv(fixture->server, bytes, sizeof(bytes), 0), 5 * 11);
  ck_assert_int_eq(end(fixture), CLIENT_FAILED);
  ck_assert_int_eq(fixture->env.error, ERROR_SHORT);
  tear_down(fixture);
}
END_TEST

/* ---- echo: endless ---- */

START_TEST(test_echo_pipeline) {
  struct fixture *fixture = set_up(&echo, 100);
  struct client_env *env = &fixture->env;
  uint8_t bytes[1000];
  for (uint64_t round = 0; round < 3; round++) {
    while (client_can_begin(env, &fixture->client)) {
      client_begin(env, &fixture->client);
    }
    ck_assert_uint_eq(client_in_flight(env, &fixture->client), PIPELINE);
    ck_assert_int_eq(client_send(env, &fixture->client), CLIENT_WAITS);
    ck_assert_uint_eq(hear(fixture, round * PIPELINE, bytes, sizeof(bytes)), PIPELINE * 100);
    ck_assert_int_eq(say(fixture, bytes, 150), CLIENT_WAITS); /* one and a half */
    ck_assert_uint_eq(env->counters->exchanges, round * PIPELINE + 1);
    ck_assert_uint_eq(env->counters->first_byte.count, round * PIPELINE + 2);
    ck_assert_int_eq(say(fixture, bytes + 150, 250), CLIENT_WAITS);
    ck_assert_uint_eq(env->counters->exchanges, (round + 1) * PIPELINE);
    ck_assert_uint_eq(client_oldest_ns(env, &fixture->client), NEVER);
  }
  ck_assert_uint_eq(env->counters->latency.count, 3 * PIPELINE);
  tear_down(fixture);
}
END_TEST

/* A failure ends all exchanges in flight, each counted once.  The next message is a new one. */
START_TEST(test_echo_fails_in_flight) {
  struct fixture *fixture = set_up(&echo, 100);
  struct client_env *env = &fixture->env;
  uint8_t bytes[1000];
  while (client_can_begin(env, &fixture->client)) {
    client_begin(env, &fixture->client);
  }
  client_send(env, &fixture->client);
  hear(fixture, 0, bytes, sizeof(bytes));
  ck_assert_int_eq(say(fixture, bytes, 199), CLIENT_WAITS);
  ck_assert_int_eq(end(fixture), CLIENT_FAILED);
  ck_assert_int_eq(env->error, ERROR_SHORT);
  ck_assert_uint_eq(env->counters->exchanges, 1);
  ck_assert_uint_eq(env->counters->errors[ERROR_SHORT], PIPELINE - 1);
  ck_assert_uint_eq(env->counters->begun, 0);
  ck_assert_uint_eq(fixture->client.begun, PIPELINE);
  ck_assert_uint_eq(fixture->client.in, PIPELINE);
  tear_down(fixture);
}
END_TEST

/* An answer after the limit is an error when it comes, before any sweep. */
START_TEST(test_late_answer) {
  struct fixture *fixture = set_up(_i == 0 ? &echo : &five_lines, 4);
  struct client_env *env = &fixture->env;
  uint8_t bytes[4096];
  if (!env->counted) {
    client_begin(env, &fixture->client);
  }
  env->timeout_ns = 100 * NS_PER_MS;
  fixture->client.starts[0] -= 100 * NS_PER_MS; /* the limit has just passed */
  client_send(env, &fixture->client);
  ck_assert_int_gt(recv(fixture->server, bytes, sizeof(bytes), 0), 0);
  if (_i == 0) {
    ck_assert_int_eq(say(fixture, bytes, 4), CLIENT_FAILED);
  } else {
    ck_assert_int_eq(say(fixture, "yes\n", 4), CLIENT_FAILED);
  }
  ck_assert_int_eq(env->error, ERROR_TIMEOUT);
  ck_assert_uint_eq(env->counters->errors[ERROR_TIMEOUT], 1);
  ck_assert_uint_eq(env->counters->exchanges, 0);
  ck_assert_uint_eq(env->counters->latency.count, 1);
  ck_assert_uint_ge(env->counters->latency.min_ns, 100 * NS_PER_MS);
  tear_down(fixture);
}
END_TEST

/* A connection that is established after the limit was not opened in time. */
START_TEST(test_late_connection) {
  struct fixture *fixture = set_up(&echo, 4);
  struct client_env *env = &fixture->env;
  fixture->client.state = CLIENT_CONNECTING;
  env->timeout_ns = 100 * NS_PER_MS;
  fixture->client.opened_ns -= 100 * NS_PER_MS;
  ck_assert_int_eq(client_on_event(env, &fixture->client, EPOLLOUT), CLIENT_FAILED);
  ck_assert_int_eq(env->error, ERROR_CONNECT);
  ck_assert_uint_eq(env->counters->errnos[ETIMEDOUT], 1);
  tear_down(fixture);
}
END_TEST

/* An answer that comes after the window ends nothing: the exchange was in flight at the end. */
START_TEST(test_answer_after_the_window) {
  struct fixture *fixture = set_up(&echo, 4);
  struct client_env *env = &fixture->env;
  uint8_t bytes[4];
  client_begin(env, &fixture->client);
  client_send(env, &fixture->client);
  hear(fixture, 0, bytes, sizeof(bytes));
  env->counters->until_ns = sys_now_ns();
  ck_assert_int_eq(say(fixture, bytes, 4), CLIENT_WAITS);
  ck_assert_uint_eq(client_in_flight(env, &fixture->client), 1);
  ck_assert_uint_eq(env->counters->begun, 1);
  ck_assert_uint_eq(env->counters->exchanges, 0);
  tear_down(fixture);
}
END_TEST

/* The first wrong answer is kept with the bytes that differ, escaped, and with a hint. */
START_TEST(test_wrong_answer_is_shown) {
  static const struct {
    const struct config *exchange;
    const char *bytes, *wanted, *received, *hint;
    size_t size;
    uint64_t offset;
  } cases[] = {
      {&five_lines, "yet\n\x1b[\"", "s\\n", "t\\n\\x1b[\\\"", "No answer was right", 7, 2},
      {&five_lines, "HTTP/1.1 400", "yes\\n", "HTTP/1.1 400", "HTTP", 12, 0},
      {&five_lines, "Message from server\0", "yes\\n", "Message from server\\x00", "-x greet", 20,
       0},
      {&discard, "\\", "", "\\\\", "No answer was right", 1, 0},
  };
  struct fixture *fixture = set_up(cases[_i].exchange, 4);
  const struct wrong_example *wrong = &fixture->env.counters->wrong;
  client_send(&fixture->env, &fixture->client);
  ck_assert_int_eq(say(fixture, cases[_i].bytes, cases[_i].size), CLIENT_FAILED);
  ck_assert_uint_gt(wrong->at_ns, 0);
  ck_assert_uint_eq(wrong->offset, cases[_i].offset);
  ck_assert_str_eq(wrong->wanted, cases[_i].wanted);
  ck_assert_str_eq(wrong->received, cases[_i].received);
  ck_assert_ptr_nonnull(strstr(wrong->hint, cases[_i].hint));
  tear_down(fixture);
}
END_TEST

/* What looks like the client's own message is told. */
START_TEST(test_wrong_echo_is_shown) {
  struct fixture *fixture = set_up(&five_lines, 30);
  const struct wrong_example *wrong = &fixture->env.counters->wrong;
  uint8_t bytes[4096];
  client_send(&fixture->env, &fixture->client);
  ck_assert_int_gt(recv(fixture->server, bytes, 40, 0), 30);
  ck_assert_int_eq(say(fixture, bytes, 40), CLIENT_FAILED);
  ck_assert_ptr_nonnull(strstr(wrong->hint, "-x echo"));
  tear_down(fixture);
}
END_TEST

START_TEST(test_echo_unasked) {
  struct fixture *fixture = set_up(&echo, 100);
  ck_assert_int_eq(say(fixture, "x", 1), CLIENT_FAILED);
  ck_assert_int_eq(fixture->env.error, ERROR_WRONG);
  tear_down(fixture);
}
END_TEST

START_TEST(test_echo_ended_between) {
  struct fixture *fixture = set_up(&echo, 100);
  ck_assert_int_eq(end(fixture), CLIENT_FAILED);
  ck_assert_int_eq(fixture->env.error, ERROR_SHORT);
  ck_assert_uint_eq(fixture->env.counters->errors[ERROR_SHORT], 1);
  tear_down(fixture);
}
END_TEST

/* A message that is larger than the socket buffers is sent and received in parts. */
START_TEST(test_echo_larger_than_buffers) {
  enum { SIZE = 4 << 20 };
  struct fixture *fixture = set_up(&echo, SIZE);
  struct client_env *env = &fixture->env;
  uint8_t *bytes = malloc(SIZE);
  size_t heard = 0, output = 0;
  unsigned blocked = 0;
  client_begin(env, &fixture->client);
  for (unsigned round = 0; env->counters->exchanges == 0 && round < 1000000; round++) {
    client_send(env, &fixture->client);
    blocked += fixture->client.blocked;
    const ssize_t got = recv(fixture->server, bytes + heard, SIZE - heard, 0);
    heard += got > 0 ? (size_t)got : 0;
    const ssize_t put =
        output < heard ? send(fixture->server, bytes + output, heard - output, 0) : 0;
    output += put > 0 ? (size_t)put : 0;
    ck_assert_int_ne(client_on_event(env, &fixture->client, EPOLLIN | EPOLLOUT), CLIENT_FAILED);
  }
  ck_assert_uint_eq(env->counters->exchanges, 1);
  ck_assert_uint_eq(env->counters->bytes_out, SIZE);
  ck_assert_uint_eq(env->counters->bytes_in, SIZE);
  ck_assert_uint_gt(blocked, 0);
  free(bytes);
  tear_down(fixture);
}
END_TEST

START_TEST(test_send_to_a_closed_peer) {
  struct fixture *fixture = set_up(&echo, 100);
  close(fixture->server);
  fixture->server = -1;
  client_begin(&fixture->env, &fixture->client);
  ck_assert_int_eq(client_send(&fixture->env, &fixture->client), CLIENT_FAILED);
  ck_assert_int_eq(fixture->env.error, ERROR_RESET);
  ck_assert_int_eq(fixture->env.error_errno, EPIPE);
  ck_assert_uint_eq(fixture->env.counters->errnos[EPIPE], 1);
  tear_down(fixture);
}
END_TEST

/* ---- discard: endless without reply ---- */

START_TEST(test_discard) {
  struct fixture *fixture = set_up(&discard, 100);
  struct client_env *env = &fixture->env;
  uint8_t bytes[1000];
  while (client_can_begin(env, &fixture->client)) {
    client_begin(env, &fixture->client);
  }
  client_send(env, &fixture->client);
  ck_assert_uint_eq(hear(fixture, 0, bytes, sizeof(bytes)), PIPELINE * 100);
  ck_assert_uint_eq(env->counters->exchanges, PIPELINE);
  ck_assert_uint_eq(env->counters->bytes_out, PIPELINE * 100);
  ck_assert_uint_eq(env->counters->latency.count, 0);
  ck_assert(client_can_begin(env, &fixture->client));
  tear_down(fixture);
}
END_TEST

/* Idle clients are not counted, but their loss is. */
START_TEST(test_idle) {
  struct fixture *fixture = set_up(&echo, 100);
  struct client_env *env = &fixture->env;
  uint8_t bytes[1000];
  fixture->client.idle = true;
  client_begin(env, &fixture->client);
  client_send(env, &fixture->client);
  ck_assert_uint_eq(hear(fixture, 0, bytes, sizeof(bytes)), 100);
  ck_assert_int_eq(say(fixture, bytes, 100), CLIENT_WAITS);
  ck_assert_uint_eq(fixture->client.in, 1);
  ck_assert_uint_eq(env->counters->exchanges + env->counters->bytes_in + env->counters->bytes_out,
                    0);
  ck_assert_int_eq(end(fixture), CLIENT_FAILED);
  ck_assert_uint_eq(env->counters->errors[ERROR_SHORT], 1);
  tear_down(fixture);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_greet_byte_by_byte, 1},
      {test_greet_wrong_byte, sizeof(greeting)},
      {test_greet_short, sizeof(greeting)},
      {test_greet_too_much, 1},
      {test_greet_unsent, 1},
      {test_counted_replies, 1},
      {test_counted_one_reply_missing, 1},
      {test_echo_pipeline, 1},
      {test_echo_fails_in_flight, 1},
      {test_late_answer, 2},
      {test_late_connection, 1},
      {test_answer_after_the_window, 1},
      {test_wrong_answer_is_shown, 4},
      {test_wrong_echo_is_shown, 1},
      {test_echo_unasked, 1},
      {test_echo_ended_between, 1},
      {test_echo_larger_than_buffers, 1},
      {test_send_to_a_closed_peer, 1},
      {test_discard, 1},
      {test_idle, 1},
  };
  return run_suite("client", tests, count_of(tests));
}
