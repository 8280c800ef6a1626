/*
 * hist: see hist.h.
 *
 * With s = HIST_SUB_BITS and k = the index of a value's highest bit:
 *
 *   k <= s    bucket = value                                      each value has its own
 *   k >  s    bucket = (k - s) * 2^s + (value >> (k - s))         2^(k - s) values share one
 *
 * The shifted value lies in 2^s .. 2^(s+1) - 1, so that the buckets of neighbouring powers of two
 * adjoin, and bucket / 2^s - 1 says how far a bucket's values were shifted.  A bucket holds at most
 * 1 / 2^s of its lowest value: under a thousandth.
 *
 * One thread at a time records into a histogram, and nobody reads it meanwhile.
 */
#include "core/hist.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define SUB_BUCKETS (UINT64_C(1) << HIST_SUB_BITS)
#define MS (double)NS_PER_MS
#define TICKS_A_HALF 5 /* rows of the .hgrm form for each halving of the distance to 100 % */

static_assert(HIST_MAX_NS < UINT64_C(1) << 36, "the last bucket ends below 2^36");
static_assert(HIST_SUB_BITS >= 10, "a bucket is at most a thousandth of its values wide");

void hist_reset(struct hist *hist) {
  memset(hist, 0, sizeof *hist);
  hist->min_ns = UINT64_MAX;
}

uint32_t hist_bucket(uint64_t value_ns) {
  uint64_t value = min_u64(value_ns, HIST_MAX_NS);
  if (value < SUB_BUCKETS)
    return (uint32_t)value;
  uint32_t shift = (uint32_t)(63 - __builtin_clzll(value)) - HIST_SUB_BITS;
  return (shift << HIST_SUB_BITS) + (uint32_t)(value >> shift);
}

uint64_t hist_bucket_low(uint32_t bucket) {
  assert(bucket < HIST_BUCKETS);
  if (bucket < SUB_BUCKETS)
    return bucket;
  uint32_t shift = (bucket >> HIST_SUB_BITS) - 1;
  return (uint64_t)(bucket - (shift << HIST_SUB_BITS)) << shift;
}

uint64_t hist_bucket_high(uint32_t bucket) {
  uint32_t shift = bucket < SUB_BUCKETS ? 0 : (bucket >> HIST_SUB_BITS) - 1;
  return hist_bucket_low(bucket) + (UINT64_C(1) << shift) - 1;
}

void hist_record(struct hist *hist, uint64_t value_ns) {
  double value = (double)value_ns;
  hist->count++;
  hist->clamped += value_ns > HIST_MAX_NS;
  hist->min_ns = min_u64(hist->min_ns, value_ns);
  hist->max_ns = max_u64(hist->max_ns, value_ns);
  hist->sum_ns += value;
  hist->sum_squares += value * value;
  hist->buckets[hist_bucket(value_ns)]++;
}

void hist_add(struct hist *to, const struct hist *from) {
  to->count += from->count;
  to->clamped += from->clamped;
  to->min_ns = min_u64(to->min_ns, from->min_ns);
  to->max_ns = max_u64(to->max_ns, from->max_ns);
  to->sum_ns += from->sum_ns;
  to->sum_squares += from->sum_squares;
  for (uint32_t i = 0; i < HIST_BUCKETS; i++)
    to->buckets[i] += from->buckets[i];
}

/*
 * How many of all values ${percent} of them are, rounded up, 1 at least.  A percentage such as 99.9
 * is no double: one step down and the wider type see to it that 99.9 % of 1,000 are not 1,000.
 */
static uint64_t rank_of(const struct hist *hist, double percent) {
  long double below = nextafter(percent > 100 ? 100 : percent, -1);
  long double rank = ceill(below * (long double)hist->count / 100);
  return rank < 1 ? 1 : min_u64((uint64_t)rank, hist->count);
}

/* The highest value that ${bucket} stands for in ${hist}. */
static uint64_t value_of(const struct hist *hist, uint32_t bucket) {
  return min_u64(hist_bucket_high(bucket), hist->max_ns);
}

uint64_t hist_percentile(const struct hist *hist, double percent) {
  if (hist->count == 0)
    return 0;
  uint64_t rank = rank_of(hist, percent), seen = 0;
  for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
    seen += hist->buckets[i];
    if (seen >= rank)
      return value_of(hist, i);
  }
  return value_of(hist, HIST_BUCKETS - 1);
}

double hist_mean(const struct hist *hist) {
  return hist->count == 0 ? 0 : hist->sum_ns / (double)hist->count;
}

double hist_stddev(const struct hist *hist) {
  if (hist->count == 0)
    return 0;
  double mean = hist_mean(hist);
  double variance = hist->sum_squares / (double)hist->count - mean * mean;
  return variance > 0 ? sqrt(variance) : 0; /* equal values may round to just below 0 */
}

/* A row of the .hgrm form for ${percent} below 100. */
static void write_row(FILE *out, uint64_t value_ns, double percent, uint64_t seen) {
  fprintf(out, "%12.3f %2.12f %10" PRIu64 " %14.2f\n", (double)value_ns / MS, percent / 100, seen,
          100 / (100 - percent));
}

/*
 * Rows at 0 %, 10 % ... 50 %, 55 % ... 75 %, 77.5 % ...: each halving of the distance to 100 %
 * takes as many steps as the one before, until all values are below.
 */
static void write_rows(const struct hist *hist, FILE *out) {
  double percent = 0;
  uint64_t seen = 0;
  uint32_t bucket = 0;
  for (;;) {
    uint64_t rank = rank_of(hist, percent);
    while (seen < rank)
      seen += hist->buckets[bucket++];
    write_row(out, value_of(hist, bucket - 1), percent, seen);
    if (seen == hist->count)
      break;
    double halvings = floor(log2(100 / (100 - percent)));
    percent += 100 / (TICKS_A_HALF * exp2(halvings + 1));
  }
  fprintf(out, "%12.3f %2.12f %10" PRIu64 "            inf\n", (double)hist->max_ns / MS, 1.0,
          hist->count);
}

void hist_write_hgrm(const struct hist *hist, FILE *out) {
  fputs("       Value     Percentile TotalCount 1/(1-Percentile)\n\n", out);
  if (hist->count > 0)
    write_rows(hist, out);
  fprintf(out, "#[Mean    = %12.3f, StdDeviation   = %12.3f]\n", hist_mean(hist) / MS,
          hist_stddev(hist) / MS);
  fprintf(out, "#[Max     = %12.3f, Total count    = %12" PRIu64 "]\n", (double)hist->max_ns / MS,
          hist->count);
  fprintf(out, "#[Buckets = %12d, SubBuckets     = %12d]\n", 36 - HIST_SUB_BITS,
          2 << HIST_SUB_BITS);
}
