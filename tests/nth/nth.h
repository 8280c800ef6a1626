/*
 * nth: what a run orders from the calls of the server under test, and the books that are kept of
 * what it takes and gives back.
 *
 * A run is a session (a server's whole life with its clients) in which the Nth of one kind of call
 * fails, once or from then on, or moves fewer bytes than it could.  Afterwards the books must be
 * even: memory, mappings, streams, descriptors, threads.
 */
#ifndef TESTS_NTH_NTH_H
#define TESTS_NTH_NTH_H

#include "tests/nth/calls.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct epoll_event;

enum mode {
  MODE_CLEAN,    /* nothing fails */
  MODE_ONCE,     /* the Nth call */
  MODE_FOREVER,  /* ... and all behind it */
  MODE_CUT,      /* the Nth call moves so many bytes at most */
  MODE_CUT_ALL,  /* each call does */
  MODE_SABOTAGE, /* the harness itself does wrong at the Nth call: it must be noticed */
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
  size_t bytes; /* CUT, CUT_ALL */
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
void books_open(const struct spec *spec);

/** End it: what was taken and not given back is a fault. */
void books_close(void);

/** Note what is wrong with this run; the first fault is kept. */
void books_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** The first fault, or NULL. */
const char *books_fault_text(void);

const struct spec *books_spec(void);
unsigned books_count(enum nth_call call); /* calls so far */
unsigned books_hits(void);                /* ... of which the order made something else */
bool books_hit(const struct spec *spec);

/**
 * Count a call on ${fd} (-1: none).
 * Return: must it fail? Then errno, or one of calls.h, is set.
 */
bool books_fails(enum nth_call call, int fd);

/** ${size}, or less where the order cuts this call, which books_fails has counted. */
size_t books_cut(enum nth_call call, int fd, size_t size);

/** Does each ${call} find nothing from now on, so that nobody may be told that there is? */
bool books_silent(enum nth_call call);

/** A cut that has shortened nothing after all. */
void books_uncut(void);

/** Is this the time for ${sabotage}? Counts. */
bool books_sabotage(enum sabotage sabotage);

/* ---- descriptors ---- */

void books_opened(int fd, enum kind kind);
enum kind books_kind(int fd);
int books_find(enum kind kind);    /* the first of that kind, or -1 */
int books_find_client(int client); /* the connection of that client, or -1 */
void books_listens(int fd);
void books_closed(int fd, int result);
/** The connection ${fd} is the client's that ${address} names. */
void books_accepted(int fd, const struct sockaddr_storage *address, socklen_t size);
unsigned books_accepts(void);

/* ---- edges: readiness that the kernel does not know of ---- */

void books_watched(int fd, int epoll_fd, const struct epoll_event *event); /* NULL: no more */
void books_raise_later(int fd);
void books_raise(int epoll_fd);

/* ---- memory ---- */

void books_allocated(const void *memory, size_t size);
bool books_freed(const void *memory);
void books_mapped(void *memory, size_t size);
bool books_unmapped(const void *memory);
void books_map_lost(const void *memory); /* the kernel has refused to take it back */
void books_stream(int change);

#endif
