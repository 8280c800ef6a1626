/*
 * library: a server within a program (xchg_server_*), whose handler uses every call of the library.
 *
 * A message is a line.  Its first byte names the request:
 *
 *   e, v   send the line back, from one part or from several
 *   r, R   send bytes by reference, once or a hundred times
 *   t      answer from a timer
 *   o      answer after blocking work on another thread
 *   x      answer from a post
 *   j, k   join a group
 *   P      the program shall publish
 *   q      finish
 *
 * If a call fails, the handler aborts the connection.
 *
 * Everything that the library promises is counted: callbacks come in pairs, each reference is
 * released once, each post is called once, each offloaded work ends once.
 */
#include "core/xchg.h"
#include "core/base.h"
#include "pool/worker.h"
#include "pool/model.h"
#include "pool/server.h"
#include "tests/fail_nth/clients.h"
#include "tests/fail_nth/scheduler.h"
#include "tests/fail_nth/log.h"
#include "tests/fail_nth/ledger.h"
#include "tests/fail_nth/sessions.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define GROUP 7
#define OTHER_GROUP 8
#define REFERENCED "lent for a while\n"
#define BURST 100
#define LIBRARY_NS (6 * NS_PER_S)

struct library {
  char listen[160]; /* must live as long as the configuration */
  struct xchg_server *server;
  bool publish;     /* a client has asked for it */
  uint64_t last_id; /* of a connection */
  unsigned starts, stops, opened, closed, refs, released, offloaded, done, posted, called, worked;
};

/* ---- the handler ---- */

static struct library *library_of(struct xchg_conn *conn) { return xchg_user(conn); }

static void give_up(struct xchg_conn *conn, int result) {
  if (result == -1) {
    (void)xchg_abort(conn);
  }
}

static void say(struct xchg_conn *conn, const char *text) {
  give_up(conn, xchg_send(conn, text, strlen(text)));
}

static void released(void *argument) { ((struct library *)argument)->released++; }

static void send_refs(struct xchg_conn *conn, unsigned times) {
  struct library *library = library_of(conn);
  for (unsigned i = 0; i < times; i++) {
    if (xchg_send_ref(conn, REFERENCED, sizeof(REFERENCED) - 1, released, library) == -1) {
      give_up(conn, -1);
      return;
    }
    library->refs++;
  }
}

static void work(void *argument) { ((struct library *)argument)->worked++; }

static void work_done(struct xchg_conn *conn, void *argument) {
  ((struct library *)argument)->done++;
  if (conn != NULL) {
    say(conn, "work\n");
  }
}

static void posted(struct xchg_conn *conn, void *argument) {
  ((struct library *)argument)->called++;
  if (conn != NULL) {
    say(conn, "post\n");
  }
}

static void answer_later(struct xchg_conn *conn, char how) {
  struct library *library = library_of(conn);
  int result;
  if (how == 't') {
    result = xchg_timer(conn, 10 * NS_PER_MS);
    (void)xchg_pause(conn);
  } else if (how == 'o') {
    result = xchg_offload(conn, work, work_done, library);
    library->offloaded += result == 0;
  } else {
    result = xchg_post(library->server, xchg_id(conn), posted, library);
    library->posted += result == 0;
  }
  give_up(conn, result);
}

static void on_open(struct xchg_conn *conn) {
  library_of(conn)->opened++;
  library_of(conn)->last_id = xchg_id(conn);
}

static void on_close(struct xchg_conn *conn, enum xchg_reason reason) {
  (void)reason;
  library_of(conn)->closed++;
}

static void on_timer(struct xchg_conn *conn) {
  say(conn, "timer\n");
  (void)xchg_resume(conn);
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  const char *bytes = message->frame;
  const struct iovec parts[] = {
      {.iov_base = (void *)(uintptr_t)bytes, .iov_len = 1},
      {.iov_base = (void *)(uintptr_t)(bytes + 1), .iov_len = message->frame_size - 1}};
  switch (message->size == 0 ? 0 : bytes[0]) {
    case 'e':
      give_up(conn, xchg_send(conn, message->frame, message->frame_size));
      break;
    case 'v':
      give_up(conn, xchg_sendv(conn, parts, 2));
      break;
    case 'r':
      send_refs(conn, 1);
      break;
    case 'R':
      send_refs(conn, BURST);
      break;
    case 'j':
    case 'k':
      give_up(conn, xchg_join(conn, bytes[0] == 'j' ? GROUP : OTHER_GROUP, XCHG_SLOW_DROP));
      say(conn, "joined\n");
      break;
    case 'P':
      library_of(conn)->publish = true;
      break;
    case 'q':
      say(conn, "bye\n");
      (void)xchg_finish(conn);
      break;
    default:
      answer_later(conn, bytes[0]);
      break;
  }
}

static void on_drain(struct xchg_conn *conn) { (void)xchg_pending(conn); }

static struct library *library_of_server(struct xchg_server *server) {
  return server->handler.user;
}

static int on_start(struct xchg_server *server) {
  library_of_server(server)->starts++;
  return 0;
}

static void on_stop(struct xchg_server *server) { library_of_server(server)->stops++; }

/* ---- the program ---- */

static void keep_line(void *user, enum xchg_log_level level, const char *line) {
  (void)user;
  (void)level;
  log_keep(line, strlen(line));
  log_keep("\n", 1);
}

static int configure(struct library *library, struct xchg_config *config, bool tcp) {
  snprintf(library->listen, sizeof(library->listen), "XCHG_LISTEN=%s%s%s",
           tcp ? "127.0.0.77:0" : "unix:", tcp ? "" : sessions_path(), tcp ? "" : ";mode=0666");
  const char *const environment[] = {
      library->listen,
      "XCHG_WORKERS=2",
      tcp ? "XCHG_MAX_CONNECTIONS=6" : "XCHG_MAX_CONNECTIONS=48", /* fewer than clients */
      "XCHG_QUEUE=1",
      "XCHG_OFFLOAD_THREADS=2",
      "XCHG_MAX_MESSAGE=384KiB",
      "XCHG_MAX_PENDING=16KiB",
      "XCHG_SNDBUF=4KiB",
      "XCHG_MESSAGE_TIMEOUT=3s",
      "XCHG_WRITE_TIMEOUT=3s",
      "XCHG_MAX_LIFETIME=5m",
      "XCHG_MAX_PER_IP=40",
      "XCHG_DENY=192.0.2.0/24",
      NULL,
  };
  int result =
      xchg_config_from_env(config, sizeof(*config), (char *const *)(uintptr_t)environment, NULL);
  config->log = keep_line;
  return result;
}

static void publish(struct library *library) {
  static const char *const news[] = {"news 1\n", "news 2\n", "news 3\n"};
  for (size_t i = 0; i < count_of(news); i++) {
    if (xchg_publish(library->server, GROUP, news[i], strlen(news[i])) == -1) {
      break; /* out of memory: the member misses this and later news */
    }
  }
}

/* Clients come, talk and go.  Those that stay are connected when the server stops. */
static void serve(struct library *library, bool tcp) {
  uint64_t until_ns = scheduler_now_ns() + LIBRARY_NS;
  struct xchg_stats stats = {.size = sizeof(stats)};
  clients_aim(ledger_find(KIND_LISTENER));
  library_start_clients(tcp);
  while (!library->publish && scheduler_now_ns() < until_ns) {
    scheduler_pause(until_ns);
  }
  publish(library);
  clients_await(false);
  client_wait_ms(1);
  if (xchg_server_stats(library->server, &stats) == -1 || stats.open > clients_count()) {
    ledger_fault("counters: open=%llu", (unsigned long long)stats.open);
  }
  xchg_server_drain(library->server);
  errno = 0;
  int result = xchg_server_wait(library->server);
  bool broken = ledger_spec()->call == CALL_ACCEPT4 && ledger_spec()->error == EINVAL;
  if (result == -1 && !(errno == EIO && broken && ledger_hits() > 0)) {
    ledger_fault("wait: %s", strerror(errno));
  }
  clients_await(true);
  /* After the end: these reach no connection, and must not leak either. */
  publish(library);
  if (library->last_id != 0 && xchg_post(library->server, library->last_id, posted, library) == 0) {
    library->posted++;
  }
}

static void check_counts(const struct library *library) {
  struct xchg_stats stats = {.size = sizeof(stats)};
  uint64_t sum = 0;
  (void)xchg_server_stats(library->server, &stats);
  for (int i = 0; i < XCHG_REASONS; i++) {
    sum += stats.ended[i];
  }
  if (stats.open != 0 || stats.accepted != sum || stats.accepted != ledger_accepts()) {
    ledger_fault("totals: accepted=%llu of %u, open=%llu, ended=%llu",
                 (unsigned long long)stats.accepted, ledger_accepts(),
                 (unsigned long long)stats.open, (unsigned long long)sum);
  }
  if (library->opened != library->closed || library->opened > stats.accepted) {
    ledger_fault("on_open %u times, on_close %u times", library->opened, library->closed);
  }
}

/* All connections have ended: nothing may count as used, even if it is about to be unmapped. */
static void check_pools(struct library *library) {
  struct xchg_server *server = library->server;
  struct inbox *inbox;
  for (uint32_t i = 0; (inbox = server_inbox(server, i)) != NULL; i++) {
    const struct worker *worker = container_of(inbox, struct worker, inbox);
    const struct conn_ctx *ctx = &worker->ctx;
    if (worker->conns.used != 0 || ctx->colds.used != 0 || ctx->bufs.bytes != 0 ||
        ctx->send_queues.segments.used != 0 || ctx->groups.members.slab.used != 0 ||
        ctx->groups.groups.slab.used != 0) {
      ledger_fault("worker %u still holds memory: %u connections, %llu bytes, %u members", i,
                   worker->conns.used, (unsigned long long)ctx->bufs.bytes,
                   ctx->groups.members.slab.used);
    }
  }
  if (server->model->ops->live(server->model) != 0) {
    ledger_fault("%u connections count as live", server->model->ops->live(server->model));
  }
  for (uint32_t i = 0; server->admission.nodes != NULL && i <= server->admission.nodes_count; i++) {
    if (atom_load_relaxed_u32(&server->admission.nodes[i].live) != 0) {
      ledger_fault("an address still has connections");
    }
  }
}

static void check_promises(const struct library *library) {
  if (library->refs != library->released) {
    ledger_fault("%u references, %u releases", library->refs, library->released);
  }
  if (library->offloaded != library->done || library->worked > library->done) {
    ledger_fault("%u jobs offloaded, %u begun, %u done", library->offloaded, library->worked,
                 library->done);
  }
  if (library->starts != library->stops || library->starts > 1) {
    ledger_fault("on_start %u times, on_stop %u times", library->starts, library->stops);
  }
  if (library->posted != library->called) {
    ledger_fault("%u posts, %u calls", library->posted, library->called);
  }
}

static void run(bool tcp) {
  struct library library = {.server = NULL};
  const struct xchg_handler handler = {.size = sizeof(handler),
                                       .frame = {.kind = XCHG_FRAME_LINE},
                                       .state_size = 16,
                                       .user = &library,
                                       .on_start = on_start,
                                       .on_stop = on_stop,
                                       .on_open = on_open,
                                       .on_message = on_message,
                                       .on_drain = on_drain,
                                       .on_timer = on_timer,
                                       .on_close = on_close};
  struct xchg_config config;
  if (configure(&library, &config, tcp) == -1) {
    sessions_check_refusal(errno);
    return;
  }
  library.server = xchg_server_create(&config, &handler);
  if (library.server == NULL) {
    sessions_check_refusal(errno);
    check_promises(&library);
    return;
  }
  if (xchg_server_start(library.server) == -1) {
    sessions_check_refusal(errno);
  } else {
    sessions_set_started(true);
    serve(&library, tcp);
    check_counts(&library);
    check_pools(&library);
  }
  xchg_server_destroy(library.server);
  check_promises(&library);
}

void *library_main(void *argument) {
  (void)argument;
  run(false);
  return NULL;
}

void *library_tcp_main(void *argument) {
  (void)argument;
  run(true);
  return NULL;
}
