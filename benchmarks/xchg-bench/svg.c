/*
 * svg: one chart.
 *
 * The picture has WIDTH by HEIGHT units and scales with the page.  Ticks of a linear axis are 1, 2
 * or 5 times a power of ten; there are five to ten of them.  Ticks of a logarithmic axis are powers
 * of ten, and 2 and 5 times them if it spans less than three decades.
 *
 *   +--------- title ---------+
 *   | y  |                    |    the plot: LEFT..RIGHT by TOP..BOTTOM
 *   |    |                    |
 *   |    +--------------------|
 *   |        x ticks          |
 *   |        x title, legend  |
 */
#include "svg.h"

#include <assert.h>
#include <math.h>

#define WIDTH 760.0
#define HEIGHT 340.0
#define LEFT 78.0
#define RIGHT (WIDTH - 30.0)
#define TOP 34.0
#define BOTTOM (HEIGHT - 74.0)
#define TICKS_MAX 64

/* Lines with few points get a dot for each: a line of one point is invisible. */
#define DOTS_MAX 40

enum side { SIDE_X, SIDE_Y };

static double place(const struct svg_axis *axis, enum side side, double value);
static size_t choose_ticks(const struct svg_axis *axis, double ticks[TICKS_MAX]);
static void draw_axis(FILE *out, const struct svg_axis *axis, enum side side);
static void draw_tick(FILE *out, const struct svg_axis *axis, enum side side, double value);
static void draw_line(FILE *out, const struct svg_chart *chart, size_t index);
static void draw_dots(FILE *out, const struct svg_chart *chart, size_t index);
static void draw_bars(FILE *out, const struct svg_chart *chart, size_t index);
static void draw_legend(FILE *out, const struct svg_chart *chart);

void svg_chart(FILE *out, const struct svg_chart *chart) {
  assert(chart->series_count <= SVG_SERIES_MAX);
  assert(chart->x.min < chart->x.max && chart->y.min < chart->y.max);
  fprintf(out, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
  svg_text(out, chart->title);
  fprintf(out, "\">\n<text class=\"title\" x=\"%.0f\" y=\"18\">", LEFT);
  svg_text(out, chart->title);
  fputs("</text>\n", out);
  draw_axis(out, &chart->x, SIDE_X);
  draw_axis(out, &chart->y, SIDE_Y);
  for (size_t i = 0; i < chart->series_count; i++) {
    if (chart->series[i].is_bars) {
      draw_bars(out, chart, i);
    } else {
      draw_line(out, chart, i);
      draw_dots(out, chart, i);
    }
  }
  draw_legend(out, chart);
  fputs("</svg>\n", out);
}

void svg_text(FILE *out, const char *text) {
  for (; *text != 0; text++) {
    switch (*text) {
      case '<':
        fputs("&lt;", out);
        break;
      case '>':
        fputs("&gt;", out);
        break;
      case '&':
        fputs("&amp;", out);
        break;
      case '"':
        fputs("&quot;", out);
        break;
      default:
        fputc((uint8_t)*text < 0x20 ? '?' : *text, out);
    }
  }
}

const char *svg_format_count(double value, char text[SVG_TICK_MAX]) {
  static const char *const suffixes[] = {"", "k", "M", "G", "T"};
  size_t i = 0;
  for (; value >= 1e3 && i + 1 < count_of(suffixes); i++) {
    value /= 1e3;
  }
  snprintf(text, SVG_TICK_MAX, "%.4g%s", value, suffixes[i]);
  return text;
}

const char *svg_format_time(double time_ns, char text[SVG_TICK_MAX]) {
  if (time_ns < 1e3) {
    snprintf(text, SVG_TICK_MAX, "%.4gns", time_ns);
  } else if (time_ns < 1e6) {
    snprintf(text, SVG_TICK_MAX, "%.4gus", time_ns / 1e3);
  } else if (time_ns < 1e9) {
    snprintf(text, SVG_TICK_MAX, "%.4gms", time_ns / 1e6);
  } else {
    snprintf(text, SVG_TICK_MAX, "%.4gs", time_ns / 1e9);
  }
  return text;
}

const char *svg_format_seconds(double seconds, char text[SVG_TICK_MAX]) {
  snprintf(text, SVG_TICK_MAX, "%.6gs", seconds);
  return text;
}

/* The position of ${value} in the picture. */
static double place(const struct svg_axis *axis, enum side side, double value) {
  double clamped = fmin(fmax(value, axis->min), axis->max);
  double share = axis->is_log ? log(clamped / axis->min) / log(axis->max / axis->min)
                              : (clamped - axis->min) / (axis->max - axis->min);
  return side == SIDE_X ? LEFT + share * (RIGHT - LEFT) : BOTTOM - share * (BOTTOM - TOP);
}

static size_t choose_ticks(const struct svg_axis *axis, double ticks[TICKS_MAX]) {
  static const double steps[] = {1, 2, 5, 10};
  size_t count = 0;
  if (axis->is_log) {
    size_t per_decade = axis->max / axis->min < 1e3 ? 3 : 1;
    double power = pow(10, floor(log10(axis->min)));
    while (power <= axis->max && count < TICKS_MAX) {
      for (size_t i = 0; i < per_decade && count < TICKS_MAX; i++) {
        double tick = power * steps[i];
        if (tick >= axis->min * 0.999999 && tick <= axis->max * 1.000001) {
          ticks[count++] = tick;
        }
      }
      power *= 10;
    }
    return count;
  }
  double rough = (axis->max - axis->min) / 10;
  double power = pow(10, floor(log10(rough)));
  size_t i = 0;
  while (i + 1 < count_of(steps) && power * steps[i] < rough) {
    i++;
  }
  double step = power * steps[i];
  double first = ceil(axis->min / step - 1e-9) * step;
  for (; first + (double)count * step <= axis->max * (1 + 1e-9) && count < TICKS_MAX; count++) {
    ticks[count] = first + (double)count * step;
  }
  return count;
}

static void draw_axis(FILE *out, const struct svg_axis *axis, enum side side) {
  double chosen[TICKS_MAX];
  const double *ticks = axis->ticks != NULL ? axis->ticks : chosen;
  size_t count = axis->ticks != NULL ? axis->ticks_count : choose_ticks(axis, chosen);
  for (size_t i = 0; i < count; i++) {
    draw_tick(out, axis, side, ticks[i]);
  }
  if (side == SIDE_X) {
    fprintf(out, "<line class=\"axis\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", LEFT,
            BOTTOM, RIGHT, BOTTOM);
    fprintf(out, "<text class=\"name\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">",
            (LEFT + RIGHT) / 2, BOTTOM + 38);
  } else {
    fprintf(out, "<line class=\"axis\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", LEFT,
            TOP, LEFT, BOTTOM);
    fprintf(out,
            "<text class=\"name\" transform=\"translate(16 %.1f) rotate(-90)\" "
            "text-anchor=\"middle\">",
            (TOP + BOTTOM) / 2);
  }
  svg_text(out, axis->title);
  fputs("</text>\n", out);
}

static void draw_tick(FILE *out, const struct svg_axis *axis, enum side side, double value) {
  char text[SVG_TICK_MAX];
  double at = place(axis, side, value);
  if (side == SIDE_X) {
    fprintf(out, "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", at, TOP,
            at, BOTTOM);
    fprintf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", at,
            BOTTOM + 18);
  } else {
    fprintf(out, "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", LEFT, at,
            RIGHT, at);
    fprintf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 8,
            at + 4);
  }
  svg_text(out, axis->format(value, text));
  fputs("</text>\n", out);
}

static void draw_line(FILE *out, const struct svg_chart *chart, size_t index) {
  const struct svg_series *series = &chart->series[index];
  bool is_down = false;
  fprintf(out, "<path class=\"line s%zu%s\" d=\"", index, series->is_dashed ? " dashed" : "");
  for (size_t i = 0; i < series->count; i++) {
    const struct svg_point *point = &series->points[i];
    if (isnan(point->y)) {
      is_down = false;
      continue;
    }
    fprintf(out, "%c%.1f %.1f", is_down ? 'L' : 'M', place(&chart->x, SIDE_X, point->x),
            place(&chart->y, SIDE_Y, point->y));
    is_down = true;
  }
  fputs("\"/>\n", out);
}

static void draw_dots(FILE *out, const struct svg_chart *chart, size_t index) {
  const struct svg_series *series = &chart->series[index];
  char x[SVG_TICK_MAX], y[SVG_TICK_MAX];
  for (size_t i = 0; i < series->count && series->count <= DOTS_MAX; i++) {
    const struct svg_point *point = &series->points[i];
    if (isnan(point->y) || series->is_dashed) {
      continue;
    }
    fprintf(out, "<circle class=\"dot s%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\"><title>", index,
            place(&chart->x, SIDE_X, point->x), place(&chart->y, SIDE_Y, point->y));
    svg_text(out, series->name);
    fprintf(out, ", %s: %s</title></circle>\n", chart->x.format(point->x, x),
            chart->y.format(point->y, y));
  }
}

static void draw_bars(FILE *out, const struct svg_chart *chart, size_t index) {
  const struct svg_series *series = &chart->series[index];
  char x[SVG_TICK_MAX], x_end[SVG_TICK_MAX], y[SVG_TICK_MAX];
  for (size_t i = 0; i < series->count; i++) {
    const struct svg_point *point = &series->points[i];
    if (isnan(point->y) || point->y <= chart->y.min) {
      continue;
    }
    double left = place(&chart->x, SIDE_X, point->x), top = place(&chart->y, SIDE_Y, point->y);
    double width = place(&chart->x, SIDE_X, point->x_end) - left;
    /* Leave a gap between bars, and make every bar high enough to be seen. */
    fprintf(out,
            "<rect class=\"bar s%zu\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"><title>",
            index, left, fmin(top, BOTTOM - 1), fmax(width - 1, 1), fmax(BOTTOM - top, 1));
    fprintf(out, "%s to %s: %s</title></rect>\n", chart->x.format(point->x, x),
            chart->x.format(point->x_end, x_end), chart->y.format(point->y, y));
  }
}

static void draw_legend(FILE *out, const struct svg_chart *chart) {
  double x = LEFT;
  for (size_t i = 0; i < chart->series_count; i++) {
    const struct svg_series *series = &chart->series[i];
    fprintf(out, "<line class=\"line s%zu%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", i,
            series->is_dashed ? " dashed" : "", x, HEIGHT - 12, x + 20, HEIGHT - 12);
    fprintf(out, "<text class=\"name\" x=\"%.1f\" y=\"%.1f\">", x + 26, HEIGHT - 8);
    svg_text(out, series->name);
    fputs("</text>\n", out);
    x += 150;
  }
}
