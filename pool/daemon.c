/*
 * daemon: see daemon.h.
 *
 * The main thread prepares the process (standard descriptors, descriptor limit, signals), loads the
 * configuration, starts a server, then waits for signals and for the server's end.  All connections
 * run on other threads.
 */
#include "pool/daemon.h"

#include "core/sys.h"
#include "core/error_text.h"
#include "core/parse.h"
#include "core/env_vars.h"
#include "core/streams.h"
#include "core/config.h"
#include "net/sd_notify.h"
#include "pool/thread.h"
#include "pool/machine.h"
#include "pool/signals.h"
#include "pool/log_writer.h"
#include "pool/plugin.h"
#include "pool/server_stats.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long threads may take after the drain timeout, if nothing ends meanwhile. */
#define STUCK_NS (2 * NS_PER_S)

#define EXIT_SECOND_SIGNAL 1
#define EXIT_USAGE 64
#define EXIT_OUTPUT 74
#define EXIT_CONFIG 78

/* The bytes of others' texts that a line shows, and what is escaped within quotes. */
#define PROGRAM_SHOWN_MAX 64
#define ARGUMENT_SHOWN_MAX 256
#define QUOTED "'\"\\"

/* The state of the program. */
struct daemon {
  const char *const *environment;
  FILE *errors; /* owns; lines for standard error, printed at the end: print_errors */
  struct config_facts facts;
  struct config config;
  struct log log;
  struct log_writer *log_writer; /* owns */
  struct sd_notify notify;
  struct signals signals;
  const struct xchg_handler *handler; /* borrows; NULL = a built-in exchange */
  struct plugin plugin;
  struct xchg_server server;
  uint64_t drained_ns; /* when the drain timeout is over; NEVER = no stop */
  uint64_t stuck_ns;   /* when threads that have not ended are left alone */
  uint64_t ended;      /* connections that had ended when stuck_ns was set */
};

/* ---- the process ---- */

/* Begin a line with the name of the program, which its caller has chosen. */
static void print_program(FILE *out, const char *program) {
  config_print_escaped(out, program, strlen(program), PROGRAM_SHOWN_MAX, "");
  fputs(": ", out);
}

/* Fill closed standard descriptors. Return: 0, or an exit code after one line. */
static int reserve_standard(const char *program) {
  char text[ERROR_TEXT_MAX];
  const int fd = streams_reserve();
  if (fd == -1) {
    return 0;
  }
  const char *error = error_text(errno, text); /* before a call that may change errno */
  print_program(stderr, program);
  fprintf(stderr,
          "cannot open /dev/null in place of descriptor %d, which is closed: %s; start it "
          "with descriptors 0, 1 and 2 open\n",
          fd, error);
  return SERVER_OSERR;
}

/* Sockets that a service manager has passed to this process (sd_listen_fds(3)). */
static uint32_t passed_sockets(const char *const *environment) {
  const char *pid_text = env_vars_find(environment, "LISTEN_PID");
  const char *fds_text = env_vars_find(environment, "LISTEN_FDS");
  uint64_t pid, fds;
  if (pid_text == NULL || fds_text == NULL || parse_u64(pid_text, &pid) == -1 ||
      parse_u64(fds_text, &fds) == -1 || pid != (uint64_t)getpid()) {
    return 0;
  }
  return (uint32_t)min_u64(fds, UINT32_MAX);
}

static void find_facts(struct daemon *d) {
  machine_find_facts(&d->facts);
  machine_find_descriptors(&d->facts, true);
  d->facts.sockets_passed = passed_sockets(d->environment);
}

/* ---- errors before the log ---- */

/* Begin the line of an error. Return: the stream. */
static FILE *error_begin(const struct daemon *d) {
  print_program(d->errors, d->facts.program);
  return d->errors;
}

/*
 * Print lines to standard error as the log does: it waits for at most a second, and a signal that a
 * write raises does not end the process.
 */
static void print_errors(char *text) {
  struct log_writer *writer = log_writer_create(STDERR_FILENO, LOG_LOGFMT, true);
  if (writer == NULL || log_writer_start(writer) == -1) {
    fputs(text, stderr); /* there is no thread: this may wait, until a signal ends the process */
  } else {
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
      if (*line != 0) {
        log_writer_put(writer, XCHG_LOG_ERROR, line);
      }
    }
  }
  log_writer_destroy(writer);
}

/* ---- serving ---- */

static void log_listening(struct daemon *d) {
  const struct config *config = &d->config;
  for (uint32_t i = 0; i < d->server.listeners_count; i++) {
    char text[sizeof(d->config.listen[0].path) + 16];
    struct log_line line;
    log_begin_always(&line, &d->log, "listening");
    log_str(&line, "addr", addr_format_listen(&d->server.listeners[i].addr, text, sizeof(text)));
    if (d->server.listeners[i].addr.proxy != ADDR_PROXY_OFF) {
      log_str(&line, "proxy", addr_proxy_name(d->server.listeners[i].addr.proxy));
    }
    log_str(&line, "exchange", d->handler != NULL ? "handler" : config_exchange_name(config));
    log_str(&line, "model", config_model_name(config));
    if (config->model == MODEL_POOL) {
      log_u64(&line, "workers", config->workers);
    }
    log_str(&line, "version", XCHG_VERSION);
    log_end(&line);
  }
}

static void stop(struct daemon *d) {
  log_msg(&d->log, LOG_INFO, "stopping");
  sd_notify_send(&d->notify, "STOPPING=1", &d->log);
  uint64_t patience_ns = max_u64(d->config.drain_timeout_ns, d->config.stop_grace_ns);
  d->drained_ns = add_sat_u64(sys_now_ns(), patience_ns);
  d->stuck_ns = add_sat_u64(d->drained_ns, STUCK_NS);
  server_drain(&d->server);
}

/* Handle one signal. Return: true if the process must end at once. */
static bool handle_signal(struct daemon *d, bool *stopping) {
  switch (signals_next(&d->signals)) {
    case SIGNALS_STOP:
      if (*stopping) {
        return true;
      }
      *stopping = true;
      stop(d);
      return false;
    case SIGNALS_STATS:
      server_report(&d->server, "stats", true);
      return false;
    case SIGNALS_CHILD:
      server_sigchld(&d->server);
      return false;
    case SIGNALS_NONE:
      return false;
  }
  return false;
}

/*
 * Is it time to end? Connections end at the drain timeout, and offloaded work may run until then.
 * A callback that blocks its thread outlives it: the thread is left alone once nothing has ended
 * for STUCK_NS.
 */
static bool is_over(struct daemon *d) {
  uint64_t now_ns = sys_now_ns();
  if (server_finished(&d->server)) {
    return server_stop_works(&d->server) == 0 || now_ns >= d->drained_ns;
  }
  if (now_ns < d->stuck_ns) {
    return false;
  }
  struct stats totals;
  server_totals(&d->server, &totals);
  uint64_t ended = stats_ended(&totals);
  bool stuck = ended == d->ended;
  d->ended = ended;
  d->stuck_ns = now_ns + STUCK_NS;
  return stuck;
}

/* How long to wait for an event, in ms; -1 = without a limit. */
static int patience_ms(const struct daemon *d) {
  uint64_t until_ns = server_finished(&d->server) ? d->drained_ns : d->stuck_ns;
  if (sd_notify_pending(&d->notify)) {
    return SD_NOTIFY_RETRY_MS;
  }
  if (until_ns == NEVER) {
    return -1;
  }
  uint64_t ms = sub_sat_u64(until_ns, sys_now_ns()) / NS_PER_MS + 1; /* rounded up */
  return (int)min_u64(ms, INT32_MAX);
}

/* Wait for signals and for the server's end. Return: the exit code. */
static int attend(struct daemon *d) {
  bool stopping = false;
  while (!is_over(d)) {
    struct pollfd fds[] = {{.fd = d->signals.fd, .events = POLLIN},
                           {.fd = server_done_fd(&d->server), .events = POLLIN}};
    (void)sys_poll(fds, count_of(fds), patience_ms(d)); /* EINTR and the like: look again */
    sd_notify_retry(&d->notify, &d->log);
    if (fds[0].revents != 0 && handle_signal(d, &stopping)) {
      log_msg(&d->log, LOG_WARN, "second signal: ending at once");
      log_writer_flush(d->log_writer);
      _exit(EXIT_SECOND_SIGNAL);
    }
    uint64_t count;
    if (fds[1].revents != 0 && read(fds[1].fd, &count, sizeof(count)) == -1 && errno != EAGAIN) {
      log_errno(&d->log, LOG_ERROR, "cannot read an eventfd", errno);
    }
    if (server_failed(&d->server) && !stopping) {
      stopping = true;
      stop(d);
    }
  }
  return server_failed(&d->server) ? SERVER_OSERR : 0;
}

/*
 * End now if work or a callback still runs. It uses code and data that a return would unmap, and
 * nothing can stop it. So nothing is freed, and neither `done` nor on_stop is called.
 */
static void leave_running(struct daemon *d, int code) {
  bool finished = server_finished(&d->server);
  uint32_t jobs = server_stop_works(&d->server);
  if (finished && jobs == 0) {
    return;
  }
  struct log_line line;
  log_begin(&line, &d->log, LOG_WARN,
            finished ? "ending before offloaded work has ended" : "ending while a callback blocks");
  log_u64(&line, "jobs", jobs);
  log_end(&line);
  server_close_listeners(&d->server);
  log_writer_flush(d->log_writer);
  _exit(code);
}

static int serve(struct daemon *d) {
  const struct server_setup setup = {.config = &d->config,
                                     .log = &d->log,
                                     .handler = d->handler,
                                     .passed = d->facts.sockets_passed};
  int code = server_open(&d->server, &setup);
  if (code == 0) {
    code = server_start(&d->server);
  }
  if (code == 0) {
    log_listening(d);
    sd_notify_send(&d->notify, "READY=1", &d->log);
    code = attend(d);
    server_report(&d->server, "stopped", !server_finished(&d->server));
    leave_running(d, code);
  }
  server_close(&d->server);
  return code;
}

/* No thread that serves, accepts or handles signals writes to standard error. */
static int start_log(struct daemon *d) {
  d->log_writer = log_writer_create(STDERR_FILENO, d->config.log_format, false);
  if (d->log_writer == NULL || log_writer_start(d->log_writer) == -1) {
    char text[ERROR_TEXT_MAX];
    const char *error = error_text(errno, text); /* before error_begin, which may change errno */
    fprintf(error_begin(d),
            "cannot start the log: %s; raise the limits on threads and memory (ulimit -u, ulimit "
            "-v, pids.max)\n",
            error);
    return -1;
  }
  log_init(&d->log, log_writer_put, d->log_writer, d->config.log_level, d->config.log_format);
  return 0;
}

static int run_logged(struct daemon *d) {
  int signals = signals_open(&d->signals);
  if (d->handler == NULL && d->config.model != MODEL_FORK) { /* model_fork waits for its own */
    signals_reap_children();
  }
  config_warn(&d->config, d->environment, &d->facts, &d->log);
  if (sd_notify_open(&d->notify, env_vars_find(d->environment, "NOTIFY_SOCKET")) == -1) {
    log_errno(&d->log, LOG_WARN, "cannot reach NOTIFY_SOCKET", errno);
  }
  int code = SERVER_OSERR;
  if (signals == -1) {
    log_msg(&d->log, LOG_ERROR, "cannot wait for signals");
  } else {
    code = serve(d);
    signals_close(&d->signals);
  }
  sd_notify_close(&d->notify);
  return code;
}

static int run(struct daemon *d) {
  int code = start_log(d) == 0 ? run_logged(d) : SERVER_OSERR;
  log_writer_destroy(d->log_writer);
  return code;
}

/* ---- the command line ---- */

static int usage(const struct daemon *d, const char *argument) {
  const char *program = d->facts.program;
  FILE *out = error_begin(d);
  fputs("unknown argument '", out);
  config_print_escaped(out, argument, strlen(argument), ARGUMENT_SHOWN_MAX, QUOTED);
  fputs("'; try '", out);
  config_print_escaped(out, program, strlen(program), PROGRAM_SHOWN_MAX, QUOTED);
  fputs(" --help'\n", out);
  return EXIT_USAGE;
}

/* Write what was printed. Return: 0, or an exit code after one line. */
static int finish_output(const struct daemon *d) {
  if (streams_flush(stdout) == 0) {
    return 0;
  }
  char text[ERROR_TEXT_MAX];
  const char *error = error_text(errno, text); /* before error_begin, which may change errno */
  fprintf(error_begin(d), "cannot write to standard output: %s\n", error);
  return EXIT_OUTPUT;
}

/* Load the plug-in, if there is one, and check the handler. Return: 0, or an exit code. */
static int choose_handler(struct daemon *d) {
  char why[512];
  if (d->config.handler != NULL) {
    d->handler = plugin_open(&d->plugin, d->config.handler, why, sizeof(why));
    if (d->handler == NULL) {
      FILE *out = error_begin(d);
      fputs("XCHG_HANDLER='", out);
      config_print_escaped(out, d->config.handler, strlen(d->config.handler), ARGUMENT_SHOWN_MAX,
                           QUOTED);
      fputs("': ", out);
      config_print_escaped(out, why, strlen(why), sizeof(why), "");
      fputc('\n', out);
      return EXIT_CONFIG;
    }
  }
  if (d->handler != NULL && !server_handler_valid(d->handler, &d->config, why, sizeof(why))) {
    fprintf(error_begin(d), "%s\n", why);
    return EXIT_CONFIG;
  }
  return 0;
}

/* Load the configuration and do what ${flag} asks for; NULL = serve. */
static int configured(struct daemon *d, const char *flag) {
  find_facts(d);
  if (config_load(&d->config, d->environment, &d->facts, d->errors) != 0) {
    return errno == ENOMEM ? SERVER_OSERR : EXIT_CONFIG;
  }
  int code = choose_handler(d);
  if (code == 0 && flag == NULL) {
    code = run(d);
  } else if (code == 0 && strcmp(flag, "--explain") == 0) {
    config_explain(&d->config, d->environment, &d->facts, stdout);
    code = finish_output(d);
  }
  plugin_close(&d->plugin);
  config_fini(&d->config);
  return code;
}

static int command(struct daemon *d, int argc, char **argv) {
  const char *flag = argc > 1 ? argv[1] : NULL;
  if (argc > 2) {
    return usage(d, argv[2]);
  }
  if (flag != NULL && (strcmp(flag, "--help") == 0 || strcmp(flag, "-h") == 0)) {
    config_help(stdout);
    return finish_output(d);
  }
  if (flag != NULL && strcmp(flag, "--version") == 0) {
    printf("%s " XCHG_VERSION "\n", d->facts.handler ? "libxchg" : "xchgd");
    return finish_output(d);
  }
  if (flag != NULL && strcmp(flag, "--check") != 0 && strcmp(flag, "--explain") != 0) {
    return usage(d, flag);
  }
  return configured(d, flag);
}

/* The last part of argv[0]; xchgd is called xchgd under any name. */
static const char *program_name(int argc, char **argv, bool own) {
  if (!own || argc < 1 || argv[0] == NULL || argv[0][0] == 0) {
    return "xchgd";
  }
  const char *slash = strrchr(argv[0], '/');
  return slash == NULL ? argv[0] : slash + 1;
}

/* There is no log yet. */
static int log_refused(const char *program) {
  char text[ERROR_TEXT_MAX];
  const char *error = error_text(errno, text); /* before a call that may change errno */
  print_program(stderr, program);
  fprintf(stderr, "cannot start: %s\n", error);
  return SERVER_OSERR;
}

static int start(const struct xchg_handler *handler, bool own, int argc, char **argv) {
  const char *program = program_name(argc, argv, own);
  char *text = NULL;
  size_t text_size;
  int refused = reserve_standard(program);
  if (refused != 0) {
    return refused;
  }
  struct daemon *d = aligned_alloc(CACHE_LINE, sizeof(*d));
  FILE *errors = d == NULL ? NULL : open_memstream(&text, &text_size);
  if (errors == NULL) {
    int code = log_refused(program);
    free(d);
    return code;
  }
  *d = (struct daemon){.environment = (const char *const *)environ,
                       .errors = errors,
                       .handler = handler,
                       .notify = {.fd = -1},
                       .drained_ns = NEVER,
                       .stuck_ns = NEVER,
                       .facts = {.handler = own, .program = program}};
  int code = command(d, argc, argv);
  free(d);
  if (fclose(errors) == EOF) {
    (void)log_refused(program); /* no memory for the text */
  } else if (text_size > 0) {
    print_errors(text);
  }
  free(text);
  return code;
}

int daemon_main(const struct xchg_handler *handler, int argc, char **argv) {
  if (handler == NULL) {
    thread_set_name("xchgd");
  }
  return start(handler, handler != NULL, argc, argv);
}

int xchg_main(const struct xchg_handler *handler, int argc, char **argv) {
  if (handler == NULL) {
    print_program(stderr, program_name(argc, argv, true));
    fputs("there is no handler\n", stderr);
    return EXIT_CONFIG;
  }
  return daemon_main(handler, argc, argv);
}
