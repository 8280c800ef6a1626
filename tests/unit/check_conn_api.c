/*
 * check_conn_api: every call that a handler may make, from every place that may make it, and from
 * the wrong thread.
 */
#include "tests/fixtures/handler_fixture.h"

#include <pthread.h>

#define GROUP 7
#define SOON_NS (50 * NS_PER_MS)

/* ---- every request from every place ---- */

enum request { SEND, FINISH, ABORT, PAUSE, RESUME, TIMER, JOIN, LEAVE, REQUESTS };

enum from {
  OWN_OPEN,
  OWN_MESSAGE,
  OWN_DRAIN,
  OWN_TIMER,
  OWN_CLOSE,
  OTHER_MESSAGE, /* a callback of another connection, outside this one's turn */
  OTHER_CLOSE,
  POSTED,
  FROMS
};

/* One request, made twice for ${target} from the place ${from}. */
struct script {
  enum request request;
  enum from from;
  struct xchg_conn *target;
  uint64_t id; /* the target's */
  bool made;
  int results[2], errors[2];
};

static int make_request(enum request request, struct xchg_conn *conn) {
  switch (request) {
    case SEND:
      return xchg_send(conn, "S", 1);
    case FINISH:
      return xchg_finish(conn);
    case ABORT:
      return xchg_abort(conn);
    case PAUSE:
      return xchg_pause(conn);
    case RESUME:
      return xchg_resume(conn);
    case TIMER:
      return xchg_timer(conn, SOON_NS);
    case JOIN:
      return xchg_join(conn, GROUP, XCHG_SLOW_SKIP);
    default:
      return xchg_leave(conn, GROUP);
  }
}

static void request_twice(struct xchg_conn *conn) {
  struct script *script = test_data;
  (void)conn;
  if (script->made) {
    return;
  }
  script->made = true;
  for (int i = 0; i < 2; i++) {
    errno = 0;
    script->results[i] = make_request(script->request, script->target);
    script->errors[i] = errno;
  }
}

static void request_at_open(struct xchg_conn *conn) {
  struct script *script = test_data;
  if (script->target != NULL) {
    return; /* this is the other connection */
  }
  script->target = conn;
  script->id = xchg_id(conn);
  if (script->request == LEAVE) {
    ck_assert_int_eq(xchg_join(conn, GROUP, XCHG_SLOW_SKIP), 0);
  }
  if (script->from == OWN_TIMER) {
    ck_assert_int_eq(xchg_timer(conn, 1), 0);
  }
  if (script->from == OWN_OPEN) {
    request_twice(conn);
  }
}

/*
 * Bring about the callback that makes the request. ${*other} is the client of the other connection.
 */
static void go(int fd, int *other) {
  static const enum place places[FROMS] = {
      [OWN_MESSAGE] = AT_MESSAGE, [OWN_DRAIN] = AT_DRAIN,       [OWN_TIMER] = AT_TIMER,
      [OWN_CLOSE] = AT_CLOSE,     [OTHER_MESSAGE] = AT_MESSAGE, [OTHER_CLOSE] = AT_CLOSE};
  struct script *script = test_data;
  fixture_settle();
  if (script->from != OWN_OPEN && script->from != OWN_DRAIN && script->from != POSTED) {
    acts[places[script->from]] = request_twice;
  }
  switch (script->from) {
    case OWN_MESSAGE:
      CLIENT_SEND(fd, "m\0");
      break;
    case OWN_TIMER:
      fixture_advance(SOON_NS);
      break;
    case OWN_CLOSE:
      client_shutdown(fd);
      break;
    case OTHER_MESSAGE:
      CLIENT_EXPECT(*other, "g");
      CLIENT_SEND(*other, "m\0");
      CLIENT_EXPECT(*other, "m\0");
      break;
    case OTHER_CLOSE:
      CLIENT_EXPECT(*other, "g");
      close(*other);
      *other = -1;
      break;
    case POSTED:
      post_act(script->id, request_twice);
      break;
    default:
      break;
  }
  FIXTURE_UNTIL(script->made);
  fixture_settle();
}

static void check_results(const struct script *script) {
  int first = 0, second = 0;
  if (script->from == OWN_CLOSE && (script->request == SEND || script->request == JOIN)) {
    first = second = EPIPE;
  } else if (script->request == LEAVE) {
    second = ENOENT;
  }
  ck_assert_int_eq(script->results[0], first == 0 ? 0 : -1);
  ck_assert_int_eq(script->results[1], second == 0 ? 0 : -1);
  ck_assert_int_eq(script->errors[0], first);
  ck_assert_int_eq(script->errors[1], second);
}

/* The connection still echoes. */
static void check_goes_on(int fd) {
  CLIENT_SEND(fd, "e\0");
  CLIENT_EXPECT(fd, "e\0");
}

static void check_timer(void) {
  uint32_t before = call_count[AT_TIMER];
  fixture_advance(SOON_NS - 10 * NS_PER_MS);
  ck_assert_uint_eq(call_count[AT_TIMER], before);
  fixture_advance(20 * NS_PER_MS);
  ck_assert_uint_eq(call_count[AT_TIMER], before + 1);
  fixture_advance(10 * SOON_NS);
  ck_assert_uint_eq(call_count[AT_TIMER], before + 1);
}

/* What the request did. The client has read everything that was sent before it. */
static void check_effect(int fd) {
  const struct script *script = test_data;
  uint64_t messages = fixture.messages;
  switch (script->request) {
    case SEND:
      CLIENT_EXPECT(fd, "SS");
      break;
    case PAUSE:
      CLIENT_SEND(fd, "p\0");
      client_expect_nothing(fd);
      ck_assert_uint_eq(fixture.messages, messages);
      post_act(script->id, act_resume);
      CLIENT_EXPECT(fd, "p\0");
      break;
    case TIMER:
      check_timer();
      break;
    case JOIN:
      publish_bytes(GROUP, "P", 1, TASK_BUDGET);
      CLIENT_EXPECT(fd, "P");
      break;
    case LEAVE:
      publish_bytes(GROUP, "P", 1, TASK_BUDGET);
      client_expect_nothing(fd);
      break;
    default:
      break;
  }
  check_goes_on(fd);
}

/* The request ends the connection: what the client still gets. */
static void check_end(int fd) {
  const struct script *script = test_data;
  bool aborts = script->request == ABORT; /* output queued in the same turn is lost */
  if (!aborts || script->from != OWN_OPEN) {
    CLIENT_EXPECT(fd, "g");
  }
  if (!aborts && script->from == OWN_MESSAGE) {
    CLIENT_EXPECT(fd, "m\0");
  }
  client_expect_end(fd);
}

static void check_after(int fd) {
  const struct script *script = test_data;
  if (script->from == OWN_CLOSE) {
    CLIENT_EXPECT(fd, "g");
    client_expect_end(fd);
    fixture_advance(10 * SOON_NS);
    ck_assert_uint_eq(call_count[AT_TIMER], 0);
    publish_bytes(GROUP, "P", 1, TASK_BUDGET);
    fixture_expect_end(XCHG_FINISHED);
  } else if (script->request == FINISH || script->request == ABORT) {
    check_end(fd);
  } else {
    CLIENT_EXPECT(fd, "g");
    if (script->from == OWN_MESSAGE) {
      CLIENT_EXPECT(fd, "m\0");
    }
    check_effect(fd);
  }
}

static void run_request(enum request request, enum from from, bool single) {
  struct script script = {.request = request, .from = from};
  fixture.greeting = "g";
  test_data = &script;
  acts[AT_OPEN] = request_at_open;
  acts[AT_DRAIN] = from == OWN_DRAIN ? request_twice : NULL;
  int fd = start_and_connect(single);
  int other = from == OTHER_MESSAGE || from == OTHER_CLOSE ? client_connect() : -1;
  go(fd, &other);
  check_results(&script);
  check_after(fd);
  close(fd);
  if (other != -1) {
    close(other);
  }
  fixture_until_all_closed();
  uint64_t aborted = request == ABORT && from != OWN_CLOSE ? 1 : 0;
  ck_assert_uint_eq(fixture_ended(XCHG_ERROR), aborted);
  ck_assert_uint_eq(fixture_ended(XCHG_FINISHED), fixture.accepted - aborted);
  handler_fixture_reset();
}

START_TEST(test_every_request_from_every_place) {
  for (int request = 0; request < REQUESTS; request++) {
    run_request((enum request)request, (enum from)_i, false);
    if (_i != OTHER_MESSAGE && _i != OTHER_CLOSE) {
      run_request((enum request)request, (enum from)_i,
                  true); /* with poll there is one connection */
    }
  }
}
END_TEST

/* ---- one connection ends another ---- */

static struct xchg_conn *victim;

static void end_victim(struct xchg_conn *conn) {
  int (*end)(struct xchg_conn *) = *(int (**)(struct xchg_conn *))test_data;
  if (conn != victim) {
    ck_assert_int_eq(end(victim), 0);
    ck_assert_int_eq(xchg_send(victim, "x", 1), -1);
    ck_assert_int_eq(errno, EPIPE);
  }
}

static int (*const ends[])(struct xchg_conn *) = {xchg_finish, xchg_abort};

/* Both are ready in one batch. The second one, which the first has ended, gets no message. */
START_TEST(test_ended_by_another_before_its_message) {
  int (*end)(struct xchg_conn *) = ends[_i];
  fixture.reply = FIXTURE_SILENT;
  test_data = &end;
  acts[AT_MESSAGE] = end_victim;
  fixture_start(false);
  int first = client_connect(), second = client_connect();
  victim = fixture_newest();
  fixture_settle();
  CLIENT_WRITE(first, "a\0");
  CLIENT_WRITE(second, "b\0");
  fixture_settle();
  ck_assert_uint_eq(fixture.got_size, 2);
  ck_assert_mem_eq(fixture.got, "a|", 2);
  close(first);
  close(second);
  fixture_until_all_closed();
  ck_assert_uint_eq(fixture_ended(XCHG_FINISHED), _i == 0 ? 2 : 1);
}
END_TEST

/* Both timers are due at once. The second one, which the first has ended, gets no on_timer. */
START_TEST(test_ended_by_another_before_its_timer) {
  int (*end)(struct xchg_conn *) = ends[_i];
  test_data = &end;
  acts[AT_TIMER] = end_victim;
  fixture_start(false);
  int first = client_connect();
  ck_assert_int_eq(xchg_timer(fixture_newest(), NS_PER_MS), 0);
  int second = client_connect();
  victim = fixture_newest();
  ck_assert_int_eq(xchg_timer(victim, 4 * NS_PER_MS), 0); /* another tick */
  fixture_settle();
  fixture_advance(NS_PER_S);
  ck_assert_uint_eq(call_count[AT_TIMER], 1);
  client_expect_end(second);
  close(first);
  close(second);
  fixture_until_all_closed();
}
END_TEST

/* ---- from another thread ---- */

static void count_release(void *argument) { (*(uint32_t *)argument)++; }

#define REFUSED(call)               \
  do {                              \
    errno = 0;                      \
    require((call) == -1, #call);   \
    require(errno == EPERM, #call); \
  } while (0)

static void *stranger(void *argument) {
  struct xchg_conn *conn = argument;
  char byte = 'x';
  struct iovec part = {.iov_base = &byte, .iov_len = 1};
  char text[XCHG_ADDRESS_MAX] = "untouched";
  uint32_t released = 0;
  REFUSED(xchg_send(conn, "x", 1));
  REFUSED(xchg_sendv(conn, &part, 1));
  REFUSED(xchg_sendv(conn, &part, -1));
  REFUSED(xchg_send_ref(conn, "x", 1, count_release, &released));
  REFUSED(xchg_send_ref(conn, "x", 0, count_release, &released));
  REFUSED(xchg_finish(conn));
  REFUSED(xchg_abort(conn));
  REFUSED(xchg_pause(conn));
  REFUSED(xchg_resume(conn));
  REFUSED(xchg_timer(conn, 1));
  REFUSED(xchg_timer(conn, XCHG_NEVER));
  REFUSED(xchg_address(conn, text, sizeof(text)));
  REFUSED(xchg_join(conn, GROUP + 1, XCHG_SLOW_SKIP));
  REFUSED(xchg_leave(conn, GROUP));
  require(xchg_pending(conn) == 0, "xchg_pending");
  require(xchg_id(conn) == 0, "xchg_id");
  require(xchg_state(conn) == NULL, "xchg_state");
  require(released == 0, "no reference was kept");
  require(strcmp(text, "untouched") == 0, "xchg_address");
  require(xchg_user(conn) == conn->ctx->handler->user, "xchg_user");
  require(xchg_server_of(conn) == conn->ctx->server, "xchg_server_of");
  return NULL;
}

/* The whole struct is compared, the links of wheel and reactor included. */
START_TEST(test_another_thread_is_refused) {
  int user = 0;
  fixture.handler.state_size = 8;
  fixture.handler.user = &user;
  fixture.reply = FIXTURE_LONG; /* more than the socket takes */
  fixture.long_bytes = 1000000;
  int fd = start_and_connect(_i == 1);
  struct xchg_conn *conn = fixture_conn();
  ck_assert_int_eq(xchg_join(conn, GROUP, XCHG_SLOW_SKIP), 0);
  CLIENT_SEND(fd, "z\0");
  fixture_settle();
  ck_assert_uint_gt(xchg_pending(conn), 0);
  struct xchg_conn before = *conn;
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, stranger, conn), 0);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  ck_assert_mem_eq(&before, conn, sizeof(before));
  ck_assert(!reactor_busy(&fixture.reactor));
  ck_assert_ptr_eq(xchg_user(conn), &user);
  close(fd);
  fixture_until_all_closed();
}
END_TEST

/* Invalid arguments are refused, and the connection lives on. */
START_TEST(test_invalid_arguments_are_refused) {
  fixture.handler.on_timer = NULL;
  int fd = start_and_connect(false);
  struct xchg_conn *conn = fixture_conn();
  const uint64_t times[] = {0, 1, XCHG_NEVER};
  for (size_t i = 0; i < count_of(times); i++) {
    ck_assert_int_eq(xchg_timer(conn, times[i]), -1);
    ck_assert_int_eq(errno, EINVAL);
  }
  ck_assert_int_eq(xchg_sendv(conn, NULL, -1), -1);
  ck_assert_int_eq(errno, EINVAL);
  uint32_t released = 0;
  ck_assert_int_eq(xchg_send_ref(conn, "x", XCHG_MESSAGE_MAX + 1, count_release, &released), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_uint_eq(released, 0);
  ck_assert_int_eq(xchg_join(conn, GROUP, (enum xchg_slow)2), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_int_eq(xchg_leave(conn, GROUP), -1);
  ck_assert_int_eq(errno, ENOENT);
  check_goes_on(fd);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_every_request_from_every_place, FROMS},
      {test_ended_by_another_before_its_message, count_of(ends)},
      {test_ended_by_another_before_its_timer, count_of(ends)},
      {test_another_thread_is_refused, 2},
      {test_invalid_arguments_are_refused, 1},
  };
  return run_suite_fixture("conn_api", tests, count_of(tests), handler_fixture_init,
                           handler_fixture_fini);
}
