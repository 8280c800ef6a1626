/*
 * check_report_html: the page is complete and escaped for every kind of result.  Its look is tested
 * by tests/live/test_bench_html.py.
 */
#include "xchg-bench/report.h"
#include "xchg-bench/svg.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct options *make_options(const char *target) {
  struct options *options = calloc(1, sizeof(*options));
  ck_assert_ptr_nonnull(options);
  snprintf(options->target, sizeof(options->target), "%s", target);
  options->threads = 2;
  options->connections = 10;
  options->repeat = 1;
  return options;
}

static char *page_of(const struct options *options, const struct result *result) {
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  ck_assert_ptr_nonnull(out);
  report_html(out, options, result);
  fclose(out);
  return text;
}

static size_t count_in(const char *text, const char *part) {
  size_t count = 0;
  for (const char *p = text; (p = strstr(p, part)) != NULL; p += strlen(part)) {
    count++;
  }
  return count;
}

/* Every page is complete and self-contained, and has no NaN. */
static void must_be_sound(const char *page, size_t charts) {
  static const char *const forbidden[] = {"http:", "https:", "<script", "src=", "url(",  "@import",
                                          ">nan",  "\"nan",  " nan",    ">inf", "\"inf", "-nan"};
  ck_assert_int_eq(strncmp(page, "<!DOCTYPE html>\n", 16), 0);
  ck_assert_str_eq(page + strlen(page) - 8, "</html>\n");
  for (size_t i = 0; i < count_of(forbidden); i++) {
    ck_assert_msg(strstr(page, forbidden[i]) == NULL, "'%s' in the page", forbidden[i]);
  }
  ck_assert_uint_eq(count_in(page, "<svg "), charts);
  ck_assert_uint_eq(count_in(page, "</svg>"), charts);
  static const char *const pairs[][2] = {
      {"<table", "</table>"}, {"<tr>", "</tr>"}, {"<text", "</text>"}, {"<div", "</div>"}};
  for (size_t i = 0; i < count_of(pairs); i++) {
    ck_assert_uint_eq(count_in(page, pairs[i][0]), count_in(page, pairs[i][1]));
  }
}

START_TEST(a_full_result_has_five_charts) {
  struct options *options = make_options("127.0.0.1:7000");
  struct result *result = result_create(true, 5);
  ck_assert_ptr_nonnull(result);
  result->has_latency = true;
  result->seconds = 5;
  result->exchanges = 5000;
  result->target_rate = 1000;
  result->errors[ERROR_RESET] = 3;
  result->errnos[ECONNRESET] = 3;
  result->client.known = result->server.known = true;
  for (uint64_t i = 1; i <= 5000; i++) {
    hdr_record(result->latency, i * NS_PER_US * 20);
    hdr_record(result->uncorrected, i * NS_PER_US);
  }
  for (uint32_t i = 0; i < 5; i++) {
    result->intervals[i] = (struct interval){.at_s = i,
                                             .seconds = 1,
                                             .exchanges = 1000,
                                             .errors = i,
                                             .target_rate = 1000,
                                             .p50_ns = 1000 * (i + 1),
                                             .p90_ns = 2000 * (i + 1),
                                             .p99_ns = 5000,
                                             .max_ns = 100000};
  }
  result->intervals[2].p50_ns = 0;
  result->intervals_count = 5;
  char *page = page_of(options, result);
  must_be_sound(page, 5);
  ck_assert_ptr_nonnull(strstr(page, "1000.00 exchanges a second"));
  ck_assert_ptr_nonnull(strstr(page, "ECONNRESET"));
  ck_assert_ptr_nonnull(strstr(page, "99.9%"));
  ck_assert_ptr_nonnull(strstr(page, "prefers-color-scheme:dark"));
  ck_assert_ptr_nonnull(strstr(page, "... uncorrected"));
  free(page);
  result_destroy(result);
  free(options);
}
END_TEST

START_TEST(an_empty_result_is_a_page) {
  struct options *options = make_options("127.0.0.1:7000");
  struct result *result = result_create(false, 1);
  ck_assert_ptr_nonnull(result);
  result->has_latency = true;
  char *page = page_of(options, result);
  must_be_sound(page, 0);
  free(page);
  result->intervals_count = 1; /* of length 0, without counts */
  page = page_of(options, result);
  must_be_sound(page, 2);
  free(page);
  result->has_latency = false;
  result->intervals[0].seconds = 1;
  page = page_of(options, result);
  must_be_sound(page, 2);
  ck_assert_ptr_nonnull(strstr(page, "has no latency"));
  free(page);
  result_destroy(result);
  free(options);
}
END_TEST

START_TEST(one_value_and_the_longest_are_drawn) {
  static const uint64_t values[] = {0, 1, 999, NS_PER_S, HDR_MAX_NS, 2 * HDR_MAX_NS};
  for (size_t i = 0; i < count_of(values); i++) {
    struct options *options = make_options("unix:/x");
    struct result *result = result_create(false, 1);
    ck_assert_ptr_nonnull(result);
    result->has_latency = true;
    hdr_record(result->latency, values[i]);
    char *page = page_of(options, result);
    must_be_sound(page, 2);
    free(page);
    result_destroy(result);
    free(options);
  }
}
END_TEST

START_TEST(texts_from_outside_are_escaped) {
  struct options *options = make_options("unix:/<b>\"&\x01");
  struct result *result = result_create(false, 1);
  ck_assert_ptr_nonnull(result);
  char *page = page_of(options, result);
  ck_assert_ptr_null(strstr(page, "<b>"));
  ck_assert_ptr_nonnull(strstr(page, "unix:/&lt;b&gt;&quot;&amp;?"));
  free(page);
  result_destroy(result);
  free(options);
}
END_TEST

START_TEST(ticks_are_written_in_units) {
  char text[SVG_TICK_MAX];
  ck_assert_str_eq(svg_format_time(500, text), "500ns");
  ck_assert_str_eq(svg_format_time(250e3, text), "250us");
  ck_assert_str_eq(svg_format_time(2e6, text), "2ms");
  ck_assert_str_eq(svg_format_time(1.5e9, text), "1.5s");
  ck_assert_str_eq(svg_format_count(0, text), "0");
  ck_assert_str_eq(svg_format_count(1500, text), "1.5k");
  ck_assert_str_eq(svg_format_count(2e6, text), "2M");
  ck_assert_str_eq(svg_format_seconds(12, text), "12s");
}
END_TEST

/* Draw a chart of one series over 0..10 by 0..10. */
static char *chart_of(const struct svg_point *points, size_t count, bool is_bars) {
  const struct svg_chart chart = {
      .title = "title",
      .x = {.title = "x", .max = 10, .format = svg_format_count},
      .y = {.title = "y", .max = 10, .format = svg_format_count},
      .series = {{.name = "s", .points = points, .count = count, .is_bars = is_bars}},
      .series_count = 1};
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  svg_chart(out, &chart);
  fclose(out);
  return text;
}

START_TEST(lines_break_where_there_is_no_value) {
  const struct svg_point points[] = {{1, 1, 0}, {2, 2, 0}, {3, NAN, 0}, {4, 4, 0}, {5, 50, 0}};
  char *text = chart_of(points, count_of(points), false);
  char *path = strstr(text, "<path"), *end = strchr(path, '>');
  ck_assert_ptr_nonnull(end);
  *end = 0;
  ck_assert_uint_eq(count_in(path, "M"), 2);
  ck_assert_uint_eq(count_in(path, "L"), 2);
  ck_assert_ptr_nonnull(strstr(path, " 34.0")); /* 50 is drawn at the top */
  free(text);
}
END_TEST

START_TEST(bars_of_nothing_are_not_drawn) {
  const struct svg_point points[] = {{0, 5, 1}, {1, 0, 2}, {2, 0.0001, 3}};
  char *text = chart_of(points, count_of(points), true);
  ck_assert_uint_eq(count_in(text, "<rect"), 2);
  free(text);
}
END_TEST

START_TEST(the_page_tells_when_where_and_how) {
  struct options *options = make_options("127.0.0.1:7000");
  struct result *result = result_create(false, 1);
  ck_assert_ptr_nonnull(result);
  snprintf(options->identity.host, sizeof(options->identity.host), "a<b");
  snprintf(options->identity.machine, sizeof(options->identity.machine), "Linux 6.1, 2 CPUs");
  snprintf(options->identity.command, sizeof(options->identity.command), "xchg-bench 'p99<5ms'");
  result->started_ms = UINT64_C(1764433329123);
  char *page = page_of(options, result);
  must_be_sound(page, 0);
  ck_assert_ptr_nonnull(strstr(page, "2025-11-29T16:22:09.123Z, a&lt;b: Linux 6.1, 2 CPUs</p>"));
  ck_assert_ptr_nonnull(strstr(page, "<code>xchg-bench 'p99&lt;5ms'</code>"));
  free(page);
  result->started_ms = 0; /* a signal came before the window */
  page = page_of(options, result);
  ck_assert_ptr_null(strstr(page, "1970-"));
  free(page);
  result_destroy(result);
  free(options);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {a_full_result_has_five_charts, 1},       {an_empty_result_is_a_page, 1},
      {one_value_and_the_longest_are_drawn, 1}, {texts_from_outside_are_escaped, 1},
      {ticks_are_written_in_units, 1},          {lines_break_where_there_is_no_value, 1},
      {bars_of_nothing_are_not_drawn, 1},       {the_page_tells_when_where_and_how, 1},
  };
  return run_suite("report_html", tests, count_of(tests));
}
