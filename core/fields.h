/*
 * fields: values with tags, one after the other, for data that another version of xchg reads.
 *
 *   tag u16 | size u32 | value        little-endian, without padding
 *
 * A reader skips a tag that it does not know, unless the tag has the bit FIELD_REQUIRED: then it
 * refuses the whole.  So a new version may add fields, and says which of them must not get lost.
 * Numbers are written with 8 bytes and read with 1 to 8.
 *
 * These are pure functions.  A writer and a reader each use the caller's memory.
 */
#ifndef CORE_FIELDS_H
#define CORE_FIELDS_H

#include "core/base.h"

#include <stdbool.h>

/* A reader that does not know such a tag must refuse what contains it. */
#define FIELD_REQUIRED UINT16_C(0x8000)

/* Bytes of a field before its value, and of a number with them. */
#define FIELD_HEAD 6
#define FIELD_NUMBER (FIELD_HEAD + 8)

struct fields_writer {
  uint8_t *bytes; /* borrows */
  size_t size;    /* bytes written */
  size_t room;    /* bytes in all */
  bool full;      /* a field had no room: nothing was written of it, nor of those after it */
};

struct fields_reader {
  const uint8_t *at; /* borrows: the next field */
  size_t left;
};

struct field {
  uint16_t tag;
  uint32_t size;
  const uint8_t *value; /* borrows: in the reader's bytes */
};

enum fields_result {
  FIELDS_NEXT, /* a field */
  FIELDS_END,  /* no byte is left */
  FIELDS_BAD,  /* the rest is shorter than a field */
};

/** Write a field with the ${size} bytes at ${value}, at most 2^32 - 1, or set ${writer->full}. */
void fields_put(struct fields_writer *writer, uint16_t tag, const void *value, size_t size);
void fields_put_number(struct fields_writer *writer, uint16_t tag, uint64_t number);

/** Take the next field out of ${reader} into ${field}, which is set for FIELDS_NEXT only. */
enum fields_result fields_next(struct fields_reader *reader, struct field *field);

/** Read ${field} as a number. Return: false unless it has 1 to 8 bytes. */
bool field_number(const struct field *field, uint64_t *number);

/** Store the ${size} low bytes of ${number}, and load them, little-endian; ${size} is 1 to 8. */
void fields_store(uint8_t *bytes, uint64_t number, size_t size);
uint64_t fields_load(const uint8_t *bytes, size_t size);

#endif
