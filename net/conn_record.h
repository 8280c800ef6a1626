/*
 * conn_record: the record of a packed connection: a flat block of bytes, and the same as a struct.
 *
 * It is fields (core/fields.h) and nothing else.  A field that is missing is 0, or NEVER for a
 * deadline.  The bytes are the same for a worker of this process and for another process.  Nothing
 * in them points anywhere.
 *
 * Reading checks every length and every value on which the engine relies.  A record is of another
 * version of xchg, perhaps, but never of a stranger: the checks turn a fault into a refusal.
 *
 * The table of fields is in conn_record.c, next to a list of all members of the structs that make a
 * connection.  A member that the list lacks fails to compile.  These are pure functions.
 */
#ifndef NET_CONN_RECORD_H
#define NET_CONN_RECORD_H

#include "core/fields.h"
#include "net/conn_log.h"
#include "net/conn_proxy.h"

/* The longest record. A connection with more bytes stays. */
#define CONN_RECORD_MAX ((size_t)64 * 1024 * 1024)

/* Bytes before those that a handler saves. */
#define CONN_RECORD_SAVED ((size_t)FIELD_NUMBER + FIELD_HEAD)

/* Bytes of a membership: number and enum xchg_slow. */
#define CONN_RECORD_GROUP 9

struct conn_bytes {
  const uint8_t *data; /* borrows; NULL = there are none */
  uint32_t size;
};

/* What a record owns beside its bytes. */
struct conn_owned {
  int fd;           /* -1 = none */
  uint32_t ip_slot; /* in this process's pool/admission, or NO_IP_SLOT */
};

/* A record as a struct. */
struct conn_record {
  struct conn_owned owned;
  struct addr addr;  /* of the client, for admission_adopt; unless proxied, that of the socket */
  bool proxied;      /* its listener has ;proxy=: it is counted for no address */
  uint32_t listener; /* index of its listener; the caller may replace it */
  struct conn_bytes input, output, header, groups; /* borrow the bytes of the record */
  struct conn_bytes saved;                         /* likewise: what on_save has written */
  uint32_t state_version; /* of the handler that has written it; 0 = it has no state */
  /* the members with fields of their own; the others are 0 */
  struct xchg_conn conn;
  struct conn_cold cold;
  struct conn_peer peer;
  struct conn_proxy proxy;
  struct conn_pace pace;
  uint64_t scanned; /* of the input */
};

/** Bytes of the record of ${conn} at most, with what the handler saves. */
size_t conn_record_room(const struct xchg_conn *conn);

/** Does the handler save a state of ${conn}?  Before on_open was called it has none. */
static inline bool conn_record_saves(const struct xchg_conn *conn) {
  return conn->ctx->handler->on_save != NULL && conn_proxy_opened(conn);
}

/**
 * conn_record_put_saved(bytes, version, size):
 * Begin a record: write to ${bytes} that a handler with ${version} has saved the ${size} bytes that
 * stand at ${bytes} + CONN_RECORD_SAVED, XCHG_SAVE_MAX at most.
 * Return: the size of this part.
 */
size_t conn_record_put_saved(uint8_t *bytes, uint32_t version, size_t size);

/** Write the record of ${conn}, or the rest of it, to ${bytes}. Return: the size. */
size_t conn_record_write(const struct xchg_conn *conn, uint8_t *bytes);

/**
 * conn_record_read(record, bytes, size):
 * Read the record of exactly ${size} bytes at ${bytes}, to which ${record} then points.  It owns
 * nothing yet.
 * Return: NULL; or why it is refused, for the log, and ${record} is undefined.  Thread: any.
 */
const char *conn_record_read(struct conn_record *record, const uint8_t *bytes, size_t size);

#endif
