/* admin: see admin.h. */
#include "pool/admin.h"

#include "core/base.h"

#include <stdio.h>

/* ---- answers ---- */

void admin_answer_with(struct xchg_conn *conn, const struct http_answer *answer, const char *body) {
  const struct admin_conn *state = xchg_state(conn);
  struct http_answer own = *answer;
  char head[2 * HTTP_ANSWER_HEAD_MAX];
  own.is_1_0 = state->is_1_0;
  own.keep_alive = state->keep_alive;
  size_t size = http_write_head(head, sizeof(head), &own);
  (void)xchg_send(conn, head, size); /* without memory the engine ends the connection */
  if (!state->head_only) {
    (void)xchg_send(conn, body, own.size); /* without memory the engine ends the connection */
  }
  if (!state->keep_alive) {
    (void)xchg_finish(conn); /* cannot fail on this thread */
  }
}

void admin_answer(struct xchg_conn *conn, unsigned status, const char *type, const char *body,
                  size_t size) {
  const struct http_answer answer = {.status = status, .type = type, .lines = "", .size = size};
  admin_answer_with(conn, &answer, body);
}

void admin_answer_line(struct xchg_conn *conn, unsigned status, const char *text) {
  char line[256];
  int size = snprintf(line, sizeof(line), "%s\n", text);
  admin_answer(conn, status, "text/plain; charset=utf-8", line,
               min_u64((uint64_t)size, sizeof(line) - 1));
}

void admin_refuse_query(struct xchg_conn *conn) {
  admin_answer_line(conn, 400, "unknown name or value in the query");
}

uint32_t admin_wait(struct xchg_conn *conn, admin_late_fn *on_late, uint64_t after_ns) {
  struct admin_conn *state = xchg_state(conn);
  state->waits = true;
  state->on_late = on_late;
  (void)xchg_timer(conn, after_ns); /* without memory only this limit is missing */
  (void)xchg_pause(conn);           /* cannot fail on this thread */
  return state->number;
}

bool admin_awaited(struct xchg_conn *conn, uint32_t number) {
  struct admin_conn *state = xchg_state(conn);
  if (!state->waits || state->number != number) {
    return false;
  }
  state->waits = false;
  state->number++;
  (void)xchg_resume(conn); /* cannot fail on this thread */
  return true;
}

/* A count that makes each one another, seconds, level. */
void admin_ask_log(struct admin *admin, enum log_level level, uint64_t seconds) {
  uint64_t count = atom_load_relaxed_u64(&admin->log_asked) >> LOG_ASKED_BITS;
  uint64_t asked = (count + 1) << LOG_ASKED_BITS | seconds << LOG_LEVEL_BITS | level;
  atom_store_relaxed_u64(&admin->log_asked, asked);
  wake_signal(&admin->data->done);
}
