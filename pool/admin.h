/*
 * admin: the admin endpoint of a program (XCHG_ADMIN): health checks, metrics, commands over HTTP.
 *
 * It is a second server in the same process, with its own handler, one worker and its own limits.
 * So the limits, pauses and blocked workers of the data server do not affect it, and the data path
 * has no code for it.  It starts first and ends last.
 *
 *   threads    xchg-adm-acc accepts, xchg-adm answers, main calls pool/admin_server
 *   reads      counters and turn times that any thread may read
 *   writes     the flags below, posted calls; main sets the log level for it
 *
 * This file declares what routes need: the state, and the calls that answer.  pool/admin_routes has
 * the table of the routes, pool/admin_server the server.
 */
#ifndef POOL_ADMIN_H
#define POOL_ADMIN_H

#include "core/config.h"
#include "net/http.h"
#include "pool/log_writer.h"
#include "pool/server.h"
#include "pool/process_facts.h"

struct admin;
struct sandbox;

/** Called when the answer ${number} is late; see admin_wait. */
typedef void admin_late_fn(struct admin *admin, struct xchg_conn *conn, uint32_t number);

/* What the endpoint borrows until admin_server_close. */
struct admin_setup {
  const struct config *config; /* of the program */
  const struct config_facts *facts;
  const char *const *environment;
  struct log *log;
  struct log_writer *log_writer;
  const struct sandbox *sandbox;      /* what each of its threads enters first */
  struct upgrade_listener *inherited; /* of the process that this one replaces; NULL = none */
  uint32_t inherited_count;
  bool held; /* accept nothing yet */
};

/* The longest answer. /metrics and /stats of 64 workers and 64 listeners are shorter. */
#define ADMIN_BUFFER_BYTES ((size_t)256 * 1024)

/* admin.log_asked: a count, seconds, a level. */
#define LOG_LEVEL_BITS 2
#define LOG_ASKED_BITS 32

enum admin_life { ADMIN_STARTING, ADMIN_SERVING, ADMIN_DRAINING };

struct admin {
  struct xchg_server server; /* first: aligned */
  bool opened;               /* server_close is due */
  struct config config;      /* of this server */
  struct admin_setup setup;
  struct process_facts process;
  char *settings; /* owns: the JSON of the configuration */
  size_t settings_size;
  struct xchg_server *data; /* borrows; set before life becomes ADMIN_SERVING */
  struct xchg_conn *conns[CONFIG_ADMIN_CONNECTIONS]; /* borrows; by xchg-adm */
  uint32_t conns_count;
  uint64_t uses;         /* requests and openings so far; xchg-adm */
  char *buffer;          /* owns: mapped; for answers; xchg-adm */
  atom_u32 life;         /* enum admin_life; main and xchg-adm write */
  atom_u32 upgrading;    /* 1: an upgrade runs; main writes */
  atom_u32 off;          /* 1: POST /ready?state=off */
  atom_u32 drain_asked;  /* 1: POST /drain */
  atom_u64 log_asked;    /* what POST /log asks for, see admin_ask_log; xchg-adm writes */
  uint64_t log_seen;     /* of those the last that main has obeyed; main */
  uint64_t log_until_ns; /* when the configured level comes back; NEVER = it is there; main */
};

/* The state of a connection. */
struct admin_conn {
  uint64_t used;      /* admin.uses at its last request or its opening */
  uint64_t opened_ns; /* start of the turn in which it was opened */
  uint64_t head_ns;   /* when the head of a request that has begun must be complete */
  uint32_t number;    /* of the answer that is awaited, or of the next one */
  bool waits;         /* an answer comes later */
  bool begun;         /* a request has begun and is not complete */
  bool exceeds;       /* a burst: it has a place for a moment only */
  bool is_unix;
  bool is_loopback;
  bool head_only; /* of the last request, as what follows */
  bool is_1_0;
  bool keep_alive;
  void (*on_late)(struct admin *admin, struct xchg_conn *conn, uint32_t number); /* if it waits */
};

/** The state of the program's server. Thread: any. */
static inline enum admin_life admin_life(const struct admin *admin) {
  return (enum admin_life)atom_load_acquire_u32(&admin->life); /* pairs with admin_set_life */
}

/** Store it. */
static inline void admin_set_life(struct admin *admin, enum admin_life life) {
  atom_store_release_u32(&admin->life, life); /* pairs with admin_life */
}

/* ---- for routes, on the thread xchg-adm ---- */

/**
 * admin_answer(conn, status, type, body, size):
 * Answer with a copy of ${size} bytes; HEAD gets the head only.
 * admin_answer_line(conn, status, text):
 * Answer with one line of text; a line feed is added.
 */
void admin_answer(struct xchg_conn *conn, unsigned status, const char *type, const char *body,
                  size_t size);
void admin_answer_line(struct xchg_conn *conn, unsigned status, const char *text);

/** Answer 400: the query of a request is wrong. */
void admin_refuse_query(struct xchg_conn *conn);

/**
 * admin_wait(conn, on_late, after_ns):
 * The answer comes later, and the client's next requests wait. If no answer has been given after
 * ${after_ns}, ${on_late} is called, which answers or waits again.
 * Return: the number for admin_awaited.
 * admin_awaited(conn, number):
 * The result for ${number} is known. Return: may it be answered? Not if another answer was given.
 */
uint32_t admin_wait(struct xchg_conn *conn, admin_late_fn *on_late, uint64_t after_ns);
bool admin_awaited(struct xchg_conn *conn, uint32_t number);

/** As admin_answer, with more lines in the head, each with CRLF. */
void admin_answer_with(struct xchg_conn *conn, const struct http_answer *answer, const char *body);

/** Ask the main thread for ${level} for ${seconds}, and wake it. Thread: xchg-adm. */
void admin_ask_log(struct admin *admin, enum log_level level, uint64_t seconds);

#endif
