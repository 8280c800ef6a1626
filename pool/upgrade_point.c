/* upgrade_point: see upgrade_point.h. */
#include "pool/upgrade_point.h"

void upgrade_point(enum upgrade_point point, enum upgrade_side side) {
  (void)point; /* for tests */
  (void)side;  /* likewise */
}
