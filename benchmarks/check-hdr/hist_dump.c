/*
 * hist_dump: what core/hist says of values from standard input, for a comparison.
 *
 * Reads whole nanoseconds, one a line, until the end; prints `key value` lines: count, min, max,
 * mean and stddev, a `p` line for each percentile in the arguments, and a `b` line (lowest value,
 * count) for each bucket that is not empty.  With --hgrm as the only argument it prints the
 * percentile distribution instead.
 */
#include "core/hist.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void print_buckets(const struct hist *hist) {
  for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
    if (hist->buckets[i] > 0)
      printf("b %" PRIu64 " %" PRIu64 "\n", hist_bucket_low(i), hist->buckets[i]);
  }
}

int main(int argc, char **argv) {
  struct hist *hist = malloc(sizeof *hist);
  if (hist == NULL)
    return EXIT_FAILURE;
  hist_reset(hist);
  uint64_t value;
  while (scanf("%" SCNu64, &value) == 1)
    hist_record(hist, value);
  if (argc == 2 && strcmp(argv[1], "--hgrm") == 0) {
    hist_write_hgrm(hist, stdout);
  } else {
    printf("count %" PRIu64 "\nmin %" PRIu64 "\nmax %" PRIu64 "\n", hist->count, hist->min_ns,
           hist->max_ns);
    printf("mean %.17g\nstddev %.17g\n", hist_mean(hist), hist_stddev(hist));
    for (int i = 1; i < argc; i++)
      printf("p %s %" PRIu64 "\n", argv[i], hist_percentile(hist, strtod(argv[i], NULL)));
    print_buckets(hist);
  }
  free(hist);
  return ferror(stdin) != 0 || fflush(stdout) != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
