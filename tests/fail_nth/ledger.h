/*
 * ledger: the order of a run, and what the server under test takes and gives back.
 *
 * A run is a session (a server's whole life with its clients) in which the Nth of one kind of call
 * fails, it and all later ones fail, or it moves fewer bytes than it could.  At its end everything
 * taken must have been given back: memory, mappings, streams, descriptors, threads.
 */
#ifndef TESTS_FAIL_NTH_LEDGER_H
#define TESTS_FAIL_NTH_LEDGER_H

#include "tests/fail_nth/calls.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum mode {
  MODE_CLEAN,       /* nothing fails */
  MODE_ONCE,        /* the Nth call */
  MODE_FOREVER,     /* the Nth call and all later ones */
  MODE_SHORTEN,     /* the Nth call moves at most spec.bytes */
  MODE_SHORTEN_ALL, /* each call does */
  MODE_SABOTAGE,    /* the test itself does wrong at the Nth call, which must be noticed */
};

enum sabotage {
  SABOTAGE_LEAK,  /* memory is not freed */
  SABOTAGE_UNMAP, /* memory is not unmapped */
  SABOTAGE_TWICE, /* a descriptor is closed twice */
  SABOTAGE_LOST,  /* a descriptor is not closed */
  SABOTAGE_BYTE,  /* a byte that is sent is changed */
  SABOTAGE_COUNT, /* an accepted connection is closed and the server is not told */
  SABOTAGE_WAKE,  /* a wake-up is lost */
  SABOTAGES
};

struct spec {
  unsigned session;
  enum nth_call call;
  const struct rule *rule; /* ONCE, FOREVER: the expected effect */
  int error;               /* ONCE, FOREVER: what is returned */
  enum mode mode;
  enum sabotage sabotage;
  unsigned nth;
  size_t bytes; /* SHORTEN, SHORTEN_ALL */
};

/* What a descriptor of the server is. */
enum kind {
  KIND_NONE,
  KIND_LISTENER,
  KIND_CONN,
  KIND_EPOLL,
  KIND_WAKE,
  KIND_LOG,
  KIND_NOTIFY,
  KIND_OTHER
};

/** Begin a run. */
void ledger_open(const struct spec *spec);

/** End it: what was taken and not given back is a fault. */
void ledger_close(void);

/** Note a fault of this run; the first one is kept. */
void ledger_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** The first fault, or NULL. */
const char *ledger_fault_text(void);

const struct spec *ledger_spec(void);
unsigned ledger_count(enum nth_call call); /* calls so far */
unsigned ledger_hits(void);                /* calls that the order has changed */
bool ledger_hit(const struct spec *spec);

/**
 * Count a call on ${fd} (-1: none). Return: must it fail? Then errno is set, or an error of
 * calls.h.
 */
bool ledger_fails(enum nth_call call, int fd);

/** ${size}, or less where the order shortens this call, which ledger_fails has counted. */
size_t ledger_shorten(enum nth_call call, int fd, size_t size);

/** Does each ${call} find nothing from now on, so that poll must not report readiness? */
bool ledger_silent(enum nth_call call);

/** The last call that was shortened would not have moved more bytes: do not count it. */
void ledger_not_shortened(void);

/** Is ${sabotage} due now? Counts the calls. */
bool ledger_sabotage(enum sabotage sabotage);

/* ---- descriptors ---- */

void ledger_opened(int fd, enum kind kind);
enum kind ledger_kind(int fd);
int ledger_find(enum kind kind);                   /* the first of that kind, or -1 */
int ledger_find_nth(enum kind kind, unsigned nth); /* the one after ${nth} others, or -1 */
int ledger_find_client(int client);                /* the connection of that client, or -1 */
void ledger_listens(int fd);
void ledger_closed(int fd, int result);
/** ${fd} is the connection of the client with this ${address}. */
void ledger_accepted(int fd, const struct sockaddr_storage *address, socklen_t size);
unsigned ledger_accepts(void);

/* ---- memory ---- */

void ledger_allocated(const void *memory, size_t size);
bool ledger_freed(const void *memory);
void ledger_mapped(void *memory, size_t size);
bool ledger_unmapped(const void *memory);
void ledger_map_lost(const void *memory); /* the kernel has refused to unmap it */
void ledger_stream(int change);

#endif
