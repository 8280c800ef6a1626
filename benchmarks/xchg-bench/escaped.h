/*
 * escaped: writes foreign texts to a terminal: file names, arguments, strings of a report.
 *
 * Control characters would change the terminal: those below 0x20, 0x7f, and U+0080 to U+009F, which
 * are two bytes in UTF-8.  They are written as \xNN, and so is every byte that is not UTF-8.
 */
#ifndef BENCH_ESCAPED_H
#define BENCH_ESCAPED_H

#include <stddef.h>
#include <stdio.h>

/** Write the first ${size_max} bytes of ${text}, or all of them if it is shorter, escaped. */
void escaped_put(FILE *out, const char *text, size_t size_max);

/** Write a line: what fprintf would write, escaped, and a line feed. */
__attribute__((format(printf, 2, 3))) void escaped_line(FILE *out, const char *format, ...);

#endif
