/*
 * server: see server.h.  Owned and called by main; what the threads share is in acceptor, model and
 * admit.
 */
#include "pool/server.h"

#include "core/sys.h"

#include <errno.h>
#include <stdio.h>

#define PASSED_FIRST 3 /* sd_listen_fds(3): SD_LISTEN_FDS_START */

/* ---- the start ---- */

static int refused(struct server *server, const char *what) {
  log_errno(server->log, LOG_ERROR, what, errno);
  return SERVER_OSERR;
}

/* Exhaustion is the system's refusal; anything else says that the address cannot be had. */
static int bind_code(int error) {
  bool system = error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
  return system ? SERVER_OSERR : SERVER_UNAVAILABLE;
}

static int open_listeners(struct server *server, uint32_t passed) {
  const struct config *config = server->config;
  uint32_t count = passed > 0 ? passed : config->listen_count;
  if (count > CONFIG_LISTEN_MAX) {
    errno = E2BIG;
    return refused(server, "too many sockets passed by LISTEN_FDS");
  }
  for (uint32_t i = 0; i < count; i++) {
    struct listener *listener = &server->listeners[i];
    if (passed > 0) {
      if (listener_adopt(listener, PASSED_FIRST + (int)i, config, server->log) == -1) {
        return SERVER_OSERR;
      }
    } else if (listener_open(listener, &config->listen[i], config, server->log) == -1) {
      return bind_code(errno);
    }
    server->listeners_count++;
  }
  return 0;
}

static struct model *create_model(const struct model_setup *setup) {
  switch (setup->config->model) {
    case MODEL_ITERATIVE:
      return model_iterative_create(setup);
    case MODEL_FORK:
      return model_fork_create(setup);
    case MODEL_THREAD:
      return model_thread_create(setup);
    default:
      return model_pool_create(setup);
  }
}

int server_open(struct server *server, const struct config *config, struct log *log,
                uint32_t passed) {
  *server = (struct server){.config = config, .log = log, .done = {.fd = -1}};
  if (acceptor_open_inbox(&server->acceptor) == -1 || wake_open(&server->done) == -1) {
    return refused(server, "cannot start");
  }
  if (exchange_init(&server->exchange, config) == -1 ||
      admit_init(&server->admit, config, &server->acceptor.inbox.wake) == -1) {
    return refused(server, "cannot start");
  }
  int code = open_listeners(server, passed);
  if (code != 0) {
    return code;
  }
  const struct model_setup model = {.config = config,
                                    .handler = &server->exchange.handler,
                                    .admit = &server->admit,
                                    .log = log,
                                    .done = &server->done};
  server->model = create_model(&model);
  if (server->model == NULL) {
    return refused(server, "cannot prepare the workers");
  }
  const struct acceptor_setup acceptor = {.config = config,
                                          .log = log,
                                          .admit = &server->admit,
                                          .model = server->model,
                                          .listeners = server->listeners,
                                          .listeners_count = server->listeners_count};
  if (acceptor_open(&server->acceptor, &acceptor) == -1) {
    return refused(server, "cannot prepare the acceptor");
  }
  return 0;
}

static void *acceptor_main(void *argument) {
  struct server *server = argument;
  acceptor_run(&server->acceptor);
  atom_store_release_u32(&server->acceptor_runs, 0); /* pairs with server_finished */
  wake_signal(&server->done);
  return NULL;
}

int server_start(struct server *server) {
  if (server->model->ops->start(server->model) == -1) {
    return refused(server, "cannot start the workers");
  }
  atom_store_relaxed_u32(&server->acceptor_runs, 1);
  int error = pthread_create(&server->acceptor_thread, NULL, acceptor_main, server);
  if (error != 0) {
    server->model->ops->last(server->model); /* the workers end; nobody will send them anybody */
    errno = error;
    return refused(server, "cannot start the acceptor");
  }
  (void)pthread_setname_np(server->acceptor_thread, "xchg-accept"); /* here: before `listening` */
  server->accepting = true;
  return 0;
}

/* ---- the stop ---- */

void server_stop(struct server *server) {
  if (server->stopping) {
    return;
  }
  server->stopping = true;
  uint64_t stop_ns = sys_now_ns();
  server->model->ops->stop(server->model, stop_ns);
  acceptor_send_stop(&server->acceptor, stop_ns);
}

void server_child(struct server *server) { wake_signal(&server->acceptor.inbox.wake); }

int server_done_fd(const struct server *server) { return server->done.fd; }

bool server_finished(const struct server *server) {
  return atom_load_acquire_u32(&server->acceptor_runs) == 0 &&
         server->model->ops->running(server->model) == 0;
}

bool server_broken(const struct server *server) {
  return atom_load_acquire_u32(&server->acceptor.broken) != 0;
}

void server_close(struct server *server) {
  if (server->accepting) {
    pthread_join(server->acceptor_thread, NULL);
  }
  if (server->model != NULL) {
    server->model->ops->destroy(server->model);
  }
  acceptor_close(&server->acceptor);
  for (uint32_t i = 0; i < server->listeners_count; i++) {
    listener_close(&server->listeners[i]);
  }
  admit_fini(&server->admit);
  exchange_fini(&server->exchange);
  wake_close(&server->done);
}

/* ---- the totals ---- */

void server_report(struct server *server, const char *msg, bool open) {
  struct stats sum = {0};
  server->model->ops->sum(server->model, &sum);
  stats_sum(&sum, &server->acceptor.stats);
  /* Last, so that it is never behind the ends counted above. */
  uint64_t accepted = atom_load_relaxed_u64(&server->acceptor.stats.accepted);
  struct log_line line;
  uint64_t cut = atom_load_relaxed_u64(&sum.cut);
  if (!open && cut > 0) {
    log_begin(&line, server->log, LOG_WARN, "XCHG_DRAIN_TIMEOUT has cut connections");
    log_u64(&line, "count", cut);
    log_end(&line);
  }
  log_begin_always(&line, server->log, msg);
  log_u64(&line, "accepted", accepted);
  log_u64(&line, "finished", atom_load_relaxed_u64(&sum.ended[XCHG_FINISHED]));
  for (int reason = XCHG_FINISHED + 1; reason < XCHG_REASONS; reason++) {
    char key[32];
    snprintf(key, sizeof(key), "closed_%s", xchg_reason_name((enum xchg_reason)reason));
    log_u64(&line, key, atom_load_relaxed_u64(&sum.ended[reason]));
  }
  if (open) {
    log_u64(&line, "open", sub_sat_u64(accepted, stats_ended(&sum)));
  }
  const struct {
    const char *key;
    const atom_u64 *counter;
  } others[] = {
      {"messages", &sum.messages},
      {"bytes_in", &sum.bytes_in},
      {"bytes_out", &sum.bytes_out},
      {"wakes", &sum.wakes},
      {"stale", &sum.stale},
      {"accept_errors", &sum.accept_errors},
      {"accept_pauses", &sum.accept_pauses},
      {"cut", &sum.cut},
  };
  for (size_t i = 0; i < count_of(others); i++) {
    log_u64(&line, others[i].key, atom_load_relaxed_u64(others[i].counter));
  }
  log_end(&line);
}
