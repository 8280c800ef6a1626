/*
 * reactor: see reactor.h.
 *
 * A descriptor is registered once, edge-triggered.  Its interest changes only when the kernel first
 * takes less than was queued.  The clock is read once per iteration, after the wait.
 */
#include "net/reactor.h"

#include "core/sys.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

/* The event data of the wake: no source has this key, because its upper bits are 0. */
#define WAKE_DATA UINT64_MAX

#define POLL_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP)
/* What interest and held have bits for. */
#define EVENTS_MASK ((1u << 14) - 1)
static_assert(EPOLLRDHUP == 1 << 13, "the highest event that a source asks for fits");
static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLERR == POLLERR &&
                  EPOLLHUP == POLLHUP && EPOLLRDHUP == 0x2000,
              "poll's events are epoll's");

static void reset(struct reactor *reactor, struct slab *slab, struct stats *stats) {
  void (*on_event)(struct source *, uint32_t) = reactor->on_event;
  uint32_t owner_bits = (uint32_t)max_u64(reactor->owner_bits, 1);
  memset(reactor, 0, offsetof(struct reactor, events));
  reactor->on_event = on_event;
  reactor->owner_bits = owner_bits;
  reactor->slot_bits = bits_for(slab->objects_max);
  reactor->slab = slab;
  reactor->stats = stats;
  reactor->epoll_fd = -1;
  reactor->poll_fd = -1;
  reactor->wake_fd = -1;
  reactor->requeue_first = SLAB_NONE;
  reactor->retired = SLAB_NONE;
  reactor->now_ns = sys_now_ns();
  wheel_init(&reactor->wheel, reactor->now_ns);
}

int reactor_open(struct reactor *reactor, struct slab *slab, struct stats *stats) {
  reset(reactor, slab, stats);
  reactor->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  return reactor->epoll_fd == -1 ? -1 : 0;
}

void reactor_open_single(struct reactor *reactor, struct slab *slab, struct stats *stats) {
  reset(reactor, slab, stats);
}

void reactor_close(struct reactor *reactor) {
  if (reactor->epoll_fd != -1) {
    sys_close(reactor->epoll_fd);
    reactor->epoll_fd = -1;
  }
}

int reactor_add_wake(struct reactor *reactor, const struct wake *wake) {
  if (reactor->epoll_fd == -1) {
    reactor->wake_fd = wake->fd;
    return 0;
  }
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = WAKE_DATA};
  return sys_epoll_ctl(reactor->epoll_fd, EPOLL_CTL_ADD, wake->fd, &event);
}

void reactor_hide(struct reactor *reactor, struct source *source) {
  wheel_cancel(&reactor->wheel, &source->timer);
  source->key |= SOURCE_HIDDEN;
}

void reactor_show(struct source *source) { source->key &= ~SOURCE_HIDDEN; }

static int control(struct reactor *reactor, int op, const struct source *source, int fd) {
  uint32_t events = source->interest | (source->edge ? EPOLLET : 0u);
  struct epoll_event event = {.events = events, .data.u64 = source->key};
  return sys_epoll_ctl(reactor->epoll_fd, op, fd, &event);
}

int reactor_add(struct reactor *reactor, struct source *source, int fd, uint32_t events) {
  source->interest = events & EVENTS_MASK;
  source->edge = (events & EPOLLET) != 0;
  if (reactor->epoll_fd == -1) {
    reactor->poll_fd = fd;
    reactor->poll_slot = source_slot(reactor, source);
    return 0;
  }
  return control(reactor, EPOLL_CTL_ADD, source, fd);
}

int reactor_modify(struct reactor *reactor, struct source *source, int fd, uint32_t events) {
  uint32_t interest = reactor->epoll_fd == -1 ? events : events | source->interest;
  interest &= EVENTS_MASK;
  bool same = interest == source->interest;
  source->interest = interest & EVENTS_MASK;
  if (same || reactor->epoll_fd == -1) {
    return 0;
  }
  return control(reactor, EPOLL_CTL_MOD, source, fd);
}

void reactor_repeat(struct reactor *reactor, const struct source *source, int fd) {
  if (reactor->epoll_fd != -1) {
    /* Cannot fail: the descriptor is open and watched, and the kernel needs no memory. */
    (void)control(reactor, EPOLL_CTL_MOD, source, fd);
  }
}

void reactor_remove(struct reactor *reactor, struct source *source, int fd) {
  if (reactor->epoll_fd == -1) {
    reactor->poll_fd = -1;
  } else {
    /* Cannot fail: the descriptor is open and watched. */
    (void)control(reactor, EPOLL_CTL_DEL, source, fd);
  }
}

void reactor_requeue(struct reactor *reactor, struct source *source) {
  if (source->queued) {
    return;
  }
  uint32_t slot = source_slot(reactor, source);
  reactor->requeues_asked++;
  source->queued = true;
  source->next = SLAB_NONE;
  if (reactor->requeue_first == SLAB_NONE) {
    reactor->requeue_first = slot;
  } else {
    struct source *last = slab_at(reactor->slab, reactor->requeue_last);
    last->next = slot;
  }
  reactor->requeue_last = slot;
}

void reactor_arm(struct reactor *reactor, struct source *source, uint64_t deadline_ns) {
  if (timer_armed(&source->timer) && timer_deadline_ns(&source->timer) <= deadline_ns) {
    return; /* the timer fires too early and is armed again then */
  }
  wheel_arm(&reactor->wheel, &source->timer, deadline_ns);
}

/*
 * The requeue list and the retired list share the link.  A source in the requeue list enters the
 * retired list when dispatch_requeued takes it out.
 */
void reactor_retire(struct reactor *reactor, struct source *source) {
  assert(source_generation(reactor, source) != 0);
  wheel_cancel(&reactor->wheel, &source->timer);
  source->key = source_slot(reactor, source);
  if (reactor->epoll_fd == -1) {
    reactor->poll_fd = -1;
  }
  if (!source->queued) {
    source->next = reactor->retired;
    reactor->retired = source_slot(reactor, source);
  }
}

void reactor_cancel(struct reactor *reactor, struct source *source) {
  wheel_cancel(&reactor->wheel, &source->timer);
  source->key = source_slot(reactor, source);
  source->cancelled = source->queued;
  if (!source->queued) {
    reactor_free(reactor, source);
  }
}

static int timeout_ms(const struct reactor *reactor, uint64_t until_ns) {
  until_ns = min_u64(until_ns, wheel_next_ns(&reactor->wheel));
  if (until_ns == NEVER) {
    return -1;
  }
  uint64_t now_ns = until_ns == 0 ? 0 : sys_now_ns();
  if (until_ns <= now_ns) {
    return 0;
  }
  uint64_t ms = (until_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS; /* rounded up: never early */
  return (int)min_u64(ms, INT32_MAX);
}

/*
 * Wait for the one source and the wake, and present events as epoll does.  A source without
 * interest is left out, because poll would report its hang-up at every call.
 */
static OUTLINED int poll_wait(struct reactor *reactor, int timeout) {
  struct source *source =
      reactor->poll_fd == -1 ? NULL : slab_at(reactor->slab, reactor->poll_slot);
  uint32_t interest = source == NULL ? 0 : source->interest & POLL_EVENTS;
  struct pollfd fds[2] = {{.fd = interest == 0 ? -1 : reactor->poll_fd, .events = (short)interest},
                          {.fd = reactor->woken ? -1 : reactor->wake_fd, .events = POLLIN}};
  int ready = sys_poll(fds, 2, timeout);
  if (ready <= 0) {
    return ready;
  }
  reactor->woken = reactor->woken || fds[1].revents != 0;
  if (source == NULL || fds[0].revents == 0) {
    return 0;
  }
  reactor->events[0].events = (uint32_t)(unsigned short)fds[0].revents;
  reactor->events[0].data.u64 = source->key;
  return 1;
}

static inline int wait_once(struct reactor *reactor, int timeout) {
  return reactor->epoll_fd == -1
             ? poll_wait(reactor, timeout)
             : sys_epoll_wait(reactor->epoll_fd, reactor->events, REACTOR_EVENTS, timeout);
}

/*
 * In a process that was stopped the wait returns EINTR, and all timers may have expired meanwhile.
 * A second look finds the events, so that they are served before the timers.
 */
void reactor_wait(struct reactor *reactor, uint64_t until_ns) {
  int ready = wait_once(reactor, reactor_busy(reactor) ? 0 : timeout_ms(reactor, until_ns));
  if (ready == -1) {
    ready = wait_once(reactor, 0);
  }
  reactor->ready = ready == -1 ? 0 : ready;
  reactor->now_ns = max_u64(reactor->now_ns, sys_now_ns());
}

uint64_t reactor_fresh_ns(const struct reactor *reactor) {
  return max_u64(reactor->now_ns, sys_now_ns());
}

static void dispatch_events(struct reactor *reactor) {
  const struct epoll_event *end = reactor->events + reactor->ready;
  for (const struct epoll_event *event = reactor->events; event < end; event++) {
    uint64_t data = event->data.u64;
    if (data == WAKE_DATA) {
      continue;
    }
    struct source *source = reactor_find(reactor, data);
    if (source == NULL) {
      stats_add(&reactor->stats->stale, 1);
    } else if (source->queued) {
      source->held = (source->held | event->events) & EVENTS_MASK;
    } else {
      reactor->on_event(source, event->events);
    }
  }
  reactor->ready = 0;
}

/* Serve the first ${count} sources of the list. */
static OUTLINED void dispatch_requeued(struct reactor *reactor, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    uint32_t slot = reactor->requeue_first;
    struct source *source = slab_at(reactor->slab, slot);
    reactor->requeue_first = source->next;
    reactor->requeues_served++;
    source->queued = false;
    if (source_is_live(reactor, source)) {
      uint32_t events = EVENT_REQUEUE | source->held;
      source->held = 0;
      reactor->on_event(source, events);
    } else if (source->cancelled) {
      reactor_free(reactor, source);
    } else if ((source->key & SOURCE_HIDDEN) == 0) {
      source->next = reactor->retired;
      reactor->retired = slot;
    }
  }
}

/* ${timer} has expired. */
static OUTLINED void dispatch_timers(struct reactor *reactor, struct timer *timer) {
  for (int i = 1; timer != NULL; i++) {
    struct source *source = container_of(timer, struct source, timer);
    reactor->on_event(source, EVENT_TIMER);
    timer = i == REACTOR_TIMERS ? NULL : wheel_expire(&reactor->wheel, reactor->now_ns);
  }
}

/*
 * Of the requeued sources those are served that were in the list at the beginning, REACTOR_REQUEUES
 * at most.  A source that is requeued meanwhile stands after them and waits for the next dispatch.
 */
void reactor_dispatch(struct reactor *reactor) {
  uint64_t queued = reactor->requeues_asked - reactor->requeues_served;
  dispatch_events(reactor);
  if (queued > 0) {
    dispatch_requeued(reactor, min_u64(queued, REACTOR_REQUEUES));
  }
  struct timer *timer = wheel_expire(&reactor->wheel, reactor->now_ns);
  if (timer != NULL) {
    dispatch_timers(reactor, timer);
  }
}
