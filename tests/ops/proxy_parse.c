/*
 * proxy_parse: reads lines of hexadecimal digits and writes what core/proxy finds in each, as JSON,
 * for tests/ops/test_proxy_peers.py.
 *
 * A cause is "none" unless the result is "bad".  The path of a UNIX source is written as it is, so
 * the test uses letters.
 */
#include "core/proxy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_SIZE (2 * PROXY_HEADER_MAX + 512)

static void print_address(const char *name, const struct addr *addr, struct proxy_span path,
                          const uint8_t *bytes) {
  char text[ADDR_TEXT_MAX];
  if (addr->family == ADDR_UNIX) {
    printf(", \"%s\": \"%.*s\"", name, path.size, (const char *)bytes + path.offset);
  } else {
    printf(", \"%s\": \"%s\"", name, addr_format(addr, text));
  }
}

int main(void) {
  static const char *const results[] = {"more", "done", "bad"};
  static const char *const commands[] = {"proxy", "local", "unknown"};
  static char line[LINE_MAX_SIZE];
  static uint8_t bytes[LINE_MAX_SIZE / 2];
  while (fgets(line, sizeof(line), stdin) != NULL) {
    size_t size = strspn(line, "0123456789abcdef") / 2;
    for (size_t i = 0; i < size; i++) {
      char digits[3] = {line[2 * i], line[2 * i + 1], 0};
      bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    struct proxy_header header;
    enum proxy_result result = proxy_parse(PROXY_ANY, bytes, size, &header);
    printf("{\"result\": \"%s\", \"cause\": \"%s\", \"size\": %u, \"version\": %u", results[result],
           proxy_cause_name(header.cause), header.size, header.version);
    printf(", \"command\": \"%s\"", commands[header.command]);
    print_address("source", &header.source, header.source_path, bytes);
    print_address("destination", &header.destination, header.destination_path, bytes);
    printf("}\n");
  }
  return 0;
}
