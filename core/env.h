/*
 * env: one typed value: text to number and back.
 *
 * Pure parsers for the kinds of value that the configuration knows.  Each takes the whole text or
 * fails; none looks at the environment but env_find, the only place that reads it.
 */
#ifndef CORE_ENV_H
#define CORE_ENV_H

#include "core/base.h"

#include <stdbool.h>

/**
 * The value of ${name} in the NULL-terminated ${environment}; NULL where it is not set or empty.
 * Lives as long as ${environment}.
 */
const char *env_find(const char *const *environment, const char *name);

/**
 * Each parser: 0 and the value in ${*value}, or -1. No sign, no white space, nothing behind; an
 * overflow is a failure.
 */
int env_parse_u64(const char *text, uint64_t *value);
int env_parse_size(const char *text, uint64_t *bytes);   /* 4096, 64KiB, 1MiB, 2GiB */
int env_parse_time(const char *text, uint64_t *time_ns); /* 500us, 250ms, 30s, 5m; a bare 0 */
int env_parse_switch(const char *text, bool *value);     /* on, off; any case */

/**
 * env_parse_text(text, bytes, size):
 * Undo the escapes \n \r \t \0 \\ \xNN of ${text} into ${bytes}, which has room for strlen(text)
 * bytes and may be ${text} itself; the length goes to ${*size}.
 * Return: 0, or -1 at an unknown or unfinished escape.
 */
int env_parse_text(const char *text, uint8_t *bytes, size_t *size);

/**
 * Write a value as the parser would read it, in the largest unit without a remainder; return
 * ${text}.
 */
#define ENV_TEXT_MAX 32
const char *env_format_size(uint64_t bytes, char text[ENV_TEXT_MAX]);
const char *env_format_time(uint64_t time_ns, char text[ENV_TEXT_MAX]);

/**
 * Of ${count} ${names}, the one nearest to ${name} by edits (a transposition is one); NULL where
 * none is nearer than half of its length.
 */
const char *env_nearest(const char *name, const char *const *names, size_t count);

/**
 * Is ${name} (with ${value}) what Kubernetes injects for a Service called xchg or xchg-something
 * (contract, section 4)?
 */
bool env_is_kubernetes(const char *name, const char *value);

#endif
