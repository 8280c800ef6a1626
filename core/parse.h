/*
 * parse: one typed value: text to number and back.
 *
 * Pure parsers for the kinds of value that the configuration knows.  Each takes the whole text or
 * fails; none looks at the environment but env_vars_find, the only place that reads it.
 */
#ifndef CORE_PARSE_H
#define CORE_PARSE_H

#include "core/base.h"

#include <stdbool.h>

/**
 * The value of ${name} in the NULL-terminated ${environment}; NULL where it is not set or empty.
 * Lives as long as ${environment}.
 */
const char *env_vars_find(const char *const *environment, const char *name);

/**
 * Each parser: 0 and the value in ${*value}, or -1. No sign, no white space, nothing behind; an
 * overflow is a failure.
 */
int parse_u64(const char *text, uint64_t *value);
int parse_size(const char *text, uint64_t *bytes);   /* 4096, 64KiB, 1MiB, 2GiB */
int parse_time(const char *text, uint64_t *time_ns); /* 500us, 250ms, 30s, 5m; a bare 0 */
int parse_switch(const char *text, bool *value);     /* on, off; any case */

/**
 * parse_text(text, bytes, size):
 * Undo the escapes \n \r \t \0 \\ \xNN of ${text} into ${bytes}, which has room for strlen(text)
 * bytes and may be ${text} itself; the length goes to ${*size}.
 * Return: 0, or -1 at an unknown or unfinished escape.
 */
int parse_text(const char *text, uint8_t *bytes, size_t *size);

/**
 * Write a value as the parser would read it, in the largest unit without a remainder; return
 * ${text}.
 */
#define PARSE_TEXT_MAX 32
const char *parse_format_size(uint64_t bytes, char text[PARSE_TEXT_MAX]);
const char *parse_format_time(uint64_t time_ns, char text[PARSE_TEXT_MAX]);

/**
 * Of ${count} ${names}, the one nearest to ${name} by edits (a transposition is one); NULL where
 * none is nearer than half of its length.
 */
const char *env_vars_nearest(const char *name, const char *const *names, size_t count);

/**
 * Is ${name} (with ${value}) what Kubernetes injects for a Service called xchg or xchg-something
 * (contract, section 4)?
 */
bool env_vars_is_kubernetes(const char *name, const char *value);

#endif
