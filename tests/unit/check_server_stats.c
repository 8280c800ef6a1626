/*
 * check_server_stats: what a scrape of a running server says: the totals add up in every scrape,
 * the workers' figures are the clients that are there, and nothing goes back.  check_server scrapes
 * the other models.
 */
#include "pool/server_stats.h"

#include "tests/fixtures/server_fixture.h"

static char text[256 * 1024];
static struct process_facts facts;
static struct server_state state;

static void scrape(void) {
  size_t size = server_metrics(server, &state, METRICS_TEXT, text, sizeof(text) - 1);
  ck_assert_uint_lt(size, sizeof(text));
  text[size] = 0;
}

/* The line that begins with ${sample}, or NULL. */
static const char *find(const char *sample) {
  char start[256];
  snprintf(start, sizeof(start), "\n%s ", sample);
  const char *at = strstr(text, start);
  return at == NULL ? NULL : at + strlen(start);
}

static double value(const char *sample) {
  const char *at = find(sample);
  ck_assert_msg(at != NULL, "no %s in:\n%.3000s", sample, text);
  return strtod(at, NULL);
}

/* The sum of all samples of a family that has labels. */
static double sum(const char *family) {
  char start[128];
  double all = 0;
  snprintf(start, sizeof(start), "\n%s{", family);
  for (const char *at = text; (at = strstr(at, start)) != NULL; at++) {
    all += strtod(strstr(at, "} ") + 2, NULL);
  }
  return all;
}

static void check_identity(void) {
  ck_assert(value("xchg_connections_accepted_total") ==
            value("xchg_connections_open") + sum("xchg_connections_ended_total"));
  ck_assert(value("xchg_connections_accepted_total") ==
            sum("xchg_listener_connections_accepted_total"));
}

/* Scrape until a sample, or the sum of a family, has this value. */
#define AWAIT_VALUE(got, want) AWAIT((scrape(), check_identity(), (got) == (want)))

static void set_up(void) {
  process_facts_open(&facts);
  state = (struct server_state){.ready = true, .state = "serving", .process = &facts};
}

static void tear_down(void) {
  xchg_server_destroy(server);
  process_facts_close(&facts);
}

#define CLIENTS 5

/* At a quiet point every client is in one worker or in one queue, and nowhere else. */
START_TEST(every_client_has_a_worker) {
  int clients[CLIENTS];
  SETTINGS("XCHG_LISTEN=127.0.0.1:0,127.0.0.1:0");
  start_server(&echoes);
  scrape();
  check_identity();
  ck_assert(value("xchg_connections_open") == 0 && value("xchg_workers") == 2);
  for (int i = 0; i < CLIENTS; i++) {
    clients[i] = connect_and_ping(server);
  }
  scrape();
  check_identity();
  ck_assert(value("xchg_connections_open") == CLIENTS);
  ck_assert(sum("xchg_worker_connections_open") + sum("xchg_worker_queue_connections") == CLIENTS);
  ck_assert(sum("xchg_worker_messages_received_total") == CLIENTS);
  ck_assert(value("xchg_messages_received_total") == CLIENTS);
  ck_assert(value("xchg_received_bytes_total") == 5 * CLIENTS);
  ck_assert(value("xchg_handoff_seconds_count") == CLIENTS);
  ck_assert(value("xchg_queue_connections_count") == CLIENTS);
  /* The acceptor counts a batch after its hand-off, so an answer may come first. */
  AWAIT_VALUE(value("xchg_accept_batch_connections_sum"), CLIENTS);
  for (int i = 0; i < CLIENTS; i++) {
    close(clients[i]);
  }
  AWAIT_VALUE(value("xchg_connections_ended_total{reason=\"finished\"}"), CLIENTS);
  AWAIT_VALUE(sum("xchg_worker_connections_open"), 0);
  ck_assert(value("xchg_connection_seconds_count") == CLIENTS);
  ck_assert(value("xchg_connection_seconds_sum") > 0);
  ck_assert(value("xchg_connections_open") == 0);
}
END_TEST

/* Two listeners with one address are one entry. */
START_TEST(an_address_is_there_once) {
  SETTINGS("XCHG_REUSEPORT=on");
  start_server(&echoes);
  struct listener *listeners = server->listeners;
  listeners[1] = listeners[0]; /* as if a service manager had passed the socket twice */
  listeners[1].fd = -1;
  server->listeners_count = 2;
  close(connect_and_ping(server));
  AWAIT_VALUE(value("xchg_connections_accepted_total"), 1);
  const char *at = strstr(text, "\nxchg_listener_connections_accepted_total{");
  ck_assert_ptr_nonnull(at);
  ck_assert_ptr_null(strstr(at + 1, "\nxchg_listener_connections_accepted_total{"));
  server->listeners_count = 1;
}
END_TEST

/* With more workers than METRICS_WORKERS_MAX the families with the label worker are left out. */
START_TEST(many_workers_have_no_series) {
  SETTINGS(_i == 0 ? "XCHG_WORKERS=64" : "XCHG_WORKERS=65");
  start_server(&echoes);
  scrape();
  ck_assert(value("xchg_workers") == 64 + _i);
  ck_assert_int_eq(find("xchg_worker_busy_seconds_total{worker=\"63\"}") != NULL, _i == 0);
  ck_assert_int_eq(strstr(text, "xchg_worker_") != NULL, _i == 0);
  ck_assert_ptr_nonnull(find("xchg_handoff_seconds_count"));
}
END_TEST

#define ROUNDS 40

/* A scrape in the middle of anything: no total goes back, and the identity holds. */
START_TEST(nothing_goes_back_under_load) {
  static const char *const totals[] = {
      "xchg_connections_accepted_total", "xchg_messages_received_total",
      "xchg_sent_bytes_total",           "xchg_handoff_seconds_count",
      "xchg_handoff_seconds_sum",        "process_cpu_seconds_total",
      "xchg_connection_seconds_count"};
  double last[count_of(totals)] = {0}, busy = 0;
  SETTINGS("XCHG_MAX_CONNECTIONS=4");
  start_server(&echoes);
  for (int round = 0; round < ROUNDS; round++) {
    close(connect_and_ping(server));
    scrape();
    check_identity();
    for (size_t i = 0; i < count_of(totals); i++) {
      double now = value(totals[i]);
      ck_assert_msg(now >= last[i], "%s: %f after %f", totals[i], now, last[i]);
      last[i] = now;
    }
    ck_assert(sum("xchg_worker_busy_seconds_total") >= busy);
    busy = sum("xchg_worker_busy_seconds_total");
  }
  ck_assert(busy > 0);
}
END_TEST

/* Without room accepting is paused, and the time counts while it lasts. */
START_TEST(a_pause_is_seen_while_it_lasts) {
  SETTINGS("XCHG_MAX_CONNECTIONS=1");
  start_server(&echoes);
  scrape();
  ck_assert(value("xchg_accept_paused") == 0 && value("xchg_accept_paused_seconds_total") == 0);
  int first = connect_and_ping(server);
  int second = connect_to_port(port_of(server));
  AWAIT_VALUE(value("xchg_accept_paused"), 1);
  double before = value("xchg_accept_paused_seconds_total");
  AWAIT((scrape(), value("xchg_accept_paused_seconds_total") > before));
  ck_assert(value("xchg_accept_pauses_total") == 0); /* it lacks room, not descriptors */
  close(first);
  send_bytes(second, "ping\n", 5);
  expect_bytes(second, "ping\n", 5);
  AWAIT_VALUE(value("xchg_connections_accepted_total"), 2);
  close(second);
}
END_TEST

/* What only the program knows, and what is not known at all. */
START_TEST(the_state_is_the_program_s) {
  SETTINGS();
  start_server(&echoes);
  state.log_lines_lost = 7;
  scrape();
  ck_assert(value("xchg_ready") == 1 && value("xchg_draining") == 0);
  ck_assert(value("xchg_log_lines_lost_total") == 7);
  ck_assert(value("process_threads") >= 4 && value("process_max_fds") > 0);
  state = (struct server_state){
      .draining = true, .state = "draining", .log_lines_lost = METRICS_UNKNOWN};
  scrape();
  ck_assert(value("xchg_ready") == 0 && value("xchg_draining") == 1);
  ck_assert_ptr_null(strstr(text, "process_"));
  ck_assert_ptr_null(strstr(text, "lines_lost"));
  size_t size = server_stats_json(server, &state, text, sizeof(text) - 1);
  text[size] = 0;
  ck_assert_ptr_nonnull(strstr(text, "\"state\":\"draining\",\"ready\":false,"));
  ck_assert_ptr_nonnull(strstr(text, "\"exchange\":\"handler\""));
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {every_client_has_a_worker, 1},      {an_address_is_there_once, 1},
      {many_workers_have_no_series, 2},    {nothing_goes_back_under_load, 1},
      {a_pause_is_seen_while_it_lasts, 1}, {the_state_is_the_program_s, 1},
  };
  return run_suite_fixture("server_stats", tests, count_of(tests), set_up, tear_down);
}
