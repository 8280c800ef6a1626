/* fields: see fields.h. */
#include "core/fields.h"

#include <string.h>

void fields_store(uint8_t *bytes, uint64_t number, size_t size) {
  for (size_t i = 0; i < size; i++) {
    bytes[i] = (uint8_t)(number >> (8 * i));
  }
}

uint64_t fields_load(const uint8_t *bytes, size_t size) {
  uint64_t number = 0;
  for (size_t i = 0; i < size; i++) {
    number |= (uint64_t)bytes[i] << (8 * i);
  }
  return number;
}

void fields_put(struct fields_writer *writer, uint16_t tag, const void *value, size_t size) {
  size_t left = writer->room - writer->size;
  if (writer->full || left < FIELD_HEAD || left - FIELD_HEAD < size || size > UINT32_MAX) {
    writer->full = true;
    return;
  }
  uint8_t *at = writer->bytes + writer->size;
  fields_store(at, tag, 2);
  fields_store(at + 2, size, 4);
  if (size > 0) {
    memcpy(at + FIELD_HEAD, value, size);
  }
  writer->size += FIELD_HEAD + size;
}

void fields_put_number(struct fields_writer *writer, uint16_t tag, uint64_t number) {
  uint8_t value[8];
  fields_store(value, number, sizeof(value));
  fields_put(writer, tag, value, sizeof(value));
}

enum fields_result fields_next(struct fields_reader *reader, struct field *field) {
  if (reader->left == 0) {
    return FIELDS_END;
  }
  if (reader->left < FIELD_HEAD) {
    return FIELDS_BAD;
  }
  uint64_t size = fields_load(reader->at + 2, 4);
  if (size > reader->left - FIELD_HEAD) {
    return FIELDS_BAD;
  }
  field->tag = (uint16_t)fields_load(reader->at, 2);
  field->size = (uint32_t)size;
  field->value = reader->at + FIELD_HEAD;
  reader->at += FIELD_HEAD + size;
  reader->left -= FIELD_HEAD + size;
  return FIELDS_NEXT;
}

bool field_number(const struct field *field, uint64_t *number) {
  if (field->size < 1 || field->size > 8) {
    return false;
  }
  *number = fields_load(field->value, field->size);
  return true;
}
