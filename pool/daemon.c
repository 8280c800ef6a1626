/*
 * daemon: see daemon.h.
 *
 * The main thread prepares the process (standard descriptors, descriptor limit, signals), loads the
 * configuration, and lets pool/serve serve.
 */
#include "pool/daemon.h"

#include "core/sys.h"
#include "core/error_text.h"
#include "core/env_vars.h"
#include "core/streams.h"
#include "core/config.h"
#include "pool/thread.h"
#include "pool/machine.h"
#include "pool/signals.h"
#include "pool/privileges.h"
#include "pool/log_writer.h"
#include "pool/plugin.h"
#include "pool/confine.h"
#include "pool/upgrade_round.h"
#include "pool/upgrade_ask.h"
#include "pool/serve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
  struct service service;
  struct signals signals;
  const struct xchg_handler *handler; /* borrows; NULL = a built-in exchange */
  struct plugin plugin;
  struct sandbox sandbox;
  struct upgrade_successor successor;
  struct serve serve;
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

static void find_facts(struct daemon *d) {
  machine_find_facts(&d->facts);
  machine_find_descriptors(&d->facts, true);
  listen_fds_read(&d->facts.passed, d->environment, successor_passed_to(&d->successor));
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
  if (writer == NULL || log_writer_start(writer, NULL) == -1) {
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

/* Return: SERVER_OSERR. */
static int print_no_log(const struct daemon *d) {
  char text[ERROR_TEXT_MAX];
  const char *error = error_text(errno, text); /* before error_begin, which may change errno */
  fprintf(error_begin(d),
          "cannot start the log: %s; raise the limits on threads and memory (ulimit -u, ulimit "
          "-v, pids.max)\n",
          error);
  return SERVER_OSERR;
}

/* No thread that serves, accepts or handles signals writes to standard error. */
static int open_log(struct daemon *d) {
  d->log_writer = log_writer_create(STDERR_FILENO, d->config.log_format, false);
  if (d->log_writer == NULL) {
    return print_no_log(d);
  }
  log_init(&d->log, log_writer_put, d->log_writer, d->config.log_level, d->config.log_format);
  return 0;
}

/* All addresses are bound, and there is no thread yet. Return: the exit code. */
static int serve(struct daemon *d) {
  const struct confine_setup confine = {
      .config = &d->config, .facts = &d->facts, .handler = d->handler != NULL, .log = &d->log};
  int code = confine_begin(&d->sandbox, &confine);
  int started = code == 0 ? log_writer_start(d->log_writer, &d->sandbox) : 0;
  if (started == 1) {
    log_errno(&d->log, LOG_WARN, "the thread of the log runs without a part of the sandbox", errno);
  } else if (started == -1) {
    code = print_no_log(d);
  }
  if (code == 0) {
    code = serve_run(&d->serve);
  }
  sandbox_fini(&d->sandbox);
  return code;
}

static int run_logged(struct daemon *d) {
  bool upgrades = d->config.upgrade != UPGRADE_OFF && d->config.model == MODEL_POOL;
  bool reaps = d->handler == NULL && d->config.model != MODEL_FORK; /* that waits for its own */
  int signals = signals_open(&d->signals, upgrades);
  if (reaps) {
    signals_reap_children(&d->signals);
  }
  config_warn(&d->config, d->environment, &d->facts, &d->log);
  service_open(&d->service, d->environment, &d->log);
  if (successor_is(&d->successor)) {
    service_set_upgrading(&d->service);
  }
  int code = SERVER_OSERR;
  if (signals == -1) {
    log_msg(&d->log, LOG_ERROR, "cannot wait for signals");
  } else {
    const struct serve_setup setup = {.config = &d->config,
                                      .facts = &d->facts,
                                      .environment = d->environment,
                                      .handler = d->handler,
                                      .log = &d->log,
                                      .log_writer = d->log_writer,
                                      .signals = &d->signals,
                                      .service = &d->service,
                                      .sandbox = &d->sandbox,
                                      .successor = &d->successor};
    code = serve_open(&d->serve, &setup);
    if (code == 0) {
      code = serve(d);
    }
    code = serve_close(&d->serve, code);
    signals_close(&d->signals);
  }
  service_close(&d->service);
  return code;
}

static int run(struct daemon *d) {
  int code = open_log(d);
  if (code == 0) {
    code = run_logged(d);
  }
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

/* ${variable} has the value ${text}. Return: EXIT_CONFIG. */
static int refuse_value(const struct daemon *d, const char *variable, const char *text,
                        const char *why) {
  FILE *out = error_begin(d);
  fprintf(out, "%s='", variable);
  config_print_escaped(out, text, strlen(text), ARGUMENT_SHOWN_MAX, QUOTED);
  fputs("': ", out);
  config_print_escaped(out, why, strlen(why), SIZE_MAX, "");
  fputc('\n', out);
  return EXIT_CONFIG;
}

/* Find the user to become. Return: 0, or an exit code. */
static int choose_user(struct daemon *d) {
  const char *wrong = d->config.user.set ? privileges_find_user(&d->config.user) : NULL;
  return wrong == NULL
             ? 0
             : refuse_value(d, "XCHG_USER", env_vars_find(d->environment, "XCHG_USER"), wrong);
}

/* Load the plug-in, if there is one, and check the handler. Return: 0, or an exit code. */
static int choose_handler(struct daemon *d) {
  char why[512];
  if (d->config.handler != NULL) {
    d->handler = plugin_open(&d->plugin, d->config.handler, why, sizeof(why));
    if (d->handler == NULL) {
      return refuse_value(d, "XCHG_HANDLER", d->config.handler, why);
    }
  }
  if (d->handler != NULL && !server_handler_valid(d->handler, &d->config, why, sizeof(why))) {
    fprintf(error_begin(d), "%s\n", why);
    return EXIT_CONFIG;
  }
  return 0;
}

/* Ask a running server to upgrade. Return: the exit code. */
static int ask_upgrade(struct daemon *d) {
  char *text = NULL;
  size_t size;
  FILE *why = open_memstream(&text, &size);
  int code = why == NULL ? SERVER_OSERR : upgrade_ask(&d->config, d->environment, stdout, why);
  if (why == NULL || fclose(why) == EOF) {
    return SERVER_OSERR;
  }
  if (size > 0) {
    fputs(text, error_begin(d));
  }
  free(text);
  return code == 0 ? finish_output(d) : code;
}

/* The old process of an upgrade gives nothing over. Return: SERVER_OSERR. */
static int print_alone(const struct daemon *d) {
  fprintf(error_begin(d), "cannot replace the old process: %s\n", d->successor.why);
  return SERVER_OSERR;
}

/* Serve, as the new process of an upgrade if there is one. Return: the exit code. */
static int run_or_succeed(struct daemon *d) {
  if (successor_is(&d->successor) &&
      successor_introduce(&d->successor, &d->config, &d->facts, d->handler) == -1) {
    return print_alone(d);
  }
  return run(d);
}

/* Load the configuration and do what ${flag} asks for; NULL = serve. */
static int configured(struct daemon *d, const char *flag) {
  if (successor_is(&d->successor)) {
    thread_set_name(d->facts.program); /* kernels before Linux 6.14 name it after a descriptor */
    if (successor_hear(&d->successor) == -1) {
      return print_alone(d);
    }
  }
  find_facts(d);
  if (config_load(&d->config, d->environment, &d->facts, d->errors) != 0) {
    return errno == ENOMEM ? SERVER_OSERR : EXIT_CONFIG;
  }
  int code = choose_user(d); /* before code of others runs */
  if (code == 0) {
    code = choose_handler(d);
  }
  if (code == 0 && flag == NULL) {
    code = run_or_succeed(d);
  } else if (code == 0 && strcmp(flag, "--explain") == 0) {
    config_explain(&d->config, d->environment, &d->facts, stdout);
    code = finish_output(d);
  } else if (code == 0 && strcmp(flag, "--upgrade") == 0) {
    code = ask_upgrade(d);
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
  if (flag != NULL && strcmp(flag, "--check") != 0 && strcmp(flag, "--explain") != 0 &&
      strcmp(flag, "--upgrade") != 0) {
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

/* The child serves, and this process has failed to take its place. Return: the exit code. */
static int stay_parent(struct daemon *d) {
  if (d->serve.stop_waits) {
    upgrade_pass(d->successor.old_fd, d->signals.stop);
  }
  if (signals_open(&d->signals, true) == -1) {
    return SERVER_OSERR;
  }
  if (d->successor.signal != 0) {
    (void)signals_note(&d->signals, d->successor.signal, SIGNALS_PASSED); /* the child has it */
  }
  d->signals.reaps = d->handler == NULL;
  int code = upgrade_round_wait(d->successor.old_fd, &d->signals);
  signals_close(&d->signals);
  return code;
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
                       .facts = {.handler = own, .program = program}};
  int opened = successor_open(&d->successor, &d->environment);
  if (successor_is(&d->successor)) {      /* programs that the handler starts would refuse it */
    (void)unsetenv(UPGRADE_CHANNEL_NAME); /* cannot fail: the name is valid */
  }
  int code = opened == 0 ? command(d, argc, argv) : log_refused(program);
  successor_close(&d->successor);
  if (fclose(errors) == EOF) {
    (void)log_refused(program); /* no memory for the text */
  } else if (text_size > 0) {
    print_errors(text);
  }
  free(text);
  if (successor_stays_parent(&d->successor)) {
    code = stay_parent(d);
  }
  upgrade_forget(&d->successor.old_fd);
  free(d);
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
