/*
 * ledger: see ledger.h.
 *
 * The open descriptors of the process are compared before and after a run, so that one that came by
 * an unknown call is found as well.  The static stands for the kernel, of which there is one.
 */
#include "tests/fail_nth/ledger.h"

#include "core/base.h"
#include "tests/fail_nth/clients.h"
#include "tests/fail_nth/scheduler.h"
#include "tests/fail_nth/real.h"
#include "tests/fixtures/orders.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FDS_MAX 72
#define MEMORY_MAX 1024 /* a power of two */
#define MAPS_MAX 512

struct slot {
  enum kind kind;
  int client; /* of a connection; -1 = unknown */
};

struct piece {
  const void *memory; /* NULL: empty; &ledger: it was freed */
  size_t size;
};

struct map {
  void *memory;
  size_t size;
  bool lost;
};

static struct {
  const struct spec *spec;
  unsigned hits, sabotages, accepts;
  struct slot slots[FDS_MAX];
  bool before[FDS_MAX];
  struct piece memory[MEMORY_MAX];
  struct map maps[MAPS_MAX];
  unsigned maps_end;
  int streams;
  char fault[400];
} ledger;

const struct spec *ledger_spec(void) { return ledger.spec; }
unsigned ledger_count(enum nth_call call) { return (unsigned)orders_count(call); }
unsigned ledger_hits(void) { return ledger.hits; }
unsigned ledger_accepts(void) { return ledger.accepts; }

void ledger_fault(const char *format, ...) {
  va_list list;
  if (ledger.fault[0] == 0) {
    va_start(list, format);
    vsnprintf(ledger.fault, sizeof(ledger.fault), format, list);
    va_end(list);
  }
}

const char *ledger_fault_text(void) { return ledger.fault[0] == 0 ? NULL : ledger.fault; }

/* ---- orders ---- */

static struct slot *slot_of(int fd) { return fd >= 0 && fd < FDS_MAX ? &ledger.slots[fd] : NULL; }

/* The order was carried out on ${fd}: if the rule allows it, the client of ${fd} may notice. */
static void hit(int fd) {
  const struct slot *slot = slot_of(fd);
  const struct spec *spec = ledger.spec;
  ledger.hits++;
  bool owner = spec->rule != NULL &&
               (spec->mode == MODE_ONCE ? spec->rule->once : spec->rule->forever) != NO_CLIENT;
  if (owner && slot != NULL && slot->client >= 0) {
    clients_at((unsigned)slot->client)->hit = true;
  }
}

bool ledger_fails(enum nth_call call, int fd) {
  const struct spec *spec = ledger.spec;
  if (spec == NULL) {
    return false; /* the test itself and the run time of the compiler make calls, too */
  }
  if (call != CALL_EPOLL_WAIT &&
      call != CALL_POLL) { /* the seam reports progress of these itself */
    scheduler_progress();
  }
  if (!orders_fails(call)) {
    return false;
  }
  hit(fd);
  if (spec->error == EAGAIN && spec->mode == MODE_ONCE) {
    orders_raise_later(fd);
  }
  return true;
}

size_t ledger_shorten(enum nth_call call, int fd, size_t size) {
  size_t left = orders_shortened(call, size);
  if (left < size) {
    hit(fd);
    orders_raise_later(fd);
  }
  return left;
}

bool ledger_silent(enum nth_call call) {
  const struct spec *spec = ledger.spec;
  return spec->call == call && spec->mode == MODE_FOREVER && spec->error == EAGAIN &&
         orders_count(call) >= spec->nth;
}

void ledger_not_shortened(void) { ledger.hits--; }

bool ledger_sabotage(enum sabotage sabotage) {
  const struct spec *spec = ledger.spec;
  if (spec == NULL || spec->mode != MODE_SABOTAGE || spec->sabotage != sabotage ||
      ++ledger.sabotages != spec->nth) {
    return false;
  }
  ledger.hits++;
  return true;
}

/* ---- descriptors ---- */

void ledger_opened(int fd, enum kind kind) {
  struct slot *slot = slot_of(fd);
  if (fd == -1 || ledger.spec == NULL) {
    return;
  }
  if (slot == NULL) {
    ledger_fault("descriptor %d: more descriptors than expected", fd);
    return;
  }
  if (slot->kind != KIND_NONE) {
    ledger_fault("descriptor %d was assigned while it was open", fd);
  }
  *slot = (struct slot){.kind = kind, .client = -1};
  orders_forget(fd);
}

enum kind ledger_kind(int fd) {
  const struct slot *slot = slot_of(fd);
  return slot == NULL ? KIND_NONE : slot->kind;
}

int ledger_find(enum kind kind) { return ledger_find_nth(kind, 0); }

int ledger_find_nth(enum kind kind, unsigned nth) {
  for (int fd = 0; fd < FDS_MAX; fd++) {
    if (ledger.slots[fd].kind == kind && nth-- == 0) {
      return fd;
    }
  }
  return -1;
}

int ledger_find_client(int client) {
  for (int fd = 0; fd < FDS_MAX; fd++) {
    if (ledger.slots[fd].kind == KIND_CONN && ledger.slots[fd].client == client) {
      return fd;
    }
  }
  return -1;
}

void ledger_listens(int fd) {
  struct slot *slot = slot_of(fd);
  if (slot != NULL) {
    slot->kind = KIND_LISTENER;
  }
}

void ledger_closed(int fd, int result) {
  struct slot *slot = slot_of(fd);
  if (result == -1 || slot == NULL || slot->kind == KIND_NONE) {
    ledger_fault("descriptor %d is closed but was not open", fd);
    return;
  }
  *slot = (struct slot){.kind = KIND_NONE, .client = -1};
  orders_forget(fd);
}

void ledger_accepted(int fd, const struct sockaddr_storage *address, socklen_t size) {
  ledger.accepts++;
  ledger_opened(fd, KIND_CONN);
  struct slot *slot = slot_of(fd);
  if (slot != NULL) {
    slot->client = clients_find(address, size);
  }
}

/* ---- memory ---- */

static size_t home_of(const void *memory) {
  return (size_t)(((uintptr_t)memory >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 40) % MEMORY_MAX;
}

/* The slot of ${memory}, or the first free one of its chain; NULL where there is neither. */
static struct piece *piece_of(const void *memory, bool add) {
  for (size_t i = 0; i < MEMORY_MAX; i++) {
    struct piece *piece = &ledger.memory[(home_of(memory) + i) % MEMORY_MAX];
    if (piece->memory == memory || (add && piece->memory == &ledger)) {
      return piece;
    }
    if (piece->memory == NULL) {
      return add ? piece : NULL;
    }
  }
  return NULL;
}

void ledger_allocated(const void *memory, size_t size) {
  if (memory == NULL || ledger.spec == NULL) {
    return;
  }
  struct piece *piece = piece_of(memory, true);
  if (piece == NULL) {
    ledger_fault("more memory than a session takes");
    return;
  }
  *piece = (struct piece){.memory = memory, .size = size};
}

bool ledger_freed(const void *memory) {
  struct piece *piece = ledger.spec == NULL ? NULL : piece_of(memory, false);
  if (piece == NULL) {
    return false;
  }
  piece->memory = &ledger;
  return true;
}

static struct map *map_of(const void *memory) {
  for (unsigned i = 0; i < ledger.maps_end; i++) {
    if (ledger.maps[i].memory == memory) {
      return &ledger.maps[i];
    }
  }
  return NULL;
}

void ledger_mapped(void *memory, size_t size) {
  struct map *map = map_of(NULL);
  if (map == NULL && ledger.maps_end < MAPS_MAX) {
    map = &ledger.maps[ledger.maps_end++];
  }
  if (map == NULL) {
    ledger_fault("more mappings than a session takes");
    return;
  }
  *map = (struct map){.memory = memory, .size = size};
}

bool ledger_unmapped(const void *memory) {
  struct map *map = map_of(memory);
  if (map == NULL) {
    ledger_fault("memory is unmapped that was not mapped");
    return false;
  }
  map->memory = NULL;
  return true;
}

void ledger_map_lost(const void *memory) {
  struct map *map = map_of(memory);
  if (map == NULL) {
    ledger_fault("memory is unmapped that was not mapped");
  } else {
    map->lost = true;
  }
}

void ledger_stream(int change) { ledger.streams += change; }

/* ---- a run ---- */

/* Which descriptors are open? One poll asks for all. */
static void look_for_open(bool open[FDS_MAX]) {
  struct pollfd fds[FDS_MAX];
  for (int fd = 0; fd < FDS_MAX; fd++) {
    fds[fd] = (struct pollfd){.fd = fd};
  }
  (void)poll(fds, FDS_MAX, 0);
  for (int fd = 0; fd < FDS_MAX; fd++) {
    open[fd] = (fds[fd].revents & POLLNVAL) == 0;
  }
}

static void give_orders(const struct spec *spec) {
  uint64_t times = spec->mode == MODE_FOREVER || spec->mode == MODE_SHORTEN_ALL ? UINT64_MAX : 1;
  orders_reset();
  orders_follow(true);
  if (spec->mode == MODE_ONCE || spec->mode == MODE_FOREVER) {
    orders_fail(spec->call, spec->nth, spec->error, times);
  } else if (spec->mode == MODE_SHORTEN || spec->mode == MODE_SHORTEN_ALL) {
    orders_shorten(spec->call, spec->nth, spec->bytes, times);
  }
}

void ledger_open(const struct spec *spec) {
  memset(&ledger, 0, sizeof(ledger));
  ledger.spec = spec;
  for (int fd = 0; fd < FDS_MAX; fd++) {
    ledger.slots[fd].client = -1;
  }
  give_orders(spec);
  look_for_open(ledger.before);
}

static void close_memory(void) {
  for (size_t i = 0; i < MEMORY_MAX; i++) {
    const struct piece *piece = &ledger.memory[i];
    if (piece->memory != NULL && piece->memory != &ledger) {
      ledger_fault("leak: %zu bytes are not freed", piece->size);
    }
  }
  for (unsigned i = 0; i < ledger.maps_end; i++) {
    const struct map *map = &ledger.maps[i];
    if (map->memory != NULL && !map->lost) {
      ledger_fault("leak: a mapping of %zu bytes", map->size);
    }
    if (map->memory != NULL) {
      (void)munmap(map->memory, map->size);
    }
  }
  if (ledger.streams != 0) {
    ledger_fault("leak: %d streams", ledger.streams);
  }
}

void ledger_close(void) {
  bool after[FDS_MAX];
  look_for_open(after);
  close_memory();
  for (int fd = 0; fd < FDS_MAX; fd++) {
    if (ledger.slots[fd].kind != KIND_NONE) {
      ledger_fault("descriptor %d was not closed", fd);
    }
    if (after[fd] != ledger.before[fd]) {
      ledger_fault("descriptor %d is %s", fd, ledger.before[fd] ? "closed" : "still open");
    }
  }
  ledger.spec = NULL;
}
