/*
 * fuzz_proxy: both parsers of PROXY headers judge any bytes alike, and more bytes change no result.
 *
 * Random bytes hardly ever have the right checksum.  So the target makes it right if the input asks
 * for it.
 *
 * Input: the versions accepted (2 bits) and whether to mend the checksum (1 bit), where the second
 * arrival begins (2 bytes), the stream.
 */
#include "tests/fuzz/fuzz.h"

#include "core/crc32c.h"
#include "core/proxy.h"
#include "tests/fixtures/reference_proxy.h"

#define STREAM_MAX (PROXY_HEADER_MAX + 200)
#define MEND 4

static void check_span(struct proxy_span span, const struct proxy_header *header) {
  fuzz_holds(span.offset == 0 ? span.size == 0 : span.offset + span.size <= header->size,
             "a part lies in the header");
}

static void check_parts(const struct proxy_header *header) {
  check_span(header->source_path, header);
  check_span(header->destination_path, header);
  check_span(header->tlvs, header);
  check_span(header->authority, header);
  check_span(header->alpn, header);
  check_span(header->unique_id, header);
  check_span(header->tls.version, header);
  check_span(header->tls.cn, header);
  check_span(header->tls.cipher, header);
  fuzz_holds(header->size <= (header->version == 1 ? PROXY_V1_MAX : PROXY_HEADER_MAX),
             "no header is over the limit");
}

/* Write the right checksum where there is one. */
static void mend_checksum(uint8_t *bytes, size_t size) {
  size_t whole = size < 16 ? SIZE_MAX : 16 + (size_t)(bytes[14] << 8 | bytes[15]);
  if (whole > size || bytes[0] != '\r') {
    return;
  }
  static const size_t addresses[] = {0, 12, 36, 216};
  size_t at = 16 + addresses[bytes[13] >> 4 & 3];
  while (at + 7 <= whole) {
    if (bytes[at] == PROXY_TLV_CRC32C) {
      memset(bytes + at + 3, 0, 4);
      uint32_t crc = crc32c(0, bytes, whole);
      for (int i = 0; i < 4; i++) {
        bytes[at + 3 + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
      }
      return;
    }
    at += 3 + (size_t)(bytes[at + 1] << 8 | bytes[at + 2]);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input input = {data, size};
  struct proxy_header part, whole;
  enum proxy_result part_result, whole_result;
  size_t stream_size;
  uint8_t choice = fuzz_byte(&input);
  enum proxy_accepts accepts = choice % 4 == PROXY_OFF ? PROXY_ANY : choice % 4;
  size_t first = fuzz_u16(&input);
  const uint8_t *stream = fuzz_bytes(&input, STREAM_MAX, &stream_size);
  /* Each arrival is a block of its own, so that the sanitizer sees the first byte after it. */
  uint8_t *bytes = malloc(max_u64(stream_size, 1));
  fuzz_holds(bytes != NULL, "memory is available");
  if (stream_size > 0) {
    memcpy(bytes, stream, stream_size);
  }
  if ((choice & MEND) != 0) {
    mend_checksum(bytes, stream_size);
  }
  first = stream_size == 0 ? 0 : first % stream_size;
  uint8_t *arrived = malloc(max_u64(first, 1));
  fuzz_holds(arrived != NULL, "memory is available");
  memcpy(arrived, bytes, first);
  const char *what = reference_proxy_differs(accepts, arrived, first, &part_result, &part);
  fuzz_holds(what == NULL, what);
  what = reference_proxy_differs(accepts, bytes, stream_size, &whole_result, &whole);
  fuzz_holds(what == NULL, what);
  fuzz_holds(part_result == PROXY_MORE || part_result == whole_result, "more bytes change nothing");
  fuzz_holds(part_result != PROXY_BAD || part.cause == whole.cause, "and neither the cause");
  fuzz_holds(part_result != PROXY_DONE || part.size == whole.size, "and neither the size");
  if (whole_result == PROXY_DONE) {
    fuzz_holds(whole.size <= stream_size, "the header has arrived");
    check_parts(&whole);
  }
  free(arrived);
  free(bytes);
  return 0;
}
