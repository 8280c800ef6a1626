/*
 * cursor: see cursor.h.
 *
 * A series is one session with one way to fail: an errno once, an errno from the Nth call on, one
 * call shortened, or all of them.  Within a series N counts up until nothing was left to fail.
 * Where one call is shortened, the bytes count up until there was nothing left to shorten.
 */
#include "tests/fail_nth/cursor.h"

#include "tests/fail_nth/sessions.h"

#define SHORTEN_ALL_MAX 400 /* sizes that all calls are shortened to */
#define DENSE_MAX 32        /* sizes up to which each one is tried */

static bool can_be_shortened(enum nth_call call) {
  return call == CALL_RECV || call == CALL_SEND || call == CALL_SENDMSG || call == CALL_WRITE_LOG;
}

/* The ${index}th way of ${call} to fail. Return: false after the last. */
static bool way_at(enum nth_call call, unsigned index, struct spec *spec) {
  for (size_t i = 0; i < rules_count; i++) {
    const struct rule *rule = &rules[i];
    unsigned modes = rule->forever == NOT ? 1 : 2;
    if (rule->call != call) {
      continue;
    }
    if (index < rule->count * modes) {
      spec->rule = rule;
      spec->error = rule->errors[index / modes];
      spec->mode = index % modes == 0 ? MODE_ONCE : MODE_FOREVER;
      return true;
    }
    index -= (unsigned)(rule->count * modes);
  }
  spec->mode = index == 0 ? MODE_SHORTEN : MODE_SHORTEN_ALL;
  return can_be_shortened(call) && index < 2;
}

static bool series_at(enum nth_call call, unsigned series, struct spec *spec) {
  *spec = (struct spec){.call = call, .session = series % sessions_count};
  return way_at(call, series / sessions_count, spec);
}

/* Where runs are left out, each series begins at another N. */
static void enter_series(struct cursor *cursor) {
  struct spec spec;
  bool all = series_at(cursor->call, cursor->series, &spec) && spec.mode == MODE_SHORTEN_ALL;
  cursor->nth = all ? 1 : 1 + cursor->series * 7 % cursor->every;
  cursor->bytes = 1;
}

void cursor_begin(struct cursor *cursor) {
  cursor->series = 0;
  enter_series(cursor);
}

bool cursor_spec(const struct cursor *cursor, struct spec *spec) {
  if (!series_at(cursor->call, cursor->series, spec)) {
    return false;
  }
  spec->nth = cursor->nth;
  spec->bytes = cursor->bytes;
  return true;
}

void cursor_skip(struct cursor *cursor) {
  cursor->series++;
  enter_series(cursor);
}

void cursor_advance(struct cursor *cursor, bool hit, unsigned count) {
  struct spec spec;
  (void)series_at(cursor->call, cursor->series, &spec);
  if (spec.mode == MODE_SHORTEN) {
    if (hit) {
      cursor->bytes +=
          cursor->bytes < DENSE_MAX ? cursor->every : cursor->bytes * cursor->every / 4;
      return;
    }
    if (count >= cursor->nth) {
      cursor->nth += cursor->every;
      cursor->bytes = 1;
      return;
    }
  } else if (spec.mode == MODE_SHORTEN_ALL && hit && cursor->bytes < SHORTEN_ALL_MAX) {
    cursor->bytes += cursor->every;
    return;
  } else if (spec.mode != MODE_SHORTEN_ALL && hit) {
    cursor->nth += cursor->every;
    return;
  }
  cursor_skip(cursor);
}
