/*
 * reactor: waits for the sources of one thread and gives each ready one its turn.
 *
 * A source is whatever wants to hear of a descriptor or of a time: it begins with a struct source
 * and lies in a slab that the owner lends. What epoll carries is slot and generation: an event for
 * a source that has ended in the same batch finds another generation and is counted as stale.  A
 * source that ends is retired; its memory is freed by the owner at the end of the turn
 * (reactor_reap), never within it.
 *
 *   one turn:  reactor_wait (time is taken once)  ->  reactor_dispatch: ready events, then `again`,
 * then due timers  ->  reactor_reap
 *
 * Ready events come before expired timers, so that nobody times out whose bytes are there.  Work
 * that a source leaves for later (reactor_requeue) makes the next wait return at once; nobody gets
 * a second turn before everybody had the first.
 *
 * Two ways to wait: epoll for many sources, and poll for one source (a thread or process a
 * connection), which needs no descriptor of its own.  Under poll readiness is a level: interest
 * must be taken away when it is not wanted; without any, not even a hang-up is reported.  One
 * thread at a time.
 */
#ifndef NET_REACTOR_H
#define NET_REACTOR_H

#include "core/slab.h"
#include "core/wheel.h"
#include "core/stats.h"
#include "net/wake.h"

#include <sys/epoll.h>

#define REACTOR_EVENTS 256         /* events a wait; more made no difference (docs/notes) */
#define REACTOR_TIMERS 256         /* timers a turn at most */
#define REACTOR_REQUEUES 256       /* of those that asked for another turn, so many in one */
#define REACTOR_GENERATION_BITS 30 /* so that an id holds worker, slot and generation */

/* What a turn is told, beside EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, EPOLLHUP and EPOLLERR. */
#define EVENT_TIMER (1u << 20)   /* the source's timer has come */
#define EVENT_REQUEUE (1u << 21) /* it asked for another turn */

/* All fields are the reactor's; the owner reads them. */
struct source {
  struct timer timer;
  uint32_t slot;                                 /* in the slab */
  uint32_t generation : REACTOR_GENERATION_BITS; /* 0 = retired */
  bool queued : 1;                               /* in the again list */
  uint32_t interest;                             /* events that were asked for */
  uint32_t next; /* slot of the next in the again list or the retired list */
};

struct reactor {
  void (*on_event)(struct source *source, uint32_t events); /* of each source; the owner sets it */
  struct slab *slab;   /* borrows; its objects begin with a struct source */
  struct stats *stats; /* borrows; counts stale events */
  uint64_t now_ns;     /* when the last wait returned */
  int epoll_fd;        /* owns; -1: poll */
  int ready;           /* events that the last wait brought */
  uint32_t generation; /* given last */
  uint32_t requeue_first, requeue_last;
  uint64_t requeues_asked,
      requeues_served; /* turns asked for by reactor_requeue, and given, in that order */
  uint32_t retired;
  bool woken;         /* poll: the wake was seen and is not waited for any more */
  int poll_fd;        /* poll: the one source's descriptor; borrows; -1 = none */
  int wake_fd;        /* poll: the wake's; borrows */
  uint32_t poll_slot; /* poll: the one source's slot */
  struct wheel wheel;
  struct epoll_event events[REACTOR_EVENTS];
};

/** reactor_open: wait by epoll for the sources in ${slab}. Return: 0, or -1 with errno. */
int reactor_open(struct reactor *reactor, struct slab *slab, struct stats *stats);

/**
 * reactor_open_single: wait by poll for one source at a time; takes no descriptor and cannot fail.
 */
void reactor_open_single(struct reactor *reactor, struct slab *slab, struct stats *stats);
void reactor_close(struct reactor *reactor);

/** Let ${wake}, which must outlive the reactor, end the waits. Return: 0, or -1 with errno. */
int reactor_add_wake(struct reactor *reactor, const struct wake *wake);

/**
 * Take an object from the slab, zeroed in its struct source, not yet watched; NULL without memory.
 */
struct source *reactor_alloc(struct reactor *reactor);

/**
 * Watch ${fd}, which the caller keeps, for ${events} (with EPOLLET where edges are wanted). Return:
 * 0, or -1 with errno.
 */
int reactor_add(struct reactor *reactor, struct source *source, int fd, uint32_t events);

/**
 * reactor_modify(reactor, source, fd, events):
 * Change the interest.  Under epoll, sources are edge-triggered and what is once asked for stays:
 * only new events cost a system call.
 * Return: 0, or -1 with errno.
 */
int reactor_modify(struct reactor *reactor, struct source *source, int fd, uint32_t events);

/** Stop watching ${fd} without retiring ${source}. */
void reactor_remove(struct reactor *reactor, struct source *source, int fd);

/** Give ${source} another turn (EVENT_REQUEUE) in the next dispatch. */
void reactor_requeue(struct reactor *reactor, struct source *source);

/**
 * Arm ${source}'s one timer for ${deadline_ns}; it may fire earlier than a later deadline given
 * anew: only an earlier one, or none armed, touches the wheel.
 */
void reactor_arm(struct reactor *reactor, struct source *source, uint64_t deadline_ns);

/** ${source} has ended: no turn reaches it any more. Its descriptor is closed by the caller. */
void reactor_retire(struct reactor *reactor, struct source *source);

/**
 * A retired source, to be released with reactor_free; NULL when there is none. Call at the end of a
 * turn.
 */
struct source *reactor_reap(struct reactor *reactor);
void reactor_free(struct reactor *reactor, struct source *source);

/** Is a turn due without waiting (somebody asked for one, or is to be reaped)? */
bool reactor_busy(const struct reactor *reactor);

/**
 * reactor_wait(reactor, until_ns):
 * Wait for events, the wake, the next timer or ${until_ns} (0 = look only, NEVER = no bound of its
 * own); then take the time. Errors of the wait itself (EINTR) count as no events.
 */
void reactor_wait(struct reactor *reactor, uint64_t until_ns);

/**
 * The present time, for a limit that begins now.  The reactor's own time is that of the wait's end,
 * and a turn may have been held up for long since (the process was stopped, the machine was busy).
 */
uint64_t reactor_fresh_ns(const struct reactor *reactor);

/** Give turns: to the ready, the again, the timed out. */
void reactor_dispatch(struct reactor *reactor);

#endif
