/*
 * embed_kit: what the tests of embedded servers share: a configuration, a log that is kept, servers
 * that are known by one name, and counts of what a process has open.
 */
#ifndef TESTS_EMBED_KIT_H
#define TESTS_EMBED_KIT_H

#include "core/xchg.h"
#include "tests/unit/pool_kit.h"

#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>

/* What a log callback has got; any thread adds to it. */
struct kit_lines {
  pthread_mutex_t mutex;
  char text[65536];
  size_t size;
};

static struct kit_lines lines = {.mutex = PTHREAD_MUTEX_INITIALIZER};
static struct xchg_config settings;
static struct xchg_server *server;

/* Keeps the line, and spoils errno as a callback may. */
static inline void kit_keep_line(void *user, enum xchg_log_level level, const char *line) {
  struct kit_lines *to = user;
  pthread_mutex_lock(&to->mutex);
  ck_assert_int_le(level, XCHG_LOG_DEBUG);
  ck_assert_ptr_null(strchr(line, '\n'));
  to->size += (size_t)snprintf(to->text + to->size, sizeof(to->text) - to->size, "%s\n", line);
  ck_assert_uint_lt(to->size, sizeof(to->text));
  pthread_mutex_unlock(&to->mutex);
  errno = ENOTTY;
}

/* How often ${what} stands in the lines so far. */
static inline unsigned kit_lines_count(const char *what) {
  unsigned count = 0;
  pthread_mutex_lock(&lines.mutex);
  for (const char *at = lines.text; (at = strstr(at, what)) != NULL; at++) {
    count++;
  }
  pthread_mutex_unlock(&lines.mutex);
  return count;
}

static inline void kit_lines_clear(void) {
  pthread_mutex_lock(&lines.mutex);
  lines.size = 0;
  lines.text[0] = 0;
  pthread_mutex_unlock(&lines.mutex);
}

/* Entries as environ has them: nobody writes to them. */
static inline char *const *kit_environment(const char *const *entries) {
  return (char *const *)(uintptr_t)entries;
}

#define ENVIRONMENT(...) kit_environment((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

/* Fill ${settings} from the entries; of two for a variable the first counts. */
static inline void kit_settings(const char *const *entries) {
  char *const *environment = kit_environment(entries);
  ck_assert_int_eq(xchg_config_from_env(&settings, sizeof(settings), environment, stderr), 0);
  settings.log = kit_keep_line;
  settings.log_user = &lines;
}

#define SETTINGS(...)                                                                      \
  kit_settings((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) "XCHG_LISTEN=127.0.0.1:0", \
                                     "XCHG_WORKERS=2", "XCHG_MAX_CONNECTIONS=100",         \
                                     "XCHG_STOP_GRACE=0", "XCHG_WATCHDOG=0", NULL})

/* Make ${server}, which must go well. */
static inline void kit_create(const struct xchg_handler *handler) {
  server = xchg_server_create(&settings, handler);
  ck_assert_msg(server != NULL, "%s: %s", strerror(errno), lines.text);
}

static inline void kit_serve(const struct xchg_handler *handler) {
  kit_create(handler);
  ck_assert_int_eq(xchg_server_start(server), 0);
}

static inline uint16_t kit_port(const struct xchg_server *of) {
  char address[XCHG_ADDRESS_MAX];
  ck_assert_int_eq(xchg_server_address(of, 0, address, sizeof(address)), 0);
  return (uint16_t)strtoul(strrchr(address, ':') + 1, NULL, 10);
}

static inline struct xchg_stats kit_stats(void) {
  struct xchg_stats stats = {.size = sizeof(stats)};
  ck_assert_int_eq(xchg_server_stats(server, &stats), 0);
  return stats;
}

/* accepted == open + the sum of all ends. */
static inline void kit_check_sums(const struct xchg_stats *stats) {
  uint64_t sum = stats->open;
  for (int i = 0; i < XCHG_REASONS; i++) {
    sum += stats->ended[i];
  }
  ck_assert_uint_eq(stats->accepted, sum);
}

/* Does the connection end, in order or by a reset, without another byte? Closes it. */
static inline void kit_expect_cut(int fd) {
  char byte;
  ssize_t count = kit_recv(fd, &byte, 1);
  ck_assert_msg(count == 0 || (count == -1 && errno == ECONNRESET), "%zd (%s)", count,
                strerror(errno));
  close(fd);
}

static inline unsigned kit_entries(const char *path) {
  unsigned count = 0;
  DIR *folder = opendir(path);
  ck_assert_ptr_nonnull(folder);
  for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    count += entry->d_name[0] != '.';
  }
  closedir(folder);
  return count;
}

/* Descriptors of this process, the one that counts them included. */
static inline unsigned kit_descriptors(void) { return kit_entries("/proc/self/fd"); }

/* The threads of this process whose names begin with ${name}. */
static inline unsigned kit_threads(const char *name) {
  unsigned count = 0;
  DIR *folder = opendir("/proc/self/task");
  ck_assert_ptr_nonnull(folder);
  for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    char path[300], line[64] = "";
    snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
    FILE *stream = fopen(path, "re");
    if (stream != NULL) {
      count += fgets(line, sizeof(line), stream) != NULL && strncmp(line, name, strlen(name)) == 0;
      fclose(stream);
    }
  }
  closedir(folder);
  return count;
}

/* Does this thread of ours sleep? */
static inline bool kit_sleeps(pid_t thread) {
  char path[64], line[256] = "";
  snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread);
  FILE *stream = fopen(path, "re");
  ck_assert_ptr_nonnull(stream);
  ck_assert_ptr_nonnull(fgets(line, sizeof(line), stream));
  fclose(stream);
  return strncmp(strrchr(line, ')'), ") S", 3) == 0;
}

/* ---- a handler that echoes lines ---- */

static inline void kit_echo(struct xchg_conn *conn, const struct xchg_message *message) {
  ck_assert_int_eq(xchg_send(conn, message->frame, message->frame_size), 0);
}

static const struct xchg_handler echoes = {
    .size = sizeof(echoes), .frame = {.kind = XCHG_FRAME_LINE}, .on_message = kit_echo};

static inline int connect_and_ping(const struct xchg_server *to) {
  int client = kit_connect(kit_port(to));
  kit_send(client, "ping\n", 5);
  kit_expect(client, "ping\n", 5);
  return client;
}

#endif
