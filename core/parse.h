/*
 * parse: text to numbers, sizes and times, and back.
 *
 * A parser accepts the whole text or fails.
 */
#ifndef CORE_PARSE_H
#define CORE_PARSE_H

#include "core/base.h"

#include <stdbool.h>

/**
 * Each parser returns 0 and stores the value, or returns -1. A sign, white space, trailing text and
 * an overflow are failures.
 */
int parse_u64(const char *text, uint64_t *value);
int parse_size(const char *text, uint64_t *bytes);   /* 4096, 64KiB, 1MiB, 2GiB */
int parse_time(const char *text, uint64_t *time_ns); /* 500us, 250ms, 30s, 5m; a bare 0 */
int parse_switch(const char *text, bool *value);     /* on, off; any case */

/** The parser of digits at the head of ${text}. Return: the text after them, or NULL. */
const char *parse_digits(const char *text, uint64_t *value);

/**
 * parse_text(text, bytes, size):
 * Undo the escapes \n \r \t \0 \\ \xNN of ${text} into ${bytes}, which has room for strlen(text)
 * bytes and may be ${text} itself. Store the length in ${*size}.
 * Return: 0, or -1 at an unknown or unfinished escape.
 */
int parse_text(const char *text, uint8_t *bytes, size_t *size);

/**
 * Write a value to ${text} as the parser reads it, in the largest unit that leaves no remainder.
 * Return: ${text}.
 */
#define PARSE_TEXT_MAX 32
const char *parse_format_size(uint64_t bytes, char text[PARSE_TEXT_MAX]);
const char *parse_format_time(uint64_t time_ns, char text[PARSE_TEXT_MAX]);

#endif
