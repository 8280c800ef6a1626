/*
 * check_conn_call: every call of a handler from every place where it may stand, and from the wrong
 * thread.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/unit/stage.h"

#include <pthread.h>

#define GROUP 7
#define SOON_NS (50 * NS_PER_MS)

/* ---- every wish at every place ---- */

enum wish { SEND, FINISH, ABORT, PAUSE, RESUME, TIMER, JOIN, LEAVE, WISHES };

enum from {
  OWN_OPEN,
  OWN_MESSAGE,
  OWN_DRAIN,
  OWN_TIMER,
  OWN_CLOSE,
  OTHER_MESSAGE, /* another connection's callback, while this one has no turn */
  OTHER_CLOSE,
  POSTED,
  FROMS
};

/* One wish, said twice to ${target} where ${from} says. */
struct script {
  enum wish wish;
  enum from from;
  struct xchg_conn *target;
  uint64_t id; /* of the target */
  bool said;
  int results[2], errors[2];
};

static int say(enum wish wish, struct xchg_conn *conn) {
  switch (wish) {
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

static void say_twice(struct stage *stage, struct xchg_conn *conn) {
  struct script *script = stage->script;
  (void)conn;
  if (script->said) {
    return;
  }
  script->said = true;
  for (int i = 0; i < 2; i++) {
    errno = 0;
    script->results[i] = say(script->wish, script->target);
    script->errors[i] = errno;
  }
}

static void say_at_open(struct stage *stage, struct xchg_conn *conn) {
  struct script *script = stage->script;
  if (script->target != NULL) {
    return; /* the other one */
  }
  script->target = conn;
  script->id = xchg_id(conn);
  if (script->wish == LEAVE) {
    ck_assert_int_eq(xchg_join(conn, GROUP, XCHG_SLOW_SKIP), 0);
  }
  if (script->from == OWN_TIMER) {
    ck_assert_int_eq(xchg_timer(conn, 1), 0);
  }
  if (script->from == OWN_OPEN) {
    say_twice(stage, conn);
  }
}

/* Go to the place and have the wish said there; the other connection's client is ${*other}. */
static void go(struct stage *stage, int fd, int *other) {
  static const enum place places[FROMS] = {
      [OWN_MESSAGE] = AT_MESSAGE, [OWN_DRAIN] = AT_DRAIN,       [OWN_TIMER] = AT_TIMER,
      [OWN_CLOSE] = AT_CLOSE,     [OTHER_MESSAGE] = AT_MESSAGE, [OTHER_CLOSE] = AT_CLOSE};
  struct script *script = stage->script;
  struct rig *rig = &stage->rig;
  rig_settle(rig);
  if (script->from != OWN_OPEN && script->from != OWN_DRAIN && script->from != POSTED) {
    stage->acts[places[script->from]] = say_twice;
  }
  switch (script->from) {
    case OWN_MESSAGE:
      RIG_PUT(rig, fd, "m\0");
      break;
    case OWN_TIMER:
      rig_advance(rig, SOON_NS);
      break;
    case OWN_CLOSE:
      ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
      break;
    case OTHER_MESSAGE:
      RIG_GET(rig, *other, "g");
      RIG_PUT(rig, *other, "m\0");
      RIG_GET(rig, *other, "m\0");
      break;
    case OTHER_CLOSE:
      RIG_GET(rig, *other, "g");
      close(*other);
      *other = -1;
      break;
    case POSTED:
      stage_post(stage, script->id, say_twice);
      break;
    default:
      break;
  }
  RIG_UNTIL(rig, script->said);
  rig_settle(rig);
}

static void check_results(const struct script *script) {
  int first = 0, second = 0;
  if (script->from == OWN_CLOSE && (script->wish == SEND || script->wish == JOIN)) {
    first = second = EPIPE;
  } else if (script->wish == LEAVE) {
    second = ENOENT;
  }
  ck_assert_int_eq(script->results[0], first == 0 ? 0 : -1);
  ck_assert_int_eq(script->results[1], second == 0 ? 0 : -1);
  ck_assert_int_eq(script->errors[0], first);
  ck_assert_int_eq(script->errors[1], second);
}

/* It goes on as if nothing had been said. */
static void check_goes_on(struct stage *stage, int fd) {
  RIG_PUT(&stage->rig, fd, "e\0");
  RIG_GET(&stage->rig, fd, "e\0");
}

static void check_timer(struct stage *stage) {
  uint32_t before = stage->count[AT_TIMER];
  rig_advance(&stage->rig, SOON_NS - 10 * NS_PER_MS);
  ck_assert_uint_eq(stage->count[AT_TIMER], before);
  rig_advance(&stage->rig, 20 * NS_PER_MS);
  ck_assert_uint_eq(stage->count[AT_TIMER], before + 1);
  rig_advance(&stage->rig, 10 * SOON_NS);
  ck_assert_uint_eq(stage->count[AT_TIMER], before + 1);
}

/* What the wish did, now that the client has read what was sent before. */
static void check_effect(struct stage *stage, int fd) {
  const struct script *script = stage->script;
  struct rig *rig = &stage->rig;
  uint64_t messages = rig->messages;
  switch (script->wish) {
    case SEND:
      RIG_GET(rig, fd, "SS");
      break;
    case PAUSE:
      RIG_PUT(rig, fd, "p\0");
      rig_get_nothing(rig, fd);
      ck_assert_uint_eq(rig->messages, messages);
      stage_post(stage, script->id, stage_resume);
      RIG_GET(rig, fd, "p\0");
      break;
    case TIMER:
      check_timer(stage);
      break;
    case JOIN:
      stage_publish(stage, GROUP, "P", 1, STAGE_BUDGET);
      RIG_GET(rig, fd, "P");
      break;
    case LEAVE:
      stage_publish(stage, GROUP, "P", 1, STAGE_BUDGET);
      rig_get_nothing(rig, fd);
      break;
    default:
      break;
  }
  check_goes_on(stage, fd);
}

/* ${wish} ends the connection: what the client still gets, and why it was. */
static void check_end(struct stage *stage, int fd) {
  const struct script *script = stage->script;
  bool aborts = script->wish == ABORT; /* what its turn had queued is lost */
  if (!aborts || script->from != OWN_OPEN) {
    RIG_GET(&stage->rig, fd, "g");
  }
  if (!aborts && script->from == OWN_MESSAGE) {
    RIG_GET(&stage->rig, fd, "m\0");
  }
  rig_get_end(&stage->rig, fd);
}

static void check_after(struct stage *stage, int fd) {
  const struct script *script = stage->script;
  if (script->from == OWN_CLOSE) {
    RIG_GET(&stage->rig, fd, "g");
    rig_get_end(&stage->rig, fd);
    rig_advance(&stage->rig, 10 * SOON_NS);
    ck_assert_uint_eq(stage->count[AT_TIMER], 0);
    stage_publish(stage, GROUP, "P", 1, STAGE_BUDGET);
    rig_over(&stage->rig, XCHG_FINISHED);
  } else if (script->wish == FINISH || script->wish == ABORT) {
    check_end(stage, fd);
  } else {
    RIG_GET(&stage->rig, fd, "g");
    if (script->from == OWN_MESSAGE) {
      RIG_GET(&stage->rig, fd, "m\0");
    }
    check_effect(stage, fd);
  }
}

static void run_wish(enum wish wish, enum from from, bool single) {
  struct script script = {.wish = wish, .from = from};
  struct stage stage;
  stage_init(&stage);
  stage.rig.greeting = "g";
  stage.script = &script;
  stage.acts[AT_OPEN] = say_at_open;
  stage.acts[AT_DRAIN] = from == OWN_DRAIN ? say_twice : NULL;
  stage_start(&stage, single);
  int fd = rig_connect(&stage.rig);
  int other = from == OTHER_MESSAGE || from == OTHER_CLOSE ? rig_connect(&stage.rig) : -1;
  go(&stage, fd, &other);
  check_results(&script);
  check_after(&stage, fd);
  close(fd);
  if (other != -1) {
    close(other);
  }
  RIG_UNTIL(&stage.rig, stage.rig.slab.used == 0);
  uint64_t aborted = wish == ABORT && from != OWN_CLOSE ? 1 : 0;
  ck_assert_uint_eq(rig_ended(&stage.rig, XCHG_ERROR), aborted);
  ck_assert_uint_eq(rig_ended(&stage.rig, XCHG_FINISHED), stage.rig.accepted - aborted);
  stage_fini(&stage);
}

START_TEST(test_every_wish_everywhere) {
  for (int wish = 0; wish < WISHES; wish++) {
    run_wish((enum wish)wish, (enum from)_i, false);
    if (_i != OTHER_MESSAGE && _i != OTHER_CLOSE) {
      run_wish((enum wish)wish, (enum from)_i, true); /* one connection, by poll */
    }
  }
}
END_TEST

/* ---- one connection ends another ---- */

static struct xchg_conn *victim;

static void end_victim(struct stage *stage, struct xchg_conn *conn) {
  int (*end)(struct xchg_conn *) = *(int (**)(struct xchg_conn *))stage->script;
  if (conn != victim) {
    ck_assert_int_eq(end(victim), 0);
    ck_assert_int_eq(xchg_send(victim, "x", 1), -1);
    ck_assert_int_eq(errno, EPIPE);
  }
}

static int (*const ends[])(struct xchg_conn *) = {xchg_finish, xchg_abort};

/* Both are ready in one batch; who was ended by the first gets no message any more. */
START_TEST(test_ended_by_another_before_its_message) {
  int (*end)(struct xchg_conn *) = ends[_i];
  struct stage stage;
  stage_init(&stage);
  stage.rig.reply = RIG_SILENT;
  stage.script = &end;
  stage.acts[AT_MESSAGE] = end_victim;
  stage_start(&stage, false);
  int first = rig_connect(&stage.rig), second = rig_connect(&stage.rig);
  victim = stage_newest(&stage);
  rig_settle(&stage.rig);
  ck_assert_int_eq(send(first, "a\0", 2, 0), 2);
  ck_assert_int_eq(send(second, "b\0", 2, 0), 2);
  rig_settle(&stage.rig);
  ck_assert_uint_eq(stage.rig.got_size, 2);
  ck_assert_mem_eq(stage.rig.got, "a|", 2);
  close(first);
  close(second);
  RIG_UNTIL(&stage.rig, stage.rig.slab.used == 0);
  ck_assert_uint_eq(rig_ended(&stage.rig, XCHG_FINISHED), _i == 0 ? 2 : 1);
  stage_fini(&stage);
}
END_TEST

/* Both timers are due at once; who was ended by the first one's gets no call any more. */
START_TEST(test_ended_by_another_before_its_timer) {
  int (*end)(struct xchg_conn *) = ends[_i];
  struct stage stage;
  stage_init(&stage);
  stage.script = &end;
  stage.acts[AT_TIMER] = end_victim;
  stage_start(&stage, false);
  int first = rig_connect(&stage.rig);
  ck_assert_int_eq(xchg_timer(stage_newest(&stage), NS_PER_MS), 0);
  int second = rig_connect(&stage.rig);
  victim = stage_newest(&stage);
  ck_assert_int_eq(xchg_timer(victim, 2 * NS_PER_MS), 0);
  rig_settle(&stage.rig);
  rig_advance(&stage.rig, NS_PER_S);
  ck_assert_uint_eq(stage.count[AT_TIMER], 1);
  rig_get_end(&stage.rig, second);
  close(first);
  close(second);
  RIG_UNTIL(&stage.rig, stage.rig.slab.used == 0);
  stage_fini(&stage);
}
END_TEST

/* ---- from another thread ---- */

static void nobody(void *argument) { (*(uint32_t *)argument)++; }

#define REFUSED(call)                 \
  do {                                \
    errno = 0;                        \
    rig_holds((call) == -1, #call);   \
    rig_holds(errno == EPERM, #call); \
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
  REFUSED(xchg_send_ref(conn, "x", 1, nobody, &released));
  REFUSED(xchg_send_ref(conn, "x", 0, nobody, &released));
  REFUSED(xchg_finish(conn));
  REFUSED(xchg_abort(conn));
  REFUSED(xchg_pause(conn));
  REFUSED(xchg_resume(conn));
  REFUSED(xchg_timer(conn, 1));
  REFUSED(xchg_timer(conn, XCHG_NEVER));
  REFUSED(xchg_address(conn, text, sizeof(text)));
  REFUSED(xchg_join(conn, GROUP + 1, XCHG_SLOW_SKIP));
  REFUSED(xchg_leave(conn, GROUP));
  rig_holds(xchg_pending(conn) == 0, "xchg_pending");
  rig_holds(xchg_id(conn) == 0, "xchg_id");
  rig_holds(xchg_state(conn) == NULL, "xchg_state");
  rig_holds(released == 0, "nothing was lent");
  rig_holds(strcmp(text, "untouched") == 0, "xchg_address");
  rig_holds(xchg_user(conn) == conn->host->handler->user, "xchg_user");
  rig_holds(xchg_server_of(conn) == conn->host->server, "xchg_server_of");
  return NULL;
}

/* All that they could have changed; the wheel's and the reactor's links stand in it, too. */
START_TEST(test_another_thread_is_refused) {
  int user = 0;
  struct stage stage;
  stage_init(&stage);
  stage.rig.handler.state_size = 8;
  stage.rig.handler.user = &user;
  stage.rig.reply = RIG_LONG; /* so much that some waits */
  stage.rig.long_bytes = 1000000;
  stage_start(&stage, _i == 1);
  int fd = rig_connect(&stage.rig);
  struct xchg_conn *conn = rig_conn(&stage.rig);
  ck_assert_int_eq(xchg_join(conn, GROUP, XCHG_SLOW_SKIP), 0);
  RIG_PUT(&stage.rig, fd, "z\0");
  rig_settle(&stage.rig);
  ck_assert_uint_gt(xchg_pending(conn), 0);
  struct xchg_conn before = *conn;
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, stranger, conn), 0);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  ck_assert_mem_eq(&before, conn, sizeof(before));
  ck_assert(!reactor_busy(&stage.rig.reactor));
  ck_assert_ptr_eq(xchg_user(conn), &user);
  close(fd);
  RIG_UNTIL(&stage.rig, stage.rig.slab.used == 0);
  stage_fini(&stage);
}
END_TEST

/* What cannot be, said of a connection that lives on. */
START_TEST(test_invalid) {
  struct stage stage;
  stage_init(&stage);
  stage.rig.handler.on_timer = NULL;
  stage_start(&stage, false);
  int fd = rig_connect(&stage.rig);
  struct xchg_conn *conn = rig_conn(&stage.rig);
  const uint64_t times[] = {0, 1, XCHG_NEVER};
  for (size_t i = 0; i < count_of(times); i++) {
    ck_assert_int_eq(xchg_timer(conn, times[i]), -1);
    ck_assert_int_eq(errno, EINVAL);
  }
  ck_assert_int_eq(xchg_sendv(conn, NULL, -1), -1);
  ck_assert_int_eq(errno, EINVAL);
  uint32_t released = 0;
  ck_assert_int_eq(xchg_send_ref(conn, "x", XCHG_MESSAGE_MAX + 1, nobody, &released), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_uint_eq(released, 0);
  ck_assert_int_eq(xchg_join(conn, GROUP, (enum xchg_slow)2), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_int_eq(xchg_leave(conn, GROUP), -1);
  ck_assert_int_eq(errno, ENOENT);
  check_goes_on(&stage, fd);
  close(fd);
  rig_over(&stage.rig, XCHG_FINISHED);
  stage_fini(&stage);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_every_wish_everywhere, FROMS},
      {test_ended_by_another_before_its_message, count_of(ends)},
      {test_ended_by_another_before_its_timer, count_of(ends)},
      {test_another_thread_is_refused, 2},
      {test_invalid, 1},
  };
  return run_suite("conn_call", tests, count_of(tests));
}
