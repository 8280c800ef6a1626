/*
 * hdr_dump: print the hdr_histogram of values from standard input, for check.mjs.
 *
 * The input has whole nanoseconds, one a line.  The output has `key value` lines: count, min, max,
 * mean and stddev, a `p` line for each percentile in the arguments, and a `b` line (lowest value,
 * count) for each bucket that is not empty.  With --hgrm as the only argument it prints the
 * percentile distribution instead.
 */
#include "benchmarks/xchg-bench/hdr_histogram.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void print_buckets(const struct hdr_histogram *histogram) {
  for (uint32_t i = 0; i < HDR_BUCKETS; i++) {
    if (histogram->buckets[i] > 0) {
      printf("b %" PRIu64 " %" PRIu64 "\n", hdr_bucket_low(i), histogram->buckets[i]);
    }
  }
}

int main(int argc, char **argv) {
  struct hdr_histogram *histogram = malloc(sizeof(*histogram));
  if (histogram == NULL) {
    return EXIT_FAILURE;
  }
  hdr_reset(histogram);
  uint64_t value;
  while (scanf("%" SCNu64, &value) == 1) {
    hdr_record(histogram, value);
  }
  if (argc == 2 && strcmp(argv[1], "--hgrm") == 0) {
    hdr_write_hgrm(histogram, NULL, stdout);
  } else {
    printf("count %" PRIu64 "\nmin %" PRIu64 "\nmax %" PRIu64 "\n", histogram->count,
           histogram->min_ns, histogram->max_ns);
    printf("mean %.17g\nstddev %.17g\n", hdr_mean(histogram), hdr_stddev(histogram));
    for (int i = 1; i < argc; i++) {
      printf("p %s %" PRIu64 "\n", argv[i], hdr_percentile(histogram, strtod(argv[i], NULL)));
    }
    print_buckets(histogram);
  }
  free(histogram);
  return ferror(stdin) != 0 || fflush(stdout) != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
