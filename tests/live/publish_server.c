/*
 * publish_server: a server in a program whose main thread publishes on request.
 *
 * A client joins and leaves groups by lines. It is a member once the answer has arrived:
 *
 *   C> join GROUP skip|drop     S> joined            C> leave GROUP     S> left
 *
 * Orders arrive on standard input, answers go to standard output. At the end of the input the
 * program closes every connection and ends. XCHG_ variables configure the server.
 *
 *   > publish GROUP NUMBER SIZE    < published                    or: failed ERRNO
 *   > counts                       < counts wakes=2 ...           since the last publish began
 *   > stats                        < stats open=3 ...
 *
 * A publication is NUMBER, eight digits, and SIZE - 8 bytes of a pattern that depends on it.
 *
 * The linker option --wrap puts functions of this program before those of libc and of the library,
 * which count:
 * - wakes: calls of wake_signal by the publishing thread while it publishes
 * - allocations and copies of the message's size or more, by any thread, since the last publish
 */
#include "core/xchg.h"
#include "core/atom.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_MAX_BYTES ((size_t)4 << 20)
#define NUMBER_DIGITS 8
#define PATTERN_PERIOD 251

extern char **environ; /* environ(7): no header must declare it */

/* ---- what is counted ---- */

static _Thread_local bool publishing; /* this thread is in xchg_publish */

static struct {
  atom_u64 wakes;       /* of a sleeping thread */
  atom_u64 size;        /* of the message; smaller sizes are not counted; 0 = off */
  atom_u64 allocations; /* of this size or more */
  atom_u64 copies;
} counts;

static void count(atom_u64 *counter, size_t size) {
  uint64_t least = atom_load_relaxed_u64(&counts.size);
  if (least > 0 && size >= least) {
    atom_add_relaxed_u64(counter, 1);
  }
}

/* The linker calls __wrap_x in place of x; __real_x is x. */
struct wake;
void __real_wake_signal(struct wake *wake);
void __wrap_wake_signal(struct wake *wake);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t number, size_t size);
void *__wrap_calloc(size_t number, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__real_memcpy(void *to, const void *from, size_t size);
void *__wrap_memcpy(void *to, const void *from, size_t size);
void *__real_memmove(void *to, const void *from, size_t size);
void *__wrap_memmove(void *to, const void *from, size_t size);
void *__real___memcpy_chk(void *to, const void *from, size_t size, size_t room);
void *__wrap___memcpy_chk(void *to, const void *from, size_t size, size_t room);
void *__real___memmove_chk(void *to, const void *from, size_t size, size_t room);
void *__wrap___memmove_chk(void *to, const void *from, size_t size, size_t room);

void __wrap_wake_signal(struct wake *wake) {
  if (publishing) {
    atom_add_relaxed_u64(&counts.wakes, 1);
  }
  __real_wake_signal(wake);
}

void *__wrap_malloc(size_t size) {
  count(&counts.allocations, size);
  return __real_malloc(size);
}

void *__wrap_calloc(size_t number, size_t size) {
  count(&counts.allocations, number * size);
  return __real_calloc(number, size);
}

void *__wrap_realloc(void *old, size_t size) {
  count(&counts.allocations, size);
  return __real_realloc(old, size);
}

void *__wrap_memcpy(void *to, const void *from, size_t size) {
  count(&counts.copies, size);
  return __real_memcpy(to, from, size);
}

void *__wrap_memmove(void *to, const void *from, size_t size) {
  count(&counts.copies, size);
  return __real_memmove(to, from, size);
}

void *__wrap___memcpy_chk(void *to, const void *from, size_t size, size_t room) {
  count(&counts.copies, size);
  return __real___memcpy_chk(to, from, size, room);
}

void *__wrap___memmove_chk(void *to, const void *from, size_t size, size_t room) {
  count(&counts.copies, size);
  return __real___memmove_chk(to, from, size, room);
}

/* ---- members ---- */

static void answer(struct xchg_conn *conn, int result, const char *text) {
  if (result == -1) {
    text = "failed\n";
  }
  (void)xchg_send(conn, text, strlen(text));
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  char line[64] = "", how[8] = "";
  uint64_t group;
  memcpy(line, message->data, message->size); /* bounded by max_message */
  if (sscanf(line, "join %" SCNu64 " %7s", &group, how) == 2) {
    enum xchg_slow slow = strcmp(how, "drop") == 0 ? XCHG_SLOW_DROP : XCHG_SLOW_SKIP;
    answer(conn, xchg_join(conn, group, slow), "joined\n");
  } else if (sscanf(line, "leave %" SCNu64, &group) == 1) {
    answer(conn, xchg_leave(conn, group), "left\n");
  } else {
    (void)xchg_abort(conn);
  }
}

/* ---- orders ---- */

/* Fill ${bytes} for the publication ${number}. */
static void fill(uint8_t *bytes, unsigned number, size_t size) {
  char digits[NUMBER_DIGITS + 1];
  snprintf(digits, sizeof(digits), "%08u", number % 100000000);
  for (size_t i = 0; i < size; i++) {
    bytes[i] = i < NUMBER_DIGITS ? (uint8_t)digits[i] : (uint8_t)((number + i) % PATTERN_PERIOD);
  }
}

static void publish(struct xchg_server *server, uint8_t *bytes, const char *order) {
  uint64_t group;
  unsigned number;
  size_t size;
  if (sscanf(order, "publish %" SCNu64 " %u %zu", &group, &number, &size) != 3 ||
      size > MESSAGE_MAX_BYTES) {
    puts("failed 0");
    return;
  }
  fill(bytes, number, size);
  atom_store_relaxed_u64(&counts.wakes, 0);
  atom_store_relaxed_u64(&counts.allocations, 0);
  atom_store_relaxed_u64(&counts.copies, 0);
  atom_store_relaxed_u64(&counts.size, size);
  publishing = true;
  int result = xchg_publish(server, group, bytes, size), error = errno;
  publishing = false;
  if (result == 0) {
    puts("published");
  } else {
    printf("failed %d\n", error);
  }
}

static void tell_counts(void) {
  printf("counts wakes=%" PRIu64 " allocations=%" PRIu64 " copies=%" PRIu64 "\n",
         atom_load_relaxed_u64(&counts.wakes), atom_load_relaxed_u64(&counts.allocations),
         atom_load_relaxed_u64(&counts.copies));
}

static void tell_stats(struct xchg_server *server) {
  struct xchg_stats stats = {.size = sizeof(stats)};
  (void)xchg_server_stats(server, &stats);
  printf("stats open=%" PRIu64 " published=%" PRIu64 " skipped=%" PRIu64 " closed_write=%" PRIu64
         " bytes_out=%" PRIu64 "\n",
         stats.open, stats.published, stats.skipped, stats.ended[XCHG_WRITE], stats.bytes_out);
}

static void obey(struct xchg_server *server, uint8_t *bytes) {
  char order[128];
  while (fgets(order, sizeof(order), stdin) != NULL) {
    if (strncmp(order, "publish ", 8) == 0) {
      publish(server, bytes, order);
    } else if (strcmp(order, "counts\n") == 0) {
      tell_counts();
    } else {
      tell_stats(server);
    }
    fflush(stdout);
  }
}

/* ---- the program ---- */

static struct xchg_server *make(void) {
  static const struct xchg_handler handler = {.size = sizeof(handler),
                                              .frame = {.kind = XCHG_FRAME_LINE},
                                              .max_message = 60,
                                              .on_message = on_message};
  struct xchg_config config;
  if (xchg_config_from_env(&config, sizeof(config), environ, stderr) == -1) {
    return NULL;
  }
  return xchg_server_create(&config, &handler);
}

int main(void) {
  char address[XCHG_ADDRESS_MAX];
  uint8_t *bytes = malloc(MESSAGE_MAX_BYTES);
  signal(SIGPIPE, SIG_IGN);
  struct xchg_server *server = make();
  int result = EXIT_FAILURE;
  if (bytes != NULL && server != NULL && xchg_server_start(server) == 0 &&
      xchg_server_address(server, 0, address, sizeof(address)) == 0) {
    memset(bytes, 1, MESSAGE_MAX_BYTES); /* resident before memory is measured */
    printf("listening addr=%s\n", address);
    fflush(stdout);
    obey(server, bytes);
    xchg_server_stop(server);
    result = xchg_server_wait(server) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    tell_stats(server);
  }
  xchg_server_destroy(server);
  free(bytes);
  return result;
}
