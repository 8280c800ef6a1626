/*
 * nth: what a run orders from the calls of the server under test, and the ledger that are kept of
 * what it takes and gives back.
 *
 * A run is a session (a server's whole life with its clients) in which the Nth of one kind of call
 * fails, once or from then on, or moves fewer bytes than it could.  Afterwards the ledger must be
 * even: memory, mappings, streams, descriptors, threads.
 */
#ifndef TESTS_FAIL_NTH_LEDGER_H
#define TESTS_FAIL_NTH_LEDGER_H

#include "tests/fail_nth/calls.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct epoll_event;

enum mode {
  MODE_CLEAN,       /* nothing fails */
  MODE_ONCE,        /* the Nth call */
  MODE_FOREVER,     /* ... and all behind it */
  MODE_SHORTEN,     /* the Nth call moves so many bytes at most */
  MODE_SHORTEN_ALL, /* each call does */
  MODE_SABOTAGE,    /* the harness itself does wrong at the Nth call: it must be noticed */
};

enum sabotage {
  SABOTAGE_LEAK,  /* memory is not freed */
  SABOTAGE_UNMAP, /* ... nor unmapped */
  SABOTAGE_TWICE, /* a descriptor is closed twice */
  SABOTAGE_LOST,  /* ... or not at all */
  SABOTAGE_BYTE,  /* a byte that is sent is another one */
  SABOTAGE_COUNT, /* an accepted connection is closed behind the server's back */
  SABOTAGE_WAKE,  /* a wake-up is lost */
  SABOTAGES
};

struct spec {
  unsigned session;
  enum nth_call call;
  const struct rule *rule; /* ONCE, FOREVER: which effect is expected */
  int error;               /* ... and what is returned */
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

/** Note what is wrong with this run; the first fault is kept. */
void ledger_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** The first fault, or NULL. */
const char *ledger_fault_text(void);

const struct spec *ledger_spec(void);
unsigned ledger_count(enum nth_call call); /* calls so far */
unsigned ledger_hits(void);                /* ... of which the order made something else */
bool ledger_hit(const struct spec *spec);

/**
 * Count a call on ${fd} (-1: none).
 * Return: must it fail? Then errno, or one of calls.h, is set.
 */
bool ledger_fails(enum nth_call call, int fd);

/** ${size}, or less where the order cuts this call, which ledger_fails has counted. */
size_t ledger_shorten(enum nth_call call, int fd, size_t size);

/** Does each ${call} find nothing from now on, so that nobody may be told that there is? */
bool ledger_silent(enum nth_call call);

/** A cut that has shortened nothing after all. */
void ledger_not_shortened(void);

/** Is this the time for ${sabotage}? Counts. */
bool ledger_sabotage(enum sabotage sabotage);

/* ---- descriptors ---- */

void ledger_opened(int fd, enum kind kind);
enum kind ledger_kind(int fd);
int ledger_find(enum kind kind);    /* the first of that kind, or -1 */
int ledger_find_client(int client); /* the connection of that client, or -1 */
void ledger_listens(int fd);
void ledger_closed(int fd, int result);
/** The connection ${fd} is the client's that ${address} names. */
void ledger_accepted(int fd, const struct sockaddr_storage *address, socklen_t size);
unsigned ledger_accepts(void);

/* ---- edges: readiness that the kernel does not know of ---- */

void ledger_watched(int fd, int epoll_fd, const struct epoll_event *event); /* NULL: no more */
void ledger_raise_later(int fd);
void ledger_raise(int epoll_fd);

/* ---- memory ---- */

void ledger_allocated(const void *memory, size_t size);
bool ledger_freed(const void *memory);
void ledger_mapped(void *memory, size_t size);
bool ledger_unmapped(const void *memory);
void ledger_map_lost(const void *memory); /* the kernel has refused to take it back */
void ledger_stream(int change);

#endif
