/*
 * check_conn_log: how long a message and an exchange take, by a clock that the test moves; what is
 * counted, logged and suppressed.
 */
#include "net/conn_log.h"

#include "tests/fixtures/paused_conn.h"

#define LINES_MAX 256

static struct log test_log;
static char lines[LINES_MAX][LOG_LINE_MAX];
static uint32_t lines_count;

static void take_line(void *user, enum xchg_log_level level, const char *line) {
  (void)user;
  (void)level;
  ck_assert_uint_lt(lines_count, LINES_MAX);
  snprintf(lines[lines_count++], LOG_LINE_MAX, "%s", line);
}

static void init(void) {
  lines_count = 0;
  paused_conn_init();
  fixture.config.slow_log_ns = 10 * NS_PER_MS;
}

/* Start with a log of ${level}; messages do not pause unless ${pauses}. */
static void start(enum log_level level, bool pauses) {
  if (!pauses) {
    acts[AT_MESSAGE] = NULL;
  }
  fixture_start(false);
  log_init(&test_log, take_line, NULL, level, LOG_LOGFMT);
  fixture.ctx.log = &test_log;
  client = client_connect_id(&client_id);
}

static uint64_t slow(void) { return atom_load_relaxed_u64(&fixture.stats.slow); }

/* The last line has all these fields. */
static void expect_fields(const char *const *fields) {
  ck_assert_uint_gt(lines_count, 0);
  for (; *fields != NULL; fields++) {
    ck_assert_msg(strstr(lines[lines_count - 1], *fields) != NULL, "no %s in %s", *fields,
                  lines[lines_count - 1]);
  }
}
#define EXPECT_FIELDS(...) expect_fields((const char *const[]){__VA_ARGS__, NULL})

/* ---- messages ---- */

/* What takes exactly the limit is not slow. Idle time before a message does not count. */
START_TEST(test_a_message_that_comes_slowly) {
  start(LOG_INFO, false);
  PUT("one\0ha");
  fixture_advance(10 * NS_PER_MS);
  PUT("lf\0");
  ck_assert_uint_eq(slow(), 0);
  fixture_advance(NS_PER_S);
  PUT("a");
  for (int i = 0; i < 3; i++) {
    fixture_advance(4 * NS_PER_MS);
    PUT("b");
  }
  PUT("\0next\0la");
  ck_assert_uint_eq(slow(), 1);
  ck_assert_uint_eq(lines_count, 1);
  EXPECT_FIELDS("level=warn", "msg=slow", " took_ms=12 ", " messages=4 ", "bytes_in=21 ",
                " bytes_out=0");
  ck_assert_ptr_null(strstr(lines[0], "reason="));
  ck_assert_ptr_null(strstr(lines[0], "suppressed="));
  fixture_advance(20 * NS_PER_MS);
  PUT("st\0");
  EXPECT_FIELDS(" took_ms=20 ", " messages=5 ");
  close_and_expect_end(client, XCHG_FINISHED);
  ck_assert_uint_eq(slow(), 2);
}
END_TEST

/* Until the handler lets go; the next message waits meanwhile and has its own time. */
START_TEST(test_a_message_that_the_handler_holds) {
  start(LOG_INFO, true);
  PUT("one\0two\0");
  fixture_advance(30 * NS_PER_MS);
  ck_assert_uint_eq(slow(), 0);
  answer_once();
  ck_assert_uint_eq(slow(), 1);
  EXPECT_FIELDS(" took_ms=30 ");
  fixture_advance(5 * NS_PER_MS);
  answer_once();
  ck_assert_uint_eq(slow(), 1);
  PUT("th");
  fixture_advance(20 * NS_PER_MS);
  PUT("ree\0");
  fixture_advance(30 * NS_PER_MS);
  ck_assert_uint_eq(slow(), 1);
  answer_once();
  ck_assert_uint_eq(slow(), 2);
  EXPECT_FIELDS(" took_ms=50 ", " messages=3 ");
  close_and_expect_end(client, XCHG_FINISHED);
}
END_TEST

/* A message that is not over when its connection ends has the reason of the end. */
START_TEST(test_a_message_that_is_not_over) {
  start(LOG_INFO, true);
  fixture.config.message_timeout_ns = 20 * NS_PER_MS;
  char took[32];
  uint64_t took_ms = 0;
  paused_conn_put("one", _i == 0 ? 3 : 4, false);
  for (; fixture.slab.used > 0; took_ms += 10) {
    ck_assert_uint_lt(took_ms, 100);
    if (_i == 1 && took_ms == 30) {
      post_act(client_id, act_abort);
      break;
    }
    fixture_advance(10 * NS_PER_MS);
  }
  fixture_until_all_closed();
  snprintf(took, sizeof(took), " took_ms=%u ", (unsigned)took_ms);
  ck_assert_uint_eq(slow(), 1);
  EXPECT_FIELDS(took, _i == 0 ? " reason=message" : " reason=error");
  close(client);
}
END_TEST

/* A pause without a message, and an idle connection, are not slow. */
START_TEST(test_nothing_in_progress) {
  acts[AT_OPEN] = act_pause;
  start(LOG_INFO, false);
  fixture_advance(NS_PER_S);
  post_act(client_id, act_resume);
  PUT("one\0");
  fixture_advance(NS_PER_S);
  close_and_expect_end(client, XCHG_FINISHED);
  ck_assert_uint_eq(slow(), 0);
  ck_assert_uint_eq(lines_count, 0);
}
END_TEST

/* The beginning of a PROXY header is no message, when its time or that of a drain is over. */
START_TEST(test_a_header_that_does_not_come) {
  fixture.config.proxy_timeout_ns = 5 * NS_PER_S;
  fixture.config.listen_count = 1;
  fixture.config.listen[0].proxy = ADDR_PROXY_ANY;
  start(LOG_INFO, false);
  PUT("PROXY ");
  if (_i == 0) {
    fixture_advance(6 * NS_PER_S);
  } else {
    ck_assert(conn_stop_now(&fixture_conn()->source));
    fixture_reap();
  }
  ck_assert_uint_eq(fixture_ended(_i == 0 ? XCHG_PROXY : XCHG_DRAIN), 1);
  ck_assert_uint_eq(slow(), 0);
  ck_assert_uint_eq(lines_count, 0);
  close(client);
}
END_TEST

/* A reset in the middle of a message ends it, but not where the handler has ended it before. */
START_TEST(test_a_message_that_a_reset_ends) {
  start(LOG_INFO, false);
  close_and_expect_end(client, XCHG_FINISHED);
  client = client_connect_tcp();
  client_id = conn_id(fixture_newest());
  PUT("ha");
  fixture_advance(15 * NS_PER_MS);
  client_reset(client);
  if (_i == 1) {
    run_call(client_id, act_finish, NULL);
  }
  fixture_until_all_closed();
  ck_assert_uint_eq(fixture_ended(XCHG_RESET), 1);
  ck_assert_uint_eq(slow(), _i == 0 ? 1 : 0);
  if (_i == 0) {
    EXPECT_FIELDS(" took_ms=15 ", " reason=reset");
  }
}
END_TEST

/* ---- exchanges ---- */

START_TEST(test_a_counted_exchange) {
  fixture.handler.messages = 2;
  start(LOG_INFO, false);
  fixture_advance(15 * NS_PER_MS);
  PUT("on");
  fixture_advance(15 * NS_PER_MS);
  PUT("e\0");
  fixture_advance(15 * NS_PER_MS);
  ck_assert_uint_eq(slow(), 0);
  PUT("two\0");
  fixture_until_all_closed();
  ck_assert_uint_eq(slow(), 1);
  EXPECT_FIELDS(" took_ms=45 ", " messages=2 ", " bytes_in=8 ", " reason=finished");
  close(client);
}
END_TEST

/* ---- the log ---- */

START_TEST(test_off) {
  fixture.config.slow_log_ns = 0;
  start(LOG_DEBUG - (_i == 0), false);
  ck_assert_ptr_null(fixture.ctx.paces);
  PUT("ha");
  fixture_advance(NS_PER_S);
  PUT("lf\0");
  close_and_expect_end(client, XCHG_FINISHED);
  ck_assert_uint_eq(slow(), 0);
  ck_assert_uint_eq(lines_count, _i == 0 ? 0 : 2); /* opened and closed */
}
END_TEST

/* Also without lines: they are counted, and the level may change at any time. */
START_TEST(test_the_level_of_the_log) {
  start(LOG_ERROR, false);
  for (int i = 0; i < 2; i++) {
    PUT("ha");
    fixture_advance(20 * NS_PER_MS);
    PUT("lf\0");
    ck_assert_uint_eq(slow(), i + 1);
    ck_assert_uint_eq(lines_count, i);
    log_init(&test_log, take_line, NULL, LOG_DEBUG, LOG_LOGFMT);
  }
  close_and_expect_end(client, XCHG_FINISHED);
  EXPECT_FIELDS("msg=closed", " reason=finished ", " age_ms=40 ", " messages=2 ");
}
END_TEST

/* Ten lines at once, then one each 100 ms. */
START_TEST(test_lines_are_suppressed) {
  start(LOG_INFO, false);
  for (int i = 0; i < 40; i++) {
    PUT("ha");
    fixture_advance(20 * NS_PER_MS);
    PUT("lf\0");
  }
  ck_assert_uint_eq(slow(), 40);
  ck_assert_uint_ge(lines_count, 17);
  ck_assert_uint_le(lines_count, 18);
  uint32_t told = 0;
  for (uint32_t i = 0; i < lines_count; i++) {
    const char *suppressed = strstr(lines[i], "suppressed=");
    told += 1 + (suppressed == NULL ? 0 : (uint32_t)strtoul(suppressed + 11, NULL, 10));
  }
  ck_assert_uint_eq(told + fixture.ctx.slow_lines.suppressed, 40);
  close_and_expect_end(client, XCHG_FINISHED);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_a_message_that_comes_slowly, 1}, {test_a_message_that_the_handler_holds, 1},
      {test_a_message_that_is_not_over, 2},  {test_nothing_in_progress, 1},
      {test_a_header_that_does_not_come, 2}, {test_a_message_that_a_reset_ends, 2},
      {test_a_counted_exchange, 1},          {test_off, 2},
      {test_the_level_of_the_log, 1},        {test_lines_are_suppressed, 1},
  };
  return run_suite_fixture("conn_log", tests, count_of(tests), init, handler_fixture_fini);
}
