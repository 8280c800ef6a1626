/*
 * reactor: the event loop of one thread, which gives each ready source its turn.
 *
 * A source is an object with a descriptor or a timer.  It begins with a struct source and lies in a
 * slab of the owner.  Its key is the event data of epoll:
 *
 *   key = 0 (owner_bits) | generation (the rest) | slot (slot_bits, as many as the slab needs)
 *
 * An event for a source that has ended in the same batch finds another generation and is counted as
 * stale.  A source that ends is retired.  The owner frees it after the dispatch (reactor_reap),
 * never during it.
 *
 *   one iteration:  reactor_wait     reads the clock once
 *                   reactor_dispatch gives turns: ready events, requeued sources, expired timers
 *                   reactor_reap     until it returns NULL
 *
 * Ready events come before expired timers, so that no connection times out whose input has arrived.
 * A requeued source (reactor_requeue) makes the next wait return at once.  Its events wait for the
 * turn that it has asked for.  So no source gets a second turn before every other one that is ready
 * had its first.
 *
 * There are two ways to wait: epoll for many sources, and poll for one source, which needs no
 * descriptor (models thread and fork).  poll reports levels, so the owner must remove unwanted
 * interest.  A source without interest gets no event, not even a hang-up.  One thread at a time.
 */
#ifndef NET_REACTOR_H
#define NET_REACTOR_H

#include "core/slab.h"
#include "core/wheel.h"
#include "core/stats.h"
#include "net/wake.h"

#include <sys/epoll.h>

#define REACTOR_EVENTS 256 /* events per wait; more or fewer changed nothing: docs/performance.md */
#define REACTOR_TIMERS 256 /* expired timers per iteration, at most */
#define REACTOR_REQUEUES 256 /* requeued sources per iteration, at most */

/* Events in addition to EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, EPOLLHUP and EPOLLERR. */
#define EVENT_TIMER (1u << 20)   /* the source's timer has expired */
#define EVENT_REQUEUE (1u << 21) /* the source was requeued */

/* The bit of a key that hides its source: no key by which it is looked for has it. */
#define SOURCE_HIDDEN (UINT64_C(1) << 63)

/* The reactor writes all fields, the owner only reads them. */
struct source {
  struct timer timer;
  uint64_t key;           /* generation and slot; generation 0 = retired; SOURCE_HIDDEN */
  uint32_t interest : 14; /* events that are asked for */
  uint32_t held : 14;     /* events that came while it was queued, for its next turn */
  bool edge : 1;          /* EPOLLET */
  bool queued : 1;        /* in the requeue list */
  bool cancelled : 1;     /* likewise, and freed when it leaves the list */
  uint32_t next;          /* slot of the next source in the requeue list or the retired list */
};

struct reactor {
  void (*on_event)(struct source *source,
                   uint32_t events); /* a turn of a source; the owner sets it */
  struct slab *slab;                 /* borrows; its objects begin with a struct source */
  struct stats *stats;               /* borrows; counts stale events */
  uint32_t owner_bits; /* upper bits of every key that stay 0, at least 1; the owner sets it */
  uint32_t slot_bits;  /* lower bits of a key: the slot */
  uint64_t now_ns;     /* when the last wait returned */
  int epoll_fd;        /* owns; -1 = poll */
  int ready;           /* events of the last wait */
  uint64_t generation; /* of the newest source */
  uint32_t requeue_first, requeue_last;
  uint64_t requeues_asked, requeues_served; /* turns asked for, and given, in order */
  uint32_t retired;
  bool woken;         /* poll: the wake has fired and is not polled any more */
  int poll_fd;        /* poll: the one source's descriptor; borrows; -1 = none */
  int wake_fd;        /* poll: the wake's; borrows */
  uint32_t poll_slot; /* poll: the one source's slot */
  struct wheel wheel;
  struct epoll_event events[REACTOR_EVENTS];
};

/**
 * Prepare to wait with epoll for the sources in ${slab}.  on_event and owner_bits stay as they are.
 * Return: 0, or -1 with errno.
 */
int reactor_open(struct reactor *reactor, struct slab *slab, struct stats *stats);

/** Prepare to wait with poll for one source at a time. Needs no descriptor and cannot fail. */
void reactor_open_single(struct reactor *reactor, struct slab *slab, struct stats *stats);
void reactor_close(struct reactor *reactor);

/** Let ${wake} end waits; it must outlive the reactor. Return: 0, or -1 with errno. */
int reactor_add_wake(struct reactor *reactor, const struct wake *wake);

/** The slot of ${source}, and its generation; 0 = retired. */
static inline uint32_t source_slot(const struct reactor *reactor, const struct source *source) {
  return (uint32_t)(source->key & ((UINT64_C(1) << reactor->slot_bits) - 1));
}
static inline uint64_t source_generation(const struct reactor *reactor,
                                         const struct source *source) {
  return source->key >> reactor->slot_bits;
}

/** Is ${source} neither retired nor hidden? The shift keeps the sign of a hidden key. */
static inline bool source_is_live(const struct reactor *reactor, const struct source *source) {
  return (int64_t)source->key >> reactor->slot_bits > 0;
}

/** The source with this ${key}, or NULL if it has ended or is hidden. */
static inline struct source *reactor_find(const struct reactor *reactor, uint64_t key) {
  uint64_t slots = UINT64_C(1) << reactor->slot_bits;
  struct source *source = slab_at(reactor->slab, (uint32_t)(key & (slots - 1)));
  return source != NULL && source->key == key && key >= slots ? source : NULL;
}

/** A key for a source in ${slot}, with the next generation. */
static inline uint64_t reactor_new_key(struct reactor *reactor, uint32_t slot) {
  if (++reactor->generation >> (64 - reactor->owner_bits - reactor->slot_bits) != 0) {
    reactor->generation = 1;
  }
  return reactor->generation << reactor->slot_bits | slot;
}

/** Allocate an object with an initialised struct source, not yet watched; NULL without memory. */
static inline struct source *reactor_alloc(struct reactor *reactor) {
  uint32_t slot;
  struct source *source = slab_alloc(reactor->slab, &slot);
  if (source == NULL) {
    return NULL;
  }
  *source = (struct source){.key = reactor_new_key(reactor, slot), .next = SLAB_NONE};
  return source;
}

/**
 * Watch ${fd}, which the caller keeps, for ${events}, with EPOLLET for edges.
 * Return: 0, or -1 with errno.
 */
int reactor_add(struct reactor *reactor, struct source *source, int fd, uint32_t events);

/**
 * reactor_modify(reactor, source, fd, events):
 * Change the interest.  Under epoll, which reports edges, events are only added: those already
 * asked for cost no system call.
 * Return: 0, or -1 with errno.
 */
int reactor_modify(struct reactor *reactor, struct source *source, int fd, uint32_t events);

/** Report again all that ${fd} of ${source}, which is watched, is ready for. */
void reactor_repeat(struct reactor *reactor, const struct source *source, int fd);

/** Stop watching ${fd} without retiring ${source}. */
void reactor_remove(struct reactor *reactor, struct source *source, int fd);

/** Give ${source} another turn (EVENT_REQUEUE) in the next dispatch. */
void reactor_requeue(struct reactor *reactor, struct source *source);

/**
 * Arm the timer of ${source} for ${deadline_ns}.  A timer that is armed for an earlier time stays
 * and fires then.
 */
void reactor_arm(struct reactor *reactor, struct source *source, uint64_t deadline_ns);

/** End ${source}: it gets no turn any more. The caller closes its descriptor. */
void reactor_retire(struct reactor *reactor, struct source *source);

/** Free ${source}, which is watched by nothing, without a reap: now, or in the next dispatch. */
void reactor_cancel(struct reactor *reactor, struct source *source);

/**
 * reactor_hide(reactor, source):
 * Let nothing find ${source}, whose descriptor is not watched.  It gets no turn, even if it was
 * requeued, and its timer is cancelled.
 * reactor_show(source):
 * Let it be found again, by the same key.
 */
void reactor_hide(struct reactor *reactor, struct source *source);
void reactor_show(struct source *source);

/** The next retired source, to be freed with reactor_free, or NULL. Call after the dispatch. */
static inline struct source *reactor_reap(struct reactor *reactor) {
  if (reactor->retired == SLAB_NONE) {
    return NULL;
  }
  struct source *source = slab_at(reactor->slab, reactor->retired);
  reactor->retired = source->next;
  return source;
}
static inline void reactor_free(struct reactor *reactor, struct source *source) {
  slab_free(reactor->slab, source_slot(reactor, source));
}

/** Is there work without a wait: a requeued or a retired source? */
static inline bool reactor_busy(const struct reactor *reactor) {
  return reactor->requeue_first != SLAB_NONE || reactor->retired != SLAB_NONE;
}

/**
 * reactor_wait(reactor, until_ns):
 * Wait for events, the wake, the next timer or ${until_ns} (0 = do not wait, NEVER = no limit),
 * then read the clock.  A failed wait (EINTR) counts as no events.
 */
void reactor_wait(struct reactor *reactor, uint64_t until_ns);

/**
 * The present time, for a deadline that begins now.  now_ns is the end of the wait, which may be
 * long ago if the process was stopped or the machine was busy.
 */
uint64_t reactor_fresh_ns(const struct reactor *reactor);

/** Give turns: to ready events, requeued sources and expired timers, in this order. */
void reactor_dispatch(struct reactor *reactor);

#endif
