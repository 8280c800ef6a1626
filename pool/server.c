/*
 * server: see server.h.  Owned and called by the main thread.  What threads share is in acceptor,
 * model and admission.
 */
#include "pool/server.h"

#include "core/sys.h"
#include "core/probe.h"
#include "core/parse.h"
#include "net/frame.h"
#include "pool/forked.h"
#include "pool/thread.h"
#include "pool/sandbox.h"
#include "pool/worker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The largest table made at the start; each entry costs 8 bytes of kernel memory at once. */
#define TABLE_MAX 65536

/* ---- the start ---- */

/* What helps if the start fails with ${error}; NULL if that is unknown. */
static const char *fix_of(int error) {
  switch (error) {
    case ENOMEM:
      return "lower XCHG_MAX_CONNECTIONS or XCHG_WORKERS, or raise the limits on memory (ulimit "
             "-v, memory.max)";
    case EAGAIN:
      return "lower XCHG_WORKERS, or raise the limits on threads and memory (ulimit -u, ulimit -v, "
             "pids.max)";
    case EMFILE:
      return "lower XCHG_WORKERS, or raise the limit on descriptors (ulimit -n)";
    case ENFILE:
      return "raise fs.file-max";
    default:
      return NULL;
  }
}

static int log_refused(struct xchg_server *server, const char *what) {
  int error = errno;
  struct log_line line;
  log_begin(&line, server->log, LOG_ERROR, what);
  log_error(&line, error);
  const char *fix = fix_of(error);
  if (fix != NULL) {
    log_str(&line, "fix", fix);
  }
  log_end(&line);
  errno = error;
  return SERVER_OSERR;
}

static void describe_frame(const struct xchg_frame *frame, char *text, size_t size) {
  static const struct {
    const char *name, *sizes;
  } kinds[] = {{"RAW", "0"},
               {"DELIMITER", "0"},
               {"LINE", "0"},
               {"FIXED", "1 to max_message"},
               {"PREFIX", "1, 2, 4 or 8"},
               {"CUSTOM", "0"}};
  if ((size_t)frame->kind >= count_of(kinds)) {
    snprintf(text, size, "handler: invalid frame: kind %u", (unsigned)frame->kind);
  } else if ((frame->parse != NULL) != (frame->kind == XCHG_FRAME_CUSTOM)) {
    snprintf(text, size, "handler: invalid frame: parse is %s for %s",
             frame->parse == NULL ? "NULL" : "set", kinds[frame->kind].name);
  } else {
    snprintf(text, size, "handler: invalid frame: size %zu for %s, want %s", frame->size,
             kinds[frame->kind].name, kinds[frame->kind].sizes);
  }
}

/* Are the members for a live upgrade set together? */
static bool upgrade_valid(const struct xchg_handler *handler) {
  if (handler->state_version == 0) {
    return handler->on_save == NULL && handler->on_restore == NULL && handler->on_gone == NULL &&
           !handler->together;
  }
  return handler->on_save != NULL && handler->on_restore != NULL;
}

bool server_handler_valid(const struct xchg_handler *handler, const struct config *config,
                          char *why, size_t why_size) {
  if (handler == NULL) {
    snprintf(why, why_size, "there is no handler");
    return false;
  }
  if (handler->size != sizeof(*handler)) {
    snprintf(why, why_size, "handler: size %zu, want %zu: built against another version of xchg.h",
             handler->size, sizeof(*handler));
  } else if (handler->max_message > XCHG_MESSAGE_MAX) {
    snprintf(why, why_size, "handler: max_message %zu is over XCHG_MESSAGE_MAX",
             handler->max_message);
  } else if (handler->state_size > XCHG_STATE_MAX) {
    snprintf(why, why_size, "handler: state_size %zu is over XCHG_STATE_MAX", handler->state_size);
  } else if (!upgrade_valid(handler)) {
    snprintf(why, why_size, "handler: state_version %u %s", (unsigned)handler->state_version,
             handler->state_version == 0 ? "allows no on_save, on_restore, on_gone and together"
                                         : "needs on_save and on_restore");
  } else if (!frame_valid(&handler->frame, handler->max_message > 0 ? handler->max_message
                                                                    : config->max_message_bytes)) {
    describe_frame(&handler->frame, why, why_size);
  } else {
    return true;
  }
  return false;
}

/* The handler of ${setup}, or the built-in exchange that the configuration describes. */
static int choose_handler(struct xchg_server *server, const struct server_setup *setup) {
  const struct xchg_handler *handler = setup->handler;
  if (handler == NULL) {
    if (builtin_init(&server->builtin, setup->config) == -1) {
      return -1;
    }
    handler = &server->builtin.handler;
  }
  server->handler = *handler;
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

/* Prepare the model and the acceptor, which need all other parts. */
static int open_threads(struct xchg_server *server, const struct server_setup *setup) {
  const struct config *config = server->config;
  const struct model_setup model = {.config = config,
                                    .handler = &server->handler,
                                    .admission = &server->admission,
                                    .log = server->log,
                                    .done = &server->done,
                                    .server = server,
                                    .sandbox = server->sandbox,
                                    .custom_handler = setup->handler != NULL};
  server->model = create_model(&model);
  if (server->model == NULL) {
    return log_refused(server, "cannot prepare the workers");
  }
  const struct acceptor_setup acceptor = {.config = config,
                                          .log = server->log,
                                          .admission = &server->admission,
                                          .model = server->model,
                                          .listeners = server->listeners,
                                          .listeners_count = server->listeners_count};
  if (acceptor_open(&server->acceptor, &acceptor) == -1) {
    return log_refused(server, "cannot prepare the acceptor");
  }
  if (setup->held) {
    acceptor_hold(&server->acceptor);
  }
  return 0;
}

/* Prepare to tell which process owns the server. Return: 0, or -1 (ENOMEM). */
static int open_ownership(struct xchg_server *server) {
  void *taken =
      mmap(NULL, sizeof(*server->taken), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  server->taken = taken == MAP_FAILED ? NULL : taken;
  server->process = forked_number();
  return server->taken == NULL ? -1 : forked_watch();
}

static void close_ownership(struct xchg_server *server) {
  if (server->taken != NULL) {
    (void)munmap(server->taken, sizeof(*server->taken)); /* a failure leaks a page */
    server->taken = NULL;
  }
}

int server_open(struct xchg_server *server, const struct server_setup *setup) {
  const struct config *config = setup->config;
  *server = (struct xchg_server){
      .config = config, .log = setup->log, .sandbox = setup->sandbox, .done = {.fd = -1}};
  if (acceptor_open_inbox(&server->acceptor) == -1 || wake_open(&server->done) == -1 ||
      open_ownership(server) == -1) {
    return log_refused(server, "cannot start the server");
  }
  if (setup->held || config->upgrade != UPGRADE_OFF) {
    server->base = aligned_alloc(CACHE_LINE, sizeof(*server->base));
    if (server->base == NULL) {
      return log_refused(server, "cannot start the server");
    }
    *server->base = (struct server_base){.totals = {0}};
  }
  server->offloads = offload_init(&server->offload, config->offload_threads, &server->done) == 0;
  if (!server->offloads || choose_handler(server, setup) == -1 ||
      admission_init(&server->admission, config, &server->acceptor.inbox.wake) == -1) {
    return log_refused(server, "cannot start the server");
  }
  const struct listeners_setup listeners = {.config = config,
                                            .log = setup->log,
                                            .passed = setup->passed,
                                            .passed_count = setup->passed_count,
                                            .inherited = setup->inherited,
                                            .inherited_count = setup->inherited_count};
  int code = listeners_open(server->listeners, &server->listeners_count, &listeners);
  if (code == 0) {
    code = open_threads(server, setup);
  }
  return code;
}

int server_call_on_start(struct xchg_server *server) {
  if (server->handler.on_start != NULL && server->handler.on_start(server) == -1) {
    errno = ECANCELED;
    return log_refused(server, "handler: on_start failed");
  }
  server->prepared = true;
  return 0;
}

static void *acceptor_main(void *argument) {
  struct xchg_server *server = argument;
  bool entered = sandbox_enter(server->sandbox, SANDBOX_ACCEPTOR) == 0;
  bool serves = entered || !sandbox_required(server->sandbox);
  server->sandbox_error = entered ? 0 : errno;
  thread_set_name(server->config->use == USE_ADMIN ? "xchg-adm-acc" : "xchg-accept");
  thread_allocate_first();              /* like the name, before `listening` is logged */
  (void)sem_post(&server->acceptor_up); /* cannot fail: it becomes 1 */
  if (server->config->model == MODEL_POOL && server->config->workers_use_all_cpus) {
    (void)thread_set_batch(); /* without it each accept preempts a worker: slower, no fault */
  }
  if (serves) {
    acceptor_run(&server->acceptor);
  }
  atom_store_release_u32(&server->acceptor_runs, 0); /* pairs with server_finished */
  wake_signal(&server->done);
  return NULL;
}

/*
 * Grow the table of descriptors before the first thread starts.  The kernel doubles it when it is
 * full, and in a process with threads the accept that needs the next entry then waits for an RCU
 * grace period: 6 to 19 ms at 256, 512, 1,024, 2,048 and 4,096 descriptors.
 */
static void grow_descriptor_table(const struct xchg_server *server) {
  const struct config *config = server->config;
  uint64_t more = sub_sat_u64(config->adopted, config->max_connections);
  int last = (int)min_u64(config->descriptors + more, TABLE_MAX) - 1;
  int fd = fcntl(server->done.fd, F_DUPFD_CLOEXEC, last);
  if (fd != -1) { /* a failure costs only the waits */
    sys_close(fd);
  }
}

bool server_is_owner(const struct xchg_server *server) {
  /* In this order: server_start sets `started` before `taken`, while threads of on_start ask. */
  return server->process == forked_number() && (atom_load_acquire_u32(server->taken) == 0 ||
                                                atom_load_relaxed_u32(&server->started) != 0);
}

/* Let ${server} belong to this process. Return: false if another one has started it. */
static bool take(struct xchg_server *server) {
  if (atom_load_relaxed_u32(server->taken) != 0) {
    return false;
  }
  atom_store_relaxed_u32(&server->started, 1);
  if (atom_exchange_acq_rel_u32(server->taken, 1) != 0) {
    atom_store_relaxed_u32(&server->started, 0);
    return false;
  }
  if (server->process != forked_number()) {
    server->process =
        forked_number(); /* made before a fork, so no thread of this process reads it */
  }
  return true;
}

/* End a start whose acceptor does not run: the workers end, because no connection will come. */
static int refuse_start(struct xchg_server *server, const char *what) {
  const struct model_ops *ops = server->model->ops;
  (void)sem_destroy(&server->acceptor_up); /* cannot fail: it was initialized */
  if (ops->finish != NULL) {
    int error = errno;
    ops->finish(server->model);
    errno = error;
  }
  return log_refused(server, what);
}

/* Has the acceptor entered the sandbox?  Without it it runs only where it is not required. */
static int check_sandbox(struct xchg_server *server) {
  if (server->sandbox_error == 0) {
    return 0;
  }
  if (!sandbox_required(server->sandbox)) {
    log_errno(server->log, LOG_WARN, "the acceptor runs without a part of the sandbox",
              server->sandbox_error);
    return 0;
  }
  (void)pthread_join(server->acceptor_thread, NULL); /* cannot fail: joined once, by another */
  server->accepting = false;
  errno = server->sandbox_error;
  return refuse_start(server, "the acceptor cannot enter the sandbox");
}

int server_start(struct xchg_server *server) {
  const struct model_ops *ops = server->model->ops;
  if (!take(server)) {
    errno = EALREADY;
    return log_refused(server, "another process has started the server");
  }
  grow_descriptor_table(server);
  if (ops->start != NULL && ops->start(server->model) == -1) {
    return log_refused(server, "cannot start the workers");
  }
  atom_store_relaxed_u32(&server->acceptor_runs, 1);
  (void)sem_init(&server->acceptor_up, 0, 0); /* cannot fail with these arguments */
  int error = thread_create(&server->acceptor_thread, acceptor_main, server);
  if (error != 0) {
    errno = error;
    return refuse_start(server, "cannot start the acceptor");
  }
  server->accepting = true;
  while (sem_wait(&server->acceptor_up) == -1 && errno == EINTR) {
  }
  return check_sandbox(server);
}

/* ---- the stop ---- */

void server_drain(struct xchg_server *server) {
  if (!server_is_owner(server) || atom_exchange_acq_rel_u32(&server->drain_sent, 1) != 0) {
    return;
  }
  uint64_t stop_ns = sys_now_ns();
  probe_stop(PROBE_DRAIN);
  server->model->ops->stop(server->model, stop_ns);
  acceptor_send_drain(&server->acceptor, stop_ns);
}

void server_stop_now(struct xchg_server *server) {
  const struct model_ops *ops = server->model->ops;
  server_drain(server);
  if (!server_is_owner(server) || ops->stop_now == NULL ||
      atom_exchange_acq_rel_u32(&server->stop_now_sent, 1) != 0) {
    return;
  }
  ops->stop_now(server->model);
  acceptor_send_stop_now(&server->acceptor);
}

struct inbox *server_inbox(struct xchg_server *server, uint32_t i) {
  const struct model_ops *ops = server->model->ops;
  return ops->inbox == NULL ? NULL : ops->inbox(server->model, i);
}

void server_settle(struct xchg_server *server, bool gone) {
  struct inbox *inbox;
  for (uint32_t i = 0; (inbox = server_inbox(server, i)) != NULL; i++) {
    parked_send(&worker_of_inbox(inbox)->parked, inbox, &server->done, gone);
  }
}

bool server_settled(struct xchg_server *server) {
  struct inbox *inbox;
  for (uint32_t i = 0; (inbox = server_inbox(server, i)) != NULL; i++) {
    if (!parked_over(&worker_of_inbox(inbox)->parked, inbox)) {
      return false;
    }
  }
  return true;
}

void server_sigchld(struct xchg_server *server) { wake_signal(&server->acceptor.inbox.wake); }

int server_done_fd(const struct xchg_server *server) { return server->done.fd; }

bool server_finished(const struct xchg_server *server) {
  const struct model_ops *ops = server->model->ops;
  return atom_load_acquire_u32(&server->acceptor_runs) == 0 &&
         (ops->running == NULL || ops->running(server->model) == 0);
}

bool server_failed(const struct xchg_server *server) {
  return atom_load_acquire_u32(&server->acceptor.listener_failed) != 0;
}

uint32_t server_stop_works(struct xchg_server *server) { return offload_stop(&server->offload); }

void server_join(struct xchg_server *server) {
  offload_close(&server->offload); /* sends the last tasks; the workers have ended */
}

void server_close_listeners(struct xchg_server *server) {
  for (uint32_t i = 0; i < server->listeners_count; i++) {
    listener_close(&server->listeners[i]);
  }
}

static void free_rest(struct xchg_server *server) {
  free(server->base);
  server->base = NULL;

  admission_fini(&server->admission);
  builtin_fini(&server->builtin);
  wake_close(&server->done);
  close_ownership(server);
}

void server_close(struct xchg_server *server) {
  if (server->accepting) {
    (void)pthread_join(server->acceptor_thread, NULL); /* cannot fail: joined once, by another */
    (void)sem_destroy(&server->acceptor_up);           /* cannot fail: it was initialized */
  }
  if (server->offloads) {
    server_join(server);
    offload_fini(&server->offload);
  }
  probe_stop(PROBE_CLOSE);
  if (server->prepared && server->handler.on_stop != NULL) {
    server->handler.on_stop(server);
  }
  if (server->model != NULL) {
    server->model->ops->destroy(server->model);
  }
  acceptor_close(&server->acceptor);
  server_close_listeners(server);
  free_rest(server);
}

void server_abandon(struct xchg_server *server) {
  if (server->model != NULL) {
    const struct model_ops *ops = server->model->ops;
    (ops->abandon != NULL ? ops->abandon : ops->destroy)(server->model);
  }
  acceptor_abandon(&server->acceptor);
  for (uint32_t i = 0; i < server->listeners_count; i++) {
    listener_abandon(&server->listeners[i]);
  }
  free(server->offload.threads); /* a thread may have held the mutex, so nothing else is touched */
  free_rest(server);
}

void server_log_listening(const struct xchg_server *server, bool handler, bool held) {
  const struct config *config = server->config;
  for (uint32_t i = 0; i < server->listeners_count; i++) {
    const struct listener *listener = &server->listeners[i];
    if (listener->handed_over || (held && listener->inherited)) {
      continue;
    }
    char text[sizeof(config->listen[0].path) + 16];
    struct log_line line;
    log_begin_always(&line, server->log, "listening");
    log_str(&line, "addr", addr_format_listen(&listener->addr, text, sizeof(text)));
    if (listener->addr.proxy != ADDR_PROXY_OFF) {
      log_str(&line, "proxy", addr_proxy_name(listener->addr.proxy));
    }
    log_str(&line, "exchange", handler ? "handler" : config_exchange_name(config));
    log_str(&line, "model", config_model_name(config));
    if (config->model == MODEL_POOL) {
      log_u64(&line, "workers", config->workers);
    }
    log_str(&line, "version", XCHG_VERSION);
    log_end(&line);
  }
}

void server_log_stopping(struct log *log, uint64_t delay_ns) {
  char text[PARSE_TEXT_MAX];
  struct log_line line;
  log_begin(&line, log, LOG_INFO, "stopping");
  if (delay_ns > 0) {
    log_str(&line, "delay", parse_format_time(delay_ns, text));
  }
  log_end(&line);
}
