/*
 * plan: the runs that the options ask for, in sequence.
 *
 *   (nothing)  one run                    --ramp    one run with a rate that changes linearly
 *   --repeat   N equal runs               --step    one run for each rate
 *   --search   probes, which are not reported, then a run that confirms the rate that was found
 */
#ifndef BENCH_PLAN_H
#define BENCH_PLAN_H

#include "load.h"

#include <stdio.h>

/* load_run, or the function of a test. */
typedef int plan_load(const struct options *options, const struct load_plan *plan,
                      struct result *result);

struct plan {
  struct result **runs; /* owns the array and the runs_count results */
  uint32_t runs_count;
  double probed_rate;   /* --search: the highest rate that a probe kept; 0 = none */
  double searched_rate; /* --search: the rate that was kept by the last run too; 0 = none */
  bool interrupted;
};

/**
 * plan_run(plan, options, load, progress):
 * Do all runs with ${load}, until the last one or an interruption.  The results until then are
 * kept.  Each probe of a search writes a line to ${progress}.
 * Return: 0, or -1 with errno if a run could not begin.  The caller must call plan_fini in either
 * case.
 */
int plan_run(struct plan *plan, const struct options *options, plan_load *load, FILE *progress);
void plan_fini(struct plan *plan);

/** The duration of one probe of a search. */
uint64_t plan_probe_ns(const struct options *options);

/**
 * plan_objective_value(plan, options, objective):
 * Return: the value that decides whether an objective is met.  For repeated runs it is the median.
 * For steps it is the value of the first one that misses the objective, or of the last step.
 */
double plan_objective_value(const struct plan *plan, const struct options *options,
                            const struct objective *objective);

/** Return: the sum of all runs, owned by the caller, or NULL (ENOMEM). */
struct result *plan_sum(const struct plan *plan, const struct options *options);

#endif
