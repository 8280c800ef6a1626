/*
 * plan: which runs the options ask for, one after the other.
 *
 *   (nothing)  one run                    --ramp    one run with a rate that changes evenly
 *   --repeat   the same N times           --step    a run a rate
 *   --search   probes, which are thrown away, then one run at the rate that they found
 */
#ifndef BENCH_PLAN_H
#define BENCH_PLAN_H

#include "load.h"

#include <stdio.h>

/* load_run, or a test's. */
typedef int plan_load(const struct options *options, const struct load_plan *plan,
                      struct result *result);

struct plan {
  struct result **runs; /* owns; runs_count of them are measured */
  uint32_t runs_count;
  double searched_rate; /* --search: the highest rate that kept the objective; 0 = none did */
  bool interrupted;
};

/**
 * plan_run(plan, options, load, progress):
 * Do all runs, by ${load}, until the last or an interruption; what was measured until then is kept.
 * Each probe of a search is told to ${progress} as a line.
 * Return: 0, or -1 with errno where a run could not begin; plan_fini is due in either case.
 */
int plan_run(struct plan *plan, const struct options *options, plan_load *load, FILE *progress);
void plan_fini(struct plan *plan);

/** How long one probe of a search is measured. */
uint64_t plan_probe_ns(const struct options *options);

/**
 * plan_objective_value(plan, objective): what decides about an objective: the median of repeated
 * runs; of steps, the value of the first that misses it, else of the last.
 */
double plan_objective_value(const struct plan *plan, const struct options *options,
                            const struct objective *objective);

/** The runs as one result, histograms and counts added; NULL (ENOMEM). The caller owns it. */
struct result *plan_sum(const struct plan *plan, const struct options *options);

#endif
