/*
 * config: the values of all variables, the facts they depend on, and the calls that load them.
 *
 * The table in config_vars.c has a row for each variable: name, default, kind, range, the member
 * that holds it, and what it does.  The parser, --help, --explain and the generated pages use it.
 * The machine's properties come in as facts, so this module makes no system call, and tests can
 * choose any facts.
 */
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include "core/xchg.h"
#include "core/listen_fds.h"
#include "core/log.h"

#include <stdio.h>

#define CONFIG_LISTEN_MAX LISTEN_FDS_DATA_MAX
#define CONFIG_ADMIN_MAX LISTEN_FDS_ADMIN_MAX

/* The limit on open connections of the admin endpoint: see pool/admin_server. */
#define CONFIG_ADMIN_CONNECTIONS 24

enum config_exchange { EXCHANGE_GREET, EXCHANGE_LINE, EXCHANGE_ECHO, EXCHANGE_DISCARD };
enum config_model { MODEL_POOL, MODEL_ITERATIVE, MODEL_FORK, MODEL_THREAD };
enum sandbox_mode { SANDBOX_OFF, SANDBOX_AUTO, SANDBOX_ON, SANDBOX_TRAP };
/* Whether a new process may take over: by SIGUSR2, and (SOCKET) by a request. */
enum config_upgrade { UPGRADE_OFF, UPGRADE_ON, UPGRADE_SOCKET };

/* Who connects to a listener. */
enum listener_use { USE_CLIENTS, USE_ADMIN, USE_REQUESTS }; /* the last: XCHG_UPGRADE */
#define LISTENER_USES 3
enum config_reply { REPLY_NONE, REPLY_ECHO, REPLY_TEXT };

/* What the machine allows. The caller determines it. */
struct config_facts {
  uint32_t cpus;            /* CPUs that this process may use, at least 1 */
  bool cpus_from_cgroup;    /* a cgroup's quota limits cpus */
  uint64_t descriptors;     /* RLIMIT_NOFILE: the hard limit; the soft one if embedded */
  bool descriptors_soft;    /* the limit could not be raised: it is the soft one */
  int descriptors_error;    /* the errno if the limit is unknown; 0 = it is known */
  uint32_t somaxconn;       /* net.core.somaxconn; 0 = unknown */
  bool handler;             /* the program has a handler, so no exchange is configured */
  bool embedded;            /* the server runs within a program: model pool, soft limit */
  const char *program;      /* begins the line of a fault; NULL = "xchgd" */
  struct listen_fds passed; /* sockets that replace XCHG_LISTEN or XCHG_ADMIN */
};

struct config_text {
  uint8_t *bytes; /* owns */
  size_t size;
};

/* The user to become (XCHG_USER). */
#define CONFIG_USER_MAX 255
struct config_user {
  bool set;
  char name[CONFIG_USER_MAX + 1]; /* empty: ${uid} and ${gid} were given as numbers */
  uint32_t uid, gid;
};

struct config_blocks {
  struct addr_block *blocks; /* owns */
  size_t count;
};

/* The values of all variables. Constant once loaded, so any thread may read them. */
struct config {
  /* The exchange. With a handler, only the last two are set. */
  enum config_exchange exchange; /* the preset that gave the defaults */
  bool has_greeting;
  struct config_text greeting; /* without terminator or length prefix */
  enum config_reply reply;
  struct config_text reply_text;
  struct xchg_frame frame;
  uint64_t messages;
  uint64_t max_message_bytes; /* with a handler: if its max_message is 0 */
  char *handler;              /* owns; the path of a plug-in, or NULL */

  /* Where to listen. */
  struct addr_listen listen[CONFIG_LISTEN_MAX];
  uint32_t listen_count;
  struct addr_listen admin[CONFIG_ADMIN_MAX]; /* the admin endpoint; a UNIX one has a mode */
  uint32_t admin_count;
  enum listener_use use; /* derived: of its listeners; that of the program has USE_CLIENTS */
  bool passed_proxy;     /* derived: a passed socket requires PROXY headers by its name */
  uint32_t backlog;
  bool reuseport, nodelay, keepalive;
  uint64_t defer_accept_s;
  uint32_t fastopen;
  uint64_t sndbuf_bytes; /* 0 = the kernel decides */

  /* Which threads run connections. */
  enum config_model model;
  uint32_t workers;
  bool workers_use_all_cpus; /* derived: the acceptor shares a CPU with a worker */
  uint32_t queue;            /* a power of two */
  enum xchg_dispatch dispatch;
  bool pin;
  uint64_t spin_ns;
  uint32_t offload_threads;
  uint64_t watchdog_ns; /* 0 = off */
  uint64_t stall_ns;    /* 0 = off */

  /* Limits. */
  uint64_t max_connections;
  uint64_t descriptors; /* derived: max_connections and the reserve */
  uint64_t adopted;     /* derived: connections that may come from the process before this one */
  enum xchg_overload overload;
  uint64_t max_per_ip; /* 0 = unlimited */
  struct config_blocks allow, deny;
  struct config_blocks proxy_trust; /* who may send PROXY headers */
  uint64_t max_pending_bytes;

  /* Timeouts; 0 = off. */
  uint64_t idle_timeout_ns, message_timeout_ns, write_timeout_ns, max_lifetime_ns;
  uint64_t linger_ns, drain_delay_ns, stop_grace_ns, drain_timeout_ns;
  uint64_t proxy_timeout_ns; /* never off */

  enum log_level log_level;
  enum log_format log_format;
  uint64_t slow_log_ns; /* 0 = off */

  /* Rights. */
  struct config_user user;
  enum sandbox_mode sandbox;
  bool core;

  /* Live upgrade. */
  enum config_upgrade upgrade;
  struct addr_listen upgrade_at; /* UPGRADE_SOCKET: where requests come in */
  uint64_t upgrade_timeout_ns;
};

/**
 * config_load(config, environment, facts, out):
 * Fill ${config} from the NULL-terminated ${environment}. Each fault is written to ${out} as one
 * line with the variable, its escaped value and what is allowed. Faults are a value that does not
 * parse or is out of range, values that contradict each other, and an unknown XCHG_ variable.
 * Return: the number of faults. If it is 0, ${config} is complete and needs config_fini. Else there
 * is nothing to free, and errno is ENOMEM if memory ran out, or EINVAL.
 */
unsigned config_load(struct config *config, const char *const *environment,
                     const struct config_facts *facts, FILE *out);

/** As config_load, from the program's ${from}. The lines of faults name its fields. */
unsigned config_import(struct config *config, const struct xchg_config *from,
                       const struct config_facts *facts, FILE *out);

/**
 * Fill the ${size} bytes at ${to} from ${config}, which config_load has filled from ${environment}.
 * Strings point into ${environment} or are constant.
 */
void config_export(const struct config *config, struct xchg_config *to, size_t size,
                   const char *const *environment);

/** Free what loading allocated. */
void config_fini(struct config *config);

/**
 * Log settings that are allowed but open the admin endpoint to others, or have no effect: variables
 * that the model ignores (one line), a limit per address on listeners with PROXY headers, and a
 * backlog above somaxconn. ${environment} is NULL if ${config} was imported. Thread: main, before
 * the start.
 */
void config_warn(const struct config *config, const char *const *environment,
                 const struct config_facts *facts, struct log *log);

/** The same for a passed socket of the admin endpoint: log that others can reach it. */
void config_warn_admin_address(const struct addr_listen *listen, struct log *log);

/** Is ${addr} in one of ${blocks}? */
static inline bool config_blocks_contain(const struct config_blocks *blocks,
                                         const struct addr *addr) {
  /* A linear search: operators write short lists. A trie would pay from some hundred blocks on. */
  for (size_t i = 0; i < blocks->count; i++) {
    if (addr_in_block(addr, &blocks->blocks[i])) {
      return true;
    }
  }
  return false;
}

/** Do XCHG_ALLOW and XCHG_DENY admit ${addr}? */
static inline bool config_admits(const struct config *config, const struct addr *addr) {
  return !config_blocks_contain(&config->deny, addr) &&
         (config->allow.count == 0 || config_blocks_contain(&config->allow, addr));
}

/** Does a listener of XCHG_LISTEN, or a passed one by its name, require PROXY headers? */
bool config_takes_proxy(const struct config *config);

/**
 * What is in force of XCHG_SANDBOX: SANDBOX_OFF in all models but pool, where processes and threads
 * start later.
 */
static inline enum sandbox_mode config_sandbox_mode(const struct config *config) {
  return config->model == MODEL_POOL ? config->sandbox : SANDBOX_OFF;
}

/** The value of XCHG_EXCHANGE without a handler, and of XCHG_MODEL. */
const char *config_exchange_name(const struct config *config);
const char *config_model_name(const struct config *config);

/** Write the output of --help and --explain, and the generated pages. */
void config_help(FILE *out);
void config_explain(const struct config *config, const char *const *environment,
                    const struct config_facts *facts, FILE *out);
/** Write the same as a JSON object: {"XCHG_WORKERS":{"value":"2","from":"cgroup"}, ...}. */
void config_write_settings(const struct config *config, const char *const *environment,
                           const struct config_facts *facts, FILE *out);

void config_write_markdown(FILE *out); /* docs/configuration.md */
void config_write_man(FILE *out);      /* the variables' section of xchgd.8 */

/**
 * config_print_escaped(out, text, size, size_max, quoted):
 * Write ${text}, shortened to ${size_max} bytes. Bytes below 0x20 or above 0x7e and the characters
 * in ${quoted} become \xNN.
 */
void config_print_escaped(FILE *out, const char *text, size_t size, size_t size_max,
                          const char *quoted);

/** The reserve: descriptors that the server with ${config} needs in addition to connections. */
uint64_t config_reserve(const struct config *config, const struct config_facts *facts);

#endif
