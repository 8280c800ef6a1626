/*
 * proxy: parses a PROXY header of version 1 (a line) or 2 (binary).
 *
 * A proxy sends the header before the bytes of its client.  The header contains the addresses of
 * the client's connection.  The parser is a pure function: it owns nothing, allocates nothing and
 * keeps no state.  The caller collects bytes and passes all of them again after each arrival.
 *
 * The result never changes with more bytes: what is done or bad stays so, with the same size or
 * cause.  A byte that cannot stand at its place is bad as soon as it arrives.  Fields of version 1
 * and the length of version 2 are checked as a whole when they end.  TLVs and their checksum are
 * checked when the whole header has arrived.
 *
 * LOCAL and UNKNOWN announce no address, and neither do UNSPEC and the datagram kinds.  The family
 * of both addresses is then ADDR_NONE, and the caller keeps those of its socket.  LOCAL with
 * a block that is no list of TLVs has no TLV: the block is skipped.
 */
#ifndef CORE_PROXY_H
#define CORE_PROXY_H

#include "core/addr.h"

#include <stdbool.h>

#define PROXY_V1_MAX 107        /* the longest header of version 1, its CR LF included */
#define PROXY_HEADER_MAX 4096   /* the longest header that is taken */
#define PROXY_UNIQUE_ID_MAX 128 /* the longest unique id */

/* The versions that a listener accepts, as bits. */
enum proxy_accepts { PROXY_OFF = 0, PROXY_V1 = 1, PROXY_V2 = 2, PROXY_ANY = 3 };

enum proxy_result {
  PROXY_MORE, /* all bytes can begin a header; wait for more */
  PROXY_DONE, /* a whole header; data may follow it */
  PROXY_BAD   /* no header; the cause is set */
};

/* Why there is no valid header, and whether the parser or its caller detects it. */
enum proxy_cause {
  PROXY_CAUSE_NONE,
  PROXY_CAUSE_UNTRUSTED,  /* caller: the peer may not send headers */
  PROXY_CAUSE_NOT_HEADER, /* parser: the bytes begin a header of neither version */
  PROXY_CAUSE_VERSION,    /* parser: a version that is not accepted */
  PROXY_CAUSE_BAD,        /* parser: a byte, field, length or TLV that the protocol forbids */
  PROXY_CAUSE_TRUNCATED,  /* caller: the stream ended while the parser wanted more */
  PROXY_CAUSE_TOO_LONG,   /* parser: over PROXY_V1_MAX or PROXY_HEADER_MAX */
  PROXY_CAUSE_CHECKSUM,   /* parser: the CRC32c does not match */
  PROXY_CAUSE_TIMEOUT,    /* caller: the header did not arrive in time */
  PROXY_CAUSES            /* their number */
};

enum proxy_command {
  PROXY_COMMAND_PROXY,  /* for a client */
  PROXY_COMMAND_LOCAL,  /* for the proxy itself; version 2 */
  PROXY_COMMAND_UNKNOWN /* for a client without addresses; version 1 */
};

/* The types of TLVs that the parser knows. */
enum proxy_tlv_type {
  PROXY_TLV_ALPN = 0x01,
  PROXY_TLV_AUTHORITY = 0x02,
  PROXY_TLV_CRC32C = 0x03,
  PROXY_TLV_NOOP = 0x04,
  PROXY_TLV_UNIQUE_ID = 0x05,
  PROXY_TLV_TLS = 0x20,
  PROXY_TLV_TLS_VERSION = 0x21, /* this and the following within PROXY_TLV_TLS */
  PROXY_TLV_TLS_CN = 0x22,
  PROXY_TLV_TLS_CIPHER = 0x23
};

/* A part of the bytes that were parsed; absent if ${offset} is 0. A present one may be empty. */
struct proxy_span {
  uint16_t offset, size;
};

/* What a TLV of TLS says about the client's connection to the proxy. */
struct proxy_tls {
  bool present;
  uint8_t bits;    /* 1: over TLS; 2: a certificate on this connection; 4: one in this session */
  uint32_t verify; /* 0: the proxy has verified the client's certificate */
  struct proxy_span version, cn, cipher;
};

/* A header. The texts are unchecked bytes of the sender: escape them. */
struct proxy_header {
  uint16_t size;   /* of the header, 0 while it is unknown */
  uint8_t version; /* 1 or 2; 0 while it is unknown */
  uint8_t command; /* enum proxy_command */
  uint8_t cause;   /* enum proxy_cause, of PROXY_BAD */
  struct addr source, destination;
  struct proxy_span source_path;      /* of ADDR_UNIX: up to its first NUL, at most 108 bytes */
  struct proxy_span destination_path; /* likewise */
  struct proxy_span tlvs;             /* all TLVs, for proxy_find_tlv */
  struct proxy_span authority, alpn, unique_id; /* of duplicates, the first counts */
  struct proxy_tls tls;
};

/**
 * proxy_parse(accepts, bytes, size, header):
 * Parse the header at the beginning of the ${size} bytes at ${bytes}, of a version in ${accepts}
 * (enum proxy_accepts, not PROXY_OFF). Bytes after the header are not looked at. Every field of
 * ${header} is set; those of the contents are valid after PROXY_DONE only.
 * Return: see enum proxy_result.
 */
enum proxy_result proxy_parse(enum proxy_accepts accepts, const uint8_t *bytes, size_t size,
                              struct proxy_header *header);

/**
 * The value of the first TLV of ${type} in a header that proxy_parse has done; ${bytes} are those
 * that it parsed.
 */
struct proxy_span proxy_find_tlv(const uint8_t *bytes, const struct proxy_header *header,
                                 uint8_t type);

/** The name of a cause for logs and metrics: "not_header". Return: a constant text. */
const char *proxy_cause_name(enum proxy_cause cause);

#endif
