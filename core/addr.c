/*
 * addr: see addr.h.
 *
 * inet_pton and inet_ntop convert the text of an address.  Any thread may call any function.
 *
 * Invariant: an address within ::ffff:0:0/96 never leaves this module as IPv6, so a comparison of a
 * struct addr with a struct addr_block need not consider mapped addresses.  Unused bytes of both
 * structs are 0, so both may be compared and hashed as memory.
 */
#include "core/addr.h"

#include "core/ascii.h"
#include "core/parse.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define IPV4_BITS 32
#define IPV6_BITS 128
#define MAPPED_BITS 96

/* Bytes of the longest address to listen on, its 0 included: "unix:" and a path. */
#define LISTEN_BASE_MAX (5 + ADDR_PATH_MAX + 1)

static const uint8_t mapped_prefix[MAPPED_BITS / 8] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static int parse_scoped(const char *text, size_t size, struct addr_listen *listen);
static int parse_port(const char *text, uint16_t *port);
static int parse_tcp(const char *text, struct addr_listen *listen);
static int parse_unix(const char *text, struct addr_listen *listen);
static int parse_options(const char *text, struct addr_listen *listen);
static int parse_proxy(const char *text, size_t size, enum addr_proxy *proxy);
static int parse_mode(const char *text, size_t size, int *mode);
static void mask_host_bits(struct addr_block *block);

/* By enum addr_proxy. */
static const char *const proxy_names[] = {"off", "v1", "v2", "any"};

int addr_parse_listen(const char *text, struct addr_listen *listen) {
  struct addr_listen result = {.mode = -1};
  char base[LISTEN_BASE_MAX];
  size_t size = strcspn(text, ";"); /* a path contains no semicolon, to detect a mistyped option */
  if (size >= sizeof(base)) {
    return -1;
  }
  memcpy(base, text, size);
  base[size] = 0;
  bool local = ascii_begins(base, "unix:");
  if (local ? parse_unix(base + 5, &result) == -1 : parse_tcp(base, &result) == -1) {
    return -1;
  }
  if (parse_options(text + size, &result) == -1) {
    return -1;
  }
  *listen = result;
  return 0;
}

int addr_parse_block(const char *text, struct addr_block *block) {
  struct addr_block result = {.family = ADDR_IPV6};
  size_t size = strcspn(text, "/");
  bool v6 = memchr(text, ':', size) != NULL;
  struct addr addr;
  if (addr_parse_ip(text, size, v6, &addr) == -1) {
    return -1;
  }
  uint64_t bits_max = v6 ? IPV6_BITS : IPV4_BITS;
  uint64_t bits = bits_max;
  if (text[size] == '/' && parse_u64(text + size + 1, &bits) == -1) {
    return -1;
  }
  if (bits > bits_max) {
    return -1;
  }
  bool mapped = v6 && addr.family == ADDR_IPV4;
  if (mapped && bits < MAPPED_BITS) {
    /* It is wider than all mapped addresses, so it contains IPv6 addresses and stays IPv6. */
    memcpy(result.bytes, mapped_prefix, sizeof(mapped_prefix));
    memcpy(result.bytes + sizeof(mapped_prefix), addr.bytes, 4);
  } else {
    memcpy(result.bytes, addr.bytes, sizeof(result.bytes));
    result.family = addr.family;
    if (mapped) {
      bits -= MAPPED_BITS;
    }
  }
  result.bits = (uint8_t)bits;
  mask_host_bits(&result);
  *block = result;
  return 0;
}

const char *addr_proxy_name(enum addr_proxy proxy) { return proxy_names[proxy]; }

bool addr_in_block(const struct addr *addr, const struct addr_block *block) {
  if (addr->family != block->family) {
    return false;
  }
  size_t whole = block->bits / 8;
  if (memcmp(addr->bytes, block->bytes, whole) != 0) {
    return false;
  }
  unsigned rest = block->bits % 8;
  return rest == 0 || (addr->bytes[whole] ^ block->bytes[whole]) >> (8 - rest) == 0;
}

void addr_from_ipv6(struct addr *addr, const uint8_t bytes[16], uint16_t port) {
  if (memcmp(bytes, mapped_prefix, sizeof(mapped_prefix)) == 0) {
    addr_from_ipv4(addr, bytes + sizeof(mapped_prefix), port);
    return;
  }
  *addr = (struct addr){.port = port, .family = ADDR_IPV6};
  memcpy(addr->bytes, bytes, sizeof(addr->bytes));
}

const char *addr_format(const struct addr *addr, char text[ADDR_TEXT_MAX]) {
  char host[INET6_ADDRSTRLEN] = "";
  switch ((enum addr_family)addr->family) {
    case ADDR_IPV4:
      (void)inet_ntop(AF_INET, addr->bytes, host, sizeof(host)); /* cannot fail: it fits */
      snprintf(text, ADDR_TEXT_MAX, "%s:%u", host, addr->port);
      return text;
    case ADDR_IPV6:
      (void)inet_ntop(AF_INET6, addr->bytes, host, sizeof(host)); /* cannot fail: it fits */
      snprintf(text, ADDR_TEXT_MAX, "[%s]:%u", host, addr->port);
      return text;
    case ADDR_UNIX:
      snprintf(text, ADDR_TEXT_MAX, "unix");
      return text;
    case ADDR_NONE:
      break;
  }
  snprintf(text, ADDR_TEXT_MAX, "none");
  return text;
}

const char *addr_format_listen(const struct addr_listen *listen, char *text, size_t size) {
  char host[ADDR_TEXT_MAX];
  if (listen->addr.family == ADDR_UNIX) {
    snprintf(text, size, "unix:%s", listen->path);
  } else if (listen->scope[0] != 0) {
    char *end = strchr(addr_format(&listen->addr, host), ']'); /* only IPv6 has a scope */
    snprintf(text, size, "%.*s%%%s%s", (int)(end - host), host, listen->scope, end);
  } else {
    snprintf(text, size, "%s", addr_format(&listen->addr, host));
  }
  return text;
}

int addr_parse_ip(const char *text, size_t size, bool v6, struct addr *addr) {
  char host[INET6_ADDRSTRLEN];
  uint8_t bytes[16] = {0};
  if (size >= sizeof(host)) {
    return -1;
  }
  memcpy(host, text, size);
  host[size] = 0;
  if (inet_pton(v6 ? AF_INET6 : AF_INET, host, bytes) != 1) {
    return -1;
  }
  if (v6) {
    addr_from_ipv6(addr, bytes, 0);
  } else {
    addr_from_ipv4(addr, bytes, 0);
  }
  return 0;
}

/* fe80::/10 */
static bool is_link_local(const struct addr *addr) {
  return addr->family == ADDR_IPV6 && addr->bytes[0] == 0xfe && (addr->bytes[1] & 0xc0) == 0x80;
}

/* Parse an IPv6 address; a link-local one may end with "%" and its interface. */
static int parse_scoped(const char *text, size_t size, struct addr_listen *listen) {
  const char *percent = memchr(text, '%', size);
  if (percent == NULL) {
    return addr_parse_ip(text, size, true, &listen->addr);
  }
  size_t host = (size_t)(percent - text), scope = size - host - 1;
  if (addr_parse_ip(text, host, true, &listen->addr) == -1 || !is_link_local(&listen->addr) ||
      scope == 0 || scope >= sizeof(listen->scope)) {
    return -1;
  }
  for (size_t i = 0; i < scope; i++) { /* the kernel allows neither in a name */
    if ((uint8_t)percent[1 + i] <= ' ' || strchr("/:%]", percent[1 + i]) != NULL) {
      return -1;
    }
  }
  memcpy(listen->scope, percent + 1, scope);
  return 0;
}

static int parse_port(const char *text, uint16_t *port) {
  uint64_t value;
  if (parse_u64(text, &value) == -1 || value > UINT16_MAX) {
    return -1;
  }
  *port = (uint16_t)value;
  return 0;
}

/* Parse "address:port", "[v6]:port" or ":port". */
static int parse_tcp(const char *text, struct addr_listen *listen) {
  const char *colon = strrchr(text, ':');
  if (colon == NULL) {
    return -1;
  }
  size_t size = (size_t)(colon - text);
  if (size == 0) {
    listen->any = true;
    listen->addr.family = ADDR_IPV6;
  } else if (text[0] == '[') {
    if (size < 2 || text[size - 1] != ']') {
      return -1;
    }
    if (parse_scoped(text + 1, size - 2, listen) == -1) {
      return -1;
    }
  } else if (addr_parse_ip(text, size, false, &listen->addr) == -1) {
    return -1;
  }
  return parse_port(colon + 1, &listen->addr.port);
}

/* Parse "/path". */
static int parse_unix(const char *text, struct addr_listen *listen) {
  size_t size = strlen(text);
  if (text[0] != '/' || size > ADDR_PATH_MAX) {
    return -1;
  }
  memcpy(listen->path, text, size + 1);
  listen->addr.family = ADDR_UNIX;
  return 0;
}

/* Parse ";mode=0660" and ";proxy=v2" in any order, each at most once; only a path has a mode. */
static int parse_options(const char *text, struct addr_listen *listen) {
  bool proxy = false, mode = listen->addr.family != ADDR_UNIX;
  while (*text != 0) { /* a semicolon */
    size_t size = 1 + strcspn(text + 1, ";");
    if (!mode && ascii_begins(text, ";mode=")) {
      mode = true;
      if (parse_mode(text + 6, size - 6, &listen->mode) == -1) {
        return -1;
      }
    } else if (!proxy && ascii_begins(text, ";proxy=")) {
      proxy = true;
      if (parse_proxy(text + 7, size - 7, &listen->proxy) == -1) {
        return -1;
      }
    } else {
      return -1;
    }
    text += size;
  }
  return 0;
}

/* Parse the ${size} bytes of the value of ";proxy=". */
static int parse_proxy(const char *text, size_t size, enum addr_proxy *proxy) {
  for (size_t i = 0; i < count_of(proxy_names); i++) {
    if (size == strlen(proxy_names[i]) && ascii_begins(text, proxy_names[i])) {
      *proxy = (enum addr_proxy)i;
      return 0;
    }
  }
  return -1;
}

/* Parse the ${size} bytes of a file's permission bits: one to four octal digits, at most 0777. */
static int parse_mode(const char *text, size_t size, int *mode) {
  size_t digits = strspn(text, "01234567");
  if (digits == 0 || digits > 4 || digits != size) {
    return -1;
  }
  int value = 0;
  for (size_t i = 0; i < digits; i++) {
    value = value * 8 + (text[i] - '0');
  }
  if (value > 0777) {
    return -1;
  }
  *mode = value;
  return 0;
}

/* Clear the bits after the prefix. */
static void mask_host_bits(struct addr_block *block) {
  for (size_t i = 0; i < sizeof(block->bytes); i++) {
    size_t first = i * 8;
    if (first >= block->bits) {
      block->bytes[i] = 0;
    } else if (block->bits - first < 8) {
      block->bytes[i] &= (uint8_t)(0xff << (8 - (block->bits - first)));
    }
  }
}
