/*
 * api_server: xchg_server_* and xchg_config_from_env of core/xchg.h: servers in a program that owns
 * its signals and its environment.
 *
 * An embedded server keeps its configuration and its log, as the daemon does.  The object that the
 * program holds is the first member of one allocation.
 */
#include "core/sys.h"
#include "core/config.h"
#include "pool/machine.h"
#include "pool/signals.h"
#include "pool/log_writer.h"
#include "pool/server_stats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct api_server {
  struct xchg_server server; /* first */
  struct config config;
  struct log log;
  struct log_writer *log_writer; /* owns; NULL = the program's function takes the lines */
};

/* ---- configuration ---- */

/* The facts of a library: it leaves the limit of descriptors as it is. */
static void find_facts(struct config_facts *facts) {
  *facts = (struct config_facts){.handler = true, .embedded = true, .program = "xchg"};
  machine_find_facts(facts);
  machine_find_descriptors(facts, false);
}

int xchg_config_from_env(struct xchg_config *config, size_t size, char *const *environment,
                         FILE *faults) {
  static const char *const nothing[] = {NULL};
  const char *const *from = environment == NULL ? nothing : (const char *const *)environment;
  struct config_facts facts;
  struct config loaded;
  char *text = NULL;
  size_t text_size;
  if (config == NULL || size != sizeof(*config)) {
    return fail(EINVAL);
  }
  FILE *out = faults == NULL ? open_memstream(&text, &text_size) : faults;
  if (out == NULL) {
    return fail(ENOMEM);
  }
  find_facts(&facts);
  unsigned count = config_load(&loaded, from, &facts, out);
  int error = errno;
  if (count == 0) {
    config_export(&loaded, config, size, from);
    config_fini(&loaded);
  }
  if (faults == NULL) {
    (void)fclose(out); /* its text is not wanted */
    free(text);
  }
  return count == 0 ? 0 : fail(error);
}

/* ---- making a server ---- */

/* Log each line of ${text}, which is modified. */
static void log_lines(struct log *log, char *text) {
  char *rest = text;
  for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
    if (*line != 0) {
      log_msg(log, LOG_ERROR, line);
    }
  }
}

static int import(struct api_server *made, const struct xchg_config *config,
                  const struct config_facts *facts) {
  char *text = NULL;
  size_t text_size;
  FILE *out = open_memstream(&text, &text_size);
  if (out == NULL) {
    return fail(ENOMEM);
  }
  unsigned count = config_import(&made->config, config, facts, out);
  int error = errno;
  (void)fclose(out); /* without memory the text is cut or NULL, which log_lines takes */
  if (count > 0) {
    log_lines(&made->log, text);
  }
  free(text);
  return count == 0 ? 0 : fail(error);
}

/* Lines for standard error wait until xchg_server_start starts the log's thread. */
static int open_log(struct api_server *made, const struct xchg_config *config) {
  enum log_level level = (enum log_level)config->log_level;
  enum log_format format = (enum log_format)config->log_format;
  made->log_writer = NULL;
  if (config->log != NULL) {
    log_init(&made->log, config->log, config->log_user, level, format);
    return 0;
  }
  made->log_writer = log_writer_create(STDERR_FILENO, format, false);
  log_init(&made->log, log_writer_put, made->log_writer, level, format);
  return made->log_writer == NULL ? -1 : 0;
}

static int open_server(struct api_server *made, const struct xchg_handler *handler,
                       const struct config_facts *facts) {
  char why[160];
  if (!server_handler_valid(handler, &made->config, why, sizeof(why))) {
    log_msg(&made->log, LOG_ERROR, why);
    return fail(EINVAL);
  }
  const struct server_setup setup = {
      .config = &made->config, .log = &made->log, .handler = handler};
  bool opened = server_open(&made->server, &setup) == 0 && server_call_on_start(&made->server) == 0;
  if (!opened) {
    int error = errno;
    server_close(&made->server);
    return fail(error);
  }
  made->server.embedded = true;
  config_warn(&made->config, NULL, facts, &made->log);
  return 0;
}

struct xchg_server *xchg_server_create(const struct xchg_config *config,
                                       const struct xchg_handler *handler) {
  if (config == NULL || config->size != sizeof(*config)) {
    errno = EINVAL;
    return NULL;
  }
  struct api_server *made = aligned_alloc(CACHE_LINE, sizeof(*made));
  if (made == NULL) {
    return NULL;
  }
  struct config_facts facts;
  find_facts(&facts);
  if (open_log(made, config) == -1) {
    int error = errno;
    free(made);
    errno = error;
    return NULL;
  }
  int error = import(made, config, &facts) == 0 ? 0 : errno;
  if (error == 0 && open_server(made, handler, &facts) == -1) {
    error = errno;
    config_fini(&made->config);
  }
  if (error != 0) {
    log_writer_destroy(made->log_writer);
    free(made);
    errno = error;
    return NULL;
  }
  return &made->server;
}

/* ---- its life ---- */

int xchg_server_start(struct xchg_server *server) {
  if (server == NULL) {
    return fail(EINVAL);
  }
  if (!server->embedded || atom_load_relaxed_u32(&server->started) != 0) {
    return fail(EALREADY);
  }
  struct api_server *made = container_of(server, struct api_server, server);
  if (made->log_writer != NULL && log_writer_start(made->log_writer, NULL) == -1) {
    return -1;
  }
  sigset_t before;
  signals_block_all(&before);
  int code = server_start(server);
  int error = errno;
  signals_restore(&before);
  return code == 0 ? 0 : fail(error);
}

void xchg_server_drain(struct xchg_server *server) {
  if (server != NULL) {
    server_drain(server);
  }
}

void xchg_server_stop(struct xchg_server *server) {
  if (server != NULL) {
    server_stop_now(server);
  }
}

/* Wait until all threads have ended. A listener that fails begins the stop. */
static void await(struct xchg_server *server) {
  while (!server_finished(server)) {
    struct pollfd fds[] = {{.fd = server_done_fd(server), .events = POLLIN}};
    uint64_t count;
    (void)sys_poll(fds, 1, -1); /* EINTR and the like: look again */
    if (fds[0].revents != 0 && read(fds[0].fd, &count, sizeof(count)) == -1 && errno != EAGAIN) {
      log_errno(server->log, LOG_ERROR, "cannot read an eventfd", errno);
    }
    if (server_failed(server)) {
      server_drain(server);
    }
  }
}

int xchg_server_wait(struct xchg_server *server) {
  if (server == NULL || !server->embedded) {
    return fail(EINVAL);
  }
  if (!server_is_owner(server)) {
    return fail(EPERM);
  }
  if (!server->accepting) {
    return fail(EINVAL);
  }
  await(server);
  server_join(server);
  return server_failed(server) ? fail(EIO) : 0;
}

void xchg_server_destroy(struct xchg_server *server) {
  if (server == NULL || !server->embedded) {
    return;
  }
  struct api_server *made = container_of(server, struct api_server, server);
  if (!server_is_owner(server)) {
    server_abandon(server);
  } else {
    if (server->accepting) {
      server_stop_now(server);
      await(server);
    }
    server_close(server);
  }
  config_fini(&made->config);
  log_writer_destroy(made->log_writer);
  free(made);
}

/* ---- what it knows ---- */

int xchg_server_stats(struct xchg_server *server, struct xchg_stats *stats) {
  if (server == NULL || stats == NULL || stats->size != sizeof(*stats)) {
    return fail(EINVAL);
  }
  server_stats(server, stats);
  return 0;
}

int xchg_server_address(const struct xchg_server *server, unsigned index, char *text, size_t size) {
  char address[XCHG_ADDRESS_MAX];
  if (server == NULL || text == NULL) {
    return fail(EINVAL);
  }
  if (index >= server->listeners_count) {
    return fail(ENOENT);
  }
  addr_format_listen(&server->listeners[index].addr, address, sizeof(address));
  if (strlen(address) >= size) {
    return fail(ENOSPC);
  }
  memcpy(text, address, strlen(address) + 1);
  return 0;
}
