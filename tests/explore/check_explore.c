/*
 * check_explore: the code of the hand-off in every schedule, under every value that release and
 * acquire of C11 allow, and its mutants, each of which must be found.
 *
 * Usage: check_explore [more | PART].  First come the litmus tests of the explorer, then the
 * product, then the mutants.  "more" adds larger scenarios, and runs harmless mutants through all
 * exhaustive ones.  PART selects the scenarios and mutants whose name contains it, and prints a
 * trace of each fault.
 *
 * Each case is one line and counts as a test.  The line names the case, the executions (paths to
 * the end, to a fault, or to a known state) and the number of states.  "wrong" means failure: a
 * fault of the product, a mutant that was not found and is not listed as harmless, or a fault of
 * one that is.
 */
#include "tests/explore/litmus.h"
#include "tests/explore/mutants.h"
#include "tests/explore/scenario.h"
#include "tests/explore/seam.h"

#include <inttypes.h>
#include <stdlib.h>

#define SIZE_MUTANTS 0 /* sizes up to this: run by each mutant */
#define SIZE_CHECK 1   /* sizes up to this: run by the product and by mutants not found yet */
#define SIZE_MORE 2

static struct {
  unsigned size_max;
  const char *part; /* NULL = all */
  unsigned checks, failures;
  uint64_t executions;
} program;

static bool chosen(const char *name) {
  return program.part == NULL || strstr(name, program.part) != NULL;
}

static void count(const struct explore_result *result, bool right) {
  program.checks++;
  program.failures += !right;
  program.executions += result->executions;
  fflush(stdout);
}

static void check_litmus(unsigned n) {
  struct explore_result result;
  litmus_explore(n, &result);
  bool right = result.fault[0] == 0;
  printf("%s  litmus: %s: %" PRIu64 " executions, %" PRIu64 " states%s%s\n",
         right ? "right" : "wrong", litmus_name(n), result.executions, result.states,
         right ? "" : ": ", result.fault);
  count(&result, right);
}

static void check_right(const struct scenario *scenario) {
  struct explore_result result;
  scenario_explore(scenario, &result, stdout);
  bool right = result.fault[0] == 0;
  printf("%s  %s", right ? "right" : "wrong", scenario->name);
  if (scenario->preemptions_max > 0) {
    printf(", at most %u preemptions", scenario->preemptions_max);
  }
  printf(": %" PRIu64 " executions, %" PRIu64 " states%s%s\n", result.executions, result.states,
         right ? "" : ": ", result.fault);
  count(&result, right);
}

/* Does ${mutant} run ${scenario}? */
static bool suits(const struct mutant *mutant, const struct scenario *scenario, unsigned n) {
  bool small = program.size_max > SIZE_CHECK || mutant->argument == NULL
                   ? scenario->size <= SIZE_CHECK
                   : scenario->size <= SIZE_MUTANTS;
  return small && (mutant_scenarios(mutant) >> n & 1) != 0;
}

static void check_mutant(const struct mutant *mutant) {
  const struct scenario *scenarios, *where = NULL;
  unsigned scenarios_count = scenario_all(&scenarios);
  struct explore_result total = {.fault = ""};
  mutant_apply(mutant);
  for (unsigned i = 0; i < scenarios_count && where == NULL; i++) {
    struct explore_result result;
    if (!suits(mutant, &scenarios[i], i)) {
      continue;
    }
    scenario_explore(&scenarios[i], &result, program.part == NULL ? NULL : stdout);
    total.executions += result.executions;
    if (result.fault[0] != 0) {
      where = &scenarios[i];
      memcpy(total.fault, result.fault, sizeof(total.fault));
    }
  }
  mutant_apply(NULL);
  bool right = (where == NULL) == (mutant->argument != NULL) && total.executions > 0;
  printf("%s  mutant %s: ", right ? "right" : "wrong", mutant->name);
  if (where != NULL) {
    printf("found after %" PRIu64 " executions: %s: %s\n", total.executions, where->name,
           total.fault);
  } else {
    printf("no fault in all %" PRIu64 " executions: %s\n", total.executions,
           mutant->argument == NULL ? "not found" : mutant->argument);
  }
  count(&total, right);
}

static void check_all(struct mutant *mutants) {
  const struct scenario *scenarios;
  unsigned scenarios_count = scenario_all(&scenarios);
  for (unsigned i = 0; i < litmus_count() && program.part == NULL; i++) {
    check_litmus(i);
  }
  for (unsigned i = 0; i < scenarios_count; i++) {
    seam_scenario(UINT64_C(1) << i);
    bool needed =
        program.part != NULL && scenarios[i].size <= SIZE_MUTANTS; /* to reach its sites */
    if (scenarios[i].size <= program.size_max && (needed || chosen(scenarios[i].name))) {
      check_right(&scenarios[i]);
    }
  }
  seam_scenario(0);
  size_t mutants_count = mutants_make(mutants);
  for (size_t i = 0; i < mutants_count; i++) {
    if (chosen(mutants[i].name)) {
      check_mutant(&mutants[i]);
    }
  }
}

int main(int argc, char **argv) {
  struct mutant *mutants = calloc(MUTANTS_MAX, sizeof(*mutants));
  if (mutants == NULL) {
    return 1;
  }
  program.size_max = SIZE_CHECK;
  if (argc > 1 && strcmp(argv[1], "more") == 0) {
    program.size_max = SIZE_MORE;
  } else if (argc > 1) {
    program.part = argv[1];
  }
  scenario_init();
  check_all(mutants);
  free(mutants);
  printf("%" PRIu64 " executions\n", program.executions);
  printf("%u%%: Checks: %u, Failures: %u, Errors: 0\n",
         100 * (program.checks - program.failures) / program.checks, program.checks,
         program.failures);
  return program.failures == 0 ? 0 : 1;
}
