/*
 * config_vars: the row of a variable, and the operations on one value of it.
 *
 * Internal to config: config_vars.c is the table, config_value.c parses a value by its kind,
 * config_load.c loads, config_check.c checks, config_listen.c checks addresses, config_help.c
 * prints.  No other module includes this file.
 */
#ifndef CORE_CONFIG_VARS_H
#define CORE_CONFIG_VARS_H

#include "core/config.h"

#include <stdio.h>

/* The upper limit of XCHG_MAX_CONNECTIONS, higher than any machine supports. */
#define CONFIG_CONNECTIONS_MAX (UINT64_C(1) << 24)
#define CONFIG_WORKERS_MAX 1024

/* The longest path in XCHG_HANDLER: PATH_MAX without the terminating NUL. */
#define CONFIG_PATH_MAX 4095

/* The highest user or group id; the next one means none. */
#define CONFIG_ID_MAX (UINT32_MAX - 1)

/* The default of XCHG_MAX_CONNECTIONS when each connection costs a thread or a process. */
#define CONFIG_CONNECTIONS_OUTSIDE_POOL 1024

/* The rows, in the order of every list of variables. */
enum config_var {
  VAR_EXCHANGE, /* first, because it sets the defaults of the next four */
  VAR_GREETING,
  VAR_FRAME,
  VAR_REPLY,
  VAR_MESSAGES,
  VAR_MAX_MESSAGE,
  VAR_HANDLER,
  VAR_LISTEN,
  VAR_ADMIN,
  VAR_BACKLOG,
  VAR_REUSEPORT,
  VAR_NODELAY,
  VAR_KEEPALIVE,
  VAR_DEFER_ACCEPT,
  VAR_FASTOPEN,
  VAR_SNDBUF,
  VAR_MODEL,
  VAR_WORKERS,
  VAR_QUEUE,
  VAR_DISPATCH,
  VAR_PIN,
  VAR_SPIN,
  VAR_OFFLOAD_THREADS,
  VAR_WATCHDOG,
  VAR_STALL,
  VAR_MAX_CONNECTIONS,
  VAR_OVERLOAD,
  VAR_MAX_PER_IP,
  VAR_ALLOW,
  VAR_DENY,
  VAR_PROXY_TRUST,
  VAR_MAX_PENDING,
  VAR_IDLE_TIMEOUT,
  VAR_MESSAGE_TIMEOUT,
  VAR_PROXY_TIMEOUT,
  VAR_WRITE_TIMEOUT,
  VAR_MAX_LIFETIME,
  VAR_LINGER,
  VAR_DRAIN_DELAY,
  VAR_STOP_GRACE,
  VAR_DRAIN_TIMEOUT,
  VAR_LOG_LEVEL,
  VAR_LOG_FORMAT,
  VAR_SLOW_LOG,
  VAR_USER,
  VAR_SANDBOX,
  VAR_CORE,
  VAR_UPGRADE,
  VAR_UPGRADE_TIMEOUT,
  VAR_COUNT
};

enum config_kind {
  KIND_INTEGER,
  KIND_SIZE,
  KIND_TIME,
  KIND_SWITCH,
  KIND_ENUM,
  KIND_GREETING,
  KIND_FRAME,
  KIND_REPLY,
  KIND_LISTEN,
  KIND_ADMIN,
  KIND_BLOCKS,
  KIND_PATH,
  KIND_USER,
  KIND_UPGRADE,
};

struct config_var_def {
  const char *name;
  enum config_kind kind;
  bool pool_only;                 /* ignored under the other models */
  bool daemon_only;               /* a fault of an embedded server */
  size_t offset, size;            /* the member of struct config; unused from KIND_GREETING on */
  uint64_t min, max;              /* KIND_INTEGER, KIND_SIZE, KIND_TIME */
  const char *field;              /* the member of struct xchg_config, or NULL if it has none */
  size_t public_offset;           /* its offset; ${size} bytes, but a list is a text there */
  const char *const *names;       /* KIND_ENUM: the names of its values, then NULL */
  const char *default_text;       /* the default as text, or NULL if it is derived from the facts */
  const char *derived;            /* a description of the derived default */
  const char *const *by_exchange; /* the default of each preset, by enum config_exchange, or NULL */
  const char *what;               /* one line: what it does */
  const char *more;               /* more sentences for the pages, or NULL */
};

extern const struct config_var_def config_var_defs[VAR_COUNT];

enum config_result { CONFIG_OK, CONFIG_BAD, CONFIG_NO_MEMORY };

/* A part of a value; it is not terminated. */
struct config_span {
  const char *text;
  size_t size;
};

/**
 * config_set(config, row, text, bad):
 * Parse ${text} and store it in ${config}. On CONFIG_BAD nothing that must be freed is stored, and
 * ${*bad} is the invalid item of a list; its text is NULL if the value is not a list.
 */
enum config_result config_set(struct config *config, const struct config_var_def *def,
                              const char *text, struct config_span *bad);

/** Does ${row}, of KIND_ENUM or a kind before it, allow ${value}? */
bool config_allows(const struct config_var_def *def, uint64_t value);

/** The number in the ${size} bytes at ${member}, which need not be a valid bool or enum. */
uint64_t config_read_number(const void *member, size_t size);

/** Store ${value}, which must fit, in the ${size} bytes at ${member}. */
void config_write_number(void *member, size_t size, uint64_t value);

/** The value in ${config} of ${row}, of KIND_ENUM or a kind before it. */
uint64_t config_number(const struct config *config, const struct config_var_def *def);

/** The default of ${row} under ${exchange} as text, or NULL if it is derived from the facts. */
const char *config_default(const struct config_var_def *def, enum config_exchange exchange);

/** Write what ${row} allows, such as "an integer from 1 to 1024", to ${text}; return ${text}. */
#define CONFIG_EXPECTED_MAX 128
const char *config_expected(const struct config_var_def *def, char text[CONFIG_EXPECTED_MAX]);

/* A configuration that is being loaded from an environment or from a program's struct. */
struct config_check {
  struct config *config; /* borrows, as all pointers here */
  const struct config_facts *facts;
  const char *const *environment; /* the source of the values, or NULL: */
  const struct xchg_config *from; /* the source, or NULL */
  FILE *out;                      /* gets one line per fault */
  unsigned faults;
  bool exhausted;          /* one of the faults is out of memory */
  bool refused[VAR_COUNT]; /* it has a fault: not checked for contradictions */
};

/**
 * config_fault_begin(check): count a fault and begin its line with the program's name.
 * config_fault(check, var): also write the name and value of ${var}.
 * The caller writes what is allowed, and the newline.
 */
FILE *config_fault_begin(struct config_check *check);
FILE *config_fault(struct config_check *check, enum config_var var);

/** Report that ${var} does not parse or is out of range; ${bad} comes from config_set. */
void config_fault_unwanted(struct config_check *check, enum config_var var,
                           const struct config_span *bad);

/** End the checks. Return: the number of faults; if there are any, errno is ENOMEM or EINVAL. */
unsigned config_finish(struct config_check *check);

/** Store ${text} as ${var}. On a fault, report it and store the default if there is one. */
void config_apply(struct config_check *check, enum config_var var, const char *text);

/**
 * After all rows are stored: derive values from the facts, round the queue up to a power of two,
 * and check the limit on connections against the descriptors.
 */
void config_finalize(struct config_check *check);

/** Check the names of passed sockets, and derive what they say. */
void config_check_passed(struct config_check *check);

/** Check XCHG_ADMIN and XCHG_STALL; log the addresses of the former that others can reach. */
void config_check_admin(struct config_check *check);
void config_warn_admin(const struct config *config, const struct config_facts *facts,
                       struct log *log);
/** Check XCHG_SANDBOX against XCHG_MODEL and XCHG_UPGRADE. */
void config_check_sandbox(struct config_check *check);
/** Check the values of the built-in exchange, and those of PROXY headers, for contradictions. */
void config_check_builtin(struct config_check *check);
void config_check_proxy(struct config_check *check);

/** Does a handler define the exchange, instead of the five variables? */
bool config_has_handler(const struct config *config, const struct config_facts *facts);

/** Is ${var} one of the five variables of a built-in exchange? */
bool config_is_exchange(enum config_var var);

#endif
