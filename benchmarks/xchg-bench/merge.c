/*
 * merge: see merge.h.
 *
 * Counts are added.  The other fields:
 *
 *   seconds     sum of exchanges / sum of rates, so that the merged rate is the sum of the rates;
 *               for equal runs it is their length
 *   started     the earlier one
 *   interval    intervals of the same number are added; their percentiles become unknown, because
 *               a report has no histogram of an interval
 *   server      each process counts once: of reports that watched the same processes, the first is
 *               taken; if the sets overlap only partly, usage is unknown
 */
#include "merge.h"

#include "escaped.h"
#include "histogram_read.h"
#include "identity.h"
#include "report.h"
#include "work.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *check_alike(const struct report *reports, uint32_t count);
static const char *merge_identities(struct report *merged, const struct report *reports,
                                    uint32_t count);
static void merge_options(struct options *options, const struct report *reports, uint32_t count);
static struct result *merge_run(const struct report *reports, uint32_t count, uint32_t run);
static bool sums_fit(const struct report *merged);
static void add_intervals(struct result *sum, const struct result *result);
static void add_usage(struct usage *sum, const struct usage *usage);
static void add_servers(struct usage *sum, const struct report *reports, uint32_t count,
                        uint32_t run);

/* Free what was made, and name the report at fault. Return: ${why}. */
static const char *refuse(struct report *merged, const char *path, const char *why) {
  merge_fini(merged);
  merged->path = path;
  return why;
}

const char *merge_reports(struct report *merged, const struct report *reports, uint32_t count) {
  assert(count > 0);
  *merged = (struct report){.path = reports[0].path};
  const char *wrong = check_alike(reports, count);
  if (wrong != NULL) {
    return wrong;
  }
  wrong = merge_identities(merged, reports, count);
  if (wrong != NULL) {
    return refuse(merged, merged->path, wrong);
  }
  merged->runs = calloc(reports[0].runs_count, sizeof(struct result *));
  if (merged->runs == NULL) {
    return refuse(merged, reports[0].path, "out of memory");
  }
  while (merged->runs_count < reports[0].runs_count) {
    struct result *run = merge_run(reports, count, merged->runs_count);
    if (run == NULL) {
      return refuse(merged, reports[0].path, "out of memory");
    }
    merged->runs[merged->runs_count++] = run;
  }
  merge_options(&merged->options, reports, count);
  if (!sums_fit(merged)) {
    return refuse(merged, reports[0].path, "a sum is too large for a report");
  }
  return NULL;
}

void merge_fini(struct report *merged) {
  for (uint32_t i = 0; merged->runs != NULL && i < merged->runs_count; i++) {
    result_destroy(merged->runs[i]);
  }
  free(merged->runs);
  identity_fini(&merged->options.identity);
  *merged = (struct report){.path = NULL};
}

/* Only reports of the same measurement can be added. */
static const char *check_alike(const struct report *reports, uint32_t count) {
  for (uint32_t i = 1; i < count; i++) {
    if (reports[i].runs_count != reports[0].runs_count) {
      return "the reports have different numbers of runs";
    }
    if (reports[i].options.exchange.exchange != reports[0].options.exchange.exchange) {
      return "the reports are of different exchanges";
    }
    for (uint32_t run = 0; run < reports[0].runs_count; run++) {
      const struct result *a = reports[0].runs[run], *b = reports[i].runs[run];
      if (a->has_latency != b->has_latency) {
        return "only some of the reports have latencies";
      }
      if ((a->uncorrected == NULL) != (b->uncorrected == NULL)) {
        return "open and closed loops cannot be merged";
      }
    }
  }
  return NULL;
}

static const char *merge_identities(struct report *merged, const struct report *reports,
                                    uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (identity_merge(&merged->options.identity, &reports[i].options.identity) == 0) {
      continue;
    }
    merged->path = reports[i].path;
    return errno == EEXIST  ? "an earlier report has the same run"
           : errno == E2BIG ? "too many reports"
                            : "out of memory";
  }
  return NULL;
}

/* ---- options ---- */

/* Is ${target} an item of the list, which is separated by commas? */
static bool has_target(const char *list, const char *target) {
  const size_t size = strlen(target);
  for (const char *item = list; *item != 0;) {
    const char *end = strchrnul(item, ',');
    if ((size_t)(end - item) == size && memcmp(item, target, size) == 0) {
      return true;
    }
    item = *end == 0 ? end : end + 1;
  }
  return false;
}

/* Append each item of ${targets} to the list unless it is there.  It is cut if there is no room. */
static void add_targets(char *list, size_t room, const char *targets) {
  while (*targets != 0) {
    char item[sizeof(((struct options *)0)->target)];
    const size_t size = strcspn(targets, ","), used = strlen(list);
    snprintf(item, sizeof(item), "%.*s", (int)size, targets);
    if (!has_target(list, item)) {
      snprintf(list + used, room - used, "%s%s", used == 0 ? "" : ",", item);
    }
    targets += size + (targets[size] == ',');
  }
}

static uint32_t add_sat_u32(uint32_t a, uint32_t b) {
  return (uint32_t)min_u64((uint64_t)a + b, UINT32_MAX);
}

static bool has_pid(const struct options *options, int pid) {
  for (uint32_t i = 0; i < options->pids_count; i++) {
    if (options->pids[i] == pid) {
      return true;
    }
  }
  return false;
}

static void add_pids(struct options *options, const struct options *more) {
  for (uint32_t i = 0; i < more->pids_count; i++) {
    if (!has_pid(options, more->pids[i]) && options->pids_count < BENCH_PIDS_MAX) {
      options->pids[options->pids_count++] = more->pids[i];
    }
  }
}

/* Make the options that one xchg-bench would have had. */
static void merge_options(struct options *options, const struct report *reports, uint32_t count) {
  const struct identity identity = options->identity;
  *options = reports[0].options; /* the exchange is borrowed */
  options->identity = identity;
  for (uint32_t i = 1; i < count; i++) {
    const struct options *more = &reports[i].options;
    add_targets(options->target, sizeof(options->target), more->target);
    options->threads = add_sat_u32(options->threads, more->threads);
    options->connections = add_sat_u32(options->connections, more->connections);
    options->idle = add_sat_u32(options->idle, more->idle);
    options->count = add_sat_u64(options->count, more->count);
    options->rate += more->rate;
    options->ramp_from += more->ramp_from;
    options->ramp_to += more->ramp_to;
    for (uint32_t step = 0; step < options->steps && step < more->steps; step++) {
      options->step_rate[step] += more->step_rate[step];
    }
    options->duration_ns = max_u64(options->duration_ns, more->duration_ns);
    add_pids(options, more);
  }
}

/* ---- results ---- */

static struct result *merge_run(const struct report *reports, uint32_t count, uint32_t run) {
  uint32_t rows = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t more = reports[i].runs[run]->intervals_count;
    rows = more > rows ? more : rows;
  }
  const struct result *first = reports[0].runs[run];
  struct result *sum = result_create(first->uncorrected != NULL, rows);
  if (sum == NULL) {
    return NULL;
  }
  double rates = 0, found_rate = 0;
  bool found = true;
  for (uint32_t i = 0; i < count; i++) {
    const struct result *result = reports[i].runs[run];
    sum->seconds = sum->seconds > result->seconds ? sum->seconds : result->seconds;
    sum->target_rate += result->target_rate;
    sum->connected = add_sat_u32(sum->connected, result->connected);
    sum->idle_connected = add_sat_u32(sum->idle_connected, result->idle_connected);
    result_add_run(sum, result);
    add_intervals(sum, result);
    add_usage(&sum->client, &result->client);
    rates += bench_rate(result->exchanges, result->seconds);
    found_rate += result->found_rate;
    found = found && result->found_rate > 0;
  }
  if (rates > 0) {
    sum->seconds = (double)sum->exchanges / rates;
  }
  sum->found_rate = found ? found_rate : 0;
  add_servers(&sum->server, reports, count, run);
  return sum;
}

static uint64_t largest(const uint64_t *counts, size_t size) {
  uint64_t max = 0;
  for (size_t i = 0; i < size; i++) {
    max = max_u64(max, counts[i]);
  }
  return max;
}

/* The largest count of a run. */
static uint64_t largest_count(const struct result *run) {
  const uint64_t counts[] = {run->exchanges,
                             run->bytes_in,
                             run->bytes_out,
                             run->late,
                             run->dropped,
                             run->unfinished,
                             result_errors(run),
                             run->client.context_switches,
                             run->client.resident_bytes,
                             run->server.context_switches,
                             run->server.resident_bytes,
                             run->latency->count,
                             run->connect->count,
                             run->first_byte->count,
                             run->uncorrected == NULL ? 0 : run->uncorrected->count};
  uint64_t max = max_u64(largest(counts, count_of(counts)), largest(run->errnos, BENCH_ERRNO_MAX));
  for (uint32_t i = 0; i < run->intervals_count; i++) {
    const struct interval *row = &run->intervals[i];
    const uint64_t of_row[] = {row->exchanges, row->errors, row->bytes_in, row->bytes_out};
    max = max_u64(max, largest(of_row, count_of(of_row)));
  }
  return max;
}

/* Can report_read read every sum? */
static bool sums_fit(const struct report *merged) {
  const struct options *options = &merged->options;
  double rate = fmax(options->rate, fmax(options->ramp_from, options->ramp_to));
  uint64_t count = 0;
  for (uint32_t step = 0; step < options->steps; step++) {
    rate = fmax(rate, options->step_rate[step]);
  }
  for (uint32_t i = 0; i < merged->runs_count; i++) {
    const struct result *run = merged->runs[i];
    assert(run != NULL);
    count = max_u64(count, largest_count(run));
    rate = fmax(rate, run->target_rate);
  }
  return count <= HISTOGRAM_COUNT_MAX && rate <= REPORT_RATE_MAX;
}

static void add_intervals(struct result *sum, const struct result *result) {
  for (uint32_t i = 0; i < result->intervals_count; i++) {
    const struct interval *from = &result->intervals[i];
    struct interval *to = &sum->intervals[i];
    if (i == sum->intervals_count) {
      *to = (struct interval){.at_s = from->at_s, .waiting_max = NAN};
      sum->intervals_count++;
    }
    to->seconds = to->seconds > from->seconds ? to->seconds : from->seconds;
    to->exchanges += from->exchanges;
    to->errors += from->errors;
    to->bytes_in += from->bytes_in;
    to->bytes_out += from->bytes_out;
    to->target_rate += from->target_rate;
    to->max_ns = max_u64(to->max_ns, from->max_ns);
    to->waiting_max = fmax(to->waiting_max, from->waiting_max);
    to->is_last = to->is_last || from->is_last;
    to->unfinished += from->unfinished;
    to->unfinished_oldest_ns = max_u64(to->unfinished_oldest_ns, from->unfinished_oldest_ns);
  }
}

static void add_usage(struct usage *sum, const struct usage *usage) {
  if (!usage->known) {
    return;
  }
  sum->known = true;
  sum->cpu_s += usage->cpu_s;
  sum->seconds = sum->seconds > usage->seconds ? sum->seconds : usage->seconds;
  sum->context_switches += usage->context_switches;
  sum->resident_bytes += usage->resident_bytes;
}

/* How many pids of ${options} are in ${seen}? */
static uint32_t count_seen(const struct options *seen, const struct options *options) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < options->pids_count; i++) {
    count += has_pid(seen, options->pids[i]);
  }
  return count;
}

static void add_servers(struct usage *sum, const struct report *reports, uint32_t count,
                        uint32_t run) {
  struct options seen = {.pids_count = 0};
  for (uint32_t i = 0; i < count; i++) {
    const struct usage *usage = &reports[i].runs[run]->server;
    uint32_t again = count_seen(&seen, &reports[i].options);
    if (!usage->known || (again > 0 && again == reports[i].options.pids_count)) {
      continue;
    }
    if (again > 0 || seen.pids_count + reports[i].options.pids_count > BENCH_PIDS_MAX) {
      *sum = (struct usage){.known = false};
      return;
    }
    add_usage(sum, usage);
    add_pids(&seen, &reports[i].options);
  }
}

/* ---- warnings ---- */

/* The part of the shortest run in which all must have been measured. */
#define OVERLAP_MIN 0.9

/* Warn if the reports' runs number ${run} did not overlap; a run without a start is left out. */
static void warn_apart(const struct report *reports, uint32_t count, uint32_t run, FILE *errors) {
  double begin_s = 0, end_s = INFINITY, shortest_s = INFINITY;
  const char *last = NULL, *first = NULL;
  for (uint32_t i = 0; i < count; i++) {
    const struct result *result = reports[i].runs[run];
    const double started_s = (double)result->started_ms / 1e3;
    if (result->started_ms == 0) {
      continue;
    }
    shortest_s = fmin(shortest_s, result->seconds);
    if (started_s > begin_s) {
      begin_s = started_s;
      last = reports[i].path;
    }
    if (started_s + result->seconds < end_s) {
      end_s = started_s + result->seconds;
      first = reports[i].path;
    }
  }
  if (last == NULL || end_s - begin_s >= OVERLAP_MIN * shortest_s) {
    return;
  }
  escaped_line(errors,
               "xchg-bench: warning: run %" PRIu32
               ": '%s' and '%s' were measured at the same time for "
               "%.3fs of %.3fs; the sum of their rates was never reached",
               run + 1, first, last, fmax(0, end_s - begin_s), shortest_s);
}

static void warn(const struct report *reports, uint32_t count, FILE *errors) {
  char text[512];
  for (uint32_t run = 0; run < reports[0].runs_count; run++) {
    warn_apart(reports, count, run, errors);
  }
  for (uint32_t i = 1; i < count; i++) {
    if (work_difference(&reports[0].options, &reports[i].options, WORK_OF_PARTS, text,
                        sizeof(text))) {
      escaped_line(errors, "xchg-bench: warning: the work of '%s' and '%s' differs: %s",
                   reports[0].path, reports[i].path, text);
    }
  }
}

/* ---- files ---- */

static void write_text(FILE *out, const struct report *merged, uint32_t count) {
  fprintf(out, "%u harnesses merged\n", count);
  report_text_begin(out, &merged->options);
  for (uint32_t i = 0; i < merged->runs_count; i++) {
    if (merged->runs_count > 1) {
      fprintf(out, "Run %u of %u\n", i + 1, merged->runs_count);
    }
    report_text(out, &merged->options, merged->runs[i]);
  }
  if (merged->runs_count > 1) {
    report_text_runs(out, &merged->options, merged->runs, merged->runs_count);
  }
}

static int write_json(const struct report *merged, const char *path, FILE *errors) {
  FILE *file = fopen(path, "we");
  if (file == NULL) {
    escaped_line(errors, "xchg-bench: cannot write '%s': %s", path, strerror(errno));
    return BENCH_USAGE;
  }
  report_json(file, &merged->options, merged->runs, merged->runs_count);
  bool bad = ferror(file) != 0;
  if (fclose(file) != 0 || bad) {
    escaped_line(errors, "xchg-bench: cannot write '%s': %s", path, strerror(errno));
    return BENCH_FAILED;
  }
  return BENCH_OK;
}

static int write_merged(const struct report *merged, uint32_t count, const char *json, FILE *out,
                        FILE *errors) {
  int code = BENCH_OK;
  bool instead = json != NULL && strcmp(json, "-") == 0;
  if (instead) {
    report_json(out, &merged->options, merged->runs, merged->runs_count);
  } else if (json != NULL) {
    code = write_json(merged, json, errors);
  }
  if (code == BENCH_OK && !instead) {
    write_text(out, merged, count);
  }
  return code;
}

int merge_files(const char *const *paths, uint32_t count, const char *json, FILE *out,
                FILE *errors) {
  if (count == 0 || count > MERGE_FILES_MAX) {
    fprintf(errors, "xchg-bench: merge: want 1 to %d JSON reports\n", MERGE_FILES_MAX);
    return BENCH_USAGE;
  }
  struct report *reports = calloc(count, sizeof(*reports)), merged;
  if (reports == NULL) {
    fputs("xchg-bench: out of memory\n", errors);
    return BENCH_USAGE;
  }
  uint32_t opened = 0;
  while (opened < count && report_read(&reports[opened], paths[opened], errors) == 0) {
    opened++;
  }
  int code = BENCH_USAGE;
  if (opened == count) {
    const char *wrong = merge_reports(&merged, reports, count);
    if (wrong != NULL) {
      escaped_line(errors, "xchg-bench: cannot merge '%s': %s", merged.path, wrong);
    } else {
      warn(reports, count, errors);
      code = write_merged(&merged, count, json, out, errors);
      merge_fini(&merged);
    }
  }
  for (uint32_t i = 0; i < opened; i++) {
    report_fini(&reports[i]);
  }
  free(reports);
  return code;
}

int merge_main(int argc, char **argv) {
  const char *json = NULL, **paths = calloc((size_t)argc, sizeof(*paths));
  uint32_t count = 0;
  int code = BENCH_USAGE;
  if (paths == NULL) {
    fputs("xchg-bench: out of memory\n", stderr);
    return code;
  }
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--json") == 0 && i + 1 < argc) {
      json = argv[++i];
    } else if (strncmp(argv[i], "--json=", 7) == 0) {
      json = argv[i] + 7;
    } else if (argv[i][0] == '-') {
      escaped_line(stderr, "xchg-bench: merge: unknown option '%.64s'; want --json FILE", argv[i]);
      goto out;
    } else {
      paths[count++] = argv[i];
    }
  }
  code = merge_files(paths, count, json, stdout, stderr);
out:
  free(paths);
  return code;
}
