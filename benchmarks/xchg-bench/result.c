/*
 * result: see bench.h and result.h.  The capacity for intervals is stored after the public struct,
 * because only result_next_interval needs it.
 */
#include "result.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

struct roomy_result {
  struct result result;
  uint32_t intervals_max;
};

static struct hdr_histogram *make_histogram(void) {
  struct hdr_histogram *histogram = malloc(sizeof(*histogram));
  if (histogram != NULL) {
    hdr_reset(histogram);
  }
  return histogram;
}

static int make_unfinished(struct result *result, bool open_loop) {
  for (int i = 0; i < TIMES; i++) {
    if (open_loop || i != TIMES_UNCORRECTED) {
      result->unfinished_times[i] = make_histogram();
      if (result->unfinished_times[i] == NULL) {
        return -1;
      }
    }
  }
  return 0;
}

struct result *result_create(bool open_loop, uint32_t seconds) {
  struct roomy_result *roomy = calloc(1, sizeof(*roomy));
  if (roomy == NULL) {
    return NULL;
  }
  struct result *result = &roomy->result;
  roomy->intervals_max = seconds;
  result->has_latency = true;
  result->latency = make_histogram();
  result->connect = make_histogram();
  result->first_byte = make_histogram();
  result->uncorrected = open_loop ? make_histogram() : NULL;
  result->thread_waiting_max = NAN;
  result->intervals = calloc((size_t)seconds + 1, sizeof(*result->intervals));
  if (result->latency == NULL || result->connect == NULL || result->first_byte == NULL ||
      (open_loop && result->uncorrected == NULL) || make_unfinished(result, open_loop) == -1 ||
      result->intervals == NULL) {
    result_destroy(result);
    errno = ENOMEM;
    return NULL;
  }
  return result;
}

void result_destroy(struct result *result) {
  if (result == NULL) {
    return;
  }
  free(result->latency);
  free(result->uncorrected);
  free(result->connect);
  free(result->first_byte);
  for (int i = 0; i < TIMES; i++) {
    free(result->unfinished_times[i]);
  }
  free(result->intervals);
  free(container_of(result, struct roomy_result, result));
}

const struct hdr_histogram *result_times(const struct result *result, enum metric_times times) {
  switch (times) {
    case TIMES_LATENCY:
      return result->has_latency ? result->latency : NULL;
    case TIMES_UNCORRECTED:
      return result->has_latency ? result->uncorrected : NULL;
    case TIMES_CONNECT:
      return result->connect;
    case TIMES_FIRST_BYTE:
      return result->first_byte;
    case TIMES:
      break;
  }
  return NULL;
}

uint64_t result_percentile(const struct result *result, enum metric_times times, double percent) {
  const struct hdr_histogram *histogram = result_times(result, times);
  return histogram == NULL
             ? 0
             : hdr_percentile_with(histogram, result->unfinished_times[times], percent);
}

double result_time(const struct result *result, enum metric_times times, double percent) {
  return result_count(result, times) == 0 ? NAN : (double)result_percentile(result, times, percent);
}

uint64_t result_count(const struct result *result, enum metric_times times) {
  const struct hdr_histogram *histogram = result_times(result, times);
  if (histogram == NULL) {
    return 0;
  }
  const struct hdr_histogram *unfinished = result->unfinished_times[times];
  return histogram->count + (unfinished == NULL ? 0 : unfinished->count);
}

uint64_t result_errors(const struct result *result) {
  uint64_t sum = 0;
  for (unsigned i = 0; i < BENCH_ERRORS; i++) {
    sum += result->errors[i];
  }
  return sum;
}

const char *bench_error_name(enum bench_error error) {
  static const char *const names[BENCH_ERRORS] = {
      [ERROR_CONNECT] = "connect", [ERROR_RESET] = "reset", [ERROR_TIMEOUT] = "timeout",
      [ERROR_WRONG] = "wrong",     [ERROR_SHORT] = "short",
  };
  return names[error];
}

/* Keep the earlier one of two examples. */
static void add_example(struct wrong_example *to, const struct wrong_example *from) {
  if (from->at_ns > 0 && (to->at_ns == 0 || from->at_ns < to->at_ns)) {
    *to = *from;
  }
}

void result_add(struct result *result, const struct counters *counters) {
  result->exchanges += counters->exchanges;
  result->bytes_in += counters->bytes_in;
  result->bytes_out += counters->bytes_out;
  result->late += counters->late;
  result->late_max_ns = max_u64(result->late_max_ns, counters->late_max_ns);
  for (unsigned i = 0; i < BENCH_ERRORS; i++) {
    result->errors[i] += counters->errors[i];
  }
  for (unsigned i = 0; i < BENCH_ERRNO_MAX; i++) {
    result->errnos[i] += counters->errnos[i];
  }
  add_example(&result->wrong, &counters->wrong);
  hdr_add(result->latency, &counters->latency);
  hdr_add(result->connect, &counters->connect);
  hdr_add(result->first_byte, &counters->first_byte);
  if (result->uncorrected != NULL) {
    hdr_add(result->uncorrected, &counters->uncorrected);
  }
}

static void add_unfinished(struct result *to, const struct result *from) {
  to->unfinished += from->unfinished;
  to->unfinished_oldest_ns = max_u64(to->unfinished_oldest_ns, from->unfinished_oldest_ns);
  to->dropped += from->dropped;
  for (int i = 0; i < TIMES; i++) {
    if (to->unfinished_times[i] != NULL && from->unfinished_times[i] != NULL) {
      hdr_add(to->unfinished_times[i], from->unfinished_times[i]);
    }
  }
}

void result_add_run(struct result *to, const struct result *from) {
  if (from->started_ms > 0 && (to->started_ms == 0 || from->started_ms < to->started_ms)) {
    to->started_ms = from->started_ms;
  }
  to->exchanges += from->exchanges;
  to->bytes_in += from->bytes_in;
  to->bytes_out += from->bytes_out;
  for (unsigned i = 0; i < BENCH_ERRORS; i++) {
    to->errors[i] += from->errors[i];
  }
  for (unsigned i = 0; i < BENCH_ERRNO_MAX; i++) {
    to->errnos[i] += from->errnos[i];
  }
  to->has_latency = from->has_latency;
  hdr_add(to->latency, from->latency);
  hdr_add(to->connect, from->connect);
  hdr_add(to->first_byte, from->first_byte);
  if (to->uncorrected != NULL && from->uncorrected != NULL) {
    hdr_add(to->uncorrected, from->uncorrected);
  }
  to->late += from->late;
  to->late_max_ns = max_u64(to->late_max_ns, from->late_max_ns);
  add_unfinished(to, from);
  to->thread_busy_max = fmax(to->thread_busy_max, from->thread_busy_max);
  to->thread_waiting_max = fmax(to->thread_waiting_max, from->thread_waiting_max);
  to->starved = to->starved || from->starved;
  to->harness_bound = to->harness_bound || from->harness_bound;
  to->aborted = to->aborted || from->aborted;
  to->found_rate = fmax(to->found_rate, from->found_rate);
  to->interrupted = to->interrupted || from->interrupted;
  add_example(&to->wrong, &from->wrong);
}

struct interval *result_next_interval(struct result *result) {
  const struct roomy_result *roomy = container_of(result, struct roomy_result, result);
  if (result->intervals_count == roomy->intervals_max) {
    return NULL;
  }
  struct interval *interval = &result->intervals[result->intervals_count++];
  *interval = (struct interval){0};
  return interval;
}
