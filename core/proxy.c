/*
 * proxy: see proxy.h.  The rules are those of "The PROXY protocol", sections 2.1 and 2.2.
 *
 * The two versions differ in their first byte, so that the first bytes tell the version, whatever
 * the listener accepts.  A header of the wrong version is named as such and not as unknown bytes.
 *
 *   version 1   PROXY TCP4 192.0.2.1 198.51.100.1 12345 7000 CR LF
 *   version 2   signature (12)  version and command (1)  family and kind (1)  length (2)
 *               addresses (0, 12, 36 or 216)  TLVs: type (1)  length (2)  value
 *
 * LOCAL has a block of any contents, and the receiver must accept it.  So its TLVs count only where
 * the block consists of TLVs: the family is UNSPEC and every length fits.
 */
#include "core/proxy.h"

#include "core/crc32c.h"

#include <string.h>

#define V1_SIGNATURE_SIZE 6
#define V2_SIGNATURE_SIZE 12
#define V2_HEAD_SIZE 16 /* up to the addresses */
#define VERSION_AT 12
#define FAMILY_AT 13
#define LENGTH_AT 14
#define TLV_HEAD_SIZE 3
#define TLS_HEAD_SIZE 5 /* bits and the result of the verification */
#define CRC_SIZE 4
#define PATH_SIZE 108 /* of a UNIX address, of which a header has two */

/* The lower half of the byte of the version, and both halves of the byte of the family. */
enum { COMMAND_LOCAL, COMMAND_PROXY, COMMANDS };
enum { FAMILY_UNSPEC, FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, FAMILIES };
enum { KIND_UNSPEC, KIND_STREAM, KIND_DATAGRAM, KINDS };

static const uint16_t address_sizes[FAMILIES] = {0, 12, 36, 2 * PATH_SIZE};

static const uint8_t v1_signature[] = "PROXY ";
static const uint8_t v2_signature[] = "\r\n\r\n\0\r\nQUIT\n";

/* A header of version 1 while it is read. */
struct line {
  const uint8_t *bytes;
  size_t size, at;
};

/* A TLV, or a sub-TLV. */
struct tlv {
  uint8_t type;
  struct proxy_span value;
};

static enum proxy_result parse_v1(const uint8_t *bytes, size_t size, struct proxy_header *header);
static enum proxy_result read_line(struct line *line, struct proxy_header *header);
static enum proxy_result read_addresses(struct line *line, bool v6, struct proxy_header *header);
static enum proxy_result parse_v2(const uint8_t *bytes, size_t size, struct proxy_header *header);
static enum proxy_cause read_block(const uint8_t *bytes, struct proxy_header *header);
static enum proxy_cause read_tlvs(const uint8_t *bytes, size_t at, struct proxy_header *header);

static enum proxy_result reject(struct proxy_header *header, enum proxy_cause cause) {
  header->cause = (uint8_t)cause;
  return PROXY_BAD;
}

static bool begins(const uint8_t *bytes, size_t size, const uint8_t *signature, size_t whole) {
  return memcmp(bytes, signature, min_u64(size, whole)) == 0;
}

enum proxy_result proxy_parse(enum proxy_accepts accepts, const uint8_t *bytes, size_t size,
                              struct proxy_header *header) {
  *header = (struct proxy_header){0};
  if (size == 0) {
    return PROXY_MORE;
  }
  bool binary = bytes[0] == v2_signature[0];
  size_t whole = binary ? V2_SIGNATURE_SIZE : V1_SIGNATURE_SIZE;
  if (!begins(bytes, size, binary ? v2_signature : v1_signature, whole)) {
    return reject(header, PROXY_CAUSE_NOT_HEADER);
  }
  if (size < whole) {
    return PROXY_MORE;
  }
  header->version = binary ? 2 : 1;
  if ((accepts & (binary ? PROXY_V2 : PROXY_V1)) == 0) {
    return reject(header, PROXY_CAUSE_VERSION);
  }
  return binary ? parse_v2(bytes, size, header) : parse_v1(bytes, size, header);
}

/* ---- version 1 ---- */

static enum proxy_result parse_v1(const uint8_t *bytes, size_t size, struct proxy_header *header) {
  struct line line = {bytes, min_u64(size, PROXY_V1_MAX), V1_SIGNATURE_SIZE};
  enum proxy_result result = read_line(&line, header);
  if (result == PROXY_MORE && size >= PROXY_V1_MAX) {
    return reject(header, PROXY_CAUSE_TOO_LONG);
  }
  if (result == PROXY_BAD) {
    return reject(header, PROXY_CAUSE_BAD);
  }
  header->size = result == PROXY_DONE ? (uint16_t)line.at : 0;
  return result;
}

/* Read over ${text}. */
static enum proxy_result read_text(struct line *line, const char *text) {
  for (; *text != 0; text++) {
    if (line->at == line->size) {
      return PROXY_MORE;
    }
    if (line->bytes[line->at] != (uint8_t)*text) {
      return PROXY_BAD;
    }
    line->at++;
  }
  return PROXY_DONE;
}

/* Read over what ends with CR LF. Neither may stand alone. */
static enum proxy_result read_rest(struct line *line) {
  while (line->at < line->size && line->bytes[line->at] != '\r' && line->bytes[line->at] != '\n') {
    line->at++;
  }
  return read_text(line, "\r\n");
}

static enum proxy_result read_line(struct line *line, struct proxy_header *header) {
  bool known = line->at < line->size && line->bytes[line->at] != 'U';
  enum proxy_result result = read_text(line, known ? "TCP" : "UNKNOWN");
  if (result != PROXY_DONE) {
    return result;
  }
  if (line->at == line->size) {
    return PROXY_MORE;
  }
  uint8_t next = line->bytes[line->at];
  if (!known) {
    header->command = PROXY_COMMAND_UNKNOWN;
    return next == ' ' || next == '\r' ? read_rest(line) : PROXY_BAD;
  }
  if (next != '4' && next != '6') {
    return PROXY_BAD;
  }
  line->at++;
  result = read_text(line, " ");
  return result == PROXY_DONE ? read_addresses(line, next == '6', header) : result;
}

/*
 * Read over a field of at most ${size_max} bytes of ${alphabet}, and the byte ${end} after it.
 * Store where the field is in ${field}.
 */
static enum proxy_result read_field(struct line *line, const char *alphabet, size_t size_max,
                                    char end, struct proxy_span *field) {
  size_t start = line->at;
  while (line->at < line->size && line->bytes[line->at] != (uint8_t)end) {
    uint8_t byte = line->bytes[line->at];
    if (line->at - start == size_max || byte == 0 || strchr(alphabet, byte) == NULL) {
      return PROXY_BAD;
    }
    line->at++;
  }
  if (line->at == line->size) {
    return PROXY_MORE;
  }
  *field = (struct proxy_span){(uint16_t)start, (uint16_t)(line->at - start)};
  line->at++;
  return PROXY_DONE;
}

static enum proxy_result read_address(struct line *line, bool v6, struct addr *addr) {
  struct proxy_span field;
  enum proxy_result result = v6 ? read_field(line, "0123456789abcdefABCDEF:.", 45, ' ', &field)
                                : read_field(line, "0123456789.", 15, ' ', &field);
  if (result != PROXY_DONE) {
    return result;
  }
  const char *text = (const char *)line->bytes + field.offset;
  return addr_parse_ip(text, field.size, v6, addr) == 0 ? PROXY_DONE : PROXY_BAD;
}

/* Read a port without leading zeros. */
static enum proxy_result read_port(struct line *line, char end, uint16_t *port) {
  struct proxy_span field;
  enum proxy_result result = read_field(line, "0123456789", 5, end, &field);
  if (result != PROXY_DONE) {
    return result;
  }
  const uint8_t *digits = line->bytes + field.offset;
  uint32_t value = 0;
  for (size_t i = 0; i < field.size; i++) {
    value = value * 10 + (digits[i] - '0');
  }
  if (field.size == 0 || (field.size > 1 && digits[0] == '0') || value > UINT16_MAX) {
    return PROXY_BAD;
  }
  *port = (uint16_t)value;
  return PROXY_DONE;
}

static enum proxy_result read_addresses(struct line *line, bool v6, struct proxy_header *header) {
  uint16_t ports[2] = {0, 0};
  enum proxy_result result = read_address(line, v6, &header->source);
  if (result == PROXY_DONE) {
    result = read_address(line, v6, &header->destination);
  }
  if (result == PROXY_DONE) {
    result = read_port(line, ' ', &ports[0]);
  }
  if (result == PROXY_DONE) {
    result = read_port(line, '\r', &ports[1]);
  }
  if (result == PROXY_DONE) {
    result = read_text(line, "\n");
  }
  header->source.port = ports[0];
  header->destination.port = ports[1];
  return result;
}

/* ---- version 2 ---- */

static uint16_t read_u16(const uint8_t *bytes) { return (uint16_t)(bytes[0] << 8 | bytes[1]); }

static uint32_t read_u32(const uint8_t *bytes) {
  return (uint32_t)read_u16(bytes) << 16 | read_u16(bytes + 2);
}

/* What is wrong in the first ${size} bytes, of which the length is the last field. */
static enum proxy_cause check_head(const uint8_t *bytes, size_t size) {
  if (size > VERSION_AT && bytes[VERSION_AT] >> 4 != 2) {
    return PROXY_CAUSE_VERSION;
  }
  if (size > VERSION_AT && (bytes[VERSION_AT] & 15) >= COMMANDS) {
    return PROXY_CAUSE_BAD;
  }
  bool local = size > VERSION_AT && (bytes[VERSION_AT] & 15) == COMMAND_LOCAL;
  if (size > FAMILY_AT && !local &&
      (bytes[FAMILY_AT] >> 4 >= FAMILIES || (bytes[FAMILY_AT] & 15) >= KINDS)) {
    return PROXY_CAUSE_BAD;
  }
  if (size < V2_HEAD_SIZE) {
    return PROXY_CAUSE_NONE;
  }
  uint16_t length = read_u16(bytes + LENGTH_AT);
  if (length > PROXY_HEADER_MAX - V2_HEAD_SIZE) {
    return PROXY_CAUSE_TOO_LONG;
  }
  return local || length >= address_sizes[bytes[FAMILY_AT] >> 4] ? PROXY_CAUSE_NONE
                                                                 : PROXY_CAUSE_BAD;
}

static enum proxy_result parse_v2(const uint8_t *bytes, size_t size, struct proxy_header *header) {
  enum proxy_cause cause = check_head(bytes, size);
  if (cause == PROXY_CAUSE_NONE && size >= V2_HEAD_SIZE) {
    header->size = (uint16_t)(V2_HEAD_SIZE + read_u16(bytes + LENGTH_AT));
  }
  if (cause == PROXY_CAUSE_NONE && (header->size == 0 || size < header->size)) {
    return PROXY_MORE;
  }
  if (cause == PROXY_CAUSE_NONE) {
    cause = read_block(bytes, header);
  }
  return cause == PROXY_CAUSE_NONE ? PROXY_DONE : reject(header, cause);
}

/* The path that begins at ${at}: up to a NUL, or all its bytes. */
static struct proxy_span path_at(const uint8_t *bytes, size_t at) {
  const uint8_t *end = memchr(bytes + at, 0, PATH_SIZE);
  size_t size = end == NULL ? PATH_SIZE : (size_t)(end - bytes) - at;
  return (struct proxy_span){(uint16_t)at, (uint16_t)size};
}

static void read_stream_addresses(const uint8_t *bytes, struct proxy_header *header) {
  const uint8_t *block = bytes + V2_HEAD_SIZE;
  switch (bytes[FAMILY_AT] >> 4) {
    case FAMILY_INET:
      addr_from_ipv4(&header->source, block, read_u16(block + 8));
      addr_from_ipv4(&header->destination, block + 4, read_u16(block + 10));
      break;
    case FAMILY_INET6:
      addr_from_ipv6(&header->source, block, read_u16(block + 32));
      addr_from_ipv6(&header->destination, block + 16, read_u16(block + 34));
      break;
    case FAMILY_UNIX:
      header->source.family = header->destination.family = ADDR_UNIX;
      header->source_path = path_at(bytes, V2_HEAD_SIZE);
      header->destination_path = path_at(bytes, V2_HEAD_SIZE + PATH_SIZE);
      break;
    default:
      break;
  }
}

/* Read what the length announced. */
static enum proxy_cause read_block(const uint8_t *bytes, struct proxy_header *header) {
  uint8_t family = bytes[FAMILY_AT] >> 4;
  if ((bytes[VERSION_AT] & 15) == COMMAND_LOCAL) {
    header->command = PROXY_COMMAND_LOCAL;
    const struct proxy_header skipped = *header;
    enum proxy_cause cause = PROXY_CAUSE_NONE;
    if (family == FAMILY_UNSPEC) {
      cause = read_tlvs(bytes, V2_HEAD_SIZE, header);
    }
    if (cause == PROXY_CAUSE_BAD) {
      *header = skipped;
      return PROXY_CAUSE_NONE;
    }
    return cause;
  }
  if ((bytes[FAMILY_AT] & 15) == KIND_STREAM) {
    read_stream_addresses(bytes, header);
  }
  return read_tlvs(bytes, V2_HEAD_SIZE + address_sizes[family], header);
}

/* Take the TLV that begins at ${*at} and ends at or before ${end}. Return: is there one? */
static bool next_tlv(const uint8_t *bytes, size_t *at, size_t end, struct tlv *tlv) {
  if (end - *at < TLV_HEAD_SIZE) {
    return false;
  }
  uint16_t size = read_u16(bytes + *at + 1);
  if (end - *at - TLV_HEAD_SIZE < size) {
    return false;
  }
  *tlv = (struct tlv){bytes[*at], {(uint16_t)(*at + TLV_HEAD_SIZE), size}};
  *at += (size_t)TLV_HEAD_SIZE + size;
  return true;
}

static void keep_first(struct proxy_span *span, struct proxy_span value) {
  if (span->offset == 0) {
    *span = value;
  }
}

/* Read the TLV of TLS. Return: do its parts fit into it? */
static bool read_tls(const uint8_t *bytes, struct proxy_span value, struct proxy_tls *tls) {
  size_t at = value.offset, end = at + value.size;
  if (tls->present) {
    return true;
  }
  if (value.size < TLS_HEAD_SIZE) {
    return false;
  }
  tls->present = true;
  tls->bits = bytes[at];
  tls->verify = read_u32(bytes + at + 1);
  at += TLS_HEAD_SIZE;
  while (at < end) {
    struct tlv tlv;
    if (!next_tlv(bytes, &at, end, &tlv)) {
      return false;
    }
    if (tlv.type == PROXY_TLV_TLS_VERSION) {
      keep_first(&tls->version, tlv.value);
    } else if (tlv.type == PROXY_TLV_TLS_CN) {
      keep_first(&tls->cn, tlv.value);
    } else if (tlv.type == PROXY_TLV_TLS_CIPHER) {
      keep_first(&tls->cipher, tlv.value);
    }
  }
  return true;
}

/* Does the checksum of the ${size} bytes of a header match, where ${crc} is 0 while it is made? */
static bool checksum_matches(const uint8_t *bytes, size_t size, struct proxy_span crc) {
  static const uint8_t zeros[CRC_SIZE] = {0};
  size_t after = (size_t)crc.offset + CRC_SIZE;
  uint32_t sum = crc32c(0, bytes, crc.offset);
  sum = crc32c(sum, zeros, sizeof(zeros));
  sum = crc32c(sum, bytes + after, size - after);
  return sum == read_u32(bytes + crc.offset);
}

/* Read the TLVs, which begin at ${at}. */
static enum proxy_cause read_tlvs(const uint8_t *bytes, size_t at, struct proxy_header *header) {
  struct proxy_span crc = {0, 0};
  bool fits = true;
  header->tlvs = (struct proxy_span){(uint16_t)at, (uint16_t)(header->size - at)};
  while (at < header->size) {
    struct tlv tlv;
    if (!next_tlv(bytes, &at, header->size, &tlv)) {
      return PROXY_CAUSE_BAD;
    }
    if (tlv.type == PROXY_TLV_ALPN) {
      keep_first(&header->alpn, tlv.value);
    } else if (tlv.type == PROXY_TLV_AUTHORITY) {
      keep_first(&header->authority, tlv.value);
    } else if (tlv.type == PROXY_TLV_CRC32C) {
      keep_first(&crc, tlv.value);
    } else if (tlv.type == PROXY_TLV_UNIQUE_ID) {
      keep_first(&header->unique_id, tlv.value);
    } else if (tlv.type == PROXY_TLV_TLS) {
      fits = read_tls(bytes, tlv.value, &header->tls) && fits;
    }
  }
  bool checked = crc.offset != 0;
  if (!fits || header->unique_id.size > PROXY_UNIQUE_ID_MAX || (checked && crc.size != CRC_SIZE)) {
    return PROXY_CAUSE_BAD;
  }
  return checked && !checksum_matches(bytes, header->size, crc) ? PROXY_CAUSE_CHECKSUM
                                                                : PROXY_CAUSE_NONE;
}

struct proxy_span proxy_find_tlv(const uint8_t *bytes, const struct proxy_header *header,
                                 uint8_t type) {
  size_t at = header->tlvs.offset, end = at + header->tlvs.size;
  struct tlv tlv;
  while (next_tlv(bytes, &at, end, &tlv)) {
    if (tlv.type == type) {
      return tlv.value;
    }
  }
  return (struct proxy_span){0, 0};
}

const char *proxy_cause_name(enum proxy_cause cause) {
  static const char *const names[PROXY_CAUSES] = {
      [PROXY_CAUSE_NONE] = "none",
      [PROXY_CAUSE_UNTRUSTED] = "untrusted",
      [PROXY_CAUSE_NOT_HEADER] = "not_header",
      [PROXY_CAUSE_VERSION] = "version",
      [PROXY_CAUSE_BAD] = "bad",
      [PROXY_CAUSE_TRUNCATED] = "truncated",
      [PROXY_CAUSE_TOO_LONG] = "too_long",
      [PROXY_CAUSE_CHECKSUM] = "checksum",
      [PROXY_CAUSE_TIMEOUT] = "timeout",
  };
  return names[cause];
}
