/* check_metrics_json: the object of /stats and the keys of the log lines, byte by byte. */
#include "core/metrics_out.h"

#include "tests/fixtures/metrics_fixture.h"

#include "tests/fixtures/log_to_fd.h"

#include <fcntl.h>

static const char *settings = "{\"XCHG_PIN\":{\"value\":\"off\",\"from\":\"default\"}}";

static size_t write_settings(void *argument, char *buffer, size_t size) {
  struct metrics_out out;
  metrics_out_init(&out, buffer, size);
  metrics_out_text(&out, argument);
  return out.needed;
}

static char want[ROOM];

/* Append to ${want}, which is what the next part of ${text} has to be. */
static void wants(const char *part) { strcat(want, part); }

static void wants_reasons(const char *prefix, const char *between, const char *assign) {
  for (size_t i = XCHG_FINISHED + 1; i < XCHG_REASONS; i++) {
    char part[64];
    snprintf(part, sizeof(part), "%s%s%s%s%d", i == XCHG_FINISHED + 1 ? "" : between, prefix,
             xchg_reason_name((enum xchg_reason)i), assign, i == XCHG_ERROR ? 2 : 0);
    wants(part);
  }
}

START_TEST(stats_are_exact) {
  want[0] = 0;
  histogram_record(&seen.handoff_ns, 1000);
  histogram_record(&seen.turn_ns, 5000);
  histogram_record(&seen.accept_batch, 2);
  histogram_record(&seen.frozen_ns, 350000);
  if (_i == 1) {
    seen.settings = write_settings;
    seen.settings_argument = (void *)(uintptr_t)settings;
  }
  wants(
      "{\"schema\":1,\"version\":\"0.1.0\",\"model\":\"pool\",\"exchange\":\"greet\",\"pid\":77,"
      "\"now_ms\":1795900007000,\"uptime_ms\":6877,\"state\":\"serving\",\"ready\":true,"
      "\"accepted\":10,\"finished\":5,\"closed\":{\"");
  wants_reasons("", ",\"", "\":");
  wants(
      "},\"open\":3,\"limit\":4096,\"messages\":6,\"bytes_in\":7,\"bytes_out\":0,\"wakes\":0,"
      "\"stale\":0,\"accept_errors\":0,\"accept_pauses\":0,\"cut\":0,\"posts\":0,\"published\":0,"
      "\"skipped\":0,\"offloads\":0,\"offloads_refused\":0,\"blocked\":0,"
      "\"handoff_ns\":{\"p50\":1000,\"p90\":1000,\"p99\":1000,\"max\":1000},"
      "\"turn_us\":{\"p50\":5,\"p90\":5,\"p99\":5,\"max\":5},"
      "\"queue_depth\":{\"p50\":0,\"p90\":0,\"p99\":0,\"max\":0},"
      "\"accept_batch\":{\"p50\":2,\"p90\":2,\"p99\":2,\"max\":2},\"accept_paused_ms\":1500,"
      "\"accept_paused\":0,\"slow\":0,\"moved\":0,"
      "\"frozen_us\":{\"p50\":350,\"p90\":350,\"p99\":350,\"max\":350},"
      "\"proxy_headers\":{\"v1\":{\"proxy\":0,\"local\":0,\"unknown\":0},"
      "\"v2\":{\"proxy\":0,\"local\":1,\"unknown\":0}},"
      "\"proxy_rejected\":{\"untrusted\":0,\"not_header\":0,\"version\":0,\"bad\":0,"
      "\"truncated\":0,\"too_long\":0,\"checksum\":9,\"timeout\":0},\"log_lines_lost\":0,"
      "\"cpu_ms\":1,\"resident_bytes\":8192,\"threads\":5,\"workers\":["
      "{\"worker\":0,\"open\":2,\"queue\":1,\"turn_age_ms\":3,\"messages\":5,\"busy_ms\":2000},"
      "{\"worker\":1,\"open\":0,\"queue\":0,\"turn_age_ms\":0,\"messages\":1,\"busy_ms\":0}],"
      "\"listeners\":[{\"addr\":\"127.0.0.1:7000\",\"accepted\":8},"
      "{\"addr\":\"unix:/run/x.sock\",\"accepted\":2,\"proxy\":\"v2\"}]");
  if (_i == 1) {
    wants(",\"settings\":");
    wants(settings);
  }
  wants("}\n");
  write_text(FORM_JSON);
  ck_assert_str_eq(text, want);
}
END_TEST

/* The settings come from another writer; it, too, gets no room that is not there. */
START_TEST(settings_keep_the_bound) {
  seen.settings = write_settings;
  seen.settings_argument = (void *)(uintptr_t)settings;
  size_t whole = write_text(FORM_JSON);
  for (size_t size = 0; size <= whole + 1; size++) {
    char *buffer = guard - size;
    memset(buffer, 'x', size);
    ck_assert_uint_eq(render(FORM_JSON, buffer, size), whole);
    ck_assert_int_eq(memcmp(buffer, text, min_u64(size, whole)), 0);
  }
}
END_TEST

/* The line of the log, from msg= on. */
static const char *log_line(void) {
  int ends[2];
  struct log logger;
  struct log_line line;
  ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
  log_to_fd(&logger, ends[1], LOG_INFO, LOG_LOGFMT);
  log_begin_always(&line, &logger, "stats");
  metrics_log(&seen, &line);
  log_end(&line);
  close(ends[1]);
  ssize_t size = read(ends[0], text, ROOM);
  close(ends[0]);
  ck_assert_int_gt(size, 0);
  text[size] = 0;
  const char *at = strstr(text, "msg=");
  ck_assert_ptr_nonnull(at);
  return at;
}

/* Programs read these keys, in this order, for long: a new one comes at the end. */
START_TEST(keys_of_the_log_stay) {
  want[0] = 0;
  histogram_record(&seen.turn_ns, 7000);
  histogram_record(&seen.frozen_ns, 8000);
  if (_i == 1) {
    seen.open = METRICS_UNKNOWN;
    seen.latencies = false;
  }
  wants("msg=stats accepted=10 finished=5 ");
  wants_reasons("closed_", " ", "=");
  wants(_i == 0 ? " open=3" : "");
  wants(
      " messages=6 bytes_in=7 bytes_out=0 wakes=0 stale=0 accept_errors=0 accept_pauses=0 cut=0 "
      "posts=0 published=0 skipped=0 offloads=0 offloads_refused=0 blocked=0 ");
  wants(_i == 0 ? "handoff_ns_p50=0 handoff_ns_p90=0 handoff_ns_p99=0 handoff_ns_max=0 "
                  "turn_us_p50=7 turn_us_p90=7 turn_us_p99=7 turn_us_max=7 "
                  "queue_depth_p50=0 queue_depth_p90=0 queue_depth_p99=0 queue_depth_max=0 "
                  "accept_batch_p50=0 accept_batch_p90=0 accept_batch_p99=0 accept_batch_max=0 "
                : "");
  wants("accept_paused_ms=1500 slow=0 moved=0");
  wants(_i == 0 ? " frozen_us_p50=8 frozen_us_p90=8 frozen_us_p99=8 frozen_us_max=8\n" : "\n");
  ck_assert_str_eq(log_line(), want);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {stats_are_exact, 2},
      {settings_keep_the_bound, 1},
      {keys_of_the_log_stay, 2},
  };
  return run_suite_fixture("metrics_json", tests, count_of(tests), setup, NULL);
}
