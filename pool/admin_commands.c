/* admin_commands: see admin_commands.h. */
#include "pool/admin_commands.h"

#include "core/parse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLOSE_NS (5 * NS_PER_S) /* how long the worker of a connection may take */
#define LOG_FOR_MAX_NS (3600 * NS_PER_S)
#define VALUE_MAX 32 /* of a parameter */

/* ---- parameters ---- */

/* A name that a query may have, and where its value goes. */
struct parameter {
  const char *name;
  char *value; /* VALUE_MAX bytes; unchanged if the query does not have it */
};

/* Read ${query}. Return: 0, or -1: it has another name, one twice, or a value that is too long. */
static int read_query(struct http_text query, const struct parameter *parameters, size_t count) {
  struct http_text name, value;
  uint32_t seen = 0;
  while (http_next_parameter(&query, &name, &value)) {
    size_t i = 0;
    while (i < count && !http_is_exactly(name, parameters[i].name)) {
      i++;
    }
    if (i == count || (seen >> i & 1) != 0 ||
        http_copy(value, parameters[i].value, VALUE_MAX) == -1) {
      return -1;
    }
    seen |= UINT32_C(1) << i;
  }
  return 0;
}

/* ---- commands ---- */

void admin_command_drain(struct admin *admin, struct xchg_conn *conn,
                         const struct http_request *request) {
  (void)request; /* it has no parameter */
  atom_store_relaxed_u32(&admin->drain_asked, 1);
  admin_set_life(admin, ADMIN_DRAINING);
  wake_signal(&admin->data->done);
  admin_answer_line(conn, 202, "draining");
}

void admin_command_ready(struct admin *admin, struct xchg_conn *conn,
                         const struct http_request *request) {
  char state[VALUE_MAX] = "";
  bool on;
  const struct parameter parameters[] = {{"state", state}};
  if (read_query(request->query, parameters, count_of(parameters)) == -1 ||
      parse_switch(state, &on) == -1) {
    admin_refuse_query(conn);
    return;
  }
  atom_store_relaxed_u32(&admin->off, on ? 0 : 1);
  admin_answer_line(conn, 200, on ? "on" : "off");
}

void admin_command_log(struct admin *admin, struct xchg_conn *conn,
                       const struct http_request *request) {
  static const char *const levels[] = {"error", "warn", "info", "debug"};
  char level[VALUE_MAX] = "", lasts[VALUE_MAX] = "15m", line[2 * VALUE_MAX + 8];
  uint64_t for_ns = 0;
  const struct parameter parameters[] = {{"level", level}, {"for", lasts}};
  size_t i = 0;
  bool good = read_query(request->query, parameters, count_of(parameters)) == 0 &&
              parse_time(lasts, &for_ns) == 0;
  while (i < count_of(levels) && strcmp(level, levels[i]) != 0) {
    i++;
  }
  if (!good || i == count_of(levels) || for_ns < NS_PER_S || for_ns > LOG_FOR_MAX_NS ||
      for_ns % NS_PER_S != 0) {
    admin_answer_line(conn, 400, "level takes error, warn, info or debug; for takes 1s to 60m");
    return;
  }
  admin_ask_log(admin, (enum log_level)i, for_ns / NS_PER_S);
  snprintf(line, sizeof(line), "%s for %s", level, lasts);
  admin_answer_line(conn, 200, line);
}

/* ---- the end of one connection ---- */

/* What goes to the worker of a connection and comes back. */
struct closing {
  struct xchg_server *admin; /* borrows: the endpoint's */
  uint64_t asker;            /* the connection that gave the command */
  uint32_t number;
  bool aborts;
  bool gone;
};

/* On xchg-adm. */
static void on_closed(struct xchg_conn *conn, void *argument) {
  struct closing *closing = argument;
  if (conn != NULL && admin_awaited(conn, closing->number)) {
    admin_answer_line(conn, closing->gone ? 404 : 200, closing->gone ? "gone" : "ok");
  }
  free(closing);
}

/* On the worker of the connection; or on main if that is over, then ${conn} is NULL. */
static void close_conn(struct xchg_conn *conn, void *argument) {
  struct closing *closing = argument;
  closing->gone = conn == NULL;
  if (conn != NULL) {
    (void)(closing->aborts ? xchg_abort(conn) : xchg_finish(conn)); /* cannot fail here */
  }
  if (xchg_post(closing->admin, closing->asker, on_closed, closing) == -1) {
    free(closing); /* the asker gets the answer of its timer */
  }
}

static void close_late(struct admin *admin, struct xchg_conn *conn, uint32_t number) {
  (void)admin; /* what is under way finds the number used */
  if (admin_awaited(conn, number)) {
    admin_answer_line(conn, 503, "the worker of the connection does not respond");
  }
}

/* Hexadecimal digits, 16 at most. Return: 0, or -1. */
static int parse_id(const char *text, uint64_t *id) {
  static const char digits[] = "0123456789abcdef";
  size_t size = strlen(text);
  *id = 0;
  for (size_t i = 0; i < size; i++) {
    const char *digit = strchr(digits, text[i]);
    if (digit == NULL) {
      return -1;
    }
    *id = *id << 4 | (uint64_t)(digit - digits);
  }
  return size > 0 && size <= 16 ? 0 : -1;
}

static void post_closing(struct admin *admin, struct xchg_conn *conn, uint64_t id, bool aborts) {
  struct closing *closing = malloc(sizeof(*closing));
  if (closing == NULL) {
    admin_answer_line(conn, 503, "out of memory");
    return;
  }
  uint32_t number = admin_wait(conn, close_late, CLOSE_NS);
  *closing = (struct closing){
      .admin = &admin->server, .asker = xchg_id(conn), .number = number, .aborts = aborts};
  if (xchg_post(admin->data, id, close_conn, closing) == -1) {
    bool unknown = errno == EINVAL;    /* no worker has such an id */
    (void)admin_awaited(conn, number); /* it is: nothing else has answered */
    admin_answer_line(conn, unknown ? 404 : 503,
                      unknown ? "gone" : "the worker of the connection is busy");
    free(closing);
  }
}

void admin_command_close(struct admin *admin, struct xchg_conn *conn,
                         const struct http_request *request) {
  char text[VALUE_MAX] = "", how[VALUE_MAX] = "finish";
  uint64_t id;
  const struct parameter parameters[] = {{"id", text}, {"how", how}};
  bool good = read_query(request->query, parameters, count_of(parameters)) == 0;
  bool aborts = strcmp(how, "abort") == 0;
  if (!good || parse_id(text, &id) == -1 || (!aborts && strcmp(how, "finish") != 0)) {
    admin_refuse_query(conn);
  } else if (admin->setup.config->model != MODEL_POOL) {
    admin_answer_line(conn, 501, "available under XCHG_MODEL=pool only");
  } else {
    post_closing(admin, conn, id, aborts);
  }
}
