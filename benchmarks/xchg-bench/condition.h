/*
 * condition: objectives, as 'p99<2ms', 'errors=0', 'rate>1000'.
 */
#ifndef BENCH_CONDITION_H
#define BENCH_CONDITION_H

#include "bench.h"

/* bench_condition.percent of what is no latency. */
#define CONDITION_ERRORS (-1.0)
#define CONDITION_RATE (-2.0)

/** What condition_parse takes, for messages. */
#define CONDITION_WANTED "p50..p99.99, max, errors or rate, then <, > or =, then a value: 'p99<2ms'"

/**
 * condition_parse(text, condition):
 * Read one condition: what (p and a percent of more than 0 and at most 100, max, errors, rate), an
 * operator and a value (a time with its unit for latencies, else a number).
 * Return: 0, or -1 where the text is none.
 */
int condition_parse(const char *text, struct bench_condition *condition);

/**
 * condition_parse_list(text, conditions, count):
 * Read a list with commas into ${conditions}, which has room for BENCH_SLO_MAX.
 * Return: 0, or -1 where an item is no condition, or where there are too many.
 */
int condition_parse_list(const char *text, struct bench_condition *conditions, uint32_t *count);

/** Is it about latency? */
bool condition_is_latency(const struct bench_condition *condition);

/** What ${result} says of it: ns, a count, or a rate; a latency of nothing is infinite. */
double condition_value(const struct bench_condition *condition, const struct result *result);

/** Does ${value} keep it? */
bool condition_keeps(const struct bench_condition *condition, double value);

/** condition_keeps of condition_value. */
bool condition_holds(const struct bench_condition *condition, const struct result *result);

/** Write ${value} in the condition's unit into ${text} of ${size} bytes; return ${text}. */
const char *condition_format(const struct bench_condition *condition, double value, char *text,
                             size_t size);

#endif
