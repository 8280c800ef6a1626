/* conn_record: see conn_record.h. */
#include "net/conn_record.h"

#include "core/fields.h"
#include "core/proxy.h"
#include "net/conn_proxy.h"
#include "net/conn_members.h"

#include <string.h>

/* ---- the fields ---- */

/* Numbers are never used twice. Without these the reader would lose bytes, or its place in them. */
#define NEEDED(number) (FIELD_REQUIRED | (number))

enum {
  TAG_STATE = NEEDED(1),
  TAG_END_REASON = 2,
  TAG_FLAGS = NEEDED(3),
  TAG_MESSAGES = NEEDED(4),
  TAG_ACTIVE = 5,
  TAG_BYTES_IN = 6,
  TAG_BYTES_OUT = NEEDED(7),
  TAG_CLOCK = NEEDED(8),
  TAG_INPUT = NEEDED(9),
  TAG_SCANNED = 10,
  TAG_OUTPUT = NEEDED(11),
  TAG_PROGRESS = 12,
  TAG_TIMER = NEEDED(13),
  TAG_LIFETIME = 14,
  TAG_ACKNOWLEDGED = 15,
  TAG_GROUPS = NEEDED(16),
  TAG_ADDRESS = 17,
  TAG_LISTENER = 18,
  TAG_OPENED = 19,
  TAG_PROXY_HEADER = NEEDED(20),
  TAG_PROXY_ACCEPTED = 21,
  TAG_PROXY_VIA = 22,
  TAG_PROXY_DESTINATION = 23,
  TAG_PROXY_ACCEPTS = NEEDED(24),
  TAG_PROXY_VERSION = 25,
  TAG_PROXY_COMMAND = 26,
  TAG_PROXY_ANNOUNCED = 27,
  TAG_PROXY_OPENED = NEEDED(28),
  TAG_PACE_MESSAGE = 29,
  TAG_PACE_HANDOFF = 30,
  TAG_PACE_HELD = 31,
  TAG_STATE_VERSION = NEEDED(32),
  TAG_SAVED = NEEDED(33),
};

/* A number in struct conn_record. */
struct number {
  uint16_t tag;
  uint16_t offset;
  uint8_t size;
  uint64_t max;
  uint64_t missing; /* its value if the field is missing */
};
#define NUMBER_MAX(tag, member, max, missing)                                                  \
  {                                                                                            \
    tag, offsetof(struct conn_record, member), sizeof(((struct conn_record *)0)->member), max, \
        missing                                                                                \
  }
#define NUMBER_BYTES(member) sizeof(((struct conn_record *)0)->member)
#define NUMBER(tag, member, missing) \
  NUMBER_MAX(tag, member, UINT64_MAX >> (64 - 8 * NUMBER_BYTES(member)), missing)
#define FLAG(tag, member) NUMBER_MAX(tag, member, 1, 0)

static const struct number numbers[] = {
    NUMBER(TAG_STATE, conn.state, 0),
    NUMBER(TAG_END_REASON, conn.end_reason, 0),
    NUMBER(TAG_MESSAGES, conn.messages, 0),
    NUMBER(TAG_ACTIVE, conn.active_ns, 0),
    NUMBER(TAG_BYTES_IN, conn.bytes_in, 0),
    NUMBER(TAG_BYTES_OUT, conn.bytes_out, 0),
    NUMBER(TAG_CLOCK, conn.message_clock_ns, 0),
    NUMBER(TAG_SCANNED, scanned, 0),
    NUMBER(TAG_PROGRESS, cold.progress_ns, 0),
    NUMBER(TAG_TIMER, cold.timer_ns, NEVER),
    NUMBER(TAG_LIFETIME, cold.lifetime_ns, NEVER),
    NUMBER(TAG_ACKNOWLEDGED, cold.acknowledged, 0),
    NUMBER(TAG_PROXY_ACCEPTED, proxy.accepted_ns, 0),
    NUMBER(TAG_PROXY_ACCEPTS, proxy.accepts, 0),
    NUMBER(TAG_PROXY_VERSION, proxy.version, 0),
    NUMBER(TAG_PROXY_COMMAND, proxy.command, 0),
    FLAG(TAG_PROXY_ANNOUNCED, proxy.announced),
    FLAG(TAG_PROXY_OPENED, proxy.opened),
    NUMBER(TAG_PACE_MESSAGE, pace.message_ns, 0),
    NUMBER(TAG_PACE_HANDOFF, pace.handoff_us, 0),
    FLAG(TAG_PACE_HELD, pace.held),
    NUMBER(TAG_STATE_VERSION, state_version, 0),
};
static_assert(sizeof(bool) == 1, "a bool is stored as a number of one byte");

/* The bits of FLAGS: first bit and width. */
enum {
  BIT_REQUEST = 0,  /* 2 bits */
  BIT_READABLE = 2, /* 2 bits */
  BIT_HOLD = 4,     /* 3 bits */
  BIT_IS_UNIX = 7,
  BIT_EOF,
  BIT_EXTRA_INPUT,
  BIT_CLOCK_STOPPED,
  BIT_DRAIN_DUE,
  BIT_STALLED,
  BIT_LIFETIME_OVER,
  BIT_HALF_CLOSE,
  BIT_PROXIED,
  BITS
};

static uint64_t flags_of(const struct xchg_conn *conn) {
  return (uint64_t)conn->request << BIT_REQUEST | (uint64_t)conn->readable << BIT_READABLE |
         (uint64_t)conn->hold_reasons << BIT_HOLD | (uint64_t)conn->is_unix << BIT_IS_UNIX |
         (uint64_t)conn->eof << BIT_EOF | (uint64_t)conn->extra_input << BIT_EXTRA_INPUT |
         (uint64_t)conn->clock_stopped << BIT_CLOCK_STOPPED |
         (uint64_t)conn->drain_due << BIT_DRAIN_DUE | (uint64_t)conn->stalled << BIT_STALLED |
         (uint64_t)conn->lifetime_over << BIT_LIFETIME_OVER |
         (uint64_t)conn->half_close << BIT_HALF_CLOSE | (uint64_t)conn->proxied << BIT_PROXIED;
}

static void set_flags(struct xchg_conn *conn, uint64_t flags) {
  conn->request = flags >> BIT_REQUEST & 3;
  conn->readable = flags >> BIT_READABLE & 3;
  conn->hold_reasons = flags >> BIT_HOLD & HOLD_ALL;
  conn->is_unix = flags >> BIT_IS_UNIX & 1;
  conn->eof = flags >> BIT_EOF & 1;
  conn->extra_input = flags >> BIT_EXTRA_INPUT & 1;
  conn->clock_stopped = flags >> BIT_CLOCK_STOPPED & 1;
  conn->drain_due = flags >> BIT_DRAIN_DUE & 1;
  conn->stalled = flags >> BIT_STALLED & 1;
  conn->lifetime_over = flags >> BIT_LIFETIME_OVER & 1;
  conn->half_close = flags >> BIT_HALF_CLOSE & 1;
  conn->proxied = flags >> BIT_PROXIED & 1;
}

/* ---- write ---- */

#define ADDRESS_BYTES 19 /* address 16, port 2, family 1 */
#define PARTS_MAX (1 + 2 * CONN_REFS_MAX)
/* Numbers, FLAGS, LISTENER and OPENED, three addresses, the heads of four other fields. */
#define FIXED_ROOM \
  ((count_of(numbers) + 3) * FIELD_NUMBER + 3 * (FIELD_HEAD + ADDRESS_BYTES) + 4 * FIELD_HEAD)

static uint32_t groups_count(const struct xchg_conn *conn) {
  return conn->cold->memberships == NULL ? 0 : conn->cold->memberships->count;
}

size_t conn_record_room(const struct xchg_conn *conn) {
  size_t saved = conn_record_saves(conn) ? CONN_RECORD_SAVED + XCHG_SAVE_MAX : 0;
  return FIXED_ROOM + saved + buf_size(conn->in) + send_queue_size(&conn->out) +
         buf_size(conn->cold->header) + (size_t)CONN_RECORD_GROUP * groups_count(conn);
}

static void put_buf(struct fields_writer *writer, uint16_t tag, const struct buf *buf) {
  if (buf != NULL) {
    fields_put(writer, tag, buf_data(buf), buf_size(buf));
  }
}

static void put_address(struct fields_writer *writer, uint16_t tag, const struct addr *addr) {
  uint8_t value[ADDRESS_BYTES];
  memcpy(value, addr->bytes, sizeof(addr->bytes));
  fields_store(value + 16, addr->port, 2);
  value[18] = addr->family;
  if (addr->family != ADDR_NONE) {
    fields_put(writer, tag, value, sizeof(value));
  }
}

/* Begin a field of ${size} bytes, which the caller writes. Return: where. */
static uint8_t *put_head(struct fields_writer *writer, uint16_t tag, size_t size) {
  uint8_t *at = writer->bytes + writer->size;
  fields_store(at, tag, 2);
  fields_store(at + 2, size, 4);
  writer->size += FIELD_HEAD + size;
  return at + FIELD_HEAD;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the writer stores into it */
size_t conn_record_put_saved(uint8_t *bytes, uint32_t version, size_t size) {
  struct fields_writer writer = {.bytes = bytes, .room = FIELD_NUMBER};
  fields_put_number(&writer, TAG_STATE_VERSION, version);
  if (size > 0) {
    (void)put_head(&writer, TAG_SAVED, size); /* the value is there already */
  }
  return writer.size;
}

static void put_output(struct fields_writer *writer, const struct send_queue *out) {
  struct iovec parts[PARTS_MAX];
  int count = send_queue_parts(out, parts, PARTS_MAX);
  if (count == 0) {
    return;
  }
  uint8_t *at = put_head(writer, TAG_OUTPUT, send_queue_size(out));
  for (int i = 0; i < count; i++) {
    memcpy(at, parts[i].iov_base, parts[i].iov_len);
    at += parts[i].iov_len;
  }
}

/* The last one joined comes first in the list; joined in the order of the record, it does again. */
static void put_groups(struct fields_writer *writer, const struct xchg_conn *conn) {
  uint32_t count = groups_count(conn);
  if (count == 0) {
    return;
  }
  uint8_t *at = put_head(writer, TAG_GROUPS, (size_t)count * CONN_RECORD_GROUP);
  at += (size_t)count * CONN_RECORD_GROUP;
  for (const struct member *member = conn->cold->memberships; member != NULL;
       member = member->next_of_conn) {
    at -= CONN_RECORD_GROUP;
    fields_store(at, member->group->number, 8);
    at[8] = (uint8_t)member->slow;
  }
}

static void put_numbers(struct fields_writer *writer, const struct conn_record *record) {
  for (size_t i = 0; i < count_of(numbers); i++) {
    const struct number *number = &numbers[i];
    uint64_t value = 0;
    memcpy(&value, (const uint8_t *)record + number->offset, number->size);
    if (value != number->missing) {
      fields_put_number(writer, number->tag, value);
    }
  }
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the writer stores into it */
size_t conn_record_write(const struct xchg_conn *conn, uint8_t *bytes) {
  const struct conn_ctx *ctx = conn->ctx;
  uint32_t slot = source_slot(ctx->reactor, &conn->source);
  struct conn_record record = {.conn = *conn, .cold = *conn->cold, .peer = *conn_peer(conn)};
  struct fields_writer writer = {.bytes = bytes, .room = conn_record_room(conn)};
  if (conn->proxied) {
    record.proxy = *conn_proxy(conn);
  }
  if (ctx->paces != NULL) {
    record.pace = ctx->paces[slot];
  }
  record.scanned = conn->in == NULL ? 0 : conn->in->scanned;
  put_numbers(&writer, &record);
  fields_put_number(&writer, TAG_FLAGS, flags_of(conn));
  put_address(&writer, TAG_ADDRESS, &record.peer.addr);
  fields_put_number(&writer, TAG_LISTENER, record.peer.listener);
  fields_put_number(&writer, TAG_OPENED, record.peer.opened_ns);
  put_address(&writer, TAG_PROXY_VIA, &record.proxy.via);
  put_address(&writer, TAG_PROXY_DESTINATION, &record.proxy.destination);
  put_buf(&writer, TAG_PROXY_HEADER, conn->cold->header);
  put_groups(&writer, conn);
  put_buf(&writer, TAG_INPUT, conn->in);
  put_output(&writer, &conn->out);
  assert(!writer.full && writer.size <= CONN_RECORD_MAX);
  return writer.size;
}

/* ---- read ---- */

enum taken { TAKEN, TAKEN_BAD, TAKEN_UNKNOWN };

static enum taken taken_if(bool valid) { return valid ? TAKEN : TAKEN_BAD; }

static enum taken take_bytes(struct conn_bytes *bytes, const struct field *field) {
  *bytes = (struct conn_bytes){.data = field->value, .size = field->size};
  return taken_if(field->size > 0);
}

static enum taken take_address(struct addr *addr, const struct field *field) {
  if (field->size != ADDRESS_BYTES) {
    return TAKEN_BAD;
  }
  *addr = (struct addr){.port = (uint16_t)fields_load(field->value + 16, 2),
                        .family = field->value[18]};
  memcpy(addr->bytes, field->value, sizeof(addr->bytes));
  return taken_if(addr->family > ADDR_NONE && addr->family <= ADDR_UNIX);
}

/* The number with ${tag}, or NULL. */
static const struct number *number_of(uint16_t tag) {
  for (size_t i = 0; i < count_of(numbers); i++) {
    if (numbers[i].tag == tag) {
      return &numbers[i];
    }
  }
  return NULL;
}

static enum taken take_number(struct conn_record *record, const struct field *field) {
  const struct number *number = number_of(field->tag);
  uint64_t value;
  if (number == NULL) {
    return TAKEN_UNKNOWN;
  }
  if (!field_number(field, &value) || value > number->max) {
    return TAKEN_BAD;
  }
  memcpy((uint8_t *)record + number->offset, &value, number->size);
  return TAKEN;
}

/* A number that stands in bits. */
static enum taken take_bits(struct conn_record *record, const struct field *field) {
  uint64_t value;
  if (!field_number(field, &value)) {
    return TAKEN_BAD;
  }
  if (field->tag == TAG_FLAGS) {
    set_flags(&record->conn, value);
    return taken_if(value >> BITS == 0);
  }
  if (field->tag == TAG_LISTENER) {
    record->listener = (uint32_t)value;
    return taken_if(value < CONFIG_LISTEN_MAX);
  }
  record->peer.opened_ns = value & CONN_OPENED_MASK;
  return taken_if(value <= CONN_OPENED_MASK);
}

static enum taken take_field(struct conn_record *record, const struct field *field) {
  switch (field->tag) {
    case TAG_INPUT:
      return take_bytes(&record->input, field);
    case TAG_OUTPUT:
      return take_bytes(&record->output, field);
    case TAG_PROXY_HEADER:
      return take_bytes(&record->header, field);
    case TAG_GROUPS:
      return take_bytes(&record->groups, field);
    case TAG_SAVED:
      return take_bytes(&record->saved, field);
    case TAG_ADDRESS:
      return take_address(&record->addr, field);
    case TAG_PROXY_VIA:
      return take_address(&record->proxy.via, field);
    case TAG_PROXY_DESTINATION:
      return take_address(&record->proxy.destination, field);
    case TAG_FLAGS:
    case TAG_LISTENER:
    case TAG_OPENED:
      return take_bits(record, field);
    default:
      return take_number(record, field);
  }
}

/* Take all fields. Return: NULL, or what is wrong. */
static const char *take_fields(struct conn_record *record, struct fields_reader reader) {
  struct field field;
  uint64_t seen = 0;
  enum fields_result result;
  while ((result = fields_next(&reader, &field)) == FIELDS_NEXT) {
    switch (take_field(record, &field)) {
      case TAKEN:
        if ((seen >> (field.tag & 63) & 1) != 0) {
          return "a field comes twice";
        }
        seen |= UINT64_C(1) << (field.tag & 63);
        break;
      case TAKEN_BAD:
        return "a field has an invalid value";
      case TAKEN_UNKNOWN:
        if ((field.tag & FIELD_REQUIRED) != 0) {
          return "it has a field of a later version";
        }
        break;
    }
  }
  return result == FIELDS_BAD ? "its fields are cut off" : NULL;
}

/* ---- check: what the engine relies on ---- */

/* Are the memberships valid? */
static bool groups_valid(const struct conn_bytes *groups) {
  if (groups->size % CONN_RECORD_GROUP != 0 || groups->size / CONN_RECORD_GROUP > XCHG_GROUPS_MAX) {
    return false;
  }
  for (uint32_t at = 8; at < groups->size; at += CONN_RECORD_GROUP) {
    if (groups->data[at] != XCHG_SLOW_SKIP && groups->data[at] != XCHG_SLOW_DROP) {
      return false;
    }
  }
  return true;
}

static bool proxy_valid(const struct conn_record *record) {
  const struct conn_proxy *proxy = &record->proxy;
  if (!record->conn.proxied) {
    return record->conn.state != CONN_HEADER && record->header.size == 0;
  }
  return proxy->accepts != ADDR_PROXY_OFF && proxy->accepts <= ADDR_PROXY_ANY &&
         proxy->version <= STATS_PROXY_VERSIONS && proxy->command < STATS_PROXY_COMMANDS &&
         record->header.size <= PROXY_HEADER_MAX;
}

/* Does the connection have bytes in a state that allows them? */
static bool bytes_valid(const struct conn_record *record) {
  uint8_t state = record->conn.state;
  uint32_t input_max = state == CONN_OPEN     ? UINT32_MAX
                       : state == CONN_HEADER ? PROXY_HEADER_MAX
                                              : 0;
  return record->input.size <= input_max &&
         (record->output.size == 0 || state == CONN_OPEN || state == CONN_ENDING);
}

static const char *check(const struct conn_record *record) {
  const struct xchg_conn *conn = &record->conn;
  if (conn->state >= CONN_CLOSED || conn->end_reason >= XCHG_REASONS ||
      conn->request > REQUEST_ABORT || conn->readable > READABLE_UNTIL_EAGAIN) {
    return "its state is invalid";
  }
  if ((conn->hold_reasons & HOLD_OFFLOADS) != 0) {
    return "it waits for offloaded work";
  }
  if (record->saved.size > (record->state_version == 0 ? 0 : XCHG_SAVE_MAX)) {
    return "its handler's state is invalid";
  }
  if (!groups_valid(&record->groups)) {
    return "its groups are invalid";
  }
  if (!bytes_valid(record)) {
    return "it has bytes in a state without them";
  }
  return proxy_valid(record) ? NULL : "its PROXY header is invalid";
}

const char *conn_record_read(struct conn_record *record, const uint8_t *bytes, size_t size) {
  *record = (struct conn_record){.owned = {.fd = -1, .ip_slot = NO_IP_SLOT},
                                 .cold = {.timer_ns = NEVER, .lifetime_ns = NEVER}};
  const char *why = take_fields(record, (struct fields_reader){.at = bytes, .left = size});
  record->proxied = record->conn.proxied;
  return why == NULL ? check(record) : why;
}
