/*
 * config: core/config_value.c on any text, for the abstract interpreter (make eva).
 *
 * Every variable gets any text of each length up to TEXT_MOST, which ends where its block ends.
 * Kinds of values that begin with a word also get any text after the word.
 */
#include "tests/eva/any.h"
#include "tests/eva/set.h"

#include <string.h>

#define TEXT_MOST 3
#define WORD_MOST 8

static void any_behind_once(enum config_var var, const char *word, size_t size) {
  char block[WORD_MOST + TEXT_MOST + 1];
  size_t word_size = strlen(word);
  char *text = block + sizeof(block) - 1 - size - word_size;
  memcpy(text, word, word_size);
  any_text(text + word_size, size);
  set(var, text);
}

static void any_behind(enum config_var var, const char *word) {
  for (size_t size = 0; size <= TEXT_MOST; size++) {
    any_behind_once(var, word, size);
  }
}

int main(void) {
  any_behind(VAR_GREETING, "text:");
  any_behind(VAR_GREETING, "\\");
  any_behind(VAR_REPLY, "text:");
  any_behind(VAR_FRAME, "fixed:");
  any_behind(VAR_LISTEN, ":7000,");
  for (unsigned var = 0; var < VAR_COUNT; var++) {
    any_behind(var, "");
  }
  return 0;
}
