/*
 * memory: see memory.h.
 *
 * A map with a byte for every four bytes of shared memory leads from an access to its place or
 * object.  The messages of a place are an array in modification order, and none is dropped.  Views
 * hold positions in it, which move when a store is inserted before the end.
 *
 * Vector clocks tell which plain accesses happened before.  The clock of a thread ticks with each
 * of its releases.  An object keeps the clock of its last write and of each thread's last read.  An
 * access is in order if the view of its thread includes those.  A state contains only this outcome
 * (known or not, for each view), and only the messages that a thread may still read.
 */
#include "tests/explore/memory.h"

#include "tests/explore/explore.h"

#include <assert.h>
#include <stdlib.h>

#define PLACES_MAX MEMORY_NOWHERE
#define OBJECTS_MAX 24
#define EVENTS_MAX 2
#define MESSAGES_MAX 96
#define GRANULE 4
#define FIRST_OBJECT PLACES_MAX

struct view {
  uint8_t at[PLACES_MAX];             /* position of the oldest message that may be read */
  uint8_t clock[EXPLORE_THREADS_MAX]; /* of each thread: its accesses that are known */
};

struct message {
  uint64_t value;
  struct view view; /* what a reader with acquire learns */
  bool chained;     /* of a read-modify-write that read the message before it */
};

struct place {
  const char *name;
  const void *address;
  size_t size;
  unsigned writer;
  unsigned count;
  struct message messages[MESSAGES_MAX];
};

struct object {
  const char *name;
  const unsigned char *address;
  size_t size;     /* 0 = its content is no part of the state */
  unsigned writer; /* of the last write */
  uint8_t written; /* the writer's clock then; 0 = before the start */
  uint8_t read[EXPLORE_THREADS_MAX];
};

struct event {
  int fd, epoll_fd;
  uint32_t pending; /* its address stands for the place */
  unsigned place;
};

static struct {
  unsigned char *base;
  size_t size;
  uint8_t *map; /* per granule: 0 = private, 1.. = place, FIRST_OBJECT + 1.. = object */
  struct place places[PLACES_MAX];
  unsigned places_count;
  struct object objects[OBJECTS_MAX];
  unsigned objects_count;
  struct event events[EVENTS_MAX];
  unsigned events_count;
  struct view views[EXPLORE_THREADS_MAX];
  uint64_t last[EXPLORE_THREADS_MAX]
               [PLACES_MAX]; /* the value that each thread has read or written last */
  bool kernel_orders, swapped;
} memory = {.kernel_orders = true, .swapped = true};

/* ---- declarations ---- */

void memory_init(void *base, size_t size) {
  free(memory.map);
  memory.base = base;
  memory.size = size;
  memory.map = calloc(size / GRANULE + 1, 1);
  assert(memory.map != NULL);
  memory.places_count = memory.objects_count = memory.events_count = 0;
}

static uint8_t *map_at(const void *address) {
  size_t offset = (size_t)((const unsigned char *)address - memory.base);
  return offset < memory.size ? &memory.map[offset / GRANULE] : NULL;
}

static unsigned add_place(const void *address, size_t size, const char *name, unsigned writer) {
  assert(memory.places_count < PLACES_MAX);
  struct place *place = &memory.places[memory.places_count];
  place->address = address;
  place->size = size;
  place->name = name;
  place->writer = writer;
  return memory.places_count++;
}

void memory_place(const void *address, size_t size, const char *name, unsigned writer) {
  unsigned place = add_place(address, size, name, writer);
  memset(map_at(address), (int)place + 1, size / GRANULE);
}

static struct object *add_object(const void *address, size_t size, const char *name) {
  assert(memory.objects_count < OBJECTS_MAX);
  unsigned object = memory.objects_count++;
  memory.objects[object] = (struct object){.name = name};
  uint8_t *map = map_at(address);
  for (size_t i = 0; i < size / GRANULE; i++) {
    if (map[i] == 0) {
      map[i] = (uint8_t)(FIRST_OBJECT + 1 + object);
    }
  }
  return &memory.objects[object];
}

void memory_object(const void *address, size_t size, const char *name) {
  struct object *object = add_object(address, size, name);
  object->address = address;
  object->size = size;
}

void memory_private(const void *address, size_t size, const char *name) {
  (void)add_object(address, size, name);
}

void memory_event(int fd, int epoll_fd) {
  assert(memory.events_count < EVENTS_MAX);
  struct event *event = &memory.events[memory.events_count++];
  event->fd = fd;
  event->epoll_fd = epoll_fd;
  event->pending = 0;
  event->place = add_place(&event->pending, sizeof(event->pending), "eventfd", MEMORY_SWAPPED);
}

void memory_reset(void) {
  memset(memory.views, 0, sizeof(memory.views));
  for (unsigned i = 0; i < EXPLORE_THREADS_MAX; i++) {
    memory.views[i].clock[i] = 1;
  }
  for (unsigned i = 0; i < memory.places_count; i++) {
    struct place *place = &memory.places[i];
    place->count = 1;
    memset(&place->messages[0], 0, sizeof(place->messages[0]));
    memcpy(&place->messages[0].value, place->address, place->size);
    for (unsigned j = 0; j < EXPLORE_THREADS_MAX; j++) {
      memory.last[j][i] = place->messages[0].value;
    }
  }
  for (unsigned i = 0; i < memory.objects_count; i++) {
    struct object *object = &memory.objects[i];
    object->written = 0;
    memset(object->read, 0, sizeof(object->read));
  }
}

void memory_swapped(bool believed) { memory.swapped = believed; }

void memory_kernel_orders(bool orders) { memory.kernel_orders = orders; }

/* ---- views ---- */

static void view_join(struct view *view, const struct view *with) {
  for (unsigned i = 0; i < PLACES_MAX; i++) {
    view->at[i] = view->at[i] < with->at[i] ? with->at[i] : view->at[i];
  }
  for (unsigned i = 0; i < EXPLORE_THREADS_MAX; i++) {
    view->clock[i] = view->clock[i] < with->clock[i] ? with->clock[i] : view->clock[i];
  }
}

static void move(uint8_t *at, unsigned after) {
  if (*at > after) {
    ++*at;
  }
}

/* Make room after message ${after} of ${place}; views of later messages move along. */
static void shift(unsigned place, unsigned after) {
  for (unsigned i = 0; i < EXPLORE_THREADS_MAX; i++) {
    move(&memory.views[i].at[place], after);
  }
  for (unsigned i = 0; i < memory.places_count; i++) {
    for (unsigned j = 0; j < memory.places[i].count; j++) {
      move(&memory.places[i].messages[j].view.at[place], after);
    }
  }
}

/* ---- the operations on a place ---- */

unsigned memory_find(const void *address) {
  const uint8_t *map = map_at(address);
  bool found =
      explore_current() != EXPLORE_NO_THREAD && map != NULL && *map > 0 && *map <= PLACES_MAX;
  return found ? *map - 1u : MEMORY_NOWHERE;
}

const char *memory_name(unsigned place) { return memory.places[place].name; }

bool memory_own(unsigned place) { return memory.places[place].writer == explore_current(); }

static const struct message *read_at(unsigned place, unsigned position, bool acquire) {
  struct view *view = &memory.views[explore_current()];
  const struct message *message = &memory.places[place].messages[position];
  view->at[place] = (uint8_t)position;
  memory.last[explore_current()][place] = message->value;
  if (acquire) {
    view_join(view, &message->view);
  }
  explore_note(message->value);
  return message;
}

uint64_t memory_known(unsigned place) {
  return memory.places[place].messages[memory.views[explore_current()].at[place]].value;
}

uint64_t memory_last(unsigned place) { return memory.last[explore_current()][place]; }

/* Is only the newest message part of the state? */
static bool is_swapped(unsigned place) {
  return memory.swapped && memory.places[place].writer == MEMORY_SWAPPED;
}

uint64_t memory_load(unsigned place, bool acquire) {
  assert(!is_swapped(place));
  unsigned newest = memory.places[place].count - 1;
  unsigned oldest = memory.views[explore_current()].at[place];
  return read_at(place, newest - explore_choose(newest - oldest + 1), acquire)->value;
}

/* Insert a message after ${after}; with release, it also passes on the view of the thread. */
static void write_after(unsigned place, unsigned after, const struct message *made, bool release) {
  struct place *to = &memory.places[place];
  unsigned self = explore_current();
  struct view *view = &memory.views[self];
  if (to->writer < EXPLORE_THREADS_MAX && to->writer != self) {
    explore_fault("%s is written by %s", to->name, explore_name(self));
  }
  assert(to->count < MESSAGES_MAX);
  if (after + 1 < to->count) {
    shift(place, after);
    memmove(&to->messages[after + 2], &to->messages[after + 1],
            (to->count - after - 1) * sizeof(to->messages[0]));
  }
  struct message *message = &to->messages[after + 1];
  *message = *made;
  to->count++;
  view->at[place] = (uint8_t)(after + 1);
  memory.last[self][place] = made->value;
  if (release) {
    view_join(&message->view, view);
    view->clock[self]++;
    assert(view->clock[self] != 0);
  }
  message->view.at[place] = (uint8_t)(after + 1);
}

/*
 * The positions of a write: after any message in view, except between a message and its chained
 * one.
 */
static unsigned write_positions(unsigned place, unsigned positions[MESSAGES_MAX]) {
  const struct place *in = &memory.places[place];
  unsigned count = 0;
  for (unsigned i = in->count; i-- > memory.views[explore_current()].at[place];) {
    if (i + 1 == in->count || !in->messages[i + 1].chained) {
      positions[count++] = i;
    }
  }
  return count;
}

void memory_store(unsigned place, uint64_t value, bool release) {
  assert(!is_swapped(place));
  unsigned positions[MESSAGES_MAX];
  unsigned chosen = explore_choose(write_positions(place, positions));
  write_after(place, positions[chosen], &(struct message){.value = value}, release);
}

static void modify_at(unsigned place, unsigned position, uint64_t value, struct order order) {
  struct message made = {.value = value, .chained = true};
  made.view = read_at(place, position, order.acquire)->view;
  write_after(place, position, &made, order.release);
}

uint64_t memory_exchange(unsigned place, uint64_t value, struct order order) {
  unsigned positions[MESSAGES_MAX];
  unsigned chosen = explore_choose(write_positions(place, positions));
  unsigned position = positions[chosen];
  uint64_t was = memory.places[place].messages[position].value;
  modify_at(place, position, value, order);
  return was;
}

/* Choices: succeed at any message with the expected value, or fail with any other value. */
bool memory_cas(unsigned place, uint64_t *expected, uint64_t value, struct order order) {
  const struct place *in = &memory.places[place];
  unsigned positions[2 * MESSAGES_MAX];
  unsigned count = 0, successes;
  unsigned candidates = write_positions(place, positions);
  for (unsigned i = 0; i < candidates; i++) {
    if (in->messages[positions[i]].value == *expected) {
      positions[count++] = positions[i];
    }
  }
  successes = count;
  for (unsigned i = in->count; i-- > memory.views[explore_current()].at[place];) {
    if (in->messages[i].value != *expected) {
      positions[count++] = i;
    }
  }
  unsigned chosen = explore_choose(count);
  explore_note(chosen < successes);
  if (chosen < successes) {
    modify_at(place, positions[chosen], value, order);
    return true;
  }
  *expected = read_at(place, positions[chosen], false)->value;
  return false;
}

/* ---- the kernel ---- */

static struct event *event_of(int fd, int epoll_fd) {
  for (unsigned i = 0; i < memory.events_count; i++) {
    if (memory.events[i].fd == fd || memory.events[i].epoll_fd == epoll_fd) {
      return &memory.events[i];
    }
  }
  abort();
}

static bool edge_pending(unsigned place) {
  const struct place *in = &memory.places[place];
  return in->messages[in->count - 1].value != 0;
}

static void kernel(const struct event *event, bool writes) {
  struct order order = {.acquire = !writes && memory.kernel_orders,
                        .release = writes && memory.kernel_orders};
  if (explore_trace() != NULL) {
    fprintf(explore_trace(), "  %-9s %s\n", explore_name(explore_current()),
            writes ? "writes to the eventfd" : "returns from the wait");
  }
  memory_exchange(event->place, writes, order);
}

void memory_signal(int fd) {
  const struct event *event = event_of(fd, -1);
  explore_step_write(false);
  kernel(event, true);
}

bool memory_poll(int epoll_fd) {
  const struct event *event = event_of(-1, epoll_fd);
  explore_step_write(false);
  bool pending = edge_pending(event->place);
  explore_note(pending);
  if (pending) {
    kernel(event, false);
  }
  return pending;
}

void memory_wait(int epoll_fd) {
  const struct event *event = event_of(-1, epoll_fd);
  explore_wait(edge_pending, event->place);
  kernel(event, false);
}

/* ---- plain memory ---- */

static void access_object(struct object *object, bool writes) {
  unsigned self = explore_current();
  const struct view *view = &memory.views[self];
  if (view->clock[object->writer] < object->written) {
    explore_fault("data race: %s %s %s, not knowing that %s wrote it", explore_name(self),
                  writes ? "writes" : "reads", object->name, explore_name(object->writer));
  }
  if (!writes) {
    object->read[self] = view->clock[self];
    return;
  }
  for (unsigned i = 0; i < EXPLORE_THREADS_MAX; i++) {
    if (view->clock[i] < object->read[i]) {
      explore_fault("data race: %s writes %s, not knowing that %s read it", explore_name(self),
                    object->name, explore_name(i));
    }
  }
  object->writer = self;
  object->written = view->clock[self];
}

void memory_access(const void *address, size_t size, bool writes) {
  const uint8_t *map = map_at(address);
  if (map == NULL || size == 0 || explore_current() == EXPLORE_NO_THREAD) {
    return;
  }
  const uint8_t *last = map + (size - 1) / GRANULE;
  for (uint8_t before = 0; map <= last; before = *map++) {
    if (*map == before || *map == 0) {
      continue;
    }
    if (*map <= FIRST_OBJECT) {
      explore_fault("%s is accessed past the seam", memory.places[*map - 1].name);
    }
    access_object(&memory.objects[*map - FIRST_OBJECT - 1], writes);
  }
}

/* ---- states ---- */

static void hash_view(struct hash *hash, const struct view *view, const uint8_t base[PLACES_MAX]) {
  for (unsigned i = 0; i < memory.places_count; i++) {
    hash_add(hash, view->at[i] > base[i] ? (uint64_t)view->at[i] - base[i] : 0);
  }
  for (unsigned i = 0; i < memory.objects_count; i++) {
    const struct object *object = &memory.objects[i];
    uint64_t knows = view->clock[object->writer] >= object->written;
    for (unsigned j = 0; j < EXPLORE_THREADS_MAX; j++) {
      knows = knows << 1 | (view->clock[j] >= object->read[j]);
    }
    hash_add(hash, knows);
  }
}

void memory_hash(struct hash *hash) {
  uint8_t base[PLACES_MAX]; /* no thread can read what lies below */
  for (unsigned i = 0; i < memory.places_count; i++) {
    base[i] = (uint8_t)(memory.places[i].count - 1);
    for (unsigned j = 0; j < EXPLORE_THREADS_MAX; j++) {
      bool counts = !is_swapped(i) && !explore_done(j) && memory.views[j].at[i] < base[i];
      base[i] = counts ? memory.views[j].at[i] : base[i];
    }
  }
  for (unsigned j = 0; j < EXPLORE_THREADS_MAX; j++) {
    if (!explore_done(j)) {
      hash_view(hash, &memory.views[j], base);
      hash_add_bytes(hash, memory.last[j], memory.places_count * sizeof(memory.last[j][0]));
    }
  }
  for (unsigned i = 0; i < memory.places_count; i++) {
    const struct place *place = &memory.places[i];
    hash_add(hash, place->count - base[i]);
    for (unsigned j = base[i]; j < place->count; j++) {
      hash_add(hash, place->messages[j].value << 1 | (j > base[i] && place->messages[j].chained));
      hash_view(hash, &place->messages[j].view, base);
    }
  }
  for (unsigned i = 0; i < memory.objects_count; i++) {
    hash_add_bytes(hash, memory.objects[i].address, memory.objects[i].size);
  }
}
