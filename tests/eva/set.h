/*
 * set: set a variable to a text and check what config_set promises, for programs that are analysed.
 */
#ifndef TESTS_EVA_SET_H
#define TESTS_EVA_SET_H

#include "core/config_vars.h"

#include <assert.h>
#include <stdlib.h>

/** Set ${var} to ${text}, then free what config_set kept, so that the heap is empty again. */
static inline void set(enum config_var var, const char *text) {
  struct config config = {.has_greeting = false};
  struct config_span bad;
  if (config_set(&config, &config_var_defs[var], text, &bad) == CONFIG_OK) {
    assert(config.listen_count <= CONFIG_LISTEN_MAX);
    free(config.greeting.bytes);
    free(config.reply_text.bytes);
    free(config.handler);
    free(config.allow.blocks);
    free(config.deny.blocks);
  }
}

#endif
