/*
 * config: everything that can be tuned, from one table.
 *
 * The table in config.c has a row a variable: name, default, kind and range, where it goes and what
 * it does.  From it come the parser, --help, --explain, the man page and docs/configuration.md.
 * Loading lists all faults, one line each, before it fails. What the machine says (CPUs,
 * descriptors) comes in as facts, so that this module asks nobody and tests can say anything.
 * Constant once loaded: every thread may read it.
 */
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include "core/addr.h"
#include "core/log.h"
#include "core/xchg.h"

#include <stdio.h>

#define CONFIG_LISTEN_MAX 64

enum config_exchange { EXCHANGE_GREET, EXCHANGE_LINE, EXCHANGE_ECHO, EXCHANGE_DISCARD };
enum config_model { MODEL_POOL, MODEL_ITERATIVE, MODEL_FORK, MODEL_THREAD };
enum config_dispatch { DISPATCH_LEAST, DISPATCH_ROUND_ROBIN };
enum config_overload { OVERLOAD_WAIT, OVERLOAD_REFUSE };
enum config_reply { REPLY_NONE, REPLY_ECHO, REPLY_TEXT };

/* What the machine allows; the caller finds out. */
struct config_facts {
  uint32_t cpus;           /* CPUs that this process may use, 1 at least */
  bool cpus_from_cgroup;   /* ... and a cgroup's quota is what bounds them */
  uint64_t descriptors;    /* RLIMIT_NOFILE, hard */
  uint32_t somaxconn;      /* net.core.somaxconn; 0 = unknown */
  uint32_t sockets_passed; /* by LISTEN_FDS, for this process; they replace XCHG_LISTEN */
};

struct config_text {
  uint8_t *bytes; /* owns */
  size_t size;
};

struct config_blocks {
  struct addr_block *blocks; /* owns */
  size_t count;
};

struct xchg_config {
  /* the exchange */
  enum config_exchange exchange; /* the preset: what is not set below came from it */
  bool has_greeting;
  struct config_text greeting; /* without terminator or length */
  enum config_reply reply;
  struct config_text reply_text;
  struct xchg_frame frame;
  uint64_t messages;
  uint64_t max_message_bytes;

  /* where to listen */
  struct addr_listen listen[CONFIG_LISTEN_MAX];
  uint32_t listen_count;
  uint32_t backlog;
  bool reuseport, nodelay, keepalive;
  uint64_t defer_accept_s;
  uint32_t fastopen;
  uint64_t sndbuf_bytes; /* 0 = the kernel's own */

  /* where connections run */
  enum config_model model;
  uint32_t workers;
  uint32_t queue; /* rounded up to a power of two */
  enum config_dispatch dispatch;
  bool pin;
  uint64_t spin_ns;

  /* limits */
  uint64_t max_connections;
  enum config_overload overload;
  uint64_t max_per_ip; /* 0 = no limit */
  struct config_blocks allow, deny;
  uint64_t max_pending_bytes;

  /* times, in ns; 0 = off */
  uint64_t idle_timeout_ns, message_timeout_ns, write_timeout_ns, max_lifetime_ns;
  uint64_t linger_ns, stop_grace_ns, drain_timeout_ns;

  enum log_level log_level;
  enum log_format log_format;
};

/**
 * config_load(config, environment, facts, out):
 * Fill ${config} from the NULL-terminated ${environment}.  Every fault (a value that does not parse
 * or is out of range, values that contradict each other, an unknown XCHG_ variable) is written to
 * ${out} as one line: variable, value (escaped), what is allowed.
 * Return: the number of faults; with 0, ${config} is complete and config_fini is due, else there is
 * nothing to free.
 */
unsigned config_load(struct xchg_config *config, const char *const *environment,
                     const struct config_facts *facts, FILE *out);
void config_fini(struct xchg_config *config);

/**
 * config_warn(config, environment, facts, log): log what is allowed but surely not meant: variables
 * that the model ignores (one line), a backlog over somaxconn.  Thread: main, before the start.
 */
void config_warn(const struct xchg_config *config, const char *const *environment,
                 const struct config_facts *facts, struct log *log);

/** Write what --help and --explain print; and the generated pages. */
void config_help(FILE *out);
void config_explain(const struct xchg_config *config, const char *const *environment,
                    const struct config_facts *facts, FILE *out);
void config_write_markdown(FILE *out); /* docs/configuration.md */
void config_write_man(FILE *out);      /* the variables' section of docs/man/xchgd.8 */

/** Descriptors that the server itself needs with ${config}, connections apart (the reserve). */
uint64_t config_reserve(const struct xchg_config *config, const struct config_facts *facts);

#endif
