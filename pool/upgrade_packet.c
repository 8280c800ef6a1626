/*
 * upgrade_packet: see upgrade_packet.h.
 *
 * One table has the fields of all kinds, and says where each is in struct upgrade_packet.  Only the
 * records of a batch have code of their own, because there are several.
 */
#include "pool/upgrade_packet.h"

#include "core/fields.h"

#include <string.h>

static const uint8_t magic[8] = {'X', 'C', 'H', 'G', 'U', 'P', 'G', 'R'};

/* ---- the table ---- */

enum form { NUMBER, TEXT, RAW, BYTES };

struct row {
  enum upgrade_kind kind;
  uint16_t tag;
  enum form form;
  size_t offset; /* in struct upgrade_packet */
  size_t size;   /* of a number, of raw bytes; of a text: the room, its 0 included */
  uint64_t max;  /* of a number; most bytes of BYTES */
};

#define SIZE_OF(member) sizeof(((struct upgrade_packet *)0)->member)
#define ROW(kind, tag, form, member, max) \
  { UPGRADE_##kind, tag, form, offsetof(struct upgrade_packet, member), SIZE_OF(member), max }
#define NUMBER_TO(kind, tag, member, max) ROW(kind, tag, NUMBER, member, max)
#define NUMBER_OF(kind, tag, member) \
  ROW(kind, tag, NUMBER, member, UINT64_MAX >> (64 - 8 * SIZE_OF(member)))
#define FLAG_OF(kind, tag, member) ROW(kind, tag, NUMBER, member, 1)
#define TEXT_OF(kind, tag, member) ROW(kind, tag, TEXT, member, 0)
#define RAW_OF(kind, tag, member) ROW(kind, tag, RAW, member, 0)
#define BYTES_OF(kind, tag, member, max) ROW(kind, tag, BYTES, member, max)

/* A tag never changes its meaning.  A field that is not needed any more leaves a gap. */
static const struct row rows[] = {
    NUMBER_OF(HELLO, 1, hello.pid),
    NUMBER_OF(HELLO, 2, hello.now_ns),
    NUMBER_OF(HELLO, 3, hello.fds_free),
    NUMBER_OF(HELLO, 4, hello.connections),
    NUMBER_OF(HELLO, 5, hello.listeners),
    TEXT_OF(HELLO, 6, hello.version),
    TEXT_OF(HELLO, 7, hello.exchange),
    NUMBER_OF(HELLO, 8, hello.state_version),
    FLAG_OF(HELLO, 9, hello.together),
    NUMBER_TO(LISTENER, 1, listener.addr.addr.family, ADDR_UNIX),
    RAW_OF(LISTENER, 2, listener.addr.addr.bytes),
    NUMBER_OF(LISTENER, 3, listener.addr.addr.port),
    FLAG_OF(LISTENER, 4, listener.addr.any),
    NUMBER_OF(LISTENER, 5, listener.addr.mode),
    NUMBER_TO(LISTENER, 6, listener.addr.proxy, ADDR_PROXY_ANY),
    TEXT_OF(LISTENER, 7, listener.addr.scope),
    TEXT_OF(LISTENER, 8, listener.addr.path),
    NUMBER_TO(LISTENER, 9, listener.use, USE_REQUESTS),
    FLAG_OF(LISTENER, 10, listener.inherited),
    NUMBER_OF(LISTENER, 11, listener.inode),
    NUMBER_OF(LISTENER, 12, listener.device),
    NUMBER_OF(READY, 1, ready.listens[USE_CLIENTS]),
    NUMBER_OF(READY, 2, ready.listens[USE_ADMIN]),
    NUMBER_OF(READY, 3, ready.listens[USE_REQUESTS]),
    NUMBER_OF(TAKEN, 1, taken),
    BYTES_OF(TOTALS, 1, account.totals, FD_PACKET_BYTES_MAX),
    NUMBER_OF(TOTALS, 2, account.stays),
    FLAG_OF(TOTALS, 3, account.not_ready),
    NUMBER_OF(TOTALS, 4, account.log_level),
    NUMBER_OF(TOTALS, 5, account.log_until_ns),
    NUMBER_OF(SIGNAL, 1, signal),
};

/* The size of a record, once for each.  Without them a batch has no meaning. */
#define TAG_RECORD (FIELD_REQUIRED | 1)

/* ---- records ---- */

static void put_records(struct fields_writer *writer, const struct upgrade_batch *batch, int *fds,
                        unsigned *fds_count) {
  for (uint32_t i = 0; i < batch->count; i++) {
    fields_put_number(writer, TAG_RECORD, batch->records[i].size);
    fds[i] = batch->records[i].fd;
  }
  fds[batch->count] = batch->file;
  *fds_count = batch->count + 1;
}

/* Add the record of ${field}, whose descriptor comes later. Return: NULL, or what is wrong. */
static const char *add_record(struct upgrade_batch *batch, const struct field *field) {
  uint64_t size;
  if (batch->count == UPGRADE_BATCH_MAX) {
    return "too many records";
  }
  if (!field_number(field, &size) || size == 0 || size > UINT32_MAX) {
    return "a record with a wrong size";
  }
  batch->records[batch->count++] = (struct upgrade_record){.size = (uint32_t)size, .fd = -1};
  return NULL;
}

/* Give each place of ${packet} its descriptor. Return: does their number fit? */
static bool give_fds(struct upgrade_packet *packet, const struct upgrade_received *received) {
  if (packet->kind == UPGRADE_LISTENER && received->fds_count == 1) {
    packet->listener.fd = received->fds[0];
    return true;
  }
  if (packet->kind != UPGRADE_BATCH) {
    return packet->kind != UPGRADE_LISTENER && received->fds_count == 0;
  }
  struct upgrade_batch *batch = &packet->batch;
  if (batch->count == 0 || received->fds_count != batch->count + 1) {
    return false;
  }
  for (uint32_t i = 0; i < batch->count; i++) {
    batch->records[i].fd = received->fds[i];
  }
  batch->file = received->fds[batch->count];
  return true;
}

/* ---- fields ---- */

/* A number of 1, 2, 4 or 8 bytes, as the machine stores it. */
union number {
  uint8_t one;
  uint16_t two;
  uint32_t four;
  uint64_t eight;
};

static uint64_t load(const void *member, size_t size) {
  union number number;
  memcpy(&number, member, size);
  return size == 1 ? number.one : size == 2 ? number.two : size == 4 ? number.four : number.eight;
}

static void store(void *member, uint64_t value, size_t size) {
  union number number = {.eight = value};
  if (size == 1) {
    number.one = (uint8_t)value;
  } else if (size == 2) {
    number.two = (uint16_t)value;
  } else if (size == 4) {
    number.four = (uint32_t)value;
  }
  memcpy(member, &number, size);
}

static void put_row(struct fields_writer *writer, const struct row *row, const void *member) {
  struct upgrade_bytes span;
  switch (row->form) {
    case NUMBER:
      fields_put_number(writer, row->tag, load(member, row->size));
      return;
    case TEXT:
      fields_put(writer, row->tag, member, strnlen(member, row->size - 1));
      return;
    case RAW:
      fields_put(writer, row->tag, member, row->size);
      return;
    case BYTES:
      memcpy(&span, member, sizeof(span));
      writer->full = writer->full || span.size > row->max;
      fields_put(writer, row->tag, span.bytes, span.size);
      return;
  }
}

/* Store ${field} as ${row} says, in ${member}, which is zeroed. Return: is it valid? */
static bool take_row(const struct row *row, const struct field *field, void *member) {
  struct upgrade_bytes span = {field->value, field->size};
  uint64_t number;
  switch (row->form) {
    case NUMBER:
      if (!field_number(field, &number) || number > row->max) {
        return false;
      }
      store(member, number, row->size);
      return true;
    case TEXT:
      if (field->size >= row->size || memchr(field->value, 0, field->size) != NULL) {
        return false;
      }
      memset(member, 0, row->size);
      memcpy(member, field->value, field->size);
      return true;
    case RAW:
      if (field->size != row->size) {
        return false;
      }
      memcpy(member, field->value, row->size);
      return true;
    case BYTES:
      memcpy(member, &span, sizeof(span));
      return span.size <= row->max;
  }
  return false;
}

static const struct row *find_row(enum upgrade_kind kind, uint16_t tag) {
  for (size_t i = 0; i < count_of(rows); i++) {
    if (rows[i].kind == kind && rows[i].tag == tag) {
      return &rows[i];
    }
  }
  return NULL;
}

static const char *take_field(struct upgrade_packet *packet, const struct field *field) {
  if (packet->kind == UPGRADE_BATCH && field->tag == TAG_RECORD) {
    return add_record(&packet->batch, field);
  }
  const struct row *row = find_row(packet->kind, field->tag);
  if (row == NULL) {
    return (field->tag & FIELD_REQUIRED) != 0 ? "a field that must be understood" : NULL;
  }
  return take_row(row, field, (char *)packet + row->offset) ? NULL : "a field with a wrong value";
}

/* Is the whole of a packet possible? Return: NULL, or what is wrong. */
static const char *check(const struct upgrade_packet *packet) {
  const struct addr_listen *addr = &packet->listener.addr;
  bool valid = packet->kind != UPGRADE_LISTENER ||
               (addr->addr.family != ADDR_NONE && addr->mode >= -1 && addr->mode <= 07777);
  return valid ? NULL : "not an address";
}

/* ---- packets ---- */

size_t upgrade_encode(const struct upgrade_packet *packet, uint8_t *bytes,
                      int fds[FD_PACKET_FDS_MAX], unsigned *fds_count) {
  struct fields_writer writer = {.bytes = bytes + UPGRADE_HEAD,
                                 .room = FD_PACKET_BYTES_MAX - UPGRADE_HEAD};
  assert(packet->kind > 0 && packet->kind < UPGRADE_KINDS);
  *fds_count = 0;
  for (size_t i = 0; i < count_of(rows); i++) {
    if (rows[i].kind == packet->kind) {
      put_row(&writer, &rows[i], (const char *)packet + rows[i].offset);
    }
  }
  if (packet->kind == UPGRADE_BATCH) {
    put_records(&writer, &packet->batch, fds, fds_count);
  } else if (packet->kind == UPGRADE_LISTENER) {
    fds[(*fds_count)++] = packet->listener.fd;
  }
  memcpy(bytes, magic, sizeof(magic));
  fields_store(bytes + 8, UPGRADE_VERSION, 2);
  fields_store(bytes + 10, packet->kind, 2);
  fields_store(bytes + 12, writer.size, 4);
  fields_store(bytes + 16, packet->number, 4);
  fields_store(bytes + 20, *fds_count, 4);
  return writer.full ? 0 : UPGRADE_HEAD + writer.size;
}

/* Read the head. Return: NULL, or what is wrong; the kind is 0 then, if nothing is known. */
static const char *take_head(struct upgrade_packet *packet,
                             const struct upgrade_received *received) {
  const uint8_t *bytes = received->bytes;
  if (received->size < UPGRADE_HEAD || memcmp(bytes, magic, sizeof(magic)) != 0) {
    return "not a packet";
  }
  if (fields_load(bytes + 8, 2) != UPGRADE_VERSION) {
    return "another version";
  }
  uint64_t kind = fields_load(bytes + 10, 2);
  if (kind == 0 || kind >= UPGRADE_KINDS) {
    return "an unknown kind";
  }
  packet->kind = (enum upgrade_kind)kind;
  packet->number = (uint32_t)fields_load(bytes + 16, 4);
  if (fields_load(bytes + 12, 4) != received->size - UPGRADE_HEAD) {
    return "a wrong size";
  }
  return fields_load(bytes + 20, 4) == received->fds_count ? NULL : "lost descriptors";
}

void upgrade_packet_clear(struct upgrade_packet *packet) {
  enum upgrade_kind kind = packet->kind;
  uint32_t number = packet->number;
  memset(packet, 0, sizeof(*packet));
  packet->kind = kind;
  packet->number = number;
  if (kind == UPGRADE_LISTENER) {
    packet->listener.fd = -1;
  } else if (kind == UPGRADE_BATCH) {
    packet->batch.file = -1;
  }
}

static const char *take_fields(struct upgrade_packet *packet,
                               const struct upgrade_received *received) {
  struct fields_reader reader = {received->bytes + UPGRADE_HEAD, received->size - UPGRADE_HEAD};
  struct field field;
  enum fields_result result;
  while ((result = fields_next(&reader, &field)) == FIELDS_NEXT) {
    const char *why = take_field(packet, &field);
    if (why != NULL) {
      return why;
    }
  }
  return result == FIELDS_END ? NULL : "fields that end too late";
}

const char *upgrade_decode(struct upgrade_packet *packet, const struct upgrade_received *received) {
  memset(packet, 0, sizeof(*packet));
  const char *why = take_head(packet, received);
  why = why == NULL ? take_fields(packet, received) : why;
  why = why == NULL ? check(packet) : why;
  if (why == NULL && !give_fds(packet, received)) {
    why = "a wrong number of descriptors";
  }
  if (why != NULL) {
    upgrade_packet_clear(packet);
  }
  return why;
}
