/*
 * crc32c: the checksum of Castagnoli, of the PROXY protocol, iSCSI and others.
 *
 * A pure function with a constant table of 1 KiB.  The headers that it checks are short, so a byte
 * at a time is enough.
 */
#ifndef CORE_CRC32C_H
#define CORE_CRC32C_H

#include "core/base.h"

/**
 * crc32c(crc, bytes, size):
 * Return: the CRC32c of the ${size} bytes at ${bytes} and of those before them, whose CRC32c is
 * ${crc}; 0 if there are none.
 */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);

#endif
