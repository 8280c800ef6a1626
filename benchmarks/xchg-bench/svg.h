/*
 * svg: one chart as an inline SVG with two axes, ticks, titles, lines and bars.
 *
 * The page's style sheet sets the colours.  The classes are axis, grid, tick, and s0 to s5 for the
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
  double min, max; /* min < max; both above 0 on a logarithmic axis */
  bool is_log;
  /* Write the value of a tick into ${text}. Return: ${text}. */
  const char *(*format)(double value, char text[SVG_TICK_MAX]);
  const double *ticks; /* NULL = chosen automatically */
  size_t ticks_count;
};

/* A point of a line, or a bar from x to x_end.  A NAN as y breaks the line. */
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

/** Write ${chart}. Values outside of the axes are drawn at the edge. */
void svg_chart(FILE *out, const struct svg_chart *chart);

/** Write ${text} escaped for HTML text and attributes. */
void svg_text(FILE *out, const char *text);

/** Formats of ticks: 1.5k; 250us and 2ms (from ns); 12s (from seconds). */
const char *svg_format_count(double value, char text[SVG_TICK_MAX]);
const char *svg_format_time(double time_ns, char text[SVG_TICK_MAX]);
const char *svg_format_seconds(double seconds, char text[SVG_TICK_MAX]);

#endif
