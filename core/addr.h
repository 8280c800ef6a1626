/*
 * addr: addresses and blocks of addresses (CIDR), as text and as numbers.
 *
 * These are pure functions that use no socket and resolve no name.  net/sock converts a struct addr
 * to the kernel's form.  An IPv4-mapped IPv6 address (::ffff:a.b.c.d) is always stored as the IPv4
 * address, so that lists, limits and logs have one form of it.
 */
#ifndef CORE_ADDR_H
#define CORE_ADDR_H

#include "core/base.h"

#include <stdbool.h>
#include <string.h>

enum addr_family { ADDR_NONE, ADDR_IPV4, ADDR_IPV6, ADDR_UNIX };

/* The address of a peer, in 20 bytes. UNIX paths of clients are not stored. */
struct addr {
  uint8_t bytes[16]; /* network order; IPv4 uses the first four; unused ones are 0 */
  uint16_t port;     /* host order */
  uint8_t family;    /* enum addr_family */
  uint8_t unused;
};

/* The longest path of a UNIX socket that XCHG_LISTEN takes. */
#define ADDR_PATH_MAX 107

/* The longest name of an interface, its 0 included. */
#define ADDR_SCOPE_MAX 16

/* The versions of the PROXY header that a listener accepts; unless OFF, it requires a header. */
enum addr_proxy { ADDR_PROXY_OFF = 0, ADDR_PROXY_V1 = 1, ADDR_PROXY_V2 = 2, ADDR_PROXY_ANY = 3 };

/* One item of XCHG_LISTEN. */
struct addr_listen {
  struct addr addr;
  bool any;                   /* ":port": every address of IPv6 and IPv4, or of IPv4 without IPv6 */
  int mode;                   /* of a UNIX socket file; -1 = the umask decides */
  enum addr_proxy proxy;      /* the header that each connection begins with */
  char scope[ADDR_SCOPE_MAX]; /* name or number of a link-local address's interface; "" = none */
  /* The path of a UNIX socket.  An inherited one may have 108 bytes, or an abstract name: @name. */
  char path[ADDR_PATH_MAX + 3];
};

/* A block of addresses. */
struct addr_block {
  uint8_t bytes[16]; /* host bits are 0 */
  uint8_t family;    /* ADDR_IPV4 or ADDR_IPV6 */
  uint8_t bits;      /* length of the prefix: 0..32 or 0..128 */
};

/*
 * The longest text of addr_format, its 0 included: "[", 45, "]:" and 5 bytes, rounded up.  A scope
 * adds ADDR_SCOPE_MAX bytes.
 */
#define ADDR_TEXT_MAX 64

/**
 * addr_parse_listen(text, listen):
 * Parse "address:port", "[v6]:port", ":port" or "unix:/path" into ${listen}. Options follow, each
 * at most once: ";proxy=off", v1, v2 or any, and on a UNIX path ";mode=0660". Addresses are
 * numeric. A link-local IPv6 address may name its interface: "[fe80::1%eth0]:port".
 * Return: 0, or -1 if the text has another form, or the path is relative or longer than 107 bytes.
 */
int addr_parse_listen(const char *text, struct addr_listen *listen);

/**
 * addr_parse_block(text, block):
 * Parse "address" or "address/bits" into ${block} and clear the host bits. A mapped IPv6 block with
 * at least 96 bits becomes an IPv4 block.
 * Return: 0, or -1 if the text has another form.
 */
int addr_parse_block(const char *text, struct addr_block *block);

/**
 * Parse the first ${size} bytes of ${text}, an IPv6 address if ${v6}, else an IPv4 address, into
 * ${addr} with port 0. A mapped address becomes IPv4.
 * Return: 0, or -1 if they have another form.
 */
int addr_parse_ip(const char *text, size_t size, bool v6, struct addr *addr);

/** The value of the option ;proxy= for ${proxy}: "off", "v1", "v2" or "any". */
const char *addr_proxy_name(enum addr_proxy proxy);

/** Is ${addr} within ${block}? Not if their families differ. */
bool addr_in_block(const struct addr *addr, const struct addr_block *block);

/** Set ${addr} to an IPv6 address and a port. A mapped address becomes IPv4. */
void addr_from_ipv6(struct addr *addr, const uint8_t bytes[16], uint16_t port);

/** Set ${addr} to an IPv4 address and a port. */
static inline void addr_from_ipv4(struct addr *addr, const uint8_t bytes[4], uint16_t port) {
  *addr = (struct addr){.port = port, .family = ADDR_IPV4};
  memcpy(addr->bytes, bytes, 4);
}

/** Write ${addr} to ${text} as "127.0.0.1:80", "[::1]:80" or "unix". Return: ${text}. */
const char *addr_format(const struct addr *addr, char text[ADDR_TEXT_MAX]);

/**
 * Write ${listen} as addr_format does, or as "unix:/path", shortened to ${size} bytes.
 * Return: ${text}.
 */
const char *addr_format_listen(const struct addr_listen *listen, char *text, size_t size);

#endif
