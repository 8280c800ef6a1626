/* crc32c: see crc32c.h. */
#include "core/crc32c.h"

/*
 * The CRC32c of a byte is the exclusive or of those of its bits.  So eight numbers make the
 * table of 1 KiB, at compile time.
 */
#define CRC_BIT(i, bit, value) (((i) & (bit)) != 0 ? UINT32_C(value) : 0)
#define CRC_1(i)                                                                         \
  (CRC_BIT(i, 1, 0xf26b8303) ^ CRC_BIT(i, 2, 0xe13b70f7) ^ CRC_BIT(i, 4, 0xc79a971f) ^   \
   CRC_BIT(i, 8, 0x8ad958cf) ^ CRC_BIT(i, 16, 0x105ec76f) ^ CRC_BIT(i, 32, 0x20bd8ede) ^ \
   CRC_BIT(i, 64, 0x417b1dbc) ^ CRC_BIT(i, 128, 0x82f63b78))
#define CRC_4(i) CRC_1(i), CRC_1((i) + 1), CRC_1((i) + 2), CRC_1((i) + 3)
#define CRC_16(i) CRC_4(i), CRC_4((i) + 4), CRC_4((i) + 8), CRC_4((i) + 12)
#define CRC_64(i) CRC_16(i), CRC_16((i) + 16), CRC_16((i) + 32), CRC_16((i) + 48)
static const uint32_t table[256] = {CRC_64(0), CRC_64(64), CRC_64(128), CRC_64(192)};

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size) {
  const uint8_t *at = bytes;
  crc = ~crc;
  for (size_t i = 0; i < size; i++) {
    crc = table[(crc ^ at[i]) & 0xff] ^ crc >> 8;
  }
  return ~crc;
}
