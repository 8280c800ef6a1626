/*
 * upgrade_packet: the packets of the upgrade channel as structs, and their form as bytes.
 *
 *   magic "XCHGUPGR" | version u16 | kind u16 | size u32 | number u32 | descriptors u32 | fields
 *
 * All numbers are little-endian; the size is that of the fields.  The fields are those of
 * core/fields: a reader skips what it does not know, except what must be understood.  A field that
 * is missing is 0 or "".  So new fields do not change the version.  A reader refuses any version
 * but its own.
 *
 *   kind      from      meaning (server = the old process, successor = the new one)
 *   HELLO     both      who it is; the first packet of each side
 *   LISTENER  server    a listening socket; hello.listeners of them
 *   READY     successor its threads run; at which of the listeners it listens
 *   BATCH n   server    1 to 64 packed connections
 *   TAKEN n   successor which of them it has.  Sent before it reads or writes: they are its own now
 *   TOTALS    server    all counters, and what is not counted; once more when the server ends
 *   COMMIT    server    the successor is the server
 *   SIGNAL    both      a signal for the other one
 *   STATUS    successor it serves the canary; later, it has read all totals
 *   BACK      server    after COMMIT: it has executed the new program, and is the successor now
 *
 * The records of a batch lie one after the other in a file in memory.  The packet has their sizes.
 * Its descriptors are the sockets in the order of the records, then the file.
 *
 * These are pure functions: they make no system call, and memory is the caller's.
 */
#ifndef POOL_UPGRADE_PACKET_H
#define POOL_UPGRADE_PACKET_H

#include "core/config.h"
#include "net/fd_socket.h"

#include <assert.h>

#define UPGRADE_VERSION 1    /* of the packets, and of the records in a batch */
#define UPGRADE_BATCH_MAX 64 /* records of a batch */
#define UPGRADE_HEAD 24
#define UPGRADE_TEXT 256 /* a text, its 0 included */

static_assert(UPGRADE_BATCH_MAX + 1 == FD_PACKET_FDS_MAX, "a packet holds a batch");

enum upgrade_kind {
  UPGRADE_HELLO = 1,
  UPGRADE_LISTENER,
  UPGRADE_READY,
  UPGRADE_BATCH,
  UPGRADE_TAKEN,
  UPGRADE_TOTALS,
  UPGRADE_COMMIT,
  UPGRADE_SIGNAL,
  UPGRADE_STATUS,
  UPGRADE_BACK,
  UPGRADE_KINDS /* one more than the last */
};

struct upgrade_hello {
  uint64_t pid;
  uint64_t now_ns;      /* CLOCK_MONOTONIC: both must be in one time namespace */
  uint64_t fds_free;    /* descriptors that it can take */
  uint64_t connections; /* that are open */
  uint64_t listeners;   /* LISTENER packets that follow */
  char version[UPGRADE_TEXT];
  char exchange[UPGRADE_TEXT]; /* equal texts: connections can move */
  uint64_t together;           /* 1: its handler wants all connections to move together */
  uint64_t state_version;      /* of its handler; 0 = none, or connections do not move */
};

struct upgrade_listener {
  struct addr_listen addr;
  enum listener_use use;
  bool inherited;         /* a service manager has passed it */
  uint64_t inode, device; /* of its own socket file; 0, 0 = none */
  int fd;                 /* -1 = taken */
};

struct upgrade_ready {
  uint64_t listens[LISTENER_USES]; /* bit i: at the ith listener with this use */
};

/* A packed connection. */
struct upgrade_record {
  uint32_t size;
  int fd; /* the connection's socket; -1 = taken */
};

struct upgrade_batch {
  uint32_t count;
  int file; /* the bytes of all records, from its start; -1 = taken */
  struct upgrade_record records[UPGRADE_BATCH_MAX];
};

/* Bytes that another module writes and reads. */
struct upgrade_bytes {
  const uint8_t *bytes; /* borrows: of the sender, or of the channel */
  size_t size;
};

struct upgrade_account {
  struct upgrade_bytes totals; /* see pool/upgrade_totals.h */
  uint64_t stays;              /* connections that stay with the server */
  /* what commands of the admin endpoint have set */
  uint64_t not_ready;    /* 1: /ready?state=off was called */
  uint64_t log_level;    /* enum log_level, if log_until_ns is not 0 */
  uint64_t log_until_ns; /* when a level that was set for a time ends */
};

struct upgrade_packet {
  enum upgrade_kind kind;
  uint32_t number; /* of BATCH and its TAKEN */
  union {
    struct upgrade_hello hello;
    struct upgrade_listener listener;
    struct upgrade_ready ready;
    struct upgrade_batch batch;
    uint64_t taken;                 /* bit i: record i */
    struct upgrade_account account; /* of TOTALS */
    uint64_t signal;
  };
};

/** Remove everything but kind and number from ${packet}. It must have no descriptors. */
void upgrade_packet_clear(struct upgrade_packet *packet);

/**
 * upgrade_encode(packet, bytes, fds, fds_count):
 * Write ${packet} to ${bytes}, which has room for FD_PACKET_BYTES_MAX, and list its descriptors in
 * ${fds}.
 * Return: its size, or 0 if it is too long.
 */
size_t upgrade_encode(const struct upgrade_packet *packet, uint8_t *bytes,
                      int fds[FD_PACKET_FDS_MAX], unsigned *fds_count);

/* A packet as it was received. */
struct upgrade_received {
  const uint8_t *bytes; /* borrows: the packet points to them */
  size_t size;
  const int *fds; /* borrows */
  unsigned fds_count;
};

/**
 * upgrade_decode(packet, received):
 * Read ${packet}.
 * Return: NULL, or why it is refused, for the log.  Kind and number are set if the head is valid,
 * else the kind is 0.
 * Own: the packet has the descriptors; refused, it has none, and they stay the caller's.
 */
const char *upgrade_decode(struct upgrade_packet *packet, const struct upgrade_received *received);

#endif
