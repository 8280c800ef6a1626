/* log: see log.h.  The static stands for the log file, of which there is one. */
#include "tests/fail_nth/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
  char text[32768];
  size_t size;
} kept;

void log_reset(void) {
  kept.size = 0;
  kept.text[0] = 0;
}

void log_keep(const char *text, size_t size) {
  size_t left = sizeof(kept.text) - kept.size - 1;
  size = size < left ? size : left;
  memcpy(kept.text + kept.size, text, size);
  kept.size += size;
  kept.text[kept.size] = 0;
}

const char *log_text(void) { return kept.text; }

/* The last line with msg=${msg}, in either format, or NULL. */
static const char *line_of(const char *msg) {
  char logfmt[80], json[80];
  const char *line = NULL, *const words[] = {logfmt, json};
  snprintf(logfmt, sizeof(logfmt), " msg=%s ", msg);
  snprintf(json, sizeof(json), "\"msg\":\"%s\"", msg);
  for (size_t i = 0; i < 2; i++) {
    for (const char *at = kept.text; (at = strstr(at, words[i])) != NULL; at++) {
      line = at;
    }
  }
  return line;
}

bool log_has(const char *msg) { return line_of(msg) != NULL; }

bool log_number(const char *msg, const char *key, uint64_t *value) {
  char logfmt[80], json[80];
  const char *line = line_of(msg);
  if (line == NULL) {
    return false;
  }
  snprintf(logfmt, sizeof(logfmt), " %s=", key);
  snprintf(json, sizeof(json), "\"%s\":", key);
  const char *found = strstr(line, logfmt);
  size_t size = strlen(logfmt);
  if (found == NULL) {
    found = strstr(line, json);
    size = strlen(json);
  }
  if (found == NULL || memchr(line, '\n', (size_t)(found - line)) != NULL) {
    return false;
  }
  *value = strtoull(found + size, NULL, 10);
  return true;
}
