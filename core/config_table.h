/*
 * config_table: the row of a variable, and what can be done with one value of it.
 *
 * Internal to config: config.c loads, config_public.c carries to and from a program's struct,
 * config_print.c shows, config_value.c knows the kinds and config_table.c is the table itself.  No
 * other module includes this file.
 */
#ifndef CORE_CONFIG_TABLE_H
#define CORE_CONFIG_TABLE_H

#include "core/config_data.h"

#include <stdio.h>

/* More than any machine holds; the end of the range of XCHG_MAX_CONNECTIONS. */
#define CONFIG_CONNECTIONS_MAX (UINT64_C(1) << 24)
#define CONFIG_WORKERS_MAX 1024

/* Of the path in XCHG_HANDLER: PATH_MAX without its end. */
#define CONFIG_PATH_MAX 4095

/* The default of XCHG_MAX_CONNECTIONS where each costs a thread or a process. */
#define CONFIG_CONNECTIONS_OUTSIDE_POOL 1024

/* The rows, in the order in which everything lists them. */
enum config_var {
  VAR_EXCHANGE, /* first: the preset decides the defaults of the next five */
  VAR_GREETING,
  VAR_FRAME,
  VAR_REPLY,
  VAR_MESSAGES,
  VAR_MAX_MESSAGE,
  VAR_HANDLER,
  VAR_LISTEN,
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
  VAR_MAX_CONNECTIONS,
  VAR_OVERLOAD,
  VAR_MAX_PER_IP,
  VAR_ALLOW,
  VAR_DENY,
  VAR_MAX_PENDING,
  VAR_IDLE_TIMEOUT,
  VAR_MESSAGE_TIMEOUT,
  VAR_WRITE_TIMEOUT,
  VAR_MAX_LIFETIME,
  VAR_LINGER,
  VAR_STOP_GRACE,
  VAR_DRAIN_TIMEOUT,
  VAR_LOG_LEVEL,
  VAR_LOG_FORMAT,
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
  KIND_BLOCKS,
  KIND_PATH,
};

struct config_row {
  const char *name;
  enum config_kind kind;
  bool pool_only;           /* ignored under the other models */
  size_t offset, size;      /* where in struct config; the kinds from KIND_GREETING on know */
  uint64_t min, max;        /* KIND_INTEGER, KIND_SIZE, KIND_TIME */
  const char *field;        /* its name in struct xchg_config; NULL: it is not there */
  size_t public_offset;     /* ... and where; ${size} bytes, but lists are texts there */
  const char *const *names; /* KIND_ENUM: its values' names, ends with NULL */
  const char *standard;     /* the default, as the parser reads it; NULL: derived from the facts */
  const char *derived;      /* ... and in words from what */
  const char *const *by_exchange; /* the presets' defaults, by enum config_exchange, or NULL */
  const char *what;               /* what it does, in one line */
  const char *more;               /* further sentences for the pages, or NULL */
};

extern const struct config_row config_rows[VAR_COUNT];

enum config_result { CONFIG_OK, CONFIG_BAD, CONFIG_NO_MEMORY };

/* A part of a value. */
struct config_span {
  const char *text;
  size_t size;
};

/**
 * config_set(config, row, text, bad):
 * Parse ${text} and store it in ${config}. On CONFIG_BAD nothing to free is stored, and ${*bad} is
 * the item of a list that is to blame; its text is NULL where it is no list.
 */
enum config_result config_set(struct config *config, const struct config_row *row, const char *text,
                              struct config_span *bad);

/** Is ${value} one that ${row}, of KIND_ENUM or a kind before it, allows? */
bool config_allows(const struct config_row *row, uint64_t value);

/** The number in the ${size} bytes at ${member}, which may be no valid bool or enum. */
uint64_t config_read_number(const void *member, size_t size);

/** Store ${value}, which fits, in the ${size} bytes at ${member}. */
void config_write_number(void *member, size_t size, uint64_t value);

/** The number in ${config} that belongs to ${row}, of KIND_ENUM or a kind before it. */
uint64_t config_number(const struct config *config, const struct config_row *row);

/** The default of ${row} under ${exchange}, as text; NULL where it is derived from the facts. */
const char *config_standard(const struct config_row *row, enum config_exchange exchange);

/** Write what ${row} allows, as in "an integer from 1 to 1024", into ${text}; return ${text}. */
#define CONFIG_WANTED_MAX 128
const char *config_wanted(const struct config_row *row, char text[CONFIG_WANTED_MAX]);

/*
 * A configuration while it is made, from an environment or from a program's struct: what it is, and
 * what was found wrong with it so far.
 */
struct config_check {
  struct config *config; /* borrows, as all pointers here */
  const struct config_facts *facts;
  const char *const *environment; /* where the values come from, or NULL: */
  const struct xchg_config *from; /* from here */
  FILE *out;                      /* gets a line a fault */
  unsigned faults;
  bool exhausted;          /* ... and one of them is want of memory */
  bool refused[VAR_COUNT]; /* there was a fault about it: it starts no contradiction */
};

/**
 * config_fault_begin(check): begin and count one line with the program's name.
 * config_fault(check, var): the same, and the name and value of ${var}.
 * The caller writes what is allowed, and the newline.
 */
FILE *config_fault_begin(struct config_check *check);
FILE *config_fault(struct config_check *check, enum config_var var);

/** Write the line that ${var} does not parse or is out of range; ${bad} is what config_set said. */
void config_fault_unwanted(struct config_check *check, enum config_var var,
                           const struct config_span *bad);

/** The number of faults, the checks being over; errno says ENOMEM or EINVAL where there are any. */
unsigned config_conclude(struct config_check *check);

/** Store ${text} as ${var}; where it cannot be, say so, and store the default if there is one. */
void config_take(struct config_check *check, enum config_var var, const char *text);

/**
 * Fill in what comes from the facts and what is kept otherwise than given, once all rows are
 * stored; and hold the limit on connections against the descriptors.
 */
void config_settle(struct config_check *check);

/** Does a handler decide the exchange, in the place of the five variables? */
bool config_has_handler(const struct config *config, const struct config_facts *facts);

/** Is ${var} one of the five variables of a built-in exchange? */
bool config_is_exchange(enum config_var var);

/**
 * config_print_escaped(out, text, size, size_max, quoted):
 * Write ${text}, cut to ${size_max} bytes; bytes below 0x20 or over 0x7e and the characters in
 * ${quoted} become \xNN.
 */
void config_print_escaped(FILE *out, const char *text, size_t size, size_t size_max,
                          const char *quoted);

#endif
