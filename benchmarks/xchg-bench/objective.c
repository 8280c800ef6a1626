/*
 * objective: see objective.h.  A latency comes from the corrected histogram.  If nothing was
 * recorded it is infinite, so a server that never answers does not meet 'p99<2ms'.
 */
#include "objective.h"

#include "units.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int parse_subject(const char *text, size_t size, double *percent);
static int parse_value(double percent, const char *text, double *value);

int objective_parse(const char *text, struct objective *objective) {
  struct objective c = {.percent = 0};
  size_t size = strcspn(text, "<>=");
  if (strlen(text) >= sizeof(c.text) || text[size] == 0) {
    return -1;
  }
  memcpy(c.text, text, strlen(text) + 1);
  c.op = text[size];
  if (parse_subject(text, size, &c.percent) == -1 ||
      parse_value(c.percent, text + size + 1, &c.value) == -1) {
    return -1;
  }
  *objective = c;
  return 0;
}

int objective_parse_list(const char *text, struct objective *objectives, uint32_t *count) {
  uint32_t filled = 0;
  for (const char *rest = text; rest != NULL;) {
    char item[sizeof(objectives->text)];
    size_t size = strcspn(rest, ",");
    if (filled == BENCH_SLO_MAX || size >= sizeof(item)) {
      return -1;
    }
    memcpy(item, rest, size);
    item[size] = 0;
    if (objective_parse(item, &objectives[filled]) == -1) {
      return -1;
    }
    filled++;
    rest = rest[size] == 0 ? NULL : rest + size + 1;
  }
  *count = filled;
  return 0;
}

bool objective_is_latency(const struct objective *objective) { return objective->percent >= 0; }

double objective_value(const struct objective *objective, const struct result *result) {
  if (objective_is_latency(objective)) {
    if (!result->has_latency || result->latency->count == 0) {
      return INFINITY;
    }
    return (double)hdr_percentile(result->latency, objective->percent);
  }
  if (objective->percent == OBJECTIVE_ERRORS) {
    return (double)result_errors(result);
  }
  return bench_rate(result->exchanges, result->seconds);
}

bool objective_is_met(const struct objective *objective, double value) {
  switch (objective->op) {
    case '<':
      return value < objective->value;
    case '>':
      return value > objective->value;
    default:
      return value == objective->value;
  }
}

bool objective_is_met_by(const struct objective *objective, const struct result *result) {
  return objective_is_met(objective, objective_value(objective, result));
}

const char *objective_format(const struct objective *objective, double value, char *text,
                             size_t size) {
  char unit[UNITS_TEXT_MAX];
  if (objective->percent == OBJECTIVE_ERRORS) {
    snprintf(text, size, "%.0f", value);
  } else if (objective->percent == OBJECTIVE_RATE) {
    snprintf(text, size, "%.2f/s", value);
  } else if (isinf(value)) {
    snprintf(text, size, "nothing recorded");
  } else {
    snprintf(text, size, "%s", units_format_time(value, unit));
  }
  return text;
}

/* Parse "p99.9", "max", "errors" or "rate", the first ${size} bytes of ${text}. */
static int parse_subject(const char *text, size_t size, double *percent) {
  static const struct {
    const char *name;
    double percent;
  } names[] = {{"max", 100}, {"errors", OBJECTIVE_ERRORS}, {"rate", OBJECTIVE_RATE}};
  char word[16];
  if (size >= sizeof(word)) {
    return -1;
  }
  memcpy(word, text, size);
  word[size] = 0;
  for (size_t i = 0; i < count_of(names); i++) {
    if (strcmp(word, names[i].name) == 0) {
      *percent = names[i].percent;
      return 0;
    }
  }
  if (word[0] != 'p' || strpbrk(word + 1, "kKMG") != NULL ||
      units_parse_number(word + 1, percent) == -1) {
    return -1;
  }
  return *percent > 0 && *percent <= 100 ? 0 : -1;
}

/* A time must have a unit: with 'p99<2', 2 ms is more likely meant than 2 s. */
static int parse_value(double percent, const char *text, double *value) {
  uint64_t time_ns;
  if (percent < 0) {
    return units_parse_number(text, value);
  }
  if (strpbrk(text, "smh") == NULL || units_parse_time(text, &time_ns) == -1) {
    return -1;
  }
  *value = (double)time_ns;
  return 0;
}
