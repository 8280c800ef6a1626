/*
 * plan: runs in sequence, and the search for a rate.
 *
 * Each run has a copy of the options with its own rate and duration.  The copy borrows what the
 * options point to.  The search doubles the rate from SEARCH_START until the objective is missed
 * (or halves it until it is met), then bisects to SEARCH_PRECISION:
 *
 *   0 <= low: the highest rate that met it    high: the lowest rate that missed it, 0 = not known
 *
 * Noise can only make a probe look worse, so a probe that failed is repeated once.  A rate that the
 * server does not reach counts as missed, whatever the objective says.
 *
 * A probe is short, so a server that turns slow later passes it.  A rate is found only if a run of
 * the full duration confirms it.  If the run fails, it is repeated once, and then lower rates down
 * to half are tried, because noise hits a longer run at the edge more often.  The report has the
 * last of these runs.
 */
#include "plan.h"

#include "mann_whitney.h"
#include "objective.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define SEARCH_START 1000.0
#define SEARCH_MAX 1e9
#define SEARCH_PRECISION 0.02
#define SEARCH_REACHED 0.98
#define SEARCH_PROBES_MAX 100 /* fewer than 50 doublings, halvings and bisections are possible */
#define PROBE_MIN_NS (500 * NS_PER_MS)
#define PROBE_MAX_NS (5 * NS_PER_S)

/* Intervals of a run that ends by count or signal; later ones count only in the totals. */
#define INTERVALS_MAX UINT64_C(86400)
#define INTERVALS_ROOM UINT64_C(1000000) /* of a run whose duration is known */

struct planner {
  struct plan *plan;
  const struct options *options;
  plan_load *load;
  FILE *progress;
};

/* A run: the rate changes from ${from} to ${to} within the duration; 0 = closed loop. */
struct shape {
  double from, to;
  uint64_t duration_ns;
};

static struct result *run_one(const struct planner *planner, const struct shape *shape);
static int keep(struct planner *planner, struct result *result);
static int run_kept(struct planner *planner, const struct shape *shape);
static bool misses_any(const struct options *options, const struct result *result);
static int run_search(struct planner *planner);
static int confirm(struct planner *planner);
static int probe(struct planner *planner, double rate, bool *held);
static bool is_held(const struct planner *planner, const struct result *result, double rate);
static double next_rate(double low, double high);
static bool is_reached(const struct result *result, double rate);
static void tell_probe(const struct planner *planner, double rate, const struct result *result,
                       bool held);
static void add_result(struct result *sum, const struct result *result);
static void add_usage(struct usage *sum, const struct usage *usage, bool first);

int plan_run(struct plan *plan, const struct options *options, plan_load *load, FILE *progress) {
  struct planner planner = {.plan = plan, .options = options, .load = load, .progress = progress};
  uint32_t runs = options->steps > 0 ? options->steps : options->repeat;
  *plan = (struct plan){.runs = calloc(runs, sizeof(struct result *))};
  if (plan->runs == NULL) {
    return -1;
  }
  if (options->search) {
    return run_search(&planner);
  }
  for (uint32_t i = 0; i < runs && !plan->interrupted; i++) {
    struct shape shape = {options->rate, options->rate, options->duration_ns};
    if (options->ramp) {
      shape = (struct shape){options->ramp_from, options->ramp_to, options->ramp_ns};
    } else if (options->steps > 0) {
      shape = (struct shape){options->step_rate[i], options->step_rate[i], options->step_ns};
    }
    if (run_kept(&planner, &shape) == -1) {
      return -1;
    }
    if (options->fail_fast && misses_any(options, plan->runs[i])) {
      break; /* every step must meet them */
    }
  }
  return 0;
}

static bool misses_any(const struct options *options, const struct result *result) {
  for (uint32_t i = 0; i < options->slo_count; i++) {
    if (!objective_is_met_by(&options->slo[i], result)) {
      return true;
    }
  }
  return false;
}

void plan_fini(struct plan *plan) {
  for (uint32_t i = 0; i < plan->runs_count; i++) {
    result_destroy(plan->runs[i]);
  }
  free(plan->runs);
  *plan = (struct plan){.runs = NULL};
}

uint64_t plan_probe_ns(const struct options *options) {
  return max_u64(PROBE_MIN_NS, min_u64(PROBE_MAX_NS, options->duration_ns / 5));
}

double plan_objective_value(const struct plan *plan, const struct options *options,
                            const struct objective *objective) {
  assert(plan->runs_count > 0);
  double *values = calloc(plan->runs_count, sizeof(*values));
  if (values == NULL) {
    return NAN; /* meets no objective */
  }
  double value = 0;
  for (uint32_t i = 0; i < plan->runs_count; i++) {
    values[i] = objective_value(objective, plan->runs[i]);
  }
  if (options->steps > 0) {
    uint32_t i = 0;
    while (i + 1 < plan->runs_count && objective_is_met(objective, values[i])) {
      i++;
    }
    value = values[i];
  } else {
    value = median_of(values, plan->runs_count);
  }
  free(values);
  return value;
}

struct result *plan_sum(const struct plan *plan, const struct options *options) {
  bool open_loop = options->rate > 0 || options->ramp || options->steps > 0 || options->search;
  uint32_t intervals = 0;
  for (uint32_t i = 0; i < plan->runs_count; i++) {
    intervals += plan->runs[i]->intervals_count;
  }
  struct result *sum = result_create(open_loop, intervals);
  if (sum == NULL) {
    return NULL;
  }
  for (uint32_t i = 0; i < plan->runs_count; i++) {
    add_usage(&sum->client, &plan->runs[i]->client, i == 0);
    add_usage(&sum->server, &plan->runs[i]->server, i == 0);
    add_result(sum, plan->runs[i]);
  }
  return sum;
}

/* Do a run of ${shape}. Return: its result, owned by the caller, or NULL with errno. */
static struct result *run_one(const struct planner *planner, const struct shape *shape) {
  struct load_plan load_plan = {shape->from, shape->to, shape->duration_ns};
  struct options *options = malloc(sizeof(*options));
  if (options == NULL) {
    return NULL;
  }
  *options = *planner->options;
  options->rate = fmax(shape->from, shape->to);
  options->duration_ns = shape->duration_ns;
  const uint64_t interval_ns = options->interval_ns > 0 ? options->interval_ns : NS_PER_S;
  uint64_t rows = INTERVALS_MAX;
  if (shape->duration_ns != NEVER) {
    rows = min_u64(INTERVALS_ROOM, (shape->duration_ns + interval_ns - 1) / interval_ns);
  }
  struct result *result = result_create(options->rate > 0, (uint32_t)rows);
  if (result != NULL && planner->load(options, &load_plan, result) == -1) {
    int saved = errno;
    result_destroy(result);
    result = NULL;
    errno = saved;
  }
  free(options);
  return result;
}

/* Add ${result} to the runs of the report. */
static int keep(struct planner *planner, struct result *result) {
  planner->plan->runs[planner->plan->runs_count++] = result;
  planner->plan->interrupted = result->interrupted;
  return 0;
}

static int run_kept(struct planner *planner, const struct shape *shape) {
  struct result *result = run_one(planner, shape);
  return result == NULL ? -1 : keep(planner, result);
}

static int run_search(struct planner *planner) {
  double low = 0, high = 0, rate = SEARCH_START;
  for (unsigned i = 0; i < SEARCH_PROBES_MAX && rate > 0; i++) {
    bool held = false;
    if (probe(planner, rate, &held) == -1) {
      return -1;
    }
    if (planner->plan->interrupted) {
      return 0;
    }
    if (held) {
      low = rate;
    } else {
      high = rate;
    }
    rate = next_rate(low, high);
  }
  planner->plan->probed_rate = low;
  if (low > 0) {
    return confirm(planner);
  }
  /* If no rate meets the objective, a run at the lowest rate shows why. */
  const struct shape shape = {1, 1, planner->options->duration_ns};
  return run_kept(planner, &shape);
}

/* Run at the rate that the probes kept, and then below it, until a run confirms it. */
static int confirm(struct planner *planner) {
  static const double shares[] = {1, 1, 0.95, 0.85, 0.7, 0.5};
  struct plan *plan = planner->plan;
  for (size_t i = 0; i < count_of(shares) && plan->searched_rate == 0 && !plan->interrupted; i++) {
    const double rate = plan->probed_rate * shares[i];
    const struct shape shape = {rate, rate, planner->options->duration_ns};
    if (plan->runs_count > 0) {
      result_destroy(plan->runs[--plan->runs_count]);
    }
    if (run_kept(planner, &shape) == -1) {
      return -1;
    }
    struct result *result = plan->runs[0];
    if (!plan->interrupted && is_held(planner, result, rate)) {
      plan->searched_rate = result->found_rate = rate;
    }
    tell_probe(planner, rate, result, plan->searched_rate > 0);
  }
  return 0;
}

/* Did ${result} reach ${rate} and keep the objective? */
static bool is_held(const struct planner *planner, const struct result *result, double rate) {
  return is_reached(result, rate) &&
         objective_is_met_by(&planner->options->search_objective, result);
}

/* Try ${rate}, at most twice. An interrupted probe becomes the run of the report. */
static int probe(struct planner *planner, double rate, bool *held) {
  const struct shape shape = {rate, rate, plan_probe_ns(planner->options)};
  *held = false;
  for (int attempt = 0; attempt < 2 && !*held; attempt++) {
    struct result *result = run_one(planner, &shape);
    if (result == NULL) {
      return -1;
    }
    if (result->interrupted) {
      return keep(planner, result);
    }
    *held = is_held(planner, result, rate);
    tell_probe(planner, rate, result, *held);
    result_destroy(result);
  }
  return 0;
}

/* The next rate to try, rounded above 100 for readability; 0 = the search is over. */
static double next_rate(double low, double high) {
  double rate;
  if (high == 0) {
    rate = low * 2 <= SEARCH_MAX ? low * 2 : 0;
  } else if (low == 0) {
    rate = high > 1 ? fmax(1, high / 2) : 0;
  } else {
    rate = high - low <= SEARCH_PRECISION * low ? 0 : (low + high) / 2;
  }
  if (rate >= 100) {
    rate = round(rate);
  }
  return rate == low || rate == high ? 0 : rate;
}

/* Was the rate reached?  The last exchange may be in flight at the end. */
static bool is_reached(const struct result *result, double rate) {
  return result->exchanges > 0 &&
         (double)result->exchanges + 1 >= SEARCH_REACHED * rate * result->seconds;
}

static void tell_probe(const struct planner *planner, double rate, const struct result *result,
                       bool held) {
  const struct objective *objective = &planner->options->search_objective;
  char text[64];
  double achieved = bench_rate(result->exchanges, result->seconds);
  objective_format(objective, objective_value(objective, result), text, sizeof(text));
  fprintf(planner->progress, "  search: %.0f/s: reached %.0f/s, %s: %s, %s\n", rate, achieved,
          objective->text, text, held ? "kept" : "not kept");
  fflush(planner->progress);
}

static void add_result(struct result *sum, const struct result *result) {
  double before = sum->seconds;
  double weight = sum->target_rate * before + result->target_rate * result->seconds;
  sum->seconds += result->seconds;
  sum->target_rate = sum->seconds > 0 ? weight / sum->seconds : result->target_rate;
  sum->connected = result->connected;
  sum->idle_connected = result->idle_connected;
  result_add_run(sum, result);
  for (uint32_t i = 0; i < result->intervals_count; i++) {
    sum->intervals[sum->intervals_count] = result->intervals[i];
    sum->intervals[sum->intervals_count++].at_s += before;
  }
}

static void add_usage(struct usage *sum, const struct usage *usage, bool first) {
  sum->known = usage->known && (first || sum->known);
  sum->cpu_s += usage->cpu_s;
  sum->seconds += usage->seconds;
  sum->context_switches += usage->context_switches;
  sum->resident_bytes = max_u64(sum->resident_bytes, usage->resident_bytes);
}
