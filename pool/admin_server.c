/*
 * admin_server: see admin_server.h.
 *
 * A request is a message of XCHG_FRAME_CUSTOM.  A malformed one is a message, too, so that it gets
 * an answer before the connection ends.  The engine orders answers and waits while 16 KiB are
 * pending.  A connection has one timer: for its place in a burst, for an answer that is late, and
 * for a head that does not arrive within 5 s.
 */
#include "pool/admin_server.h"

#include "core/sys.h"
#include "net/conn_internal.h"
#include "pool/admin_connections.h"
#include "pool/admin_routes.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HEAD_NS (5 * NS_PER_S)
#define HEAD_ANSWER_NS NS_PER_S /* the engine ends what has not got 408 by then */
#define IDLE_NS (75 * NS_PER_S) /* longer than a usual scrape interval of a minute */
#define WRITE_NS (10 * NS_PER_S)
#define END_NS (100 * NS_PER_MS) /* for answers at the end */
#define PENDING_BYTES ((uint64_t)16 * 1024)
#define BURST_NS (10 * NS_PER_MS) /* until there are no more than ADMIN_CONNECTIONS again */

static_assert(LOG_DEBUG == (1 << LOG_LEVEL_BITS) - 1, "a level fits in its bits");

/* ---- connections ---- */

/* When the present turn of xchg-adm began. */
static uint64_t turn_of(const struct xchg_conn *conn) { return conn->ctx->reactor->now_ns; }

static size_t parse(struct xchg_conn *conn, const void *data, size_t size) {
  struct admin_conn *state = xchg_state(conn);
  struct http_request request;
  size_t end = http_parse(data, size, &request);
  if (end == 0 && !state->begun) {
    state->head_ns = add_sat_u64(turn_of(conn), HEAD_NS);
    if (!state->exceeds) {
      (void)xchg_timer(conn, HEAD_NS); /* without memory the engine ends it without an answer */
    }
  }
  state->begun = end == 0;
  return end;
}

/*
 * Is nothing in progress on ${conn}?  One that is ending counts, once its answer is sent.  One that
 * was opened in this turn does not: its request has not been read.
 */
static bool is_idle(const struct xchg_conn *conn) {
  const struct admin_conn *state = xchg_state(conn);
  return !state->waits && !state->begun && state->opened_ns != turn_of(conn) &&
         xchg_pending(conn) == 0;
}

/* May ${conn}, which is not idle, give way to a newcomer by a UNIX socket? */
static bool gives_way(const struct xchg_conn *conn) {
  const struct admin_conn *state = xchg_state(conn);
  return !state->is_unix && !state->waits && state->opened_ns != turn_of(conn);
}

/* The connection that ${may} allows and that was used least recently; NULL = there is none. */
static struct xchg_conn *least_used(const struct admin *admin,
                                    bool (*may)(const struct xchg_conn *conn)) {
  struct xchg_conn *found = NULL;
  uint64_t used = UINT64_MAX;
  for (uint32_t i = 0; i < admin->conns_count; i++) {
    const struct admin_conn *state = xchg_state(admin->conns[i]);
    if (may(admin->conns[i]) && state->used < used) {
      found = admin->conns[i];
      used = state->used;
    }
  }
  return found;
}

/* Was one of the connections opened in this turn? */
static bool is_burst(const struct admin *admin) {
  for (uint32_t i = 0; i < admin->conns_count; i++) {
    const struct admin_conn *state = xchg_state(admin->conns[i]);
    if (state->opened_ns == turn_of(admin->conns[i])) {
      return true;
    }
  }
  return false;
}

static void forget(struct admin *admin, const struct xchg_conn *conn) {
  for (uint32_t i = 0; i < admin->conns_count; i++) {
    if (admin->conns[i] == conn) {
      admin->conns[i] = admin->conns[--admin->conns_count];
      return;
    }
  }
}

/*
 * End connections until there are at most ${most}: idle ones, and for a newcomer by a UNIX socket
 * also those by TCP.  Return: are there?
 */
static bool make_room(struct admin *admin, uint32_t most, bool for_unix) {
  while (admin->conns_count > most) {
    struct xchg_conn *ends = least_used(admin, is_idle);
    if (ends == NULL && for_unix) {
      ends = least_used(admin, gives_way);
    }
    if (ends == NULL) {
      return false;
    }
    forget(admin, ends);
    (void)xchg_abort(ends); /* cannot fail on this thread */
  }
  return true;
}

static void on_open(struct xchg_conn *conn) {
  struct admin *admin = xchg_user(conn);
  struct admin_conn *state = xchg_state(conn);
  char address[XCHG_ADDRESS_MAX];
  (void)xchg_address(conn, address, sizeof(address)); /* it fits, and this is the thread */
  state->is_unix = strcmp(address, "unix") == 0;
  state->is_loopback = strncmp(address, "127.", 4) == 0 || strncmp(address, "[::1]:", 6) == 0;
  state->used = ++admin->uses;
  if (!make_room(admin, ADMIN_CONNECTIONS - 1, state->is_unix)) {
    if (!is_burst(admin)) {
      (void)xchg_abort(conn); /* cannot fail on this thread */
      return;
    }
    state->exceeds = true;
    (void)xchg_timer(conn, BURST_NS); /* without memory the next connection makes room */
  }
  state->opened_ns = turn_of(conn);
  admin->conns[admin->conns_count++] = conn;
}

static void on_close(struct xchg_conn *conn, enum xchg_reason reason) {
  (void)reason;
  admin_connections_end(xchg_user(conn), conn);
  forget(xchg_user(conn), conn);
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  struct admin *admin = xchg_user(conn);
  struct admin_conn *state = xchg_state(conn);
  struct http_request request;
  size_t size = http_parse(message->data, message->size, &request);
  state->used = ++admin->uses;
  state->head_only = request.status == 0 && request.method == HTTP_HEAD;
  state->is_1_0 = request.is_1_0;
  state->keep_alive = request.status == 0 && request.keep_alive && size == message->size;
  if (request.status != 0) {
    admin_answer_line(conn, request.status, http_reason(request.status));
  } else {
    admin_routes_answer(admin, conn, &request);
  }
}

/* A request has begun: end it with an answer if its time is over. */
static void check_head(struct xchg_conn *conn, struct admin_conn *state) {
  uint64_t now_ns = turn_of(conn);
  if (state->head_ns > now_ns) {
    (void)xchg_timer(conn, state->head_ns - now_ns); /* as in parse */
    return;
  }
  state->begun = false;
  state->head_only = false;
  state->is_1_0 = false;
  state->keep_alive = false;
  admin_answer_line(conn, 408, http_reason(408));
}

static void on_timer(struct xchg_conn *conn) {
  struct admin_conn *state = xchg_state(conn);
  bool room = make_room(xchg_user(conn), ADMIN_CONNECTIONS, false); /* no, only after a burst */
  bool leaves = state->exceeds && !room && (state->begun || !state->is_unix);
  state->exceeds = false;
  if (state->waits) {
    state->on_late(xchg_user(conn), conn, state->number);
  } else if (leaves) {
    (void)xchg_abort(conn); /* cannot fail on this thread */
  } else if (state->begun) {
    check_head(conn, state);
  }
}

/* ---- life ---- */

/* Keep the settings as text, because they do not change. Return: 0, or -1 without memory. */
static int write_settings(struct admin *admin) {
  const struct admin_setup *setup = &admin->setup;
  FILE *out = open_memstream(&admin->settings, &admin->settings_size);
  if (out == NULL) {
    return -1;
  }
  config_write_settings(setup->config, setup->environment, setup->facts, out);
  return fclose(out) == 0 ? 0 : -1;
}

static void make_config(struct config *own, const struct config *program) {
  *own = (struct config){.use = USE_ADMIN,
                         .model = MODEL_POOL,
                         .workers = 1,
                         .queue = 64,
                         .backlog = 128,
                         .nodelay = true,
                         .keepalive = true,
                         .listen_count = program->admin_count,
                         .max_connections = CONFIG_ADMIN_CONNECTIONS,
                         .descriptors = program->descriptors,
                         .max_pending_bytes = PENDING_BYTES,
                         .max_message_bytes = HTTP_HEAD_MAX,
                         .idle_timeout_ns = IDLE_NS,
                         .message_timeout_ns = HEAD_NS + HEAD_ANSWER_NS,
                         .write_timeout_ns = WRITE_NS,
                         .linger_ns = NS_PER_S,
                         .drain_timeout_ns = END_NS};
  memcpy(own->listen, program->admin, sizeof(program->admin));
}

static void log_addresses(struct admin *admin) {
  for (uint32_t i = 0; i < admin->server.listeners_count; i++) {
    char text[sizeof(admin->config.listen[0].path) + 16];
    struct log_line line;
    if (admin->setup.held &&
        (admin->server.listeners[i].inherited || admin->server.listeners[i].handed_over)) {
      continue; /* the process before this one has said so */
    }
    if (admin->server.listeners[i].inherited) { /* config_warn has looked at the others */
      config_warn_admin_address(&admin->server.listeners[i].addr, admin->setup.log);
    }
    log_begin_always(&line, admin->setup.log, "admin");
    log_str(&line, "addr",
            addr_format_listen(&admin->server.listeners[i].addr, text, sizeof(text)));
    log_end(&line);
  }
}

static int open_server(struct admin *admin) {
  const struct xchg_handler handler = {.size = sizeof(handler),
                                       .frame = {.kind = XCHG_FRAME_CUSTOM, .parse = parse},
                                       .max_message = HTTP_HEAD_MAX,
                                       .state_size = sizeof(struct admin_conn),
                                       .user = admin,
                                       .on_open = on_open,
                                       .on_message = on_message,
                                       .on_timer = on_timer,
                                       .on_close = on_close};
  const struct server_setup setup = {.config = &admin->config,
                                     .log = admin->setup.log,
                                     .handler = &handler,
                                     .passed = admin->setup.facts->passed.admin,
                                     .passed_count = admin->setup.facts->passed.admin_count,
                                     .sandbox = admin->setup.sandbox,
                                     .inherited = admin->setup.inherited,
                                     .inherited_count = admin->setup.inherited_count,
                                     .held = admin->setup.held};
  admin->opened = true;
  return server_open(&admin->server, &setup);
}

int admin_server_open(struct admin **admin, const struct admin_setup *setup) {
  *admin = NULL;
  if (setup->config->admin_count == 0 && setup->facts->passed.admin_count == 0) {
    return 0;
  }
  struct admin *made = aligned_alloc(CACHE_LINE, sizeof(*made));
  void *buffer = made == NULL ? MAP_FAILED : sys_map(ADMIN_BUFFER_BYTES);
  if (buffer == MAP_FAILED) {
    free(made);
    log_errno(setup->log, LOG_ERROR, "cannot start the admin endpoint", ENOMEM);
    return SERVER_OSERR;
  }
  *made = (struct admin){.setup = *setup, .buffer = buffer, .log_until_ns = NEVER};
  make_config(&made->config, setup->config);
  *admin = made;
  process_facts_open(&made->process);
  if (write_settings(made) == -1) {
    log_errno(setup->log, LOG_ERROR, "cannot start the admin endpoint", ENOMEM);
    return SERVER_OSERR;
  }
  return open_server(made);
}

int admin_server_start(struct admin *admin) {
  int code = admin == NULL ? 0 : server_start(&admin->server);
  if (admin != NULL && code == 0) {
    log_addresses(admin);
  }
  return code;
}

void admin_server_end(struct admin *admin) {
  if (admin == NULL || !admin->server.accepting) {
    return;
  }
  server_drain(&admin->server);
  while (!server_finished(&admin->server)) {
    struct pollfd fds[] = {{.fd = server_done_fd(&admin->server), .events = POLLIN}};
    uint64_t count;
    (void)sys_poll(fds, 1, -1); /* EINTR and the like: look again */
    if (fds[0].revents != 0 && read(fds[0].fd, &count, sizeof(count)) == -1 && errno != EAGAIN) {
      log_errno(admin->setup.log, LOG_ERROR, "cannot read an eventfd", errno);
    }
  }
}

void admin_server_close(struct admin *admin) {
  if (admin == NULL) {
    return;
  }
  admin_server_end(admin);
  if (admin->opened) {
    server_close(&admin->server);
  }
  process_facts_close(&admin->process);
  free(admin->settings);
  (void)sys_unmap(admin->buffer, ADMIN_BUFFER_BYTES); /* a failure leaks it */
  free(admin);
}

/* ---- flags ---- */

void admin_server_set_serving(struct admin *admin, struct xchg_server *data) {
  if (admin != NULL) {
    admin->data = data;
    admin_set_life(admin, ADMIN_SERVING);
  }
}

void admin_server_set_draining(struct admin *admin) {
  if (admin != NULL) {
    admin_set_life(admin, ADMIN_DRAINING);
  }
}

void admin_server_set_upgrading(struct admin *admin, bool upgrading) {
  if (admin != NULL) {
    atom_store_relaxed_u32(&admin->upgrading, upgrading); /* only the text depends on it */
  }
}

bool admin_server_drain_asked(const struct admin *admin) {
  return admin != NULL && atom_load_relaxed_u32(&admin->drain_asked) != 0;
}

uint64_t admin_server_tend_log(struct admin *admin, uint64_t now_ns) {
  if (admin == NULL) {
    return NEVER;
  }
  uint64_t asked = atom_load_relaxed_u64(&admin->log_asked);
  if (asked != admin->log_seen) {
    uint64_t seconds = (asked & ((UINT64_C(1) << LOG_ASKED_BITS) - 1)) >> LOG_LEVEL_BITS;
    admin->log_seen = asked;
    admin->log_until_ns = now_ns + seconds * NS_PER_S;
    log_set_level(admin->setup.log, (enum log_level)(asked & LOG_DEBUG));
  } else if (admin->log_until_ns <= now_ns) {
    admin->log_until_ns = NEVER;
    log_set_level(admin->setup.log, admin->setup.config->log_level);
    log_msg(admin->setup.log, LOG_WARN, "the log level is the configured one again");
  }
  return admin->log_until_ns;
}
