/*
 * slow: a plug-in for tests/live/test_slow_log.py whose answers take time.
 *
 *   later MS   pauses the connection, answers "later" from a timer after MS ms, goes on
 *   never      pauses the connection permanently
 *   other      is echoed at once
 */
#include "core/xchg.h"

#include <stdlib.h>
#include <string.h>

#define WORD_MAX 64

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  char line[WORD_MAX] = "";
  memcpy(line, message->data, message->size < WORD_MAX ? message->size : WORD_MAX - 1);
  if (strncmp(line, "later ", 6) == 0) {
    (void)xchg_pause(conn);
    (void)xchg_timer(conn, strtoull(line + 6, NULL, 10) * 1000000);
  } else if (strcmp(line, "never") == 0) {
    (void)xchg_pause(conn);
  } else {
    (void)xchg_send(conn, message->frame, message->frame_size);
  }
}

static void on_timer(struct xchg_conn *conn) {
  (void)xchg_send(conn, "later\n", 6);
  (void)xchg_resume(conn);
}

static const struct xchg_handler handler = {.size = sizeof(handler),
                                            .frame = {.kind = XCHG_FRAME_LINE},
                                            .on_message = on_message,
                                            .on_timer = on_timer};

XCHG_PLUGIN(handler)
