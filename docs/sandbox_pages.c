/*
 * sandbox_pages: see sandbox_pages.h.
 *
 * The page is the same on every machine: it has the names of all calls, also of those that only
 * another machine or a newer kernel has.
 */
#include "docs/sandbox_pages.h"

#include "pool/sandbox_calls.h"

#define SHOWN SANDBOX_HANDLER /* the kinds before it have columns */

static bool is_in(const struct sandbox_row *row, unsigned kind) {
  return (row->kinds >> kind & 1) != 0;
}

/* The usual spelling with its argument, and the others. */
static void write_calls(FILE *out, const struct sandbox_row *row) {
  fprintf(out, "| `%s`", row->spellings[0].name);
  if (row->argument != NULL) {
    fprintf(out, " with %s", row->argument->text);
  }
  fputs(" |", out);
  for (const struct sandbox_spelling *s = row->spellings + 1; s->name != NULL; s++) {
    fprintf(out, "%s `%s`", s == row->spellings + 1 ? "" : ",", s->name);
  }
  fputs(" |", out);
}

static void write_head(FILE *out) {
  fputs("\n| call | other spellings |", out);
  for (unsigned kind = 0; kind < SHOWN; kind++) {
    fprintf(out, " %s |", sandbox_kind_name(kind));
  }
  fputs(" for |\n|---|---|", out);
  for (unsigned kind = 0; kind < SHOWN; kind++) {
    fputs(":-:|", out);
  }
  fputs("---|\n", out);
}

static void write_allowed(FILE *out, const struct sandbox_row *rows, unsigned count) {
  unsigned calls[SHOWN] = {0}, spellings[SHOWN] = {0};
  write_head(out);
  for (unsigned i = 0; i < count; i++) {
    if (rows[i].action != SANDBOX_ALLOW) {
      continue;
    }
    write_calls(out, &rows[i]);
    for (unsigned kind = 0; kind < SHOWN; kind++) {
      fprintf(out, " %s |", is_in(&rows[i], kind) ? "x" : "");
      for (const struct sandbox_spelling *s = rows[i].spellings; s->name != NULL; s++) {
        spellings[kind] += is_in(&rows[i], kind);
      }
      calls[kind] += is_in(&rows[i], kind);
    }
    fprintf(out, " %s |\n", rows[i].why);
  }
  fputs("| **calls** | |", out);
  for (unsigned kind = 0; kind < SHOWN; kind++) {
    fprintf(out, " %u |", calls[kind]);
  }
  fputs(" |\n| **with other spellings** | |", out);
  for (unsigned kind = 0; kind < SHOWN; kind++) {
    fprintf(out, " %u |", spellings[kind]);
  }
  fputs(" |\n", out);
}

static const char *result_of(const struct sandbox_row *row) {
  return row->action == SANDBOX_KILL     ? "the process is killed"
         : row->action == SANDBOX_REFUSE ? "`EPERM`"
                                         : "`ENOSYS`";
}

static void write_refused(FILE *out, const struct sandbox_row *rows, unsigned count) {
  fputs(
      "\n| refused call | similar calls | result | with a handler only | for |\n"
      "|---|---|---|:-:|---|\n",
      out);
  for (unsigned i = 0; i < count; i++) {
    if (rows[i].action != SANDBOX_ALLOW) {
      write_calls(out, &rows[i]);
      fprintf(out, " %s | %s | %s |\n", result_of(&rows[i]),
              is_in(&rows[i], SANDBOX_WORKER) ? "" : "x", rows[i].why);
    }
  }
}

void sandbox_pages_markdown(FILE *out) {
  unsigned count;
  const struct sandbox_row *rows = sandbox_rows(&count);
  fputs(
      "\nWith the built-in exchanges, a thread can make these calls. Any other call returns "
      "`ENOSYS`.\n",
      out);
  write_allowed(out, rows, count);
  fputs(
      "\nThese calls are refused. With a handler, all calls that are not in this table are "
      "allowed.\n",
      out);
  write_refused(out, rows, count);
  fputs("\n", out);
}
