/*
 * hdr_histogram: the mapping from values to buckets, percentiles, and the .hgrm form.
 *
 * With s = HDR_SUB_BITS and k = the index of a value's highest bit:
 *
 *   k <= s    bucket = value                                      each value has its own
 *   k >  s    bucket = (k - s) * 2^s + (value >> (k - s))         2^(k - s) values share one
 *
 * The shifted value lies in 2^s .. 2^(s+1) - 1, so the buckets of neighbouring powers of two
 * adjoin.  The shift of a bucket is bucket / 2^s - 1.  A bucket is at most 1 / 2^s of its lowest
 * value wide, which is less than a thousandth.
 */
#include "hdr_histogram.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define SUB_BUCKETS (UINT64_C(1) << HDR_SUB_BITS)
#define MS (double)NS_PER_MS
#define TICKS_A_HALF 5 /* .hgrm rows for each halving of the distance to 100 % */

static_assert(HDR_MAX_NS < UINT64_C(1) << 36, "the last bucket ends below 2^36");
static_assert(HDR_SUB_BITS >= 10, "a bucket is at most a thousandth of its values wide");

void hdr_reset(struct hdr_histogram *histogram) {
  memset(histogram, 0, sizeof(*histogram));
  histogram->min_ns = UINT64_MAX;
}

uint32_t hdr_bucket(uint64_t value_ns) {
  uint64_t value = min_u64(value_ns, HDR_MAX_NS);
  if (value < SUB_BUCKETS) {
    return (uint32_t)value;
  }
  uint32_t shift = (uint32_t)(63 - __builtin_clzll(value)) - HDR_SUB_BITS;
  return (shift << HDR_SUB_BITS) + (uint32_t)(value >> shift);
}

uint64_t hdr_bucket_low(uint32_t bucket) {
  assert(bucket < HDR_BUCKETS);
  if (bucket < SUB_BUCKETS) {
    return bucket;
  }
  uint32_t shift = (bucket >> HDR_SUB_BITS) - 1;
  return (uint64_t)(bucket - (shift << HDR_SUB_BITS)) << shift;
}

uint64_t hdr_bucket_high(uint32_t bucket) {
  uint32_t shift = bucket < SUB_BUCKETS ? 0 : (bucket >> HDR_SUB_BITS) - 1;
  return hdr_bucket_low(bucket) + (UINT64_C(1) << shift) - 1;
}

void hdr_record(struct hdr_histogram *histogram, uint64_t value_ns) {
  hdr_record_many(histogram, value_ns, 1);
}

void hdr_record_many(struct hdr_histogram *histogram, uint64_t value_ns, uint64_t times) {
  double value = (double)value_ns, count = (double)times;
  histogram->count += times;
  histogram->clamped += value_ns > HDR_MAX_NS ? times : 0;
  histogram->min_ns = min_u64(histogram->min_ns, value_ns);
  histogram->max_ns = max_u64(histogram->max_ns, value_ns);
  histogram->sum_ns += count * value;
  histogram->sum_squares += count * value * value;
  histogram->buckets[hdr_bucket(value_ns)] += times;
}

void hdr_add(struct hdr_histogram *to, const struct hdr_histogram *from) {
  to->count += from->count;
  to->clamped += from->clamped;
  to->min_ns = min_u64(to->min_ns, from->min_ns);
  to->max_ns = max_u64(to->max_ns, from->max_ns);
  to->sum_ns += from->sum_ns;
  to->sum_squares += from->sum_squares;
  for (uint32_t i = 0; i < HDR_BUCKETS; i++) {
    to->buckets[i] += from->buckets[i];
  }
}

/*
 * The number of values that make up ${percent} of all, rounded up and at least 1.  A double cannot
 * hold a percentage such as 99.9 exactly.  One step down and the wider type keep 99.9 % of 1,000
 * from becoming 1,000.
 */
static uint64_t rank_of(uint64_t count, double percent) {
  long double below = nextafter(percent > 100 ? 100 : percent, -1);
  long double rank = ceill(below * (long double)count / 100);
  return rank < 1 ? 1 : min_u64((uint64_t)rank, count);
}

/* The value that is reported for ${bucket}. */
static uint64_t value_of(const struct hdr_histogram *histogram, uint32_t bucket) {
  return min_u64(hdr_bucket_high(bucket), histogram->max_ns);
}

uint64_t hdr_percentile(const struct hdr_histogram *histogram, double percent) {
  if (histogram->count == 0) {
    return 0;
  }
  uint64_t rank = rank_of(histogram->count, percent), seen = 0;
  for (uint32_t i = 0; i < HDR_BUCKETS; i++) {
    seen += histogram->buckets[i];
    if (seen >= rank) {
      return value_of(histogram, i);
    }
  }
  return value_of(histogram, HDR_BUCKETS - 1);
}

uint64_t hdr_max_with(const struct hdr_histogram *histogram,
                      const struct hdr_histogram *unfinished) {
  return unfinished == NULL ? histogram->max_ns : max_u64(histogram->max_ns, unfinished->max_ns);
}

uint64_t hdr_percentile_with(const struct hdr_histogram *histogram,
                             const struct hdr_histogram *unfinished, double percent) {
  uint64_t alone = hdr_percentile(histogram, percent), seen = 0;
  if (percent >= 100) {
    return hdr_max_with(histogram, unfinished);
  }
  if (unfinished == NULL || unfinished->count == 0) {
    return alone;
  }
  uint64_t rank = rank_of(histogram->count + unfinished->count, percent);
  uint32_t i = 0;
  while (i < HDR_BUCKETS - 1 && (seen += histogram->buckets[i] + unfinished->buckets[i]) < rank) {
    i++;
  }
  return max_u64(alone, min_u64(hdr_bucket_high(i), hdr_max_with(histogram, unfinished)));
}

double hdr_mean(const struct hdr_histogram *histogram) {
  return histogram->count == 0 ? 0 : histogram->sum_ns / (double)histogram->count;
}

double hdr_stddev(const struct hdr_histogram *histogram) {
  if (histogram->count == 0) {
    return 0;
  }
  double mean = hdr_mean(histogram);
  double variance = histogram->sum_squares / (double)histogram->count - mean * mean;
  return variance > 0 ? sqrt(variance) : 0; /* rounding of equal values may give a negative one */
}

/* Write the .hgrm row for a ${percent} below 100. */
static void write_row(FILE *out, uint64_t value_ns, double percent, uint64_t seen) {
  fprintf(out, "%12.3f %2.12f %10" PRIu64 " %14.2f\n", (double)value_ns / MS, percent / 100, seen,
          100 / (100 - percent));
}

/*
 * Write rows at 0 %, 10 % ... 50 %, 55 % ... 75 %, 77.5 % ...  Each halving of the distance to
 * 100 % has the same number of steps.  The last row covers all values.
 */
static void write_rows(const struct hdr_histogram *histogram,
                       const struct hdr_histogram *unfinished, FILE *out) {
  double percent = 0;
  uint64_t seen = 0;
  uint32_t bucket = 0;
  for (;;) {
    uint64_t rank = rank_of(histogram->count, percent);
    while (seen < rank) {
      seen += histogram->buckets[bucket++];
    }
    write_row(out, hdr_percentile_with(histogram, unfinished, percent), percent, seen);
    if (seen == histogram->count) {
      break;
    }
    double halvings = floor(log2(100 / (100 - percent)));
    percent += 100 / (TICKS_A_HALF * exp2(halvings + 1));
  }
  fprintf(out, "%12.3f %2.12f %10" PRIu64 "            inf\n",
          (double)hdr_max_with(histogram, unfinished) / MS, 1.0, histogram->count);
}

/* Write ${name} and a time in ms, or "-" if it is the time of 0 values. */
static void write_ms(FILE *out, const char *name, double time_ns, uint64_t values) {
  if (values == 0) {
    fprintf(out, "%s %12s", name, "-");
  } else {
    fprintf(out, "%s %12.3f", name, time_ns / MS);
  }
}

void hdr_write_hgrm(const struct hdr_histogram *histogram, const struct hdr_histogram *unfinished,
                    FILE *out) {
  fputs("       Value     Percentile TotalCount 1/(1-Percentile)\n\n", out);
  if (histogram->count > 0) {
    write_rows(histogram, unfinished, out);
  }
  const uint64_t count = histogram->count;
  const uint64_t all = count + (unfinished == NULL ? 0 : unfinished->count);
  write_ms(out, "#[Mean    =", hdr_mean(histogram), count);
  write_ms(out, ", StdDeviation   =", hdr_stddev(histogram), count);
  write_ms(out, "]\n#[Max     =", (double)hdr_max_with(histogram, unfinished), all);
  fprintf(out, ", Total count    = %12" PRIu64 "]\n", count);
  fprintf(out, "#[Buckets = %12d, SubBuckets     = %12d]\n", 36 - HDR_SUB_BITS, 2 << HDR_SUB_BITS);
  if (unfinished != NULL) {
    fprintf(out, "#[Unfinished = %9" PRIu64, unfinished->count);
    write_ms(out, ", Oldest       =", (double)unfinished->max_ns, unfinished->count);
    fputs("]\n", out);
  }
}
