/*
 * life: a plug-in for tests/live/test_library_life.py that executes lines.
 *
 *   refs        sends 100 borrowed blocks of 5,000 bytes, one by one
 *   stream N    sends N blocks of 64 KiB, each when the last one was taken
 *   id          answers xchg_id
 *   ticks       joins the group to which a thread of the plug-in publishes "tick"
 *   drain       calls xchg_server_drain, answers "told"
 *   stop        calls xchg_server_stop, answers "told"
 *   other       is echoed
 *
 * If LIFE_TICKS is set, that thread runs from on_start to on_stop and uses the server all the time.
 * Both write to standard error. on_start declines if LIFE_DECLINES is set.
 */
#include "core/xchg.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define GROUP 1
#define REFS 100
#define REF_BYTES 5000
#define BLOCK 65536

struct state {
  unsigned long left; /* blocks of a stream */
  bool streams;
};

static pthread_t ticker;
static bool ticking; /* the thread was started */
static atomic_bool over;

static void say(struct xchg_conn *conn, const char *word) {
  const struct iovec parts[] = {{(void *)(uintptr_t)word, strlen(word)},
                                {(void *)(uintptr_t) "\n", 1}};
  (void)xchg_sendv(conn, parts, 2);
}

/* A block is freed on its return, so the sanitizers find a later read or a lost block. */
static void send_ref(struct xchg_conn *conn) {
  for (int i = 0; i < REFS; i++) {
    char *bytes = malloc(REF_BYTES);
    if (bytes == NULL) {
      abort();
    }
    memset(bytes, 'a' + i % 26, REF_BYTES);
    if (xchg_send_ref(conn, bytes, REF_BYTES, free, bytes) == -1) {
      fprintf(stderr, "life sends no more references after %d\n", i);
      free(bytes);
      return;
    }
  }
}

static void stream(struct xchg_conn *conn) {
  static const char block[BLOCK];
  struct state *state = xchg_state(conn);
  if (state->left > 0) {
    state->left--;
    (void)xchg_send(conn, block, BLOCK);
  }
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  struct state *state = xchg_state(conn);
  char line[64] = "";
  memcpy(line, message->data, message->size < sizeof(line) ? message->size : sizeof(line) - 1);
  if (strcmp(line, "refs") == 0) {
    send_ref(conn);
  } else if (strncmp(line, "stream ", 7) == 0) {
    *state = (struct state){.left = strtoul(line + 7, NULL, 10), .streams = true};
    stream(conn);
  } else if (strcmp(line, "id") == 0) {
    snprintf(line, sizeof(line), "%llu", (unsigned long long)xchg_id(conn));
    say(conn, line);
  } else if (strcmp(line, "ticks") == 0) {
    (void)xchg_join(conn, GROUP, XCHG_SLOW_SKIP);
  } else if (strcmp(line, "drain") == 0) {
    xchg_server_drain(xchg_server_of(conn));
    say(conn, "told");
  } else if (strcmp(line, "stop") == 0) {
    xchg_server_stop(xchg_server_of(conn));
    say(conn, "told");
  } else {
    say(conn, line);
  }
}

static void on_drain(struct xchg_conn *conn) {
  const struct state *state = xchg_state(conn);
  if (state->streams) {
    stream(conn);
  }
}

static void *tick(void *argument) {
  struct xchg_stats stats = {.size = sizeof(stats)};
  while (!atomic_load(&over)) {
    (void)xchg_publish(argument, GROUP, "tick\n", 5);
    (void)xchg_server_stats(argument, &stats);
  }
  return NULL;
}

static int on_start(struct xchg_server *server) {
  fprintf(stderr, "life starts\n");
  if (getenv("LIFE_DECLINES") != NULL) {
    return -1;
  }
  ticking = getenv("LIFE_TICKS") != NULL && pthread_create(&ticker, NULL, tick, server) == 0;
  return 0;
}

static void on_stop(struct xchg_server *server) {
  struct xchg_stats stats = {.size = sizeof(stats)};
  int result = xchg_server_stats(server, &stats);
  if (ticking) {
    atomic_store(&over, true);
    pthread_join(ticker, NULL);
  }
  fprintf(stderr, "life stops: %d, %llu open\n", result, (unsigned long long)stats.open);
}

static const struct xchg_handler handler = {.size = sizeof(handler),
                                            .frame = {.kind = XCHG_FRAME_LINE},
                                            .state_size = sizeof(struct state),
                                            .on_start = on_start,
                                            .on_stop = on_stop,
                                            .on_message = on_message,
                                            .on_drain = on_drain};

XCHG_PLUGIN(handler)
