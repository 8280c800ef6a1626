/*
 * report_kit: what the tests of reports share: runs and options with something in every field, and
 * reports written to and read from files of their own.
 */
#ifndef TESTS_REPORT_KIT_H
#define TESTS_REPORT_KIT_H

#include "xchg-bench/report.h"
#include "xchg-bench/report_read.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KIT_VALUES 2000
#define KIT_ROWS 3

/* What was written to an errors or out stream. */
static char said[65536];

static inline FILE *begin_saying(void) {
  memset(said, 0, sizeof said);
  FILE *out = fmemopen(said, sizeof said, "w");
  ck_assert_ptr_nonnull(out);
  return out;
}

static inline uint64_t kit_random(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

/* Options as -R 5k -t 3 -c 7 and more would make them; config_fini of the exchange is due. */
static inline void kit_options(struct options *options) {
  static const struct config_facts facts = {.cpus = 2, .descriptors = 1 << 20};
  static const char *const environment[] = {"XCHG_EXCHANGE=line",
                                            "XCHG_GREETING=text:hi \"\\\\\\x01\\xff",
                                            "XCHG_MESSAGES=0", "XCHG_REPLY=text:none", NULL};
  *options = (struct options){
      .target = "127.0.0.1:7000",
      .bind_count = 2,
      .size = {.kind = SIZE_UNIFORM, .a = 16, .b = 1024},
      .pipeline = 4,
      .reconnect = 9,
      .seed = UINT64_MAX,
      .threads = 3,
      .connections = 7,
      .idle = 5,
      .duration_ns = 2500 * NS_PER_MS,
      .warmup_ns = 1,
      .timeout_ns = 2 * NS_PER_S,
      .count = 12345,
      .rate = 5000,
      .ramp = true,
      .ramp_from = 10,
      .ramp_to = 20.5,
      .ramp_ns = 3 * NS_PER_S,
      .steps = 2,
      .step_rate = {100, 200.25},
      .step_ns = NS_PER_S,
      .repeat = 1,
      .percentiles = true,
      .pids = {41, 42},
      .pids_count = 2,
      .slo_count = 1,
      .slo = {{.text = "p99<5ms", .percent = 99, .op = '<', .value = 5e6}},
  };
  addr_from_ipv4(&options->bind[0], (const uint8_t[]){127, 0, 0, 2}, 0);
  addr_from_ipv6(&options->bind[1], (const uint8_t[16]){0xfd, 1}, 0);
  ck_assert_uint_eq(config_load(&options->exchange, environment, &facts, stderr), 0);
}

/* A run with something in every field, other things for another ${seed}. */
static inline struct result *kit_result(bool open_loop, uint64_t seed) {
  struct result *result = result_create(open_loop, KIT_ROWS);
  ck_assert_ptr_nonnull(result);
  uint64_t state = seed * 0x9e3779b97f4a7c15 | 1;
  for (int i = 0; i < KIT_VALUES; i++) {
    uint64_t value = 1000 + kit_random(&state) % (NS_PER_MS << kit_random(&state) % 8);
    hdr_record(result->latency, value + (i == 5 ? 2 * HDR_MAX_NS : 0));
    if (open_loop)
      hdr_record(result->uncorrected, value / 2);
    hdr_record(result->first_byte, value / 3);
    if (i % 100 == 0)
      hdr_record(result->connect, value / 7);
  }
  result->has_latency = true;
  result->seconds = 2.5;
  result->exchanges = KIT_VALUES + seed;
  result->bytes_in = (UINT64_C(1) << 40) + seed;
  result->bytes_out = 999 * seed;
  result->target_rate = open_loop ? 5000 : 0;
  for (uint64_t i = 0; i < BENCH_ERRORS; i++)
    result->errors[i] = seed + i;
  result->errnos[ECONNREFUSED] = seed;
  result->errnos[ECONNRESET] = 2 * seed;
  result->errnos[41] = 3; /* has no name */
  result->late = 17 * seed;
  result->late_max_ns = 1234567 + seed;
  result->dropped = 4;
  result->connected = 7;
  result->idle_connected = 5;
  result->client = (struct usage){.known = true,
                                  .cpu_s = 1.0 / 3 + (double)seed,
                                  .seconds = 2.5,
                                  .context_switches = 100 + seed,
                                  .resident_bytes = 1 << 20};
  result->server = result->client;
  result->server.cpu_s *= 1.7;
  result->thread_busy_max = 0.96;
  result->harness_bound = true;
  for (uint32_t i = 0; i < KIT_ROWS; i++)
    result->intervals[result->intervals_count++] =
        (struct interval){.at_s = i,
                          .seconds = i == 2 ? 0.5 : 1,
                          .exchanges = 600 + seed + i,
                          .errors = i,
                          .bytes_in = 1000 + i,
                          .bytes_out = 2000,
                          .target_rate = result->target_rate,
                          .p50_ns = 1001 + i,
                          .p90_ns = 2002,
                          .p99_ns = 3003,
                          .max_ns = 4004004 + seed};
  return result;
}

/* A new file that holds ${size} bytes of ${text}; the name goes to ${path}. */
static inline void kit_file(char path[32], const char *text, size_t size) {
  strcpy(path, "/tmp/check_XXXXXX");
  int fd = mkstemp(path);
  ck_assert_int_ne(fd, -1);
  ck_assert_int_eq(write(fd, text, size), (ssize_t)size);
  close(fd);
}

/* The JSON report as text, to be freed. */
static inline char *kit_json(const struct options *options, struct result *const *runs,
                             uint32_t count, size_t *size) {
  char *text = NULL;
  FILE *out = open_memstream(&text, size);
  ck_assert_ptr_nonnull(out);
  report_json(out, options, runs, count);
  ck_assert_int_eq(ferror(out), 0);
  fclose(out);
  char *copy = strdup(text); /* gcc takes text itself for a dangling pointer */
  ck_assert_ptr_nonnull(copy);
  free(text);
  return copy;
}

static inline void kit_report(char path[32], const struct options *options,
                              struct result *const *runs, uint32_t count) {
  size_t size;
  char *text = kit_json(options, runs, count, &size);
  kit_file(path, text, size);
  free(text);
}

#endif
