/*
 * check_report_json: a report is JSON with every key of docs/bench-json.md, and report_read
 * restores it.  A file that is not a report is refused with one line.
 */
#include "tests/fixtures/report.h"
#include "tests/fixtures/run_suite.h"

#include "xchg-bench/json_read.h"

#include <fcntl.h>

static struct options options;
static struct json_document document;

/* Write the runs and parse what was written. */
static const struct json *written(struct result *const *runs, uint32_t count) {
  size_t size;
  struct json_fault fault;
  char *text = fixture_json(&options, runs, count, &size);
  ck_assert_msg(json_parse(&document, text, size, &fault) == 0, "%s at %zu", fault.what,
                fault.offset);
  free(text);
  return document.root;
}

static const struct json *member(const struct json *object, const char *name) {
  const struct json *found = json_member(object, name);
  ck_assert_msg(found != NULL, "no '%s'", name);
  return found;
}

static void has_keys(const struct json *object, const char *const *keys) {
  for (; *keys != NULL; keys++) {
    member(object, *keys);
  }
}

static const char *const body_keys[] = {"seconds",       "exchanges",   "rate",
                                        "target_rate",   "bytes_in",    "bytes_out",
                                        "errors",        "latency_us",  "connect_us",
                                        "first_byte_us", "histogram",   "latency_uncorrected_us",
                                        "client",        "server",      "interval",
                                        "harness_bound", "late",        "late_max_us",
                                        "dropped",       "connected",   "idle_connected",
                                        "interrupted",   "has_latency", "unfinished",
                                        "starved",       "aborted",     "found_rate",
                                        "wrong_example", "started",     NULL};
static const char *const time_keys[] = {"count", "mean", "stddev", "min",    "p50", "p75",
                                        "p90",   "p99",  "p99_9",  "p99_99", "max", NULL};
static const char *const usage_keys[] = {"cpu_us_per_exchange", "utilisation", "resident_bytes",
                                         "context_switches_per_exchange", NULL};

START_TEST(every_key_is_there) {
  static const char *const top[] = {"schema",  "version", "target", "run_id",  "host", "machine",
                                    "command", "address", "merged", "options", "runs", NULL};
  static const char *const kinds[] = {"connect", "reset", "timeout", "wrong",
                                      "short",   "errno", NULL};
  static const char *const rows[] = {
      "at",          "seconds",     "exchanges",  "errors",
      "bytes_in",    "bytes_out",   "rate",       "run",
      "target_rate", "p50_us",      "p90_us",     "p99_us",
      "max_us",      "waiting_max", "unfinished", "unfinished_oldest_us",
      NULL};
  static const char *const unfinished[] = {"count", "oldest_us", NULL};
  static const char *const example[] = {"connection", "offset", "wanted", "received", "hint", NULL};
  fixture_options(&options);
  struct result *run = fixture_result(true, 1);
  const struct json *root = written(&run, 1);
  has_keys(root, top);
  has_keys(root, body_keys);
  has_keys(member(root, "latency_us"), time_keys);
  has_keys(member(root, "latency_uncorrected_us"), time_keys);
  has_keys(member(root, "connect_us"), time_keys);
  has_keys(member(root, "first_byte_us"), time_keys);
  has_keys(member(root, "client"), usage_keys);
  has_keys(member(root, "server"), usage_keys);
  has_keys(member(root, "errors"), kinds);
  has_keys(member(root, "interval")->first, rows);
  has_keys(member(root, "unfinished"), unfinished);
  has_keys(member(root, "wrong_example"), example);
  ck_assert_uint_eq(member(member(root, "histogram"), "unfinished")->size, TIMES);
  ck_assert_uint_eq(member(root, "interval")->size, FIXTURE_INTERVALS);
  ck_assert_uint_eq(member(root, "schema")->integer, BENCH_SCHEMA);
  ck_assert_uint_eq(member(root, "runs")->size, 0);
  json_document_fini(&document);
  result_destroy(run);
  config_fini(&options.exchange);
}
END_TEST

START_TEST(metrics_match_the_run) {
  fixture_options(&options);
  struct result *run = fixture_result(true, 3);
  const struct json *root = written(&run, 1);
  ck_assert_double_eq(member(root, "rate")->number, (double)run->exchanges / run->seconds);
  ck_assert_double_eq(member(root, "target_rate")->number, 5000);
  ck_assert_uint_eq(member(root, "bytes_in")->integer, run->bytes_in);
  const struct json *latency = member(root, "latency_us");
  ck_assert_double_eq_tol(member(latency, "p99")->number * 1000,
                          (double)hdr_percentile(run->latency, 99), 1e-3);
  ck_assert_double_eq_tol(member(latency, "max")->number * 1000, (double)run->latency->max_ns, 1);
  const struct json *errors = member(root, "errors");
  ck_assert_uint_eq(member(errors, "timeout")->integer, run->errors[ERROR_TIMEOUT]);
  ck_assert_uint_eq(member(member(errors, "errno"), "ECONNRESET")->integer, 6);
  ck_assert_uint_eq(member(errors, "errno")->size, 3);
  const struct json *client = member(root, "client");
  ck_assert_double_eq_tol(member(client, "cpu_us_per_exchange")->number,
                          run->client.cpu_s * 1e6 / (double)run->exchanges, 1e-9);
  ck_assert_int_eq(member(root, "harness_bound")->kind, JSON_TRUE);
  ck_assert_uint_eq(member(member(root, "unfinished"), "count")->integer, 12);
  ck_assert_double_eq(member(member(root, "unfinished"), "oldest_us")->number, 5000.003);
  ck_assert_double_eq_tol(member(latency, "p50")->number * 1000,
                          (double)result_percentile(run, TIMES_LATENCY, 50), 1e-3);
  ck_assert_double_eq(member(client, "thread_waiting_max")->number, 0.25);
  ck_assert_str_eq(member(member(root, "wrong_example"), "wanted")->text, "\\x00<&\\\"");
  json_document_fini(&document);
  result_destroy(run);
  config_fini(&options.exchange);
}
END_TEST

/* Unknown values are null, not 0. */
START_TEST(unknown_is_null) {
  fixture_options(&options);
  struct result *run = result_create(false, 1);
  ck_assert_ptr_nonnull(run);
  run->has_latency = false;
  const struct json *root = written(&run, 1);
  static const char *const nulls[] = {
      "rate",   "target_rate",   "latency_us", "latency_uncorrected_us",
      "server", "wrong_example", "found_rate"};
  for (size_t i = 0; i < count_of(nulls); i++) {
    ck_assert_msg(member(root, nulls[i])->kind == JSON_NULL, "%s", nulls[i]);
  }
  ck_assert_int_eq(member(member(root, "connect_us"), "p50")->kind, JSON_NULL);
  ck_assert_uint_eq(member(member(root, "connect_us"), "count")->integer, 0);
  ck_assert_int_eq(member(root, "late_max_us")->kind, JSON_NULL);
  ck_assert_int_eq(member(root, "started")->kind, JSON_NULL);
  ck_assert_int_eq(member(member(root, "client"), "thread_busy_max")->kind, JSON_NULL);
  ck_assert_uint_eq(member(member(root, "unfinished"), "count")->integer, 0);
  ck_assert_int_eq(member(member(root, "unfinished"), "oldest_us")->kind, JSON_NULL);
  ck_assert_int_eq(member(member(root, "client"), "thread_waiting_max")->kind, JSON_NULL);
  json_document_fini(&document);
  result_destroy(run);
  config_fini(&options.exchange);
}
END_TEST

START_TEST(several_runs_have_medians_and_sums) {
  fixture_options(&options);
  struct result *runs[3];
  for (uint64_t i = 0; i < 3; i++) {
    runs[i] = fixture_result(true, i == 0 ? 1 : 100 * i);
  }
  const struct json *root = written(runs, 3);
  ck_assert_uint_eq(member(root, "exchanges")->integer, runs[1]->exchanges);
  ck_assert_uint_eq(member(member(root, "errors"), "connect")->integer, 1 + 100 + 200);
  ck_assert_uint_eq(member(root, "late")->integer, 17 * 301);
  const struct json *latency = member(member(root, "histogram"), "latency");
  ck_assert_uint_eq(member(latency, "count")->integer, 3 * FIXTURE_VALUES);
  const struct json *list = member(root, "runs");
  ck_assert_uint_eq(list->size, 3);
  uint32_t i = 0;
  for (const struct json *run = list->first; run != NULL; run = run->next, i++) {
    has_keys(run, body_keys);
    ck_assert_uint_eq(member(run, "exchanges")->integer, runs[i]->exchanges);
  }
  const struct json *rows = member(root, "interval");
  ck_assert_uint_eq(rows->size, 3 * FIXTURE_INTERVALS);
  ck_assert_uint_eq(member(rows->first, "run")->integer, 0);
  json_document_fini(&document);
  for (i = 0; i < 3; i++) {
    result_destroy(runs[i]);
  }
  config_fini(&options.exchange);
}
END_TEST

/* ---- reading back ---- */

/* A report that is read and written again has the same bytes. */
static void round_trip(struct result *const *runs, uint32_t count) {
  char path[32];
  size_t before, after;
  char *text = fixture_json(&options, runs, count, &before);
  fixture_file(path, text, before);
  struct report report;
  FILE *errors = open_output();
  int read = report_read(&report, path, errors);
  fclose(errors);
  unlink(path);
  ck_assert_msg(read == 0, "%s", output);
  char *again = fixture_json(&report.options, report.runs, report.runs_count, &after);
  ck_assert_str_eq(again, text);
  ck_assert_uint_eq(report.runs_count, count);
  for (uint32_t i = 0; i < count; i++) {
    ck_assert_mem_eq(report.runs[i]->latency, runs[i]->latency, sizeof(struct hdr_histogram));
    ck_assert_mem_eq(report.runs[i]->connect, runs[i]->connect, sizeof(struct hdr_histogram));
    ck_assert_mem_eq(report.runs[i]->unfinished_times[TIMES_FIRST_BYTE],
                     runs[i]->unfinished_times[TIMES_FIRST_BYTE], sizeof(struct hdr_histogram));
    ck_assert_uint_eq(report.runs[i]->late_max_ns, runs[i]->late_max_ns);
    ck_assert(report.runs[i]->client.known == runs[i]->client.known);
    ck_assert_double_eq(report.runs[i]->thread_busy_max, runs[i]->thread_busy_max);
  }
  report_fini(&report);
  free(again);
  free(text);
}

START_TEST(what_is_read_is_what_was_written) {
  fixture_options(&options);
  struct result *runs[4];
  for (uint64_t i = 0; i < 4; i++) {
    runs[i] = fixture_result(_i != 0, i + 1);
  }
  round_trip(runs, 1);
  round_trip(runs, 4);
  runs[0]->server.known = false;
  runs[0]->client.known = false;
  hdr_reset(runs[0]->connect);
  options.duration_ns = NEVER;
  options.size = (struct size_spec){.kind = _i != 0 ? SIZE_FIXED : SIZE_EXPONENTIAL, .a = 200};
  round_trip(runs, 1);
  for (uint32_t i = 0; i < 4; i++) {
    result_destroy(runs[i]);
  }
  config_fini(&options.exchange);
}
END_TEST

START_TEST(every_frame_and_exchange_comes_back) {
  static const char *const environments[][4] = {
      {"XCHG_EXCHANGE=greet"},
      {"XCHG_EXCHANGE=discard"},
      {"XCHG_EXCHANGE=echo", "XCHG_FRAME=u16", "XCHG_GREETING=text:"},
      {"XCHG_EXCHANGE=echo", "XCHG_FRAME=u32", "XCHG_REPLY=text:\\0\\n"},
      {"XCHG_EXCHANGE=echo", "XCHG_FRAME=fixed:12", "XCHG_MAX_MESSAGE=12"},
      {"XCHG_EXCHANGE=line", "XCHG_MESSAGES=9223372036854775807"},
  };
  static const struct config_facts facts = {.cpus = 2, .descriptors = 1 << 20};
  fixture_options(&options);
  config_fini(&options.exchange);
  ck_assert_uint_eq(config_load(&options.exchange, environments[_i], &facts, stderr), 0);
  struct result *run = fixture_result(false, 1);
  round_trip(&run, 1);
  result_destroy(run);
  config_fini(&options.exchange);
}
END_TEST

/* Expect that ${text} is refused with one line that contains ${why}. */
static void refused(const char *text, size_t size, const char *why) {
  char path[32];
  fixture_file(path, text, size);
  struct report report;
  FILE *errors = open_output();
  int read = report_read(&report, path, errors);
  fclose(errors);
  unlink(path);
  ck_assert_int_eq(read, -1);
  ck_assert_ptr_nonnull(strstr(output, path));
  ck_assert_msg(strstr(output, why) != NULL, "'%s' is not in: %s", why, output);
  ck_assert_ptr_eq(strchr(output, '\n'), output + strlen(output) - 1);
}

START_TEST(what_is_no_report_is_refused) {
  refused("", 0, "not JSON");
  refused("xchg", 4, "not JSON: byte 0: expected a value");
  refused("[]", 2, "not an object");
  refused("{}", 2, "'schema' is missing");
  refused("{\"schema\": 1}", 13, "schema 1: not supported");
  refused("{\"schema\": \"1\"}", 15, "'schema' is not a number");
  refused("{\"schema\": 2}", 13, "'target' is missing");
}
END_TEST

START_TEST(what_cannot_be_read_is_refused) {
  struct report report;
  static const char *const paths[][2] = {{"/nonexistent/a.json", "No such file"},
                                         {"/", "directory"}};
  for (size_t i = 0; i < count_of(paths); i++) {
    FILE *errors = open_output();
    ck_assert_int_eq(report_read(&report, paths[i][0], errors), -1);
    fclose(errors);
    ck_assert_msg(strstr(output, paths[i][1]) != NULL, "%s", output);
  }
}
END_TEST

/* Replace ${from} in a report by ${to}, and expect a refusal with ${why}. */
static void spoiled(const char *text, const char *from, const char *to, const char *why) {
  const char *found = strstr(text, from);
  ck_assert_msg(found != NULL, "no %s", from);
  char *bad = NULL;
  int size = asprintf(&bad, "%.*s%s%s", (int)(found - text), text, to, found + strlen(from));
  ck_assert_int_gt(size, 0);
  refused(bad, (size_t)size, why);
  free(bad);
}

static const char *const spoils[][3] = {
    {"\"127.0.0.1:7000\"", "\"\"", "'target' is empty"},
    {"\"127.0.0.1:7000\"", "\"\\u0000\"", "'target' is empty"},
    {"\"slo\": [\"p99<5ms", "\"slo\": [\"p99<5ms\\u0000", "'slo' in the options"},
    {"\"target_rate\": 5000", "\"target_rate\": 1e300", "'target_rate' is out of range"},
    {"\"late\": ", "\"late\": 18446744073709551615, \"x\": ", "'late' is out of range"},
    {"\"clamped\": ", "\"clamped\": 1844674407370955161", "'clamped' is above 'count'"},
    {"\"run_id\": \"", "\"run_id\": \"g", "'run_id' is missing or invalid"},
    {"\"host\": \"a-host\"", "\"host\": \"a\\u001bhost\"", "'host' is missing or invalid"},
    {"\"command\": \"", "\"comand\": \"", "'command' is missing or invalid"},
    {"\"merged\": []", "\"merged\": [\"1\"]", "'merged' is missing or invalid"},
    {"\"started\": \"2", "\"started\": \"x", "'started' is not a time"},
    {"\"seconds\":", "\"secondz\":", "'seconds' is missing"},
    {"\"exchanges\": ", "\"exchanges\": -", "'exchanges' is not an integer"},
    {"\"bytes_in\": ", "\"bytes_in\": \"\", \"x\": ", "'bytes_in' is not a number"},
    {"\"errors\": {", "\"errors\": 1, \"x\": {", "'errors' is not an object"},
    {"ECONNRESET", "ENONSENSE", "'errno'"},
    {"\"sub_bits\": 10", "\"sub_bits\": 11", "layout that is not supported"},
    {"\"max_ns\": 60000000000", "\"max_ns\": 1", "layout that is not supported"},
    {"\"clamped\"", "\"clamp\"", "'clamped' is missing"},
    {"\"buckets\": [[", "\"buckets\": [[999999999,1], [", "invalid bucket"},
    {"\"buckets\": [[", "\"buckets\": [[1,1], [", "the sum of the counts"},
    {"\"buckets\": [[", "\"buckets\": [[1,18446744073709551615], [", "invalid bucket"},
    {"\"buckets\": [[", "\"buckets\": [[1], [", "invalid bucket"},
    {"\"buckets\": [[", "\"buckets\": [{}, [", "invalid bucket"},
    {"\"min_ns\": ", "\"min_ns\": 1", "is in no bucket"},
    {"\"harness_bound\": true", "\"harness_bound\": 1", "'harness_bound' is not a boolean"},
    {"\"threads\": 3", "\"threads\": 4294967296", "'threads' in the options"},
    {"\"exchange\": \"line\"", "\"exchange\": \"lines\"", "'exchange' in the options"},
    {"\"frame\": \"line\"", "\"frame\": 5", "'frame' in the options"},
    {"\"size\": \"uniform:16,1024\"", "\"size\": \"uniform:16,1024x\"", "'size' in the options"},
    {"\"slo\": [\"p99", "\"slo\": [\"q99", "'slo' in the options"},
    {"\"pids\": [41", "\"pids\": [-41", "'pids' in the options"},
    {"\"runs\": []", "\"runs\": [{}]", "'errors' is missing"},
    {"\"runs\": []", "\"runs\": [1]", "'errors' is missing"},
    {"\"runs\": []", "\"runs\": {}", "'runs' is not an array"},
    {"\"at\": ", "\"at\": null, \"x\": ", "'at' is not a number"},
    {"\"unfinished\": {", "\"unfinishe\": {", "'unfinished' is missing"},
    {"\"oldest_us\": ", "\"oldest_us\": -", "'oldest_us' is negative"},
    {"\"wanted\": ", "\"wanted\": 1, \"x\": ", "'wanted' is not a string"},
    {"\"waiting_max\": ", "\"waiting_max\": true, \"x\": ", "'waiting_max' is not a number"},
    {"\"histogram\": {", "\"histogram\": {\"unfinished\": 1, ", "'unfinished' is not an object"},
};

START_TEST(spoiled_reports_are_refused) {
  fixture_options(&options);
  struct result *run = fixture_result(true, 2);
  size_t size;
  char *text = fixture_json(&options, &run, 1, &size);
  spoiled(text, spoils[_i][0], spoils[_i][1], spoils[_i][2]);
  free(text);
  result_destroy(run);
  config_fini(&options.exchange);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {every_key_is_there, 1},
      {metrics_match_the_run, 1},
      {unknown_is_null, 1},
      {several_runs_have_medians_and_sums, 1},
      {what_is_read_is_what_was_written, 2},
      {every_frame_and_exchange_comes_back, 6},
      {what_is_no_report_is_refused, 1},
      {what_cannot_be_read_is_refused, 1},
      {spoiled_reports_are_refused, count_of(spoils)},
  };
  return run_suite("report_json", tests, count_of(tests));
}
