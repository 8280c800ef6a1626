/*
 * report_read: see report_read.h.
 *
 * The percentiles in the file are not read, because they follow from the histograms.  All readers
 * share a struct reader that remembers the first fault.  After a fault the others do nothing, so a
 * list of keys needs no branches.
 */
#include "report_read.h"

#include "core/error_text.h"
#include "escaped.h"
#include "json_read.h"
#include "histogram_read.h"
#include "identity.h"
#include "metrics.h"
#include "report_options.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define INTERVALS_MAX 10000000

struct reader {
  struct report *report;
  FILE *errors;
  bool failed; /* the one line was written */
};

static int read_document(struct reader *reader, struct json_document *document);
static void read_root(struct reader *reader, const struct json *root);
static struct result *read_run(struct reader *reader, const struct json *body);
static void read_numbers(struct reader *reader, const struct json *body, struct result *result);
static void read_unfinished(struct reader *reader, const struct json *body, struct result *result);
static void read_example(struct reader *reader, const struct json *body, struct result *result);
static void read_errors(struct reader *reader, const struct json *errors, struct result *result);
static void read_usage(struct reader *reader, const struct json *json, struct usage *usage);
static void read_histograms(struct reader *reader, const struct json *json, struct result *result);
static void read_intervals(struct reader *reader, const struct json *rows, struct result *result);

/* Write the one line, unless it was written: ${what}, after the key ${name} if it is not NULL. */
static void reader_fail(struct reader *reader, const char *name, const char *what) {
  if (reader->failed) {
    return;
  }
  reader->failed = true;
  if (name == NULL) {
    escaped_line(reader->errors, "xchg-bench: '%s': %s", reader->report->path, what);
  } else {
    escaped_line(reader->errors, "xchg-bench: '%s': '%s' %s", reader->report->path, name, what);
  }
}

/* The same with a number and another text. */
static void fail_with(struct reader *reader, const char *what, uint64_t number, const char *more) {
  char text[256];
  snprintf(text, sizeof(text), "%s %" PRIu64 ": %s", what, number, more);
  reader_fail(reader, NULL, text);
}

static void fail_to_open(struct reader *reader, int error) {
  char text[256];
  snprintf(text, sizeof(text), "cannot be read: %s", strerror(error));
  reader_fail(reader, NULL, text);
}

int report_read(struct report *report, const char *path, FILE *errors) {
  *report = (struct report){.path = path};
  struct reader reader = {.report = report, .errors = errors};
  struct json_document document = {.root = NULL};
  if (read_document(&reader, &document) == -1) {
    return -1;
  }
  assert(document.root != NULL);
  read_root(&reader, document.root);
  json_document_fini(&document);
  if (!reader.failed) {
    return 0;
  }
  report_fini(report);
  return -1;
}

void report_fini(struct report *report) {
  for (uint32_t i = 0; i < report->runs_count; i++) {
    result_destroy(report->runs[i]);
  }
  free(report->runs);
  config_fini(&report->options.exchange);
  identity_fini(&report->options.identity);
  *report = (struct report){.path = NULL};
}

/* ---- the file ---- */

static int read_document(struct reader *reader, struct json_document *document) {
  char *text = NULL;
  struct json_fault fault;
  ssize_t size = json_read_file(reader->report->path, &text);
  if (size == -1) {
    fail_to_open(reader, errno);
  } else if (json_parse(document, text, (size_t)size, &fault) == -1) {
    fail_with(reader, "not JSON: byte", fault.offset, fault.what);
  }
  free(text);
  return reader->failed ? -1 : 0;
}

/* ---- parts ---- */

/* Return: the member ${name}, which must be of ${kind}; NULL after a fault. */
static const struct json *want(struct reader *reader, const struct json *object, const char *name,
                               enum json_kind kind) {
  static const char *const kinds[] = {
      [JSON_NULL] = "is not null",        [JSON_FALSE] = "is not a boolean",
      [JSON_TRUE] = "is not a boolean",   [JSON_NUMBER] = "is not a number",
      [JSON_STRING] = "is not a string",  [JSON_ARRAY] = "is not an array",
      [JSON_OBJECT] = "is not an object",
  };
  const struct json *member = json_member(object, name);
  if (member == NULL) {
    reader_fail(reader, name, "is missing");
  } else if (member->kind != kind) {
    reader_fail(reader, name, kinds[kind]);
  }
  return reader->failed ? NULL : member;
}

static double want_double(struct reader *reader, const struct json *object, const char *name) {
  const struct json *member = want(reader, object, name, JSON_NUMBER);
  if (member == NULL) {
    return 0;
  }
  if (member->number < 0) {
    reader_fail(reader, name, "is negative");
  }
  return member->number;
}

/* Return: a text that is not empty and can be written to a terminal; NULL after a fault. */
static const char *want_text(struct reader *reader, const struct json *object, const char *name) {
  const struct json *member = want(reader, object, name, JSON_STRING);
  if (member != NULL && !json_is_clean_text(member)) {
    reader_fail(reader, name, "is empty or has a control character");
  }
  return reader->failed || member == NULL ? NULL : member->text;
}

/* Return: a number; 0 for null. */
static double want_maybe(struct reader *reader, const struct json *object, const char *name) {
  const struct json *member = json_member(object, name);
  bool null = member != NULL && member->kind == JSON_NULL;
  return null ? 0 : want_double(reader, object, name);
}

/* Return: a number; NAN for null. */
static double want_share(struct reader *reader, const struct json *object, const char *name) {
  const struct json *member = json_member(object, name);
  bool null = member != NULL && member->kind == JSON_NULL;
  return null ? NAN : want_double(reader, object, name);
}

static uint64_t want_u64(struct reader *reader, const struct json *object, const char *name) {
  const struct json *member = want(reader, object, name, JSON_NUMBER);
  if (member != NULL && !member->integral) {
    reader_fail(reader, name, "is not an integer");
  }
  return member == NULL || !member->integral ? 0 : member->integer;
}

/* Return: a count that a report holds as a double. */
static uint64_t want_count(struct reader *reader, const struct json *object, const char *name) {
  uint64_t count = want_u64(reader, object, name);
  if (count <= HISTOGRAM_COUNT_MAX) {
    return count;
  }
  reader_fail(reader, name, "is out of range");
  return 0;
}

static bool want_bool(struct reader *reader, const struct json *object, const char *name) {
  const struct json *member = json_member(object, name);
  bool yes = member != NULL && member->kind == JSON_TRUE;
  return want(reader, object, name, yes ? JSON_TRUE : JSON_FALSE) != NULL && yes;
}

/* Return: a rate, or 0 for null. */
static double want_rate(struct reader *reader, const struct json *object, const char *name) {
  const double rate = want_maybe(reader, object, name);
  if (rate > REPORT_RATE_MAX) {
    reader_fail(reader, name, "is out of range");
  }
  return rate;
}

/* Return: microseconds, or null as 0, in nanoseconds. */
static uint64_t want_us(struct reader *reader, const struct json *object, const char *name) {
  double us = want_maybe(reader, object, name);
  if (us >= 1e15) {
    reader_fail(reader, name, "is out of range");
    return 0;
  }
  return (uint64_t)llround(us * (double)NS_PER_US);
}

static void read_root(struct reader *reader, const struct json *root) {
  struct report *report = reader->report;
  if (root->kind != JSON_OBJECT) {
    reader_fail(reader, NULL, "not a report: the top level is not an object");
  }
  uint64_t schema = want_u64(reader, root, "schema");
  if (schema != BENCH_SCHEMA) {
    fail_with(reader, "schema", schema, "not supported; this xchg-bench reads schema 2");
  }
  const char *target = want_text(reader, root, "target");
  const struct json *options = want(reader, root, "options", JSON_OBJECT);
  const struct json *runs = want(reader, root, "runs", JSON_ARRAY);
  if (reader->failed) {
    return;
  }
  const char *wrong = report_options_read(&report->options, options);
  if (wrong != NULL) {
    report->options = (struct options){.target = ""};
    reader_fail(reader, wrong, "in the options is missing or invalid");
    return;
  }
  wrong = identity_read(&report->options.identity, root);
  if (wrong != NULL) {
    reader_fail(reader, wrong, "is missing or invalid");
  }
  snprintf(report->options.target, sizeof(report->options.target), "%s", target);
  size_t count = runs->size == 0 ? 1 : runs->size;
  if (count > REPORT_RUNS_MAX) {
    reader_fail(reader, "runs", "has too many elements");
  }
  report->runs = reader->failed ? NULL : calloc(count, sizeof(struct result *));
  if (report->runs == NULL) {
    reader_fail(reader, NULL, "out of memory");
  }
  const struct json *body = runs->size == 0 ? root : runs->first;
  for (; !reader->failed && report->runs_count < count; body = body->next) {
    struct result *result = read_run(reader, body);
    report->runs[report->runs_count] = result;
    report->runs_count += result != NULL;
  }
}

/* Return: a run; NULL after a fault. */
static struct result *read_run(struct reader *reader, const struct json *body) {
  const struct json *errors = want(reader, body, "errors", JSON_OBJECT);
  const struct json *histogram = want(reader, body, "histogram", JSON_OBJECT);
  const struct json *client = want(reader, body, "client", JSON_OBJECT);
  const struct json *rows = want(reader, body, "interval", JSON_ARRAY);
  const struct json *server = json_member(body, "server");
  if (server == NULL) {
    reader_fail(reader, "server", "is missing");
  }
  if (rows != NULL && rows->size > INTERVALS_MAX) {
    reader_fail(reader, "interval", "has too many elements");
  }
  if (reader->failed) {
    return NULL;
  }
  const struct json *uncorrected = json_member(histogram, "uncorrected");
  bool open_loop = uncorrected != NULL && uncorrected->kind == JSON_OBJECT;
  struct result *result = result_create(open_loop, (uint32_t)rows->size);
  if (result == NULL) {
    reader_fail(reader, NULL, "out of memory");
    return NULL;
  }
  read_numbers(reader, body, result);
  read_unfinished(reader, body, result);
  read_errors(reader, errors, result);
  read_example(reader, body, result);
  read_histograms(reader, histogram, result);
  read_usage(reader, client, &result->client);
  result->thread_busy_max = want_maybe(reader, client, "thread_busy_max");
  result->thread_waiting_max = want_share(reader, client, "thread_waiting_max");
  if (server->kind != JSON_NULL) {
    read_usage(reader, server, &result->server);
  }
  read_intervals(reader, rows, result);
  if (!reader->failed) {
    return result;
  }
  result_destroy(result);
  return NULL;
}

static void read_start(struct reader *reader, const struct json *body, struct result *result) {
  const struct json *started = json_member(body, "started");
  if (started != NULL && started->kind == JSON_NULL) {
    return;
  }
  const char *text = want_text(reader, body, "started");
  if (text != NULL && identity_parse(text, &result->started_ms) == -1) {
    reader_fail(reader, "started", "is not a time such as 2026-11-24T05:57:21.123Z");
  }
}

static void read_numbers(struct reader *reader, const struct json *body, struct result *result) {
  read_start(reader, body, result);
  result->seconds = want_double(reader, body, "seconds");
  result->exchanges = want_count(reader, body, "exchanges");
  result->target_rate = want_rate(reader, body, "target_rate");
  result->bytes_in = want_count(reader, body, "bytes_in");
  result->bytes_out = want_count(reader, body, "bytes_out");
  result->has_latency = want_bool(reader, body, "has_latency");
  result->late = want_count(reader, body, "late");
  result->late_max_ns = want_us(reader, body, "late_max_us");
  result->dropped = want_count(reader, body, "dropped");
  result->connected = (uint32_t)min_u64(want_u64(reader, body, "connected"), UINT32_MAX);
  result->idle_connected = (uint32_t)min_u64(want_u64(reader, body, "idle_connected"), UINT32_MAX);
  result->harness_bound = want_bool(reader, body, "harness_bound");
  result->interrupted = want_bool(reader, body, "interrupted");
  result->starved = want_bool(reader, body, "starved");
  result->aborted = want_bool(reader, body, "aborted");
  result->found_rate = want_maybe(reader, body, "found_rate");
}

static void read_unfinished(struct reader *reader, const struct json *body, struct result *result) {
  const struct json *unfinished = want(reader, body, "unfinished", JSON_OBJECT);
  if (unfinished != NULL) {
    result->unfinished = want_count(reader, unfinished, "count");
    result->unfinished_oldest_ns = want_us(reader, unfinished, "oldest_us");
  }
}

/* Copy the text ${name} to ${to}; "" for null. */
static void read_text(struct reader *reader, const struct json *object, const char *name,
                      char to[BENCH_EXAMPLE_MAX]) {
  const struct json *member = json_member(object, name);
  if (member != NULL && member->kind == JSON_NULL) {
    to[0] = 0;
    return;
  }
  const char *text = want_text(reader, object, name);
  if (text != NULL) {
    snprintf(to, BENCH_EXAMPLE_MAX, "%s", text);
  }
}

static void read_example(struct reader *reader, const struct json *body, struct result *result) {
  const struct json *example = json_member(body, "wrong_example");
  struct wrong_example *wrong = &result->wrong;
  if (example != NULL && example->kind == JSON_NULL) {
    return;
  }
  example = want(reader, body, "wrong_example", JSON_OBJECT);
  if (example == NULL) {
    return;
  }
  wrong->at_ns = 1; /* a report does not tell when */
  wrong->connection = (uint32_t)min_u64(want_u64(reader, example, "connection"), UINT32_MAX);
  wrong->offset = want_u64(reader, example, "offset");
  read_text(reader, example, "wanted", wrong->wanted);
  read_text(reader, example, "received", wrong->received);
  read_text(reader, example, "hint", wrong->hint);
}

/* Return: the errno with ${name}; BENCH_ERRNO_MAX if there is none. */
static int errno_of(const char *name) {
  int number = 0;
  for (; number < BENCH_ERRNO_MAX; number++) {
    char digits[16];
    const char *known = error_name(number);
    snprintf(digits, sizeof(digits), "%d", number);
    if (strcmp(name, digits) == 0 || (known != NULL && strcmp(name, known) == 0)) {
      break;
    }
  }
  return number;
}

static void read_errors(struct reader *reader, const struct json *errors, struct result *result) {
  for (int kind = 0; kind < BENCH_ERRORS; kind++) {
    result->errors[kind] = want_count(reader, errors, bench_error_name((enum bench_error)kind));
  }
  const struct json *by_errno = want(reader, errors, "errno", JSON_OBJECT);
  const struct json *item = by_errno == NULL ? NULL : by_errno->first;
  for (; item != NULL; item = item->next) {
    int number = errno_of(item->name);
    if (number == BENCH_ERRNO_MAX || item->kind != JSON_NUMBER || !item->integral ||
        item->integer > HISTOGRAM_COUNT_MAX) {
      reader_fail(reader, "errno", "has a member that is unknown or out of range");
    } else {
      result->errnos[number] = item->integer;
    }
  }
}

static void read_usage(struct reader *reader, const struct json *json, struct usage *usage) {
  const struct json *cpu = json_member(json, metric_usage_names[METRIC_CPU_S]);
  usage->known = cpu == NULL || cpu->kind != JSON_NULL;
  if (!usage->known) {
    return;
  }
  usage->cpu_s = want_double(reader, json, metric_usage_names[METRIC_CPU_S]);
  usage->seconds = want_double(reader, json, metric_usage_names[METRIC_USAGE_SECONDS]);
  usage->context_switches = want_count(reader, json, metric_usage_names[METRIC_SWITCHES]);
  usage->resident_bytes = want_count(reader, json, metric_usage_names[METRIC_RESIDENT_BYTES]);
}

/* ---- histograms ---- */

/* Read the four histograms of ${json} into ${histograms}. */
static void read_four(struct reader *reader, const struct json *json,
                      struct hdr_histogram *const histograms[TIMES]) {
  for (int i = 0; i < TIMES; i++) {
    const struct json *member = json_member(json, metric_times_names[i]);
    if (member != NULL && member->kind == JSON_NULL) {
      continue; /* result_create left it empty or NULL */
    }
    member = want(reader, json, metric_times_names[i], JSON_OBJECT);
    if (member == NULL) {
      return;
    }
    if (histograms[i] == NULL) {
      reader_fail(reader, metric_times_names[i], "in the histogram is unexpected");
      return;
    }
    const char *name = NULL, *wrong = histogram_read(member, histograms[i], &name);
    if (wrong != NULL) {
      reader_fail(reader, name, wrong);
    }
  }
}

static void read_histograms(struct reader *reader, const struct json *json, struct result *result) {
  struct hdr_histogram *const histograms[TIMES] = {
      [TIMES_LATENCY] = result->latency,
      [TIMES_UNCORRECTED] = result->uncorrected,
      [TIMES_CONNECT] = result->connect,
      [TIMES_FIRST_BYTE] = result->first_byte,
  };
  if (want_u64(reader, json, "sub_bits") != HDR_SUB_BITS ||
      want_u64(reader, json, "max_ns") != HDR_MAX_NS) {
    reader_fail(reader, "histogram", "has a layout that is not supported");
  }
  read_four(reader, json, histograms);
  const struct json *unfinished = want(reader, json, "unfinished", JSON_OBJECT);
  if (unfinished != NULL) {
    read_four(reader, unfinished, result->unfinished_times);
  }
}

/* ---- intervals ---- */

static void read_intervals(struct reader *reader, const struct json *rows, struct result *result) {
  for (const struct json *row = rows->first; row != NULL && !reader->failed; row = row->next) {
    result->intervals[result->intervals_count++] = (struct interval){
        .at_s = want_double(reader, row, "at"),
        .seconds = want_double(reader, row, "seconds"),
        .exchanges = want_count(reader, row, "exchanges"),
        .errors = want_count(reader, row, "errors"),
        .bytes_in = want_count(reader, row, "bytes_in"),
        .bytes_out = want_count(reader, row, "bytes_out"),
        .target_rate = want_rate(reader, row, "target_rate"),
        .p50_ns = want_us(reader, row, "p50_us"),
        .p90_ns = want_us(reader, row, "p90_us"),
        .p99_ns = want_us(reader, row, "p99_us"),
        .max_ns = want_us(reader, row, "max_us"),
        .waiting_max = want_share(reader, row, "waiting_max"),
        .unfinished_oldest_ns = want_us(reader, row, "unfinished_oldest_us"),
    };
    struct interval *interval = &result->intervals[result->intervals_count - 1];
    const struct json *unfinished = json_member(row, "unfinished");
    interval->is_last = unfinished == NULL || unfinished->kind != JSON_NULL;
    interval->unfinished = interval->is_last ? want_count(reader, row, "unfinished") : 0;
  }
}
