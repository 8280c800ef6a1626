/*
 * config_load: what the tests of config share: load a few entries, and look at what was said.
 */
#ifndef TESTS_CONFIG_LOAD_H
#define TESTS_CONFIG_LOAD_H

#include "core/config.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

static const struct config_facts plenty = {
    .cpus = 3, .descriptors = UINT64_C(1) << 30, .somaxconn = 65535};

/* What a load said: the faults' lines. */
static char said[65536];

/* Load the environment of the given entries; the lines go to said. */
static inline unsigned load(struct config *config, const char *const *entries,
                            const struct config_facts *facts) {
  said[0] = 0;
  FILE *out = fmemopen(said, sizeof said, "w");
  ck_assert_ptr_nonnull(out);
  memset(config, 0xa5, sizeof *config);
  unsigned faults = config_load(config, entries, facts, out);
  fclose(out);
  size_t lines = 0;
  for (const char *p = said; (p = strchr(p, '\n')) != NULL; p++)
    lines++;
  ck_assert_msg(lines == faults, "%u faults, but:\n%s", faults, said);
  return faults;
}

#define LOAD(config, facts, ...) \
  load(config, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL}, facts)

/* The entries must load. */
#define GOOD(config, ...)                                  \
  do {                                                     \
    unsigned faults_ = LOAD(config, &plenty, __VA_ARGS__); \
    ck_assert_msg(faults_ == 0, "%s", said);               \
  } while (0)

/* The entries must make exactly one fault, and this is its line. */
#define BAD(line, ...)                                          \
  do {                                                          \
    struct config config_;                                      \
    ck_assert_uint_eq(LOAD(&config_, &plenty, __VA_ARGS__), 1); \
    ck_assert_str_eq(said, line "\n");                          \
  } while (0)

#endif
