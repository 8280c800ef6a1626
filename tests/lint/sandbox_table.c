/*
 * sandbox_table: prints the table of pool/sandbox_calls, one line for a call of a kind of threads:
 *
 *   KIND ACTION ROW CALL NUMBER
 *
 * ROW is the usual spelling. NUMBER is -1 if this machine has no such call.
 *
 * tests/lint/sandbox compares it with what strace sees, tests/portable/table.sh builds it for
 * another machine.
 */
#include "pool/sandbox_calls.h"

#include <stdio.h>

static const char *action_name(enum sandbox_action action) {
  switch (action) {
    case SANDBOX_ALLOW:
      return "allow";
    case SANDBOX_REFUSE:
      return "refuse";
    case SANDBOX_UNKNOWN:
      return "unknown";
    case SANDBOX_KILL:
      return "kill";
  }
  return "?";
}

static void print_row(const struct sandbox_row *row, unsigned kind) {
  for (const struct sandbox_spelling *s = row->spellings; s->name != NULL; s++) {
    printf("%s %s %s %s %ld\n", sandbox_kind_name(kind), action_name(row->action),
           row->spellings[0].name, s->name, sandbox_number(s));
  }
}

int main(void) {
  unsigned count;
  const struct sandbox_row *rows = sandbox_rows(&count);
  for (unsigned kind = 0; kind < SANDBOX_KINDS; kind++) {
    for (unsigned i = 0; i < count; i++) {
      if ((rows[i].kinds & 1U << kind) != 0) {
        print_row(&rows[i], kind);
      }
    }
  }
  return 0;
}
