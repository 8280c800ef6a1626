/*
 * objective: a condition on a result, such as 'p99<2ms', 'errors=0' or 'rate>1000'.
 */
#ifndef BENCH_OBJECTIVE_H
#define BENCH_OBJECTIVE_H

#include "bench.h"

/* Values of objective.percent that are no percentile. */
#define OBJECTIVE_ERRORS (-1.0)
#define OBJECTIVE_RATE (-2.0)
#define OBJECTIVE_DROPPED (-3.0)
#define OBJECTIVE_UNFINISHED (-4.0)

/** The syntax, for error messages. */
#define OBJECTIVE_WANTED                                                                          \
  "p50..p99.99, max, errors, dropped, unfinished or rate, then <, <=, =, >= or >, then a value: " \
  "'p99<=2ms', 'errors<1%'"

/**
 * objective_parse(text, objective):
 * Parse one objective: a metric (p and a percentage above 0 and up to 100, max, errors, dropped,
 * unfinished or rate), an operator, and a value: for a latency a time with its unit, else a number.
 * The number of a count may be a percentage: of the exchanges that ended (errors), or of all that
 * ended or were unfinished (dropped, unfinished).
 * Return: 0, or -1 if ${text} is invalid.
 */
int objective_parse(const char *text, struct objective *objective);

/**
 * objective_parse_list(text, objectives, count):
 * Parse a list separated by commas into ${objectives}, which has room for BENCH_SLO_MAX.
 * Return: 0, or -1 if an item is invalid or there are too many.
 */
int objective_parse_list(const char *text, struct objective *objectives, uint32_t *count);

/** Is it about latency? */
bool objective_is_latency(const struct objective *objective);

/**
 * Its value in ${result}: ns, a count, a percentage, or a rate.  Infinite if no latency was
 * recorded and the age of what is unfinished does not miss it, or if nothing ended of which a
 * percentage could be taken.
 */
double objective_value(const struct objective *objective, const struct result *result);

/** Does ${value} meet it?  An infinite one never does. */
bool objective_is_met(const struct objective *objective, double value);

/**
 * objective_is_lost(objective, result, total):
 * Does a run that is under way, with ${result} so far, miss the objective whatever comes?  ${total}
 * is the most exchanges that the run can have; NEVER = not known.
 */
bool objective_is_lost(const struct objective *objective, const struct result *result,
                       uint64_t total);

/** Does ${result} meet it? */
bool objective_is_met_by(const struct objective *objective, const struct result *result);

/** Write ${value} with the objective's unit into ${text} of ${size} bytes. Return: ${text}. */
const char *objective_format(const struct objective *objective, double value, char *text,
                             size_t size);

#endif
