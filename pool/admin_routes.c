/*
 * admin_routes: THE table of the admin endpoint's routes, with the guards and the code of each.
 *
 * TCP clients may read what is public.  A user who may open a UNIX socket may give commands, so the
 * mode of the socket decides.  There are no passwords.
 *
 * Web pages can reach the endpoint through a tunnel or a browser on the same machine.  So routes
 * with GUARD_NEAR require a Host that cannot be a public name (against DNS rebinding).  A command
 * requires the field Xchg-Command, which no page of another site can send, and refuses an Origin of
 * another host.
 */
#include "pool/admin_routes.h"

#include "core/sys.h"
#include "net/sock.h"
#include "net/conn_internal.h"
#include "pool/server_stats.h"
#include "pool/stall.h"
#include "pool/page.h"
#include "pool/admin_commands.h"
#include "pool/admin_connections.h"

#include <stdio.h>
#include <string.h>

/* Who may use a route. */
enum {
  GUARD_UNIX = 1, /* UNIX sockets only */
  GUARD_NEAR = 2, /* on UNIX sockets and for loopback peers, the Host must be near */
  GUARD_LIFE = 4, /* only once the server serves */
};

/* ---- health checks ---- */

/* Until the server serves, no thread of it is stalled. */
static bool find_stalled(const struct admin *admin, struct stall *stall) {
  return admin_life(admin) != ADMIN_STARTING && stall_find(admin->data, stall);
}

static void look_again(struct admin *admin, struct xchg_conn *conn, uint32_t number) {
  char thread[STALL_TEXT_MAX], text[STALL_TEXT_MAX + 16] = "ok";
  struct stall stall;
  bool stalled = find_stalled(admin, &stall);
  if (stalled) {
    snprintf(text, sizeof(text), "stalled %s", stall_format(&stall, thread));
  }
  if (admin_awaited(conn, number)) {
    admin_answer_line(conn, stalled ? 503 : 200, text);
  }
}

static void answer_livez(struct admin *admin, struct xchg_conn *conn,
                         const struct http_request *request) {
  struct stall stall;
  (void)request; /* it has no parameter */
  if (find_stalled(admin, &stall)) {
    (void)admin_wait(conn, look_again, STALL_LOOK_AGAIN_NS); /* look_again gets the number */
  } else {
    admin_answer_line(conn, 200, "ok");
  }
}

static void answer_readyz(struct admin *admin, struct xchg_conn *conn,
                          const struct http_request *request) {
  static const char *const lives[] = {"starting", NULL, "draining"};
  (void)request; /* it has no parameter */
  const char *why = lives[admin_life(admin)];
  if (why == NULL && atom_load_relaxed_u32(&admin->off) != 0) {
    why = "off";
  }
  admin_answer_line(conn, why == NULL ? 200 : 503, why == NULL ? "ok" : why);
}

/* ---- metrics ---- */

/* Copy the settings, as metrics_write writes. */
static size_t write_settings(void *argument, char *buffer, size_t size) {
  const struct admin *admin = argument;
  memcpy(buffer, admin->settings, min_u64(size, admin->settings_size));
  return admin->settings_size;
}

/* TCP does not get the settings. */
static struct server_state state_of(struct admin *admin, const struct xchg_conn *conn) {
  static const char *const names[] = {"starting", "serving", "draining"};
  const struct admin_conn *state = xchg_state(conn);
  enum admin_life life = admin_life(admin);
  bool upgrading = life == ADMIN_SERVING && atom_load_relaxed_u32(&admin->upgrading) != 0;
  return (struct server_state){
      .ready = life == ADMIN_SERVING && atom_load_relaxed_u32(&admin->off) == 0,
      .draining = life == ADMIN_DRAINING,
      .state = upgrading ? "upgrading" : names[life],
      .process = &admin->process,
      .log_lines_lost = log_writer_lost(admin->setup.log_writer),
      .settings = state->is_unix ? write_settings : NULL,
      .settings_argument = admin};
}

/* Send ${size} bytes of the buffer, if the answer fits. */
static void answer_buffer(struct admin *admin, struct xchg_conn *conn, const char *type,
                          size_t size) {
  if (size > ADMIN_BUFFER_BYTES) {
    admin_answer_line(conn, 500, "the answer is too long");
  } else {
    admin_answer(conn, 200, type, admin->buffer, size);
  }
}

static void answer_metrics(struct admin *admin, struct xchg_conn *conn,
                           const struct http_request *request) {
  bool open = http_wants_openmetrics(request->fields[HTTP_ACCEPT]);
  struct server_state state = state_of(admin, conn);
  size_t size = server_metrics(admin->data, &state, open ? METRICS_OPEN : METRICS_TEXT,
                               admin->buffer, ADMIN_BUFFER_BYTES);
  answer_buffer(admin, conn,
                open ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                     : "text/plain; version=0.0.4; charset=utf-8",
                size);
}

static void answer_stats(struct admin *admin, struct xchg_conn *conn,
                         const struct http_request *request) {
  (void)request; /* it has no parameter */
  struct server_state state = state_of(admin, conn);
  size_t size = server_stats_json(admin->data, &state, admin->buffer, ADMIN_BUFFER_BYTES);
  answer_buffer(admin, conn, "application/json", size);
}

/* One of the page's files. */
static void answer_page(struct admin *admin, struct xchg_conn *conn,
                        const struct http_request *request) {
  static const struct page_file {
    const char *path, *type, *text;
    const size_t *size;
  } files[] = {{"/", "text/html; charset=utf-8", page_html, &page_html_size},
               {"/page.js", "text/javascript; charset=utf-8", page_js, &page_js_size},
               {"/page.css", "text/css; charset=utf-8", page_css, &page_css_size}};
  (void)admin; /* they are constant */
  for (size_t i = 0; i < count_of(files); i++) {
    if (http_is_exactly(request->path, files[i].path)) {
      const struct http_answer answer = {
          .status = 200,
          .type = files[i].type,
          .lines = "Content-Security-Policy: " PAGE_SECURITY_POLICY "\r\n",
          .size = *files[i].size};
      admin_answer_with(conn, &answer, files[i].text);
      return;
    }
  }
}

/* ---- the table ---- */

static const struct route {
  const char *path;
  bool is_command; /* POST; otherwise GET and HEAD */
  bool has_query;  /* ... which ${answer} checks */
  unsigned guards;
  void (*answer)(struct admin *admin, struct xchg_conn *conn, const struct http_request *request);
} routes[] = {
    {"/livez", false, false, 0, answer_livez},
    {"/readyz", false, false, 0, answer_readyz},
    {"/metrics", false, false, GUARD_LIFE, answer_metrics},
    {"/stats", false, false, GUARD_NEAR | GUARD_LIFE, answer_stats},
    {"/", false, false, GUARD_NEAR, answer_page},
    {"/page.js", false, false, GUARD_NEAR, answer_page},
    {"/page.css", false, false, GUARD_NEAR, answer_page},
    {"/connections", false, true, GUARD_UNIX | GUARD_NEAR | GUARD_LIFE, admin_connections},
    {"/drain", true, false, GUARD_UNIX | GUARD_NEAR | GUARD_LIFE, admin_command_drain},
    {"/ready", true, true, GUARD_UNIX | GUARD_NEAR | GUARD_LIFE, admin_command_ready},
    {"/close", true, true, GUARD_UNIX | GUARD_NEAR | GUARD_LIFE, admin_command_close},
    {"/log", true, true, GUARD_UNIX | GUARD_NEAR | GUARD_LIFE, admin_command_log},
};

static const struct route *find_route(struct http_text path) {
  for (size_t i = 0; i < count_of(routes); i++) {
    if (http_is_exactly(path, routes[i].path)) {
      return &routes[i];
    }
  }
  return NULL;
}

/* Why ${route} is forbidden to ${conn}, or NULL. */
static const char *forbidden(const struct route *route, const struct xchg_conn *conn,
                             const struct http_request *request) {
  const struct admin_conn *state = xchg_state(conn);
  const struct http_text *fields = request->fields;
  if ((route->guards & GUARD_UNIX) != 0 && !state->is_unix) {
    return "available on a UNIX socket only";
  }
  if ((route->guards & GUARD_NEAR) != 0 && (state->is_unix || state->is_loopback) &&
      !http_host_is_near(fields[HTTP_HOST])) {
    return "the Host is not localhost, an address or a name without a dot";
  }
  if (route->is_command && !http_is(fields[HTTP_COMMAND], "yes")) {
    return "a command needs the field Xchg-Command: yes";
  }
  if (route->is_command && fields[HTTP_ORIGIN].at != NULL &&
      !http_origin_is(fields[HTTP_ORIGIN], fields[HTTP_HOST])) {
    return "the Origin names another host";
  }
  return NULL;
}

static void log_command(struct admin *admin, const struct xchg_conn *conn,
                        const struct http_request *request) {
  struct log_line line;
  uint32_t uid, pid;
  log_begin_always(&line, admin->setup.log, "command");
  log_bytes(&line, "command", request->path.at, request->path.size);
  if (request->query.size > 0) {
    log_bytes(&line, "query", request->query.at, request->query.size);
  }
  if (sock_peer(conn->fd, &uid, &pid) == 0) {
    log_u64(&line, "uid", uid);
    log_u64(&line, "pid", pid);
  }
  log_end(&line);
}

static void refuse_method(struct xchg_conn *conn, const struct route *route) {
  static const char text[] = "wrong method\n";
  const struct http_answer answer = {
      .status = 405,
      .type = "text/plain; charset=utf-8",
      .lines = route->is_command ? "Allow: POST\r\n" : "Allow: GET, HEAD\r\n",
      .size = sizeof(text) - 1};
  admin_answer_with(conn, &answer, text);
}

void admin_routes_answer(struct admin *admin, struct xchg_conn *conn,
                         const struct http_request *request) {
  const struct route *route = find_route(request->path);
  if (route == NULL) {
    admin_answer_line(conn, 404, "no such route");
    return;
  }
  bool reads = request->method == HTTP_GET || request->method == HTTP_HEAD;
  if (route->is_command ? request->method != HTTP_POST : !reads) {
    refuse_method(conn, route);
    return;
  }
  const char *why = forbidden(route, conn, request);
  if (why != NULL) {
    admin_answer_line(conn, 403, why);
  } else if (!route->has_query && request->query.size > 0) {
    admin_refuse_query(conn);
  } else if ((route->guards & GUARD_LIFE) != 0 && admin_life(admin) == ADMIN_STARTING) {
    admin_answer_line(conn, 503, "starting");
  } else {
    if (route->is_command) {
      log_command(admin, conn, request);
    }
    route->answer(admin, conn, request);
  }
}
