/*
 * config_data: what is configured: the values of all variables, and the facts of the machine.
 *
 * Read config.h for how they come about.  Constant once loaded: every thread may read it.
 */
#ifndef CORE_CONFIG_DATA_H
#define CORE_CONFIG_DATA_H

#include "core/xchg.h"
#include "core/addr.h"
#include "core/log.h"

#define CONFIG_LISTEN_MAX 64

enum config_exchange { EXCHANGE_GREET, EXCHANGE_LINE, EXCHANGE_ECHO, EXCHANGE_DISCARD };
enum config_model { MODEL_POOL, MODEL_ITERATIVE, MODEL_FORK, MODEL_THREAD };
enum config_reply { REPLY_NONE, REPLY_ECHO, REPLY_TEXT };

/* What the machine allows; the caller finds out. */
struct config_facts {
  uint32_t cpus;           /* CPUs that this process may use, 1 at least */
  bool cpus_from_cgroup;   /* ... and a cgroup's quota is what bounds them */
  uint64_t descriptors;    /* RLIMIT_NOFILE: hard; soft where embedded */
  uint32_t somaxconn;      /* net.core.somaxconn; 0 = unknown */
  uint32_t sockets_passed; /* by LISTEN_FDS, for this process; they replace XCHG_LISTEN */
  bool handler;            /* the program brings its own handler: no exchange is configured */
  bool embedded;           /* ... and its server is one within it: a pool, soft descriptor limit */
  const char *program;     /* the word that begins a fault's line; NULL = "xchgd" */
};

struct config_text {
  uint8_t *bytes; /* owns */
  size_t size;
};

struct config_blocks {
  struct addr_block *blocks; /* owns */
  size_t count;
};

struct config {
  /* the exchange; all but the last left at 0 where a handler decides it */
  enum config_exchange exchange; /* the preset: what is not set below came from it */
  bool has_greeting;
  struct config_text greeting; /* without terminator or length */
  enum config_reply reply;
  struct config_text reply_text;
  struct xchg_frame frame;
  uint64_t messages;
  uint64_t max_message_bytes; /* under a handler: where its max_message is 0 */
  char *handler;              /* owns: path of a plug-in; NULL = none */

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
  bool crowded;   /* derived: the workers take all CPUs, so that the acceptor shares one */
  uint32_t queue; /* rounded up to a power of two */
  enum xchg_dispatch dispatch;
  bool pin;
  uint64_t spin_ns;
  uint32_t offload_threads;
  uint64_t watchdog_ns; /* 0 = off */

  /* limits */
  uint64_t max_connections;
  enum xchg_overload overload;
  uint64_t max_per_ip; /* 0 = no limit */
  struct config_blocks allow, deny;
  uint64_t max_pending_bytes;

  /* times, in ns; 0 = off */
  uint64_t idle_timeout_ns, message_timeout_ns, write_timeout_ns, max_lifetime_ns;
  uint64_t linger_ns, stop_grace_ns, drain_timeout_ns;

  enum log_level log_level;
  enum log_format log_format;
};

#endif
