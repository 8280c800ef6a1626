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

#include "net/conn_log.h"

/* The longest record. A connection with more bytes stays. */
#define CONN_RECORD_MAX ((size_t)64 * 1024 * 1024)

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
  /* the members with fields of their own; the others are 0 */
  struct xchg_conn conn;
  struct conn_cold cold;
  struct conn_peer peer;
  struct conn_proxy proxy;
  struct conn_pace pace;
  uint64_t scanned; /* of the input */
};

/** Bytes that conn_record_write writes for ${conn} at most. */
size_t conn_record_room(const struct xchg_conn *conn);

/** Write the record of ${conn} to ${bytes}. Return: its size, CONN_RECORD_MAX at most. */
size_t conn_record_write(const struct xchg_conn *conn, uint8_t *bytes);

/**
 * conn_record_read(record, bytes, size):
 * Read the record of exactly ${size} bytes at ${bytes}, to which ${record} then points.  It owns
 * nothing yet.
 * Return: NULL; or why it is refused, for the log, and ${record} is undefined.  Thread: any.
 */
const char *conn_record_read(struct conn_record *record, const uint8_t *bytes, size_t size);

#endif
