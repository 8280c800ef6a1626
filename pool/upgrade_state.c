/* upgrade_state: see upgrade_state.h. */
#include "pool/upgrade_state.h"

#include <assert.h>

const char *upgrade_step_name(enum upgrade_step step) {
  static const char *const names[] = {"none",    "start",  "listeners", "hold", "canary",
                                      "batches", "totals", "left",      "kill", "return"};
  static_assert(count_of(names) == STEP_RETURN + 1, "each step has a name");
  return names[step];
}
