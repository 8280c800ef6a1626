/*
 * sandbox_calls: THE table of the system calls that the sandbox knows, and the filter made of it.
 *
 * The table has a row for each call in all its spellings.  A libc, or another version of the same
 * one, makes another call for the same purpose (epoll_wait, epoll_pwait, epoll_pwait2); a list that
 * names only one of them breaks.  The filter, docs/SECURITY.md and the tests come from this table.
 */
#ifndef POOL_SANDBOX_CALLS_H
#define POOL_SANDBOX_CALLS_H

#include "core/base.h"

#include <stdbool.h>
#include <stdio.h>

struct sock_filter;

/* Kinds of threads, the columns of the table. */
enum sandbox_kind {
  SANDBOX_MAIN,     /* waits for signals, stops the server */
  SANDBOX_ACCEPTOR, /* xchg-accept and xchg-adm-acc */
  SANDBOX_WORKER,   /* xchg-work-N */
  SANDBOX_ADMIN,    /* xchg-adm, the worker of the admin endpoint */
  SANDBOX_LOG,      /* xchg-log */
  SANDBOX_HANDLER,  /* all threads of a program with a handler: a list of refused calls */
  SANDBOX_KINDS,
};

/* What a filter does with a call. The values are those of seccomp(2), without data. */
#define SANDBOX_ALLOW UINT32_C(0x7fff0000)
#define SANDBOX_ERRNO UINT32_C(0x00050000) /* and an errno in the low half */
#define SANDBOX_TRAP_CALL UINT32_C(0x00030000)
#define SANDBOX_KILL UINT32_C(0x80000000) /* the process */

/* The largest filter, in instructions. */
#define SANDBOX_PROGRAM_MAX 512

/**
 * sandbox_program(kind, trap, program):
 * Write the filter for ${kind} to the SANDBOX_PROGRAM_MAX instructions at ${program}. With ${trap},
 * every call that is not allowed raises SIGSYS.
 * Return: the number of instructions.
 */
unsigned sandbox_program(enum sandbox_kind kind, bool trap, struct sock_filter *program);

/** The name of call ${number}, or NULL if the table does not have it. Thread: any, also a signal
 * handler. */
const char *sandbox_call_name(long number);

/** The name of ${kind}, as the documents write it. */
const char *sandbox_kind_name(enum sandbox_kind kind);

/** The rows of ${kind}, and with ${spellings} all calls of these rows that this machine has. */
unsigned sandbox_count(enum sandbox_kind kind, bool spellings);

/** Write the table of docs/SECURITY.md as Markdown, and as one `kind name number` in a line. */
void sandbox_write_markdown(FILE *out);
void sandbox_write_calls(FILE *out);

#endif
