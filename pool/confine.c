/*
 * confine: see confine.h.
 *
 * A failure of XCHG_USER always ends the start.  A failure of another step ends it only if
 * XCHG_SANDBOX is `on` or `trap`.
 */
#include "pool/confine.h"

#include "core/error_text.h"
#include "core/metrics.h"
#include "pool/privileges.h"
#include "pool/server.h"
#include "pool/process_facts.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

/* Return: SERVER_OSERR. */
static int log_failed(struct log *log, const char *what) {
  log_errno(log, LOG_ERROR, what, errno);
  return SERVER_OSERR;
}

/* ---- the user and the capabilities ---- */

/* A right was not given up. Return: 0, or an exit code where that is required. */
static int log_kept(const struct confine_setup *setup, const char *what) {
  bool required = config_sandbox_mode(setup->config) >= SANDBOX_ON;
  log_errno(setup->log, required ? LOG_ERROR : LOG_WARN, what, errno);
  return required ? SERVER_OSERR : 0;
}

static int become_user(const struct confine_setup *setup) {
  const struct config *config = setup->config;
  const char *failed = privileges_become(&config->user);
  if (failed != NULL) {
    return log_failed(setup->log, failed);
  }
  if (privileges_set_core(config->core) == -1) {
    return log_failed(setup->log, "cannot apply XCHG_CORE");
  }
  return 0;
}

static int change_user(const struct confine_setup *setup) {
  int code = 0;
  if (privileges_bound() == -1) {
    code = log_kept(setup, "cannot empty the bounding set of capabilities");
  }
  if (code == 0 && setup->config->user.set) {
    code = become_user(setup);
  }
  return code;
}

/* Warn if a stop cannot remove one of the socket files: one line, whatever their number. */
static void warn_of_files(const struct confine_setup *setup) {
  const struct config *config = setup->config;
  const struct listen_fds *passed = &setup->facts->passed; /* these files stay */
  uint32_t count = passed->data_count > 0 ? 0 : config->listen_count;
  uint32_t admin_count = passed->admin_count > 0 ? 0 : config->admin_count;
  for (uint32_t i = 0; i < count + admin_count; i++) {
    const struct addr_listen *at = i < count ? &config->listen[i] : &config->admin[i - count];
    if (at->addr.family == ADDR_UNIX && !privileges_may_remove(at->path)) {
      char text[sizeof(at->path) + 16];
      struct log_line line;
      log_begin(&line, setup->log, LOG_WARN,
                "the stop cannot remove a socket file: its folder is not writable for the user");
      log_str(&line, "addr", addr_format_listen(at, text, sizeof(text)));
      log_end(&line);
      return;
    }
  }
}

/* ---- the sandbox ---- */

/*
 * Threads that already run keep all rights: those of a plug-in's constructors, of a preloaded
 * library, of jemalloc with background_thread:true.  Return: 0, or an exit code.
 */
static int check_threads(const struct confine_setup *setup) {
  struct process_facts facts;
  struct process_now now;
  process_facts_open(&facts);
  process_facts_look(&facts, &now);
  process_facts_close(&facts);
  if (now.threads == METRICS_UNKNOWN || now.threads == 1) {
    return 0;
  }
  bool required = setup->config->sandbox >= SANDBOX_ON;
  struct log_line line;
  log_begin(&line, setup->log, required ? LOG_ERROR : LOG_WARN,
            "threads that already run stay outside of the sandbox");
  log_u64(&line, "threads", now.threads - 1);
  log_end(&line);
  return required ? SERVER_OSERR : 0;
}

/* What the kernel lacks, in one line. */
static void log_missing(const struct sandbox *sandbox, struct log *log, bool required) {
  const struct sandbox_facts *facts = &sandbox->facts;
  char text[ERROR_TEXT_MAX];
  struct log_line line;
  if (facts->landlock_error == 0 && facts->seccomp_error == 0 && facts->tried) {
    return;
  }
  log_begin(&line, log, required ? LOG_ERROR : LOG_WARN,
            required ? "the kernel lacks what XCHG_SANDBOX asks for"
                     : "the kernel lacks a part of the sandbox");
  if (facts->landlock_error != 0) {
    log_str(&line, "landlock", error_text(facts->landlock_error, text));
  }
  if (facts->seccomp_error != 0) {
    log_str(&line, "seccomp", error_text(facts->seccomp_error, text));
  }
  if (!facts->tried) {
    log_str(&line, "machine", "untested");
  }
  if (required) {
    log_str(&line, "fix", "XCHG_SANDBOX=auto starts without it");
  }
  log_end(&line);
}

static int prepare(struct sandbox *sandbox, const struct confine_setup *setup) {
  const struct sandbox_setup wanted = {.mode = config_sandbox_mode(setup->config),
                                       .handler = setup->handler,
                                       .main_open = setup->config->upgrade != UPGRADE_OFF,
                                       .config = setup->config};
  if (wanted.mode == SANDBOX_OFF) {
    return sandbox_prepare(sandbox, &wanted);
  }
  int code = check_threads(setup);
  if (code == 0) {
    bool refused = sandbox_prepare(sandbox, &wanted) == -1;
    log_missing(sandbox, setup->log, refused);
    code = refused ? SERVER_OSERR : 0;
  }
  return code;
}

/* Restrict main. Return: 0, or an exit code. */
static int restrict_main(struct sandbox *sandbox, enum sandbox_kind kind, struct log *log) {
  if (sandbox_enter(sandbox, kind) == 0) {
    return 0;
  }
  if (sandbox_required(sandbox)) {
    return log_failed(log, "cannot enter the sandbox");
  }
  sandbox->facts.incomplete = true;
  log_errno(log, LOG_WARN, "the main thread runs without a part of the sandbox", errno);
  return 0;
}

/* ---- the order ---- */

int confine_begin(struct sandbox *sandbox, const struct confine_setup *setup) {
  const struct config *config = setup->config;
  bool drops = config->sandbox != SANDBOX_OFF;
  int code = drops || config->user.set ? change_user(setup) : 0;
  *sandbox = (struct sandbox){.mode = SANDBOX_OFF, .ruleset_fd = -1};
  if (code == 0 && drops && privileges_drop() == -1) {
    code = log_kept(setup, "cannot give up capabilities");
  }
  if (code != 0) {
    return code;
  }
  warn_of_files(setup);
  code = prepare(sandbox, setup);
  if (code == 0 && setup->handler && config->upgrade == UPGRADE_OFF) {
    code = restrict_main(sandbox, SANDBOX_HANDLER, setup->log);
  }
  return code;
}

int confine_main(struct sandbox *sandbox, struct log *log) {
  char caps[20];
  struct log_line line;
  uint64_t held = privileges_held(); /* the filter refuses the question */
  uint64_t user = geteuid();
  int code = restrict_main(sandbox, SANDBOX_MAIN, log);
  sandbox_fini(sandbox);
  if (code != 0) {
    return code;
  }
  snprintf(caps, sizeof(caps), "%" PRIx64, held);
  log_begin(&line, log, LOG_INFO, "sandbox");
  log_u64(&line, "user", user);
  log_u64(&line, "landlock", (uint64_t)sandbox->facts.landlock_abi);
  log_str(&line, "seccomp", sandbox->facts.seccomp);
  log_str(&line, "caps", caps);
  if (sandbox->facts.main_open || sandbox->facts.incomplete) {
    log_str(&line, "main", sandbox->facts.main_open ? "open" : "incomplete");
  }
  log_end(&line);
  return 0;
}
