/*
 * saving: a plug-in whose connections have a state that moves in a live upgrade.
 *
 *   name X   set the name, on the heap          -> ok
 *   who      the name and the number of lines   -> X 3
 *   join     enter the group                    -> ok
 *   pub X    publish to the group               -> X, for each member
 *   timer N  set the timer to N ms              -> timer, when it comes
 *   work X   open the FIFO X to read it, offloaded -> worked
 *   block X  likewise, in the callback             -> worked
 *
 * A connection whose name begins with "stay" refuses on_save, and with "refuse" on_restore.  At the
 * end of a server one line on standard error says how often each callback was called.  With
 * SAVING_TOGETHER=1, or the name of a file that exists, all connections move together.
 */
#include "core/xchg.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VERSION 4
#define GROUP 77

struct state {
  char *name; /* owns */
  uint64_t lines;
};

static atomic_uint opened, restored, closed, gone, saved;

static const char *name_of(const struct state *state) {
  return state->name == NULL ? "-" : state->name;
}

static void answer(struct xchg_conn *conn, const char *text) {
  (void)xchg_send(conn, text, strlen(text));
  (void)xchg_send(conn, "\n", 1);
}

static void set_name(struct state *state, const char *name) {
  free(state->name);
  state->name = strdup(name);
}

static void on_open(struct xchg_conn *conn) {
  (void)conn;
  atomic_fetch_add(&opened, 1);
}

static void publish(struct xchg_conn *conn, const char *text) {
  char line[512];
  int size = snprintf(line, sizeof(line), "%s\n", text);
  (void)xchg_publish(xchg_server_of(conn), GROUP, line, (size_t)size);
}

/* Opening it waits for a writer. */
static void work(void *argument) {
  FILE *fifo = fopen(argument, "re");
  if (fifo != NULL) {
    (void)fclose(fifo); /* nothing was read */
  }
}

static void worked(struct xchg_conn *conn, void *argument) {
  free(argument);
  if (conn != NULL) {
    answer(conn, "worked");
  }
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  struct state *state = xchg_state(conn);
  char line[256], text[512];
  snprintf(line, sizeof(line), "%.*s", (int)message->size, (const char *)message->data);
  state->lines++;
  if (strncmp(line, "name ", 5) == 0) {
    set_name(state, line + 5);
    answer(conn, "ok");
  } else if (strcmp(line, "who") == 0) {
    snprintf(text, sizeof(text), "%s %" PRIu64, name_of(state), state->lines);
    answer(conn, text);
  } else if (strcmp(line, "join") == 0) {
    answer(conn, xchg_join(conn, GROUP, XCHG_SLOW_DROP) == 0 ? "ok" : "no");
  } else if (strncmp(line, "pub ", 4) == 0) {
    publish(conn, line + 4);
  } else if (strncmp(line, "work ", 5) == 0) {
    (void)xchg_offload(conn, work, worked, strdup(line + 5));
  } else if (strncmp(line, "block ", 6) == 0) {
    work(line + 6);
    answer(conn, "worked");
  } else if (strncmp(line, "timer ", 6) == 0) {
    (void)xchg_timer(conn, strtoull(line + 6, NULL, 10) * 1000000);
  }
}

static void on_timer(struct xchg_conn *conn) { answer(conn, "timer"); }

static void on_close(struct xchg_conn *conn, enum xchg_reason reason) {
  struct state *state = xchg_state(conn);
  (void)reason;
  free(state->name);
  atomic_fetch_add(&closed, 1);
}

static ssize_t on_save(struct xchg_conn *conn, void *data, size_t size) {
  const struct state *state = xchg_state(conn);
  const char *name = name_of(state);
  size_t length = strlen(name);
  if (strncmp(name, "stay", 4) == 0 || sizeof(state->lines) + length > size) {
    return -1;
  }
  memcpy(data, &state->lines, sizeof(state->lines));
  memcpy((char *)data + sizeof(state->lines), name, length);
  atomic_fetch_add(&saved, 1);
  return (ssize_t)(sizeof(state->lines) + length);
}

static int on_restore(struct xchg_conn *conn, uint32_t version, const void *data, size_t size) {
  struct state *state = xchg_state(conn);
  char name[256];
  if (version != VERSION || size < sizeof(state->lines)) {
    return -1;
  }
  memcpy(&state->lines, data, sizeof(state->lines));
  snprintf(name, sizeof(name), "%.*s", (int)(size - sizeof(state->lines)),
           (const char *)data + sizeof(state->lines));
  if (strncmp(name, "refuse", 6) == 0) {
    return -1;
  }
  set_name(state, name);
  atomic_fetch_add(&restored, 1);
  return 0;
}

static void on_gone(struct xchg_conn *conn) {
  struct state *state = xchg_state(conn);
  free(state->name);
  atomic_fetch_add(&gone, 1);
}

static void on_stop(struct xchg_server *server) {
  (void)server;
  fprintf(stderr, "level=info msg=calls opened=%u restored=%u closed=%u gone=%u saved=%u\n",
          atomic_load(&opened), atomic_load(&restored), atomic_load(&closed), atomic_load(&gone),
          atomic_load(&saved));
}

static struct xchg_handler handler = {.size = sizeof(handler),
                                      .frame = {.kind = XCHG_FRAME_LINE},
                                      .state_size = sizeof(struct state),
                                      .on_stop = on_stop,
                                      .on_open = on_open,
                                      .on_message = on_message,
                                      .on_timer = on_timer,
                                      .on_close = on_close,
                                      .state_version = VERSION,
                                      .on_save = on_save,
                                      .on_restore = on_restore,
                                      .on_gone = on_gone};

__attribute__((constructor)) static void choose(void) {
  const char *together = getenv("SAVING_TOGETHER");
  handler.together = together != NULL && (together[0] == '1' || access(together, F_OK) == 0);
}

XCHG_PLUGIN(handler)
