/*
 * stress_library: an embedded server under concurrent use of every call.
 *
 *   clients   connect, send lines, half-close, read or do not, and disappear, also by a reset
 *   posters   post to connections that live, have lived or never were; publish to groups; ask for
 *             statistics
 *   handler   at each line or post: sends (also by reference), joins, leaves, offloads, pauses,
 *             sets timers, posts, publishes, finishes, aborts
 *   main      ends the server meanwhile: by a drain, a stop, both, or by destroying it
 *
 * Checked: every post, every completion of offloaded work and every release is called exactly once,
 * whichever connection has ended.  on_close comes once for each on_open, and no callback follows
 * it.  The counters of the server add up and equal what the handler has seen.  The sanitizers check
 * memory and races: each call has an argument of its own, which it frees.
 *
 * Usage: stress_library [ITEMS [SEED]]: one connection for every ITEMS_PER_CONNECTION.  The seed is
 * printed, but the threads make every run different.
 */
#include "core/xchg.h"

#include "core/base.h"
#include "core/atom.h"
#include "core/sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define ITEMS_PER_CONNECTION 200
#define CLIENTS 3
#define POSTERS 2
#define SLOTS 8    /* connections of a client at a time */
#define IDS_MAX 64 /* known to the posters */
#define GROUPS 6
#define DELIMITER 10
#define PENDING_MAX 65536       /* most that posts add to a connection that reads nothing */
#define MAGIC 0x6c6976656c696eU /* in the state of an open connection */

enum how { DRAINED, STOPPED, DRAINED_AND_STOPPED, DESTROYED, HOWS };

/* What has happened; written by any thread. */
struct counts {
  atom_u64 opens, closes, messages;
  atom_u64 posts, posted;          /* xchg_post returned 0; the post was called */
  atom_u64 offloads, works, dones; /* likewise */
  atom_u64 refused;                /* xchg_offload: EAGAIN */
  atom_u64 refs, releases;         /* likewise */
  atom_u64 publishes, timers, drains;
};

struct state {
  uint64_t magic;
  uint64_t seed;
};

/* The argument of one call, which frees it. */
struct token {
  struct xchg_server *server;
  uint64_t seed;
};

static struct counts counts;
static atom_u64 ids[IDS_MAX]; /* of some connections */
static atom_u32 over;         /* clients and posters shall end */
static struct xchg_server *server;
static char tcp_address[XCHG_ADDRESS_MAX], unix_path[108];
static const char block[8192]; /* sent by reference and published */
static uint64_t first_seed;

static _Noreturn void fatal(const char *what, uint64_t expected, uint64_t found) {
  fprintf(stderr, "stress_library: seed %" PRIu64 ": %s: expected %" PRIu64 ", found %" PRIu64 "\n",
          first_seed, what, expected, found);
  fflush(stdout);
  _exit(1);
}

static void expect(const char *what, uint64_t expected, uint64_t found) {
  if (expected != found) {
    fatal(what, expected, found);
  }
}

static void count(atom_u64 *counter) { atom_add_relaxed_u64(counter, 1); }
static uint64_t counted(const atom_u64 *counter) { return atom_load_relaxed_u64(counter); }

static uint32_t draw(uint64_t *seed) {
  *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(*seed >> 33);
}

static struct token *token_make(struct xchg_server *of, uint64_t *seed) {
  struct token *token = malloc(sizeof(*token));
  expect("memory", 1, token != NULL);
  *token = (struct token){.server = of, .seed = draw(seed)};
  return token;
}

/* ---- what a handler does ---- */

static void act(struct xchg_conn *conn, uint64_t *seed);

static struct state *state_of(const struct xchg_conn *conn) {
  struct state *state = xchg_state(conn);
  expect("a connection that lives", MAGIC, state->magic);
  return state;
}

static void posted(struct xchg_conn *conn, void *argument) {
  struct token *token = argument;
  count(&counts.posted);
  if (conn != NULL) {
    state_of(conn);
    act(conn, &token->seed);
  }
  free(token);
}

static void post(struct xchg_server *to, uint64_t id, uint64_t *seed) {
  struct token *token = token_make(to, seed);
  count(&counts.posts); /* before it can be called */
  if (xchg_post(to, id, posted, token) == -1) {
    atom_add_relaxed_u64(&counts.posts, UINT64_MAX);
    free(token);
  }
}

static void publish(struct xchg_server *to, uint64_t *seed) {
  if (xchg_publish(to, draw(seed) % GROUPS, block, draw(seed) % 2000) == 0) {
    count(&counts.publishes);
  }
}

static void released(void *argument) {
  count(&counts.releases);
  free(argument);
}

static void send_ref(struct xchg_conn *conn, uint64_t *seed) {
  struct token *token = token_make(NULL, seed);
  if (xchg_send_ref(conn, block, draw(seed) % sizeof(block), released, token) == 0) {
    count(&counts.refs);
  } else {
    free(token);
  }
}

static void work(void *argument) {
  struct token *token = argument;
  count(&counts.works);
  if (draw(&token->seed) % 4 == 0) {
    publish(token->server, &token->seed);
  }
}

static void done(struct xchg_conn *conn, void *argument) {
  struct token *token = argument;
  count(&counts.dones);
  if (conn != NULL) {
    state_of(conn);
    act(conn, &token->seed);
  }
  free(token);
}

static void offload(struct xchg_conn *conn, uint64_t *seed) {
  struct token *token = token_make(xchg_server_of(conn), seed);
  count(&counts.offloads);
  if (xchg_offload(conn, work, done, token) == -1) {
    if (errno == EAGAIN) {
      count(&counts.refused);
    }
    atom_add_relaxed_u64(&counts.offloads, UINT64_MAX);
    free(token);
  }
}

/* One random request; it may fail because the connection is ending. */
static void act(struct xchg_conn *conn, uint64_t *seed) {
  const struct iovec parts[] = {{(void *)"part", 4}, {NULL, 0}, {(void *)"ner\n", 4}};
  if (xchg_pending(conn) > PENDING_MAX) {
    return;
  }
  switch (draw(seed) % 24) {
    case 0:
      xchg_finish(conn);
      break;
    case 1:
      xchg_abort(conn);
      break;
    case 2:
      xchg_join(conn, draw(seed) % GROUPS, draw(seed) % 2 == 0 ? XCHG_SLOW_SKIP : XCHG_SLOW_DROP);
      break;
    case 4:
      xchg_leave(conn, draw(seed) % GROUPS);
      break;
    case 5:
    case 6:
      offload(conn, seed);
      break;
    case 7:
      xchg_pause(conn);
      xchg_timer(conn, draw(seed) % 3 * NS_PER_MS);
      break;
    case 8:
      xchg_timer(conn, draw(seed) % 2 == 0 ? XCHG_NEVER : NS_PER_MS);
      xchg_resume(conn); /* its timer may just have been removed */
      break;
    case 9:
      send_ref(conn, seed);
      break;
    case 11:
      xchg_sendv(conn, parts, 3);
      break;
    case 12:
      post(xchg_server_of(conn), xchg_id(conn), seed);
      break;
    case 13:
      post(xchg_server_of(conn), counted(&ids[draw(seed) % IDS_MAX]), seed);
      break;
    case 14:
      publish(xchg_server_of(conn), seed);
      break;
    default:
      xchg_send(conn, block, draw(seed) % 200);
      break;
  }
}

static void on_open(struct xchg_conn *conn) {
  struct state *state = xchg_state(conn);
  expect("state is zeroed", 0, state->magic);
  *state = (struct state){.magic = MAGIC, .seed = xchg_id(conn) + first_seed};
  count(&counts.opens);
  atom_store_relaxed_u64(&ids[draw(&state->seed) % IDS_MAX], xchg_id(conn));
  if (draw(&state->seed) % 4 == 0) {
    act(conn, &state->seed);
  }
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  count(&counts.messages);
  if (message->frame_size > message->size) { /* the end of stream may end the last message */
    expect("a line's end", DELIMITER, ((const uint8_t *)message->frame)[message->size]);
  }
  act(conn, &state_of(conn)->seed);
}

static void on_drain(struct xchg_conn *conn) {
  count(&counts.drains);
  if (draw(&state_of(conn)->seed) % 8 == 0) {
    act(conn, &state_of(conn)->seed);
  }
}

static void on_timer(struct xchg_conn *conn) {
  count(&counts.timers);
  state_of(conn);
  xchg_resume(conn);
}

static void on_close(struct xchg_conn *conn, enum xchg_reason reason) {
  expect("a reason", 1, reason < XCHG_REASONS);
  count(&counts.closes);
  post(xchg_server_of(conn), xchg_id(conn), &state_of(conn)->seed);
  state_of(conn)->magic = 0;
}

/* ---- clients and posters ---- */

static int try_connect(uint64_t *seed) {
  struct sockaddr_un un = {.sun_family = AF_UNIX};
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  bool tcp = draw(seed) % 3 == 0;
  int fd =
      socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (tcp ? 0 : SOCK_NONBLOCK), 0);
  expect("a socket", 1, fd != -1);
  memcpy(un.sun_path, unix_path, sizeof(un.sun_path));
  in.sin_port = htons((uint16_t)strtoul(strrchr(tcp_address, ':') + 1, NULL, 10));
  int result = tcp ? connect(fd, (const struct sockaddr *)&in, sizeof(in))
                   : connect(fd, (const struct sockaddr *)&un, sizeof(un));
  if (result == 0) {
    return fd;
  }
  sys_close(fd); /* the backlog is full, the ports are used up, or the server is ending */
  return -1;
}

static void disappear(int *fd, bool reset) {
  const struct linger at_once = {.l_onoff = 1};
  if (reset) {
    (void)setsockopt(*fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  }
  sys_close(*fd);
  *fd = -1;
}

/* Do something with a connection, which may be closed by it. */
static void move(int *fd, uint64_t *seed) {
  static const char lines[] = "a\nline\nand another one that is longer\n\n\nno end";
  char input[4096];
  const uint32_t way = draw(seed) % 32;
  if (way < 2) {
    disappear(fd, way == 0);
  } else if (way == 2) {
    (void)shutdown(*fd, SHUT_WR);
  } else if (way < 16) {
    (void)send(*fd, lines, draw(seed) % sizeof(lines), MSG_NOSIGNAL | MSG_DONTWAIT);
  } else {
    ssize_t size = recv(*fd, input, sizeof(input), MSG_DONTWAIT);
    if (size == 0 || (size == -1 && errno != EAGAIN)) {
      disappear(fd, false);
    }
  }
}

static void *client_run(void *argument) {
  uint64_t seed = *(const uint64_t *)argument;
  int fds[SLOTS];
  for (int i = 0; i < SLOTS; i++) {
    fds[i] = -1;
  }
  while (atom_load_acquire_u32(&over) == 0) {
    int *fd = &fds[draw(&seed) % SLOTS];
    if (*fd != -1) {
      move(fd, &seed);
    } else if ((*fd = try_connect(&seed)) == -1) {
      poll(NULL, 0, 1);
    }
  }
  for (int i = 0; i < SLOTS; i++) {
    if (fds[i] != -1) {
      disappear(&fds[i], draw(&seed) % 2 == 0);
    }
  }
  return NULL;
}

static void check_stats(void) {
  struct xchg_stats stats = {.size = sizeof(stats)};
  expect("xchg_server_stats", 0, (uint64_t)xchg_server_stats(server, &stats));
  uint64_t sum = stats.open;
  for (int i = 0; i < XCHG_REASONS; i++) {
    sum += stats.ended[i];
  }
  expect("accepted == open + ended", stats.accepted, sum);
}

static void *poster_run(void *argument) {
  uint64_t seed = *(const uint64_t *)argument;
  while (atom_load_acquire_u32(&over) == 0) {
    for (uint32_t i = draw(&seed) % 64; i > 0; i--) {
      uint64_t id = counted(&ids[draw(&seed) % IDS_MAX]);
      post(server, draw(&seed) % 16 == 0 ? draw(&seed) : id, &seed);
    }
    publish(server, &seed);
    check_stats();
    poll(NULL, 0, 1); /* else there would be nothing but posts */
  }
  return NULL;
}

/* ---- main ---- */

static void ignore_line(void *user, enum xchg_log_level level, const char *line) {
  (void)user, (void)level, (void)line;
}

static const struct xchg_handler handler = {
    .size = sizeof(handler),
    .frame = {.kind = XCHG_FRAME_DELIMITER, .delimiter = DELIMITER},
    .state_size = sizeof(struct state),
    .on_open = on_open,
    .on_message = on_message,
    .on_drain = on_drain,
    .on_timer = on_timer,
    .on_close = on_close};

static void serve(const char *folder) {
  static char listen[160];
  struct xchg_config config;
  snprintf(unix_path, sizeof(unix_path), "%s/socket", folder);
  snprintf(listen, sizeof(listen), "127.0.0.1:0,unix:%s", unix_path);
  expect("configuration", 0, (uint64_t)xchg_config_from_env(&config, sizeof(config), NULL, stderr));
  config.listen = listen;
  config.workers = 3;
  config.queue = 16;
  config.offload_threads = 2;
  config.watchdog_ns = 50 * NS_PER_MS;
  config.max_connections = CLIENTS * SLOTS + 2; /* sometimes there is no room */
  config.max_pending_bytes = 4096;
  config.idle_timeout_ns = config.write_timeout_ns = 300 * NS_PER_MS;
  config.linger_ns = config.drain_timeout_ns = 300 * NS_PER_MS;
  config.max_lifetime_ns = NS_PER_S;
  config.stop_grace_ns = 0;
  config.log = ignore_line;
  server = xchg_server_create(&config, &handler);
  if (server == NULL || xchg_server_start(server) == -1) {
    fatal("a server", 0, (uint64_t)errno);
  }
  expect("an address", 0,
         (uint64_t)xchg_server_address(server, 0, tcp_address, sizeof(tcp_address)));
}

/* Only the memory of the server is left. Its counters must equal what was seen. */
static void check_counts(void) {
  struct xchg_stats stats = {.size = sizeof(stats)};
  expect("statistics", 0, (uint64_t)xchg_server_stats(server, &stats));
  check_stats();
  expect("open", 0, stats.open);
  expect("closed", counted(&counts.opens), counted(&counts.closes));
  expect("messages", counted(&counts.messages), stats.messages);
  expect("posts made", counted(&counts.posted), stats.posts);
  expect("offloads", counted(&counts.offloads), stats.offloads);
  expect("offloads refused", counted(&counts.refused), stats.offloads_refused);
}

static void end(enum how how, uint64_t *seed) {
  if (how == DRAINED || how == DRAINED_AND_STOPPED) {
    xchg_server_drain(server);
  }
  if (how == STOPPED || how == DRAINED_AND_STOPPED) {
    xchg_server_stop(server);
  }
  if (how != DESTROYED) {
    expect("xchg_server_wait", 0, (uint64_t)xchg_server_wait(server));
    for (int i = 0; i < 100; i++) { /* too late */
      post(server, counted(&ids[draw(seed) % IDS_MAX]), seed);
      publish(server, seed);
    }
  }
}

static void run(enum how how, uint64_t connections, const char *folder, uint64_t *seed) {
  static const char *const words[HOWS] = {"drain", "stop", "drain and stop", "destroy"};
  pthread_t threads[CLIENTS + POSTERS];
  uint64_t seeds[CLIENTS + POSTERS];
  memset(&counts, 0, sizeof(counts));
  atom_store_release_u32(&over, 0);
  serve(folder);
  for (int i = 0; i < CLIENTS + POSTERS; i++) {
    seeds[i] = draw(seed);
    expect("pthread_create", 0,
           (uint64_t)pthread_create(&threads[i], NULL, i < CLIENTS ? client_run : poster_run,
                                    &seeds[i]));
  }
  while (counted(&counts.opens) < connections) {
    poll(NULL, 0, 1);
  }
  end(how, seed);
  atom_store_release_u32(&over, 1);
  for (int i = 0; i < CLIENTS + POSTERS; i++) {
    expect("pthread_join", 0, (uint64_t)pthread_join(threads[i], NULL));
  }
  if (how != DESTROYED) {
    check_counts();
  }
  xchg_server_destroy(server);
  expect("closes", counted(&counts.opens), counted(&counts.closes));
  expect("posts called", counted(&counts.posts), counted(&counts.posted));
  expect("offloaded work completed", counted(&counts.offloads), counted(&counts.dones));
  expect("offloaded work, at most", 1, counted(&counts.works) <= counted(&counts.offloads));
  expect("releases", counted(&counts.refs), counted(&counts.releases));
  printf("%s: opens=%" PRIu64 " messages=%" PRIu64 " posts=%" PRIu64 " offloads=%" PRIu64
         " refs=%" PRIu64 " publishes=%" PRIu64 " timers=%" PRIu64 " drains=%" PRIu64 "\n",
         words[how], counted(&counts.opens), counted(&counts.messages), counted(&counts.posts),
         counted(&counts.offloads), counted(&counts.refs), counted(&counts.publishes),
         counted(&counts.timers), counted(&counts.drains));
  fflush(stdout);
}

int main(int argc, char **argv) {
  const uint64_t items = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000000;
  char folder[] = "/tmp/xchg-stress-XXXXXX";
  first_seed = argc > 2 ? strtoull(argv[2], NULL, 10) : sys_now_ns();
  expect("usage: stress_library [items [seed]]", 1, argc <= 3 && items > 0);
  expect("a folder", 1, mkdtemp(folder) != NULL);
  uint64_t seed = first_seed;
  printf("seed=%" PRIu64 "\n", seed);
  fflush(stdout);
  const uint64_t connections = items / ITEMS_PER_CONNECTION / HOWS + 1;
  for (int how = 0; how < HOWS; how++) {
    run((enum how)how, connections, folder, &seed);
  }
  expect("the socket's file is removed", 0, (uint64_t)rmdir(folder));
  return 0;
}
