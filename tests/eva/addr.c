/*
 * addr: core/addr.c on any text, for the abstract interpreter (make eva).
 *
 * Inputs: texts of any characters and every length up to TEXT_MOST, which end where their block
 * ends; any value of an option; and letters that fill or exceed the buffer of a path or a host.
 */
#include "core/addr.h"

#include "tests/eva/any.h"

#include <assert.h>
#include <string.h>

#define TEXT_MOST 6
#define OPTION_BEGIN_MOST 12
#define OPTION_MOST 5
#define PATH_LEAST 106
#define PATH_MOST 108
#define HOST_LEAST 45
#define HOST_MOST 46

static void parse_listen(const char *text) {
  struct addr_listen listen;
  if (addr_parse_listen(text, &listen) == 0) {
    assert(listen.mode <= 0777);
    assert(listen.addr.family <= ADDR_UNIX);
  }
}

static void parse_block(const char *text) {
  struct addr_block block;
  if (addr_parse_block(text, &block) == 0) {
    assert(block.bits <= 128);
  }
}

static void parse(const char *text) {
  parse_listen(text);
  parse_block(text);
}

/* Any block that a parser can produce, and any address. The bits are an index: one by one. */
static void look_up(void) {
  for (unsigned bits = 0; bits <= 128; bits++) {
    struct addr_block block = {.family = any_byte(), .bits = (uint8_t)bits};
    struct addr addr = {.family = any_byte()};
    any_bytes(block.bytes, sizeof(block.bytes));
    any_bytes(addr.bytes, sizeof(addr.bytes));
    (void)addr_in_block(&addr, &block);
  }
}

static void any_texts(void) {
  char text[TEXT_MOST + 1];
  for (size_t size = 0; size <= TEXT_MOST; size++) {
    any_text(text + TEXT_MOST - size, size);
    parse(text + TEXT_MOST - size);
  }
}

/* ${begin}, which has ${begin_size} bytes, then any text of an option's value. */
static void any_options(const char *begin, size_t begin_size) {
  char text[OPTION_BEGIN_MOST + OPTION_MOST + 1];
  for (size_t size = 0; size <= OPTION_MOST; size++) {
    char *at = text + sizeof(text) - 1 - size - begin_size;
    memcpy(at, begin, begin_size);
    any_text(at + begin_size, size);
    parse(at);
  }
}

/* ${begin}, then ${least} to ${most} letters. */
static void long_texts(const char *begin, size_t begin_size, size_t least, size_t most) {
  char text[PATH_MOST + 7];
  for (size_t size = least; size <= most; size++) {
    char *at = text + sizeof(text) - 1 - size - begin_size;
    memcpy(at, begin, begin_size);
    for (size_t i = 0; i < size; i++) {
      at[begin_size + i] = any_letter();
    }
    at[begin_size + size] = 0;
    parse(at);
  }
}

int main(void) {
  look_up();
  any_texts();
  any_options("unix:/;mode=", 12);
  any_options(":1;proxy=", 9);
  long_texts("unix:/", 6, PATH_LEAST, PATH_MOST);
  long_texts("", 0, HOST_LEAST, HOST_MOST);
  return 0;
}
