/*
 * svg: one chart as an inline SVG: two axes with ticks and titles, lines and bars.
 *
 * Colours are left to the page's style sheet: classes axis, grid, tick, and s0 to s5 for the
 * series, with `stroke` for lines and `fill` for bars and dots.
 */
#ifndef BENCH_SVG_H
#define BENCH_SVG_H

#include "core/base.h"

#include <stdbool.h>
#include <stdio.h>

#define SVG_SERIES_MAX 6
#define SVG_TICK_MAX 32

struct svg_axis {
  const char *title;
  double min, max; /* min < max; of a logarithmic axis both are above 0 */
  bool is_log;
  /* Write a tick's value into ${text}; return it. */
  const char *(*format)(double value, char text[SVG_TICK_MAX]);
  const double *ticks; /* NULL = chosen */
  size_t ticks_count;
};

/* A point of a line, or a bar from ${x} to ${x_end}; a line is broken where y is NAN. */
struct svg_point {
  double x, y, x_end;
};

struct svg_series {
  const char *name;
  const struct svg_point *points;
  size_t count;
  bool is_bars, is_dashed;
};

struct svg_chart {
  const char *title;
  struct svg_axis x, y;
  struct svg_series series[SVG_SERIES_MAX];
  size_t series_count;
};

/** Write ${chart}; what lies outside of its axes is drawn at their edge. */
void svg_chart(FILE *out, const struct svg_chart *chart);

/** Write ${text} so that it is text in HTML and in its attributes, whatever it holds. */
void svg_text(FILE *out, const char *text);

/** Formats for ticks: 1.5k; 250us, 2ms (of ns); 12s (of seconds). */
const char *svg_format_count(double value, char text[SVG_TICK_MAX]);
const char *svg_format_time(double time_ns, char text[SVG_TICK_MAX]);
const char *svg_format_seconds(double seconds, char text[SVG_TICK_MAX]);

#endif
