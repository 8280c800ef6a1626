/*
 * proxy_header: see proxy_header.h.  core/proxy reads what this file writes and shares its checksum
 * only.
 */
#include "proxy_header.h"

#include "core/crc32c.h"
#include "net/sock.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define HEAD_SIZE 16
#define VERSION_AND_COMMAND 0x21 /* 2, PROXY */
#define PORT_MIN 1024
#define NETWORK_V4 UINT32_C(0xc6120000) /* 198.18.0.0/15 */
#define HOSTS_V4 UINT32_C(0x1ffff)

enum { TLV_AUTHORITY = 2, TLV_CRC32C = 3, TLV_UNIQUE_ID = 5 };

/* A header while it is written. */
struct output {
  uint8_t *bytes;
  size_t size;
};

/* ---- the option ---- */

/* Store the name in the first ${size} bytes of ${text}. */
static int read_authority(const char *text, size_t size, struct bench_proxy *proxy) {
  if (size == 0 || size > BENCH_AUTHORITY_MAX) {
    return -1;
  }
  for (size_t i = 0; i < size; i++) {
    if (text[i] <= ' ' || text[i] >= 0x7f) {
      return -1;
    }
  }
  memcpy(proxy->authority, text, size);
  proxy->authority[size] = 0;
  return 0;
}

/* Is ${word} in the first ${size} bytes of ${text}? */
static bool is_word(const char *text, size_t size, const char *word) {
  return size == strlen(word) && memcmp(text, word, size) == 0;
}

int proxy_header_parse(const char *text, struct bench_proxy *proxy) {
  static const char authority[] = "authority=";
  const size_t head = strlen(authority);
  *proxy = (struct bench_proxy){.version = 0};
  if (strcmp(text, "none") == 0) {
    return 0;
  }
  if (strcmp(text, "v1") == 0) {
    proxy->version = 1;
    return 0;
  }
  size_t size = strcspn(text, ",");
  if (!is_word(text, size, "v2")) {
    return -1;
  }
  proxy->version = 2;
  for (text += size; *text != 0; text += size) {
    text++; /* the comma */
    size = strcspn(text, ",");
    if (is_word(text, size, "crc32c")) {
      proxy->crc32c = true;
    } else if (is_word(text, size, "unique-id")) {
      proxy->unique_id = true;
    } else if (size < head || memcmp(text, authority, head) != 0 ||
               read_authority(text + head, size - head, proxy) == -1) {
      return -1;
    }
  }
  return 0;
}

const char *proxy_header_format(const struct bench_proxy *proxy, char text[PROXY_HEADER_TEXT_MAX]) {
  if (proxy->version == 0) {
    return "none";
  }
  snprintf(text, PROXY_HEADER_TEXT_MAX, "v%u%s%s%s%s", proxy->version,
           proxy->crc32c ? ",crc32c" : "", proxy->unique_id ? ",unique-id" : "",
           proxy->authority[0] != 0 ? ",authority=" : "", proxy->authority);
  return text;
}

/* ---- the header ---- */

static void put(struct output *out, const void *bytes, size_t size) {
  memcpy(out->bytes + out->size, bytes, size);
  out->size += size;
}

/* Write the ${size} lower bytes of ${value}, the highest one first. */
static void put_number(struct output *out, uint32_t value, size_t size) {
  for (size_t i = size; i > 0; i--) {
    out->bytes[out->size++] = (uint8_t)(value >> (8 * (i - 1)));
  }
}

static void put_tlv(struct output *out, uint8_t type, const char *text) {
  put_number(out, type, 1);
  put_number(out, (uint32_t)strlen(text), 2);
  put(out, text, strlen(text));
}

/* The addresses that connection ${number} announces, of one family. */
static void choose_addresses(const struct addr *server, uint32_t number, struct addr *source,
                             struct addr *destination) {
  const uint32_t host = number + 1;
  const uint16_t port = (uint16_t)(PORT_MIN + number % (UINT16_MAX + 1 - PORT_MIN));
  uint8_t bytes[16] = {0x20, 0x01, 0, 2};
  if (server->family == ADDR_IPV6) {
    struct output low = {bytes, 12};
    put_number(&low, host, 4);
    addr_from_ipv6(source, bytes, port);
    *destination = *server;
    return;
  }
  struct output whole = {bytes, 0};
  put_number(&whole, NETWORK_V4, 4);
  addr_from_ipv4(destination, bytes, 0);
  whole.size = 0;
  put_number(&whole, NETWORK_V4 | (host & HOSTS_V4), 4);
  addr_from_ipv4(source, bytes, port);
  if (server->family == ADDR_IPV4) {
    *destination = *server;
  }
}

static void write_v1(struct output *out, const struct addr *source,
                     const struct addr *destination) {
  const int family = source->family == ADDR_IPV6 ? AF_INET6 : AF_INET;
  char from[INET6_ADDRSTRLEN] = "", to[INET6_ADDRSTRLEN] = "";
  (void)inet_ntop(family, source->bytes, from, sizeof(from));  /* cannot fail: it fits */
  (void)inet_ntop(family, destination->bytes, to, sizeof(to)); /* cannot fail: it fits */
  out->size =
      (size_t)snprintf((char *)out->bytes, PROXY_HEADER_SIZE_MAX, "PROXY TCP%c %s %s %u %u\r\n",
                       family == AF_INET6 ? '6' : '4', from, to, source->port, destination->port);
}

static void write_v2(struct output *out, const struct bench_proxy *proxy, const struct addr *source,
                     const struct addr *destination) {
  const bool v6 = source->family == ADDR_IPV6;
  put(out, SIGNATURE, sizeof(SIGNATURE) - 1);
  put_number(out, VERSION_AND_COMMAND, 1);
  put_number(out, v6 ? 0x21 : 0x11, 1);
  put_number(out, 0, 2); /* the length, which is known at the end */
  put(out, source->bytes, v6 ? 16 : 4);
  put(out, destination->bytes, v6 ? 16 : 4);
  put_number(out, source->port, 2);
  put_number(out, destination->port, 2);
  if (proxy->authority[0] != 0) {
    put_tlv(out, TLV_AUTHORITY, proxy->authority);
  }
}

/* Write the length, and the checksum as the last TLV. */
static void finish_v2(struct output *out, bool crc32c_wanted) {
  const size_t whole = out->size + (crc32c_wanted ? 3 + sizeof(uint32_t) : 0);
  struct output length = {out->bytes, HEAD_SIZE - 2};
  put_number(&length, (uint32_t)(whole - HEAD_SIZE), 2);
  if (crc32c_wanted) {
    put_number(out, TLV_CRC32C, 1);
    put_number(out, sizeof(uint32_t), 2);
    put_number(out, 0, sizeof(uint32_t));
    const uint32_t crc = crc32c(0, out->bytes, whole);
    out->size -= sizeof(uint32_t);
    put_number(out, crc, sizeof(uint32_t));
  }
}

size_t proxy_header_write(const struct proxy_sender *sender, uint32_t number, uint64_t opened_ns,
                          uint8_t bytes[PROXY_HEADER_SIZE_MAX]) {
  const struct bench_proxy *proxy = sender->proxy;
  struct output out = {.size = 0};
  struct addr source, destination;
  out.bytes = bytes;
  choose_addresses(&sender->server, number, &source, &destination);
  if (proxy->version == 1) {
    write_v1(&out, &source, &destination);
    return out.size;
  }
  write_v2(&out, proxy, &source, &destination);
  if (proxy->unique_id) {
    char id[IDENTITY_ID_MAX + 40];
    snprintf(id, sizeof(id), "%s-%" PRIu32 "-%" PRIu64, sender->run_id, number, opened_ns);
    put_tlv(&out, TLV_UNIQUE_ID, id);
  }
  finish_v2(&out, proxy->crc32c);
  return out.size;
}

int proxy_header_send(const struct proxy_sender *sender, int fd, uint32_t number,
                      uint64_t opened_ns) {
  uint8_t bytes[PROXY_HEADER_SIZE_MAX];
  size_t count;
  if (sender->proxy == NULL) {
    return 0;
  }
  const size_t size = proxy_header_write(sender, number, opened_ns, bytes);
  if (sock_send(fd, bytes, size, &count) == IO_ERROR) {
    return -1;
  }
  return count == size ? 0 : fail(EAGAIN); /* a new socket has room */
}
