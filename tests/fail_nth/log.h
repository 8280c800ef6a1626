/* log: what the server under test has logged in this run. */
#ifndef TESTS_FAIL_NTH_LOG_H
#define TESTS_FAIL_NTH_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void log_reset(void);
void log_keep(const char *text, size_t size);

/** The whole text. */
const char *log_text(void);

/** Is there a line msg=${msg}? */
bool log_has(const char *msg);

/** The number of ${key} in the last line msg=${msg}; false where there is none. */
bool log_number(const char *msg, const char *key, uint64_t *value);

#endif
