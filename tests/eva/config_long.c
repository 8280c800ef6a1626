/*
 * config_long: core/config_value.c on long texts, for the abstract interpreter (make eva).
 *
 * Numbers of any digits reach the end of 64 bits and exceed it. The digits after the first
 * DIGITS_ANY are tried one by one, because the rest of the range depends on each. Items and lists
 * fill or exceed the buffers that they are copied to.
 */
#include "tests/eva/any.h"
#include "tests/eva/set.h"

#include <string.h>

#define BLOCK_SIZE 256
#define DIGITS_ANY 19
#define ITEM_LEAST 159
#define ITEM_MOST 161

/* ${size} characters between ${begin} and ${end}, each any of the ${count} from ${least} on. */
struct run {
  const char *begin;
  char least;
  unsigned count;
  size_t size;
  const char *end;
};

static void set_run(enum config_var var, const struct run *run) {
  char block[BLOCK_SIZE];
  size_t begin_size = strlen(run->begin), end_size = strlen(run->end);
  char *text = block + sizeof(block) - 1 - end_size - run->size - begin_size;
  memcpy(text, run->begin, begin_size);
  for (size_t i = 0; i < run->size; i++) {
    text[begin_size + i] = (char)((unsigned)run->least + any_byte() % run->count);
  }
  memcpy(text + begin_size + run->size, run->end, end_size + 1);
  set(var, text);
}

static void digits(enum config_var var, const char *begin, size_t size, const char *end) {
  const struct run run = {.begin = begin, .least = '0', .count = 10, .size = size, .end = end};
  set_run(var, &run);
}

static void letters(enum config_var var, const char *begin, size_t size, const char *end) {
  const struct run run = {.begin = begin, .least = 'a', .count = 26, .size = size, .end = end};
  set_run(var, &run);
}

/* Numbers with DIGITS_ANY digits, with two less, and with one or two more. */
static void numbers(enum config_var var, const char *begin, const char *unit) {
  digits(var, begin, DIGITS_ANY - 2, unit);
  digits(var, begin, DIGITS_ANY, unit);
  for (char digit = '0'; digit <= '9'; digit++) {
    char end[6] = {digit, '9'};
    size_t more = digit == '1' ? 2 : 1;
    memcpy(end + more, unit, strlen(unit) + 1);
    digits(var, begin, DIGITS_ANY, end);
  }
}

/* A list of ${count} valid items. */
static void items(enum config_var var, const char *item, size_t count) {
  char block[BLOCK_SIZE];
  size_t size = strlen(item);
  char *text = block + sizeof(block) - count * size;
  for (size_t i = 0; i < count; i++) {
    memcpy(text + i * size, item, size);
  }
  block[sizeof(block) - 1] = 0;
  set(var, text);
}

int main(void) {
  for (size_t size = ITEM_LEAST; size <= ITEM_MOST; size++) {
    letters(VAR_LISTEN, "", size, ",");
    letters(VAR_ALLOW, ",", size, "");
  }
  for (size_t count = CONFIG_LISTEN_MAX - 1; count <= CONFIG_LISTEN_MAX + 1; count++) {
    items(VAR_LISTEN, ":1,", count);
  }
  items(VAR_ALLOW, "1,", 3);
  for (unsigned var = 0; var < VAR_COUNT; var++) {
    digits(var, "", DIGITS_ANY, "");
  }
  numbers(VAR_MESSAGES, "", "");
  numbers(VAR_FRAME, "fixed:", "");
  numbers(VAR_MAX_MESSAGE, "", "KiB");
  numbers(VAR_IDLE_TIMEOUT, "", "ms");
  return 0;
}
