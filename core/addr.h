/*
 * addr: addresses as text and as numbers, and blocks of them (CIDR).
 *
 * Pure: no socket is touched, no name is resolved.  net/sock turns a struct addr into what the
 * kernel wants.  An IPv4-mapped IPv6 address (::ffff:a.b.c.d) is always kept as the IPv4 address
 * that it means, so that lists, limits and logs see one form.
 */
#ifndef CORE_ADDR_H
#define CORE_ADDR_H

#include "core/base.h"

#include <stdbool.h>

enum addr_family { ADDR_NONE, ADDR_IPV4, ADDR_IPV6, ADDR_UNIX };

/* The address of a peer: no UNIX path, since clients have none worth keeping. 20 bytes. */
struct addr {
  uint8_t bytes[16]; /* network order; IPv4 in the first four, the rest 0; all 0 for ADDR_UNIX */
  uint16_t port;     /* host order */
  uint8_t family;    /* enum addr_family */
  uint8_t unused;
};

/* What XCHG_LISTEN names. */
struct addr_listen {
  struct addr addr;
  bool any;       /* ":port": every address, IPv6 dual stack where there is IPv6, else IPv4 */
  int mode;       /* of a UNIX socket file, -1 = as the umask says */
  char path[108]; /* UNIX: the path, ends with 0 within the array (107 bytes at most) */
};

/* A block of addresses. */
struct addr_block {
  uint8_t bytes[16]; /* host bits are 0 */
  uint8_t family;    /* ADDR_IPV4 or ADDR_IPV6 */
  uint8_t bits;      /* of the prefix: 0..32 or 0..128 */
};

/* The longest text that addr_format writes, its 0 included: "[" 45 "]:" 5, rounded up. */
#define ADDR_TEXT_MAX 64

/**
 * addr_parse_listen(text, listen):
 * Read "address:port", "[v6]:port", ":port" or "unix:/path" with an optional ";mode=0660" into
 * ${listen}.  Numeric only.
 * Return: 0, or -1 where the text is none of these, or the path is longer than 107 bytes or not
 * absolute.
 */
int addr_parse_listen(const char *text, struct addr_listen *listen);

/**
 * addr_parse_block(text, block):
 * Read "address" or "address/bits" into ${block}; host bits are masked.  A mapped IPv6 block with
 * 96 bits or more becomes IPv4.
 * Return: 0, or -1 where it is not such a text.
 */
int addr_parse_block(const char *text, struct addr_block *block);

/** Is ${addr} within ${block}? Never for another family. */
bool addr_in_block(const struct addr *addr, const struct addr_block *block);

/** Set ${addr} from 16 bytes of an IPv6 address and a port; a mapped one becomes IPv4. */
void addr_from_ipv6(struct addr *addr, const uint8_t bytes[16], uint16_t port);

/** Set ${addr} from 4 bytes of an IPv4 address and a port. */
void addr_from_ipv4(struct addr *addr, const uint8_t bytes[4], uint16_t port);

/** Write ${addr} as "127.0.0.1:80", "[::1]:80" or "unix" into ${text}; return ${text}. */
const char *addr_format(const struct addr *addr, char text[ADDR_TEXT_MAX]);

/**
 * Write ${listen} as addr_format does, a UNIX one as "unix:/path", cut at ${size} bytes; return
 * ${text}.
 */
const char *addr_format_listen(const struct addr_listen *listen, char *text, size_t size);

#endif
