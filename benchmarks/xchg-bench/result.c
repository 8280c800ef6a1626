/*
 * result: see bench.h and result.h.  The number of intervals that there is room for is kept behind
 * the result, since nobody but result_next_interval needs it.
 */
#include "result.h"

#include <errno.h>
#include <stdlib.h>

struct roomy_result {
  struct result result;
  uint32_t intervals_max;
};

static struct hist *make_hist(void) {
  struct hist *hist = malloc(sizeof(*hist));
  if (hist != NULL) {
    hist_reset(hist);
  }
  return hist;
}

struct result *result_create(bool open_loop, uint32_t seconds) {
  struct roomy_result *roomy = calloc(1, sizeof(*roomy));
  if (roomy == NULL) {
    return NULL;
  }
  struct result *result = &roomy->result;
  roomy->intervals_max = seconds;
  result->has_latency = true;
  result->latency = make_hist();
  result->connect = make_hist();
  result->first_byte = make_hist();
  result->uncorrected = open_loop ? make_hist() : NULL;
  result->intervals = calloc((size_t)seconds + 1, sizeof(*result->intervals));
  if (result->latency == NULL || result->connect == NULL || result->first_byte == NULL ||
      (open_loop && result->uncorrected == NULL) || result->intervals == NULL) {
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
  free(result->intervals);
  free(container_of(result, struct roomy_result, result));
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

void result_add(struct result *result, const struct tally *tally) {
  result->exchanges += tally->exchanges;
  result->bytes_in += tally->bytes_in;
  result->bytes_out += tally->bytes_out;
  result->late += tally->late;
  result->late_max_ns = max_u64(result->late_max_ns, tally->late_max_ns);
  result->dropped += tally->dropped;
  for (unsigned i = 0; i < BENCH_ERRORS; i++) {
    result->errors[i] += tally->errors[i];
  }
  for (unsigned i = 0; i < BENCH_ERRNO_MAX; i++) {
    result->errnos[i] += tally->errnos[i];
  }
  hist_add(result->latency, &tally->latency);
  hist_add(result->connect, &tally->connect);
  hist_add(result->first_byte, &tally->first_byte);
  if (result->uncorrected != NULL) {
    hist_add(result->uncorrected, &tally->uncorrected);
  }
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
