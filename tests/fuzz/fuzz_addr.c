/*
 * fuzz_addr: an address or block that was parsed can be written and parsed again with the same
 * result.  An address is in a block exactly if their first bits are equal, compared bit by bit.
 *
 * Input: 16 bytes of an address, then the text.
 */
#include "core/addr.h"
#include "tests/fuzz/fuzz.h"

#include <arpa/inet.h>

static bool same_addr(const struct addr *a, const struct addr *b) {
  return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0 && a->port == b->port &&
         a->family == b->family;
}

static bool is_mapped(const struct addr *addr) {
  static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
  return addr->family == ADDR_IPV6 && memcmp(addr->bytes, prefix, sizeof(prefix)) == 0;
}

static void try_listen(const char *text) {
  struct addr_listen listen, again;
  static const char *const proxies[] = {"", ";proxy=v1", ";proxy=v2", ";proxy=any"};
  char written[256];
  memset(&listen, 0xee, sizeof(listen));
  if (addr_parse_listen(text, &listen) == -1) {
    return;
  }
  bool local = listen.addr.family == ADDR_UNIX;
  fuzz_holds(!is_mapped(&listen.addr), "a mapped address is kept as IPv4");
  fuzz_holds(listen.mode >= -1 && listen.mode <= 0777, "a mode has permission bits only");
  fuzz_holds(listen.mode == -1 || local, "only a file has a mode");
  fuzz_holds(memchr(listen.path, 0, sizeof(listen.path)) != NULL, "a path ends");
  fuzz_holds(local == (listen.path[0] == '/'), "only UNIX has a path, and an absolute one");
  fuzz_holds(memchr(listen.scope, 0, sizeof(listen.scope)) != NULL, "a scope ends");
  fuzz_holds(listen.scope[0] == 0 || listen.addr.family == ADDR_IPV6, "only IPv6 has a scope");
  fuzz_holds(!listen.any || text[0] == ':', "any means an empty host");
  fuzz_holds(listen.proxy <= ADDR_PROXY_ANY, "a header has a version that exists");
  addr_format_listen(&listen, written, sizeof(written));
  if (listen.mode != -1) {
    size_t size = strlen(written);
    snprintf(written + size, sizeof(written) - size, ";mode=%o", (unsigned)listen.mode);
  }
  strcat(written, proxies[listen.proxy]);
  fuzz_holds(addr_parse_listen(written, &again) == 0, "the written value can be parsed");
  fuzz_holds(same_addr(&listen.addr, &again.addr), "the address comes back");
  fuzz_holds(strcmp(listen.scope, again.scope) == 0, "the scope comes back");
  fuzz_holds(listen.mode == again.mode && strcmp(listen.path, again.path) == 0,
             "path and mode come back");
  fuzz_holds(listen.proxy == again.proxy, "the version of the header comes back");
}

/* Are the first ${bits} of both equal? */
static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits) {
  for (unsigned i = 0; i < bits; i++) {
    if (((a[i / 8] ^ b[i / 8]) >> (7 - i % 8) & 1) != 0) {
      return false;
    }
  }
  return true;
}

static void try_membership(const struct addr_block *block, const uint8_t bytes[16]) {
  struct addr addr;
  if (block->family == ADDR_IPV4) {
    addr_from_ipv4(&addr, bytes, 1);
  } else {
    addr_from_ipv6(&addr, bytes, 1);
  }
  bool in = addr.family == block->family && same_bits(addr.bytes, block->bytes, block->bits);
  fuzz_holds(addr_in_block(&addr, block) == in,
             "an address is in the block exactly if the first bits are equal");
  addr.family = ADDR_UNIX;
  fuzz_holds(!addr_in_block(&addr, block), "no UNIX socket is in a block");
}

static void try_block(const char *text, const uint8_t bytes[16]) {
  static const uint8_t zeroes[16];
  struct addr_block block, again;
  char host[INET6_ADDRSTRLEN], written[64];
  memset(&block, 0xee, sizeof(block));
  if (addr_parse_block(text, &block) == -1) {
    return;
  }
  bool v4 = block.family == ADDR_IPV4;
  uint8_t own[16];
  fuzz_holds(v4 || block.family == ADDR_IPV6, "a block has a family");
  fuzz_holds(block.bits <= (v4 ? 32 : 128), "a block has as many bits as its family");
  for (unsigned i = block.bits; i < 128; i++) {
    fuzz_holds((block.bytes[i / 8] >> (7 - i % 8) & 1) == 0, "host bits are 0");
  }
  inet_ntop(v4 ? AF_INET : AF_INET6, block.bytes, host, sizeof(host));
  snprintf(written, sizeof(written), "%s/%u", host, block.bits);
  fuzz_holds(addr_parse_block(written, &again) == 0, "the written value can be parsed");
  fuzz_holds(memcmp(&block, &again, sizeof(block)) == 0, "the block comes back");
  try_membership(&block, bytes);
  try_membership(&block, zeroes);
  memcpy(own, bytes, sizeof(own)); /* nearly always in the block */
  memcpy(own, block.bytes, block.bits / 8);
  try_membership(&block, own);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input input = {data, size};
  uint8_t bytes[16] = {0};
  size_t taken;
  const uint8_t *address = fuzz_bytes(&input, sizeof(bytes), &taken);
  memcpy(bytes, address, taken);
  char *text = fuzz_text(input.at, input.left);
  try_listen(text);
  try_block(text, bytes);
  free(text);
  return 0;
}
