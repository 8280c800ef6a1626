/*
 * sandbox_calls: the one table of system calls of the sandbox, and the filters made of it.
 *
 * A row is one call in all its spellings.  Another libc, or another version of it, makes another
 * call for the same purpose (epoll_wait, epoll_pwait, epoll_pwait2).  A filter that allows only one
 * of them would break with that libc.  A column is a kind of thread.  The filters, the table in
 * docs/SECURITY.md and the tests are made from this table.
 */
#ifndef POOL_SANDBOX_CALLS_H
#define POOL_SANDBOX_CALLS_H

#include "core/base.h"

#include <stdbool.h>

struct sock_filter;

/* Kinds of threads, the columns of the table. */
enum sandbox_kind {
  SANDBOX_MAIN,     /* waits for signals, stops the server */
  SANDBOX_ACCEPTOR, /* xchg-accept and xchg-adm-acc */
  SANDBOX_WORKER,   /* xchg-work-N */
  SANDBOX_ADMIN,    /* xchg-adm, the worker of the admin endpoint */
  SANDBOX_LOG,      /* xchg-log */
  SANDBOX_HANDLER,  /* every thread of a program with a handler: what is not in a row is allowed */
  SANDBOX_KINDS,
};

/* What happens to a call of a row. */
enum sandbox_action {
  SANDBOX_ALLOW,   /* if the argument is one of the values; else as if it were not listed */
  SANDBOX_REFUSE,  /* EPERM, if the argument has one of the bits; else allowed */
  SANDBOX_UNKNOWN, /* ENOSYS: the caller makes another call */
  SANDBOX_KILL,    /* the process ends by SIGSYS */
};

/* The argument that decides; only its low 32 bits count, which are all that these calls read. */
struct sandbox_argument {
  unsigned index;
  unsigned count;     /* of the values; 0 = no argument decides */
  uint32_t values[2]; /* allowed values, or one set of refused bits */
  const char *text;   /* their names */
};

/* The number is a text: digits, or anything else if this machine has no such call. */
struct sandbox_spelling {
  const char *name, *number;
};

#define SANDBOX_SPELLINGS 12

struct sandbox_row {
  unsigned kinds; /* a bit for each kind */
  enum sandbox_action action;
  const struct sandbox_argument *argument;              /* NULL = no argument decides */
  const char *why;                                      /* what makes the call */
  struct sandbox_spelling spellings[SANDBOX_SPELLINGS]; /* the usual one first; name NULL ends */
};

/** The table, and the number of its rows. */
const struct sandbox_row *sandbox_rows(unsigned *count);

/** The number of the call on this machine, or -1. Thread: any, also in a signal handler. */
long sandbox_number(const struct sandbox_spelling *spelling);

/**
 * The name of call ${number}, or "?" if the table does not have it. Thread: any, also in a signal
 * handler.
 */
const char *sandbox_call_name(long number);

/** The name of ${kind} in documents and messages. */
const char *sandbox_kind_name(unsigned kind);

/* The largest filter, in instructions. */
#define SANDBOX_PROGRAM_MAX 512

/**
 * sandbox_program(kind, trap, program):
 * Write the filter of ${kind} to the SANDBOX_PROGRAM_MAX instructions at ${program}. With ${trap},
 * each call that it does not allow raises SIGSYS with ${kind} as its si_errno.
 * Return: the number of instructions.
 */
unsigned sandbox_program(enum sandbox_kind kind, bool trap, struct sock_filter *program);

#endif
