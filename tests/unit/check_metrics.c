/*
 * check_metrics: the forms of the metrics, byte by byte, on a small snapshot; what every form has
 * to keep, on the largest one; and that no form writes behind its buffer.
 */
#include "tests/fixtures/metrics_fixture.h"

#include <stdlib.h>

/* The lines of one family must be exactly ${want}, which begins with "# HELP ". */
static void has_family(const char *want) {
  const char *end = strchr(want + 7, ' '); /* compare from the name on */
  char head[128];
  snprintf(head, sizeof(head), "%.*s ", (int)(end - want), want);
  const char *found = strstr(text, head);
  ck_assert_msg(found != NULL, "no %s in:\n%s", head, text);
  const char *next = strstr(found + 1, "\n# HELP ");
  const char *last = strstr(found + 1, "\n# EOF");
  next = next == NULL ? last : next;
  size_t size = next == NULL ? strlen(found) : (size_t)(next + 1 - found);
  ck_assert_msg(size == strlen(want) && memcmp(found, want, size) == 0, "want:\n%s\ngot:\n%.*s",
                want, (int)size, found);
}

#define BUILD "{version=\"0.1.0\",model=\"pool\",exchange=\"greet\"} 1\n"
#define BUILD_HELP "Version, concurrency model and exchange of the server\n"
#define WORKER_HELP "Time since the worker's current turn began; 0 while it waits\n"
#define WORKER_AGES                                          \
  "xchg_worker_turn_age_seconds{worker=\"0\"} 0.003004005\n" \
  "xchg_worker_turn_age_seconds{worker=\"1\"} 0\n"
#define LISTENER(number, address) \
  "xchg_listener_connections_accepted_total{listener=\"" address "\"} " number "\n"
#define PROXY(version, command, number) \
  "xchg_proxy_headers_total{version=\"" version "\",command=\"" command "\"} " number "\n"
#define CAUSE(cause, number) "xchg_proxy_rejected_total{cause=\"" cause "\"} " number "\n"

START_TEST(text_is_exact) {
  write_text(FORM_TEXT);
  has_family("# HELP xchg_build_info " BUILD_HELP
             "# TYPE xchg_build_info gauge\nxchg_build_info" BUILD);
  has_family(
      "# HELP xchg_ready 1 if /readyz returns 200, otherwise 0\n# TYPE xchg_ready gauge\n"
      "xchg_ready 1\n");
  has_family(
      "# HELP xchg_received_bytes_total Bytes read from the kernel\n"
      "# TYPE xchg_received_bytes_total counter\nxchg_received_bytes_total 7\n");
  has_family(
      "# HELP xchg_listener_connections_accepted_total Connections accepted, by listener\n"
      "# TYPE xchg_listener_connections_accepted_total counter\n" LISTENER("8", "127.0.0.1:7000")
          LISTENER("2", "unix:/run/x.sock"));
  has_family("# HELP xchg_worker_turn_age_seconds " WORKER_HELP
             "# TYPE xchg_worker_turn_age_seconds gauge\n" WORKER_AGES);
  has_family(
      "# HELP xchg_proxy_headers_total Complete PROXY headers received, by version and "
      "command\n# TYPE xchg_proxy_headers_total counter\n" PROXY("1", "proxy", "0")
          PROXY("1", "local", "0") PROXY("1", "unknown", "0") PROXY("2", "proxy", "0")
              PROXY("2", "local", "1") PROXY("2", "unknown", "0"));
  has_family(
      "# HELP xchg_proxy_rejected_total Connections ended with the reason proxy, by cause\n"
      "# TYPE xchg_proxy_rejected_total counter\n" CAUSE("untrusted", "0") CAUSE("not_header", "0")
          CAUSE("version", "0") CAUSE("bad", "0") CAUSE("truncated", "0") CAUSE("too_long", "0")
              CAUSE("checksum", "9") CAUSE("timeout", "0"));
  has_family(
      "# HELP process_start_time_seconds Start time of the process in seconds since 1970\n"
      "# TYPE process_start_time_seconds gauge\n"
      "process_start_time_seconds 1795900000.123\n");
  has_family(
      "# HELP process_threads Threads of the process\n# TYPE process_threads gauge\n"
      "process_threads 5\n");
  ck_assert_ptr_null(strstr(text, "EOF"));
}
END_TEST

START_TEST(openmetrics_is_exact) {
  write_text(FORM_OPEN);
  has_family("# HELP xchg_build " BUILD_HELP "# TYPE xchg_build info\nxchg_build_info" BUILD);
  has_family(
      "# HELP xchg_received_bytes Bytes read from the kernel\n"
      "# TYPE xchg_received_bytes counter\n# UNIT xchg_received_bytes bytes\n"
      "xchg_received_bytes_total 7\n");
  has_family(
      "# HELP xchg_listener_connections_accepted Connections accepted, by listener\n"
      "# TYPE xchg_listener_connections_accepted counter\n" LISTENER("8", "127.0.0.1:7000")
          LISTENER("2", "unix:/run/x.sock"));
  has_family("# HELP xchg_worker_turn_age_seconds " WORKER_HELP
             "# TYPE xchg_worker_turn_age_seconds gauge\n"
             "# UNIT xchg_worker_turn_age_seconds seconds\n" WORKER_AGES);
  has_family(
      "# HELP process_threads Threads of the process\n# TYPE process_threads gauge\n"
      "process_threads 5\n");
  ck_assert_str_eq(text + strlen(text) - 6, "# EOF\n");
}
END_TEST

/* Every reason is there, 0 included, and they add up with the open ones. */
START_TEST(ends_have_every_reason) {
  char line[128];
  for (int form = FORM_TEXT; form <= FORM_OPEN; form++) {
    write_text((enum form)form);
    for (size_t i = 0; i < XCHG_REASONS; i++) {
      snprintf(line, sizeof(line), "\nxchg_connections_ended_total{reason=\"%s\"} %d\n",
               xchg_reason_name((enum xchg_reason)i),
               i == XCHG_FINISHED ? 5
               : i == XCHG_ERROR  ? 2
                                  : 0);
      has(line);
    }
    has("\nxchg_connections_accepted_total 10\n");
    has("\nxchg_connections_open 3\n");
  }
}
END_TEST

/* ---- histograms ---- */

/* The number behind the sample that begins with ${start}. */
static uint64_t sample_of(const char *start) {
  char line[128];
  snprintf(line, sizeof(line), "\n%s ", start);
  const char *at = strstr(text, line);
  ck_assert_msg(at != NULL, "no %s in:\n%s", start, text);
  return strtoull(at + strlen(line), NULL, 10);
}

static uint64_t bucket_of(const char *family, const char *bound) {
  char start[128];
  snprintf(start, sizeof(start), "%s_bucket{le=\"%s\"}", family, bound);
  return sample_of(start);
}

/* As Go prints 2^10, 2^12, ... ns in seconds. */
static const char *const seconds[] = {"1.024e-06",   "4.096e-06",   "1.6384e-05",  "6.5536e-05",
                                      "0.000262144", "0.001048576", "0.004194304", "0.016777216",
                                      "0.067108864", "0.268435456", "1.073741824", "4.294967296",
                                      "17.179869184"};
static const char *const lived[] = {
    "1.6384e-05",    "6.5536e-05",     "0.000262144",    "0.001048576",
    "0.004194304",   "0.016777216",    "0.067108864",    "0.268435456",
    "1.073741824",   "4.294967296",    "17.179869184",   "68.719476736",
    "274.877906944", "1099.511627776", "4398.046511104", "17592.186044416"};

/* A time of exactly 2^k ns is in the bucket after, one of 1 ns less is not. */
START_TEST(time_buckets_are_exact) {
  uint64_t sum = 0;
  for (uint32_t power = 10; power <= 34; power += 2) {
    histogram_record(&seen.handoff_ns, (UINT64_C(1) << power) - 1);
    histogram_record(&seen.handoff_ns, UINT64_C(1) << power);
    sum += (UINT64_C(1) << (power + 1)) - 1;
  }
  write_text((enum form)_i);
  for (size_t i = 0; i < count_of(seconds); i++) {
    ck_assert_uint_eq(bucket_of("xchg_handoff_seconds", seconds[i]), 2 * i + 1);
    ck_assert_uint_eq(bucket_of("xchg_turn_seconds", seconds[i]), 0);
  }
  ck_assert_uint_eq(bucket_of("xchg_handoff_seconds", "+Inf"), 2 * count_of(seconds));
  ck_assert_uint_eq(sample_of("xchg_handoff_seconds_count"), 2 * count_of(seconds));
  char want[64];
  snprintf(want, sizeof(want), "\nxchg_handoff_seconds_sum %d.%09d\n", (int)(sum / NS_PER_S),
           (int)(sum % NS_PER_S));
  has(want);
}
END_TEST

START_TEST(lived_buckets_are_exact) {
  stats_lived(&seen.totals, 0);
  for (uint32_t power = 14; power <= 44; power += 2) {
    stats_lived(&seen.totals, (UINT64_C(1) << power) - 1);
    stats_lived(&seen.totals, UINT64_C(1) << power);
  }
  write_text((enum form)_i);
  for (size_t i = 0; i < count_of(lived); i++) {
    ck_assert_uint_eq(bucket_of("xchg_connection_seconds", lived[i]), 2 * i + 2);
  }
  ck_assert_uint_eq(bucket_of("xchg_connection_seconds", "+Inf"), 2 * count_of(lived) + 1);
  ck_assert_uint_eq(sample_of("xchg_connection_seconds_count"), 2 * count_of(lived) + 1);
}
END_TEST

/* Counts have inclusive bounds. Go prints whole ones with .0 in OpenMetrics. */
START_TEST(count_buckets_are_exact) {
  for (uint64_t value = 0; value <= 2000; value++) {
    histogram_record(&seen.queue_depth, value);
  }
  write_text((enum form)_i);
  for (uint64_t power = 1; power <= 1024; power *= 2) {
    char bound[16];
    snprintf(bound, sizeof(bound), "%d%s", (int)power - 1, _i == FORM_OPEN ? ".0" : "");
    ck_assert_uint_eq(bucket_of("xchg_queue_connections", bound), power);
  }
  ck_assert_uint_eq(bucket_of("xchg_queue_connections", "+Inf"), 2001);
  ck_assert_uint_eq(sample_of("xchg_queue_connections_count"), 2001);
  ck_assert_uint_eq(sample_of("xchg_queue_connections_sum"), 2000 * 2001 / 2);
}
END_TEST

/* ---- all forms ---- */

/* No byte is written behind any size of buffer, the result is the same, and so are the bytes. */
START_TEST(every_size_of_buffer_holds) {
  size_t whole = write_text((enum form)_i);
  for (size_t size = 0; size <= whole + 1; size++) {
    char *buffer = guard - size;
    memset(buffer, 'x', size);
    ck_assert_uint_eq(render((enum form)_i, buffer, size), whole);
    ck_assert_int_eq(memcmp(buffer, text, min_u64(size, whole)), 0);
  }
  ck_assert_int_eq(guard[-1], 'x'); /* the last one was larger */
}
END_TEST

START_TEST(labels_are_escaped) {
  strcpy(seen.listener[0].addr, "unix:/a\"b\\c\nd\x7f\xc3\xa4\t}");
  static const char want[] = "\"unix:/a\\\"b\\\\x5cc\\\\x0ad\\\\x7f\\\\xc3\\\\xa4\\\\x09}\"";
  write_text((enum form)_i);
  has(want);
}
END_TEST

START_TEST(sizes_are_bounded) {
  fill(2);
  ck_assert_uint_le(write_text((enum form)_i), METRICS_BYTES_MAX + 2 * METRICS_WORKER_BYTES_MAX);
  fill(METRICS_WORKERS_MAX);
  ck_assert_uint_le(write_text((enum form)_i),
                    METRICS_BYTES_MAX + METRICS_WORKERS_MAX * METRICS_WORKER_BYTES_MAX);
}
END_TEST

START_TEST(what_is_unknown_is_left_out) {
  seen.workers_count = 0;
  seen.latencies = false;
  seen.threads = seen.resident_bytes = seen.log_lines_lost = METRICS_UNKNOWN;
  write_text((enum form)_i);
  lacks("_worker_");
  lacks("\"worker\"");
  lacks("handoff_");
  lacks("turn_");
  lacks("queue_");
  lacks("process_threads");
  lacks("\"threads\"");
  lacks("resident");
  lacks("lines_lost");
  ck_assert(_i == FORM_JSON || strstr(text, "\nxchg_connection_seconds_count 0\n") != NULL);
}
END_TEST

/* ---- what both forms of Prometheus keep ---- */

#define LINES_MAX 1000

/* The row whose family ${name} of ${size} bytes is in this form, or NULL. */
static const struct metric *row_of(const char *name, size_t size, bool open) {
  for (size_t i = 0; i < metrics_count; i++) {
    const struct metric *row = &metrics_table[i];
    char family[128];
    snprintf(family, sizeof(family), "%s%s", row->name,
             open                          ? ""
             : row->type == METRIC_COUNTER ? "_total"
             : row->type == METRIC_INFO    ? "_info"
                                           : "");
    if (strlen(family) == size && memcmp(family, name, size) == 0) {
      return row;
    }
  }
  return NULL;
}

/* Is ${line} a sample of ${row}? */
static bool is_sample(const char *line, const struct metric *row) {
  static const char *const suffixes[] = {"", "_total", "_bucket", "_info"};
  size_t size = strlen(row->name);
  if (strncmp(line, row->name, size) != 0) {
    return false;
  }
  line += size;
  if (row->type == METRIC_HISTOGRAM &&
      (strncmp(line, "_sum ", 5) == 0 || strncmp(line, "_count ", 7) == 0)) {
    return true;
  }
  size_t wanted = row->type == METRIC_GAUGE     ? 0
                  : row->type == METRIC_COUNTER ? 1
                  : row->type == METRIC_INFO    ? 3
                                                : 2;
  size = strlen(suffixes[wanted]);
  return strncmp(line, suffixes[wanted], size) == 0 && (line[size] == ' ' || line[size] == '{');
}

/* Check the comment ${line}. Return: its row. */
static const struct metric *check_comment(const char *line, bool open) {
  size_t size = strcspn(line + 7, " ");
  const struct metric *row = row_of(line + 7, size, open);
  ck_assert_msg(row != NULL, "no family: %s", line);
  const char *unit = row->unit == METRIC_SECONDS ? "_seconds" : "_bytes";
  if (strncmp(line, "# UNIT ", 7) == 0) {
    ck_assert(open && row->unit != METRIC_NO_UNIT);
    ck_assert_str_eq(line + 7 + size + 1, unit + 1);
    ck_assert_int_eq(memcmp(line + 7 + size - strlen(unit), unit, strlen(unit)), 0);
  } else {
    ck_assert(strncmp(line, "# HELP ", 7) == 0 || strncmp(line, "# TYPE ", 7) == 0);
  }
  return row;
}

/* Lines in order: HELP begins a family, its samples follow, each with labels of its own. */
START_TEST(families_are_well_formed) {
  static const char *samples[LINES_MAX];
  size_t families = 0, count = 0;
  bool open = _i == FORM_OPEN, ended = false;
  const struct metric *row = NULL;
  fill(3);
  write_text((enum form)_i);
  char *rest = text;
  for (char *line; (line = strsep(&rest, "\n")) != NULL && rest != NULL;) {
    ck_assert(!ended && *line != 0);
    if (open && strcmp(line, "# EOF") == 0) {
      ended = true;
    } else if (*line == '#') {
      const struct metric *of = check_comment(line, open);
      bool begins = strncmp(line, "# HELP ", 7) == 0;
      ck_assert(begins ? of == &metrics_table[families] : of == row);
      row = of;
      families += begins;
    } else {
      ck_assert_msg(is_sample(line, row), "%s is no sample of %s", line, row->name);
      *strrchr(line, ' ') = 0;
      for (size_t i = 0; i < count; i++) {
        ck_assert_str_ne(samples[i], line);
      }
      ck_assert_uint_lt(count, LINES_MAX);
      samples[count++] = line;
    }
  }
  ck_assert_uint_eq(families, metrics_count);
  ck_assert_int_eq(ended, open);
  ck_assert_ptr_nonnull(row);
}
END_TEST

static bool ends_with(const char *name, const char *end) {
  size_t size = strlen(name), end_size = strlen(end);
  return size >= end_size && strcmp(name + size - end_size, end) == 0;
}

START_TEST(rows_keep_the_rules) {
  for (size_t i = 0; i < metrics_count; i++) {
    const struct metric *row = &metrics_table[i];
    ck_assert_msg(strncmp(row->name, "xchg_", 5) == 0 || strncmp(row->name, "process_", 8) == 0,
                  "%s", row->name);
    ck_assert_uint_eq(strspn(row->name, "abcdefghijklmnopqrstuvwxyz_"), strlen(row->name));
    ck_assert(!ends_with(row->name, "_total") && !ends_with(row->name, "_info"));
    ck_assert_int_eq(ends_with(row->name, "_seconds"), row->unit == METRIC_SECONDS);
    ck_assert_int_eq(ends_with(row->name, "_bytes"), row->unit == METRIC_BYTES);
    ck_assert_int_eq(row->type == METRIC_HISTOGRAM, row->buckets != BUCKETS_NONE);
    ck_assert_int_eq(row->shown != 0, row->key != NULL);
    ck_assert_ptr_nonnull(row->help);
    ck_assert_ptr_null(strpbrk(row->help, "\\\"\n"));
    ck_assert(row->help[0] >= '1' && row->help[0] <= 'Z' && !ends_with(row->help, "."));
    for (size_t j = 0; j < i; j++) {
      ck_assert_str_ne(row->name, metrics_table[j].name);
      ck_assert(row->key == NULL || metrics_table[j].key == NULL ||
                row->label != metrics_table[j].label ||
                strcmp(row->key, metrics_table[j].key) != 0);
    }
  }
}
END_TEST

/* A counter in core/stats.h without a row would be counted for nothing. */
START_TEST(every_counter_has_a_row) {
  static const size_t counters[] = {
#define OFFSET(name) offsetof(struct metrics_snapshot, totals.name),
      STATS_COUNTERS(OFFSET, OFFSET) OFFSET(accepted) OFFSET(ended) OFFSET(proxy_headers)
          OFFSET(proxy_rejected) OFFSET(lived)};
  for (size_t i = 0; i < count_of(counters); i++) {
    size_t rows = 0;
    for (size_t row = 0; row < metrics_count; row++) {
      enum metric_label label = metrics_table[row].label;
      rows += label != LABEL_WORKER && label != LABEL_LISTENER && label != LABEL_BUILD &&
              metrics_table[row].offset == counters[i];
    }
    ck_assert_uint_eq(rows, 1);
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {text_is_exact, 1},
      {openmetrics_is_exact, 1},
      {ends_have_every_reason, 1},
      {time_buckets_are_exact, 2},
      {lived_buckets_are_exact, 2},
      {count_buckets_are_exact, 2},
      {every_size_of_buffer_holds, FORMS},
      {labels_are_escaped, FORMS},
      {sizes_are_bounded, FORMS},
      {what_is_unknown_is_left_out, FORMS},
      {families_are_well_formed, 2},
      {rows_keep_the_rules, 1},
      {every_counter_has_a_row, 1},
  };
  return run_suite_fixture("metrics", tests, count_of(tests), setup, NULL);
}
