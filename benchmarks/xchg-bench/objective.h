/*
 * objective: objectives, as 'p99<2ms', 'errors=0', 'rate>1000'.
 */
#ifndef BENCH_OBJECTIVE_H
#define BENCH_OBJECTIVE_H

#include "bench.h"

/* objective.percent of what is no latency. */
#define OBJECTIVE_ERRORS (-1.0)
#define OBJECTIVE_RATE (-2.0)

/** What objective_parse takes, for messages. */
#define OBJECTIVE_WANTED "p50..p99.99, max, errors or rate, then <, > or =, then a value: 'p99<2ms'"

/**
 * objective_parse(text, objective):
 * Read one objective: what (p and a percent of more than 0 and at most 100, max, errors, rate), an
 * operator and a value (a time with its unit for latencies, else a number).
 * Return: 0, or -1 where the text is none.
 */
int objective_parse(const char *text, struct objective *objective);

/**
 * objective_parse_list(text, objectives, count):
 * Read a list with commas into ${objectives}, which has room for BENCH_SLO_MAX.
 * Return: 0, or -1 where an item is no objective, or where there are too many.
 */
int objective_parse_list(const char *text, struct objective *objectives, uint32_t *count);

/** Is it about latency? */
bool objective_is_latency(const struct objective *objective);

/** What ${result} says of it: ns, a count, or a rate; a latency of nothing is infinite. */
double objective_value(const struct objective *objective, const struct result *result);

/** Does ${value} keep it? */
bool objective_is_met(const struct objective *objective, double value);

/** objective_is_met of objective_value. */
bool objective_is_met_by(const struct objective *objective, const struct result *result);

/** Write ${value} in the objective's unit into ${text} of ${size} bytes; return ${text}. */
const char *objective_format(const struct objective *objective, double value, char *text,
                             size_t size);

#endif
