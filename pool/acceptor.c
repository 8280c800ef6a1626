/*
 * acceptor: see acceptor.h for the states.
 *
 * A turn: letters, what ended, what must be resumed or concluded; then a wait, announced like a
 * worker's; then the doors that are ready.  Listeners are watched level-triggered, so that a batch
 * may stop anywhere.
 */
#include "pool/acceptor.h"

#include "core/sys.h"

#include <errno.h>
#include <string.h>

#define FAILURES_MAX 64            /* failed accepts in a row before a pause */
#define PATIENCE_MIN 8             /* full batches in a row before a larger one is tried */
#define PATIENCE_MAX 1024          /* ... where it was in vain so far */
#define RETRY_NS (100 * NS_PER_MS) /* after descriptors or memory ran out */
#define EPISODE_OVER_NS NS_PER_S   /* without such an error */

static void on_accept_event(struct source *source, uint32_t events);

int acceptor_open_inbox(struct acceptor *acceptor) {
  *acceptor = (struct acceptor){.reactor = {.epoll_fd = -1}, .inbox = {.wake = {.fd = -1}}};
  return inbox_open(&acceptor->inbox, 1);
}

static int open_accept_source(struct acceptor *acceptor, uint32_t index) {
  struct source *taken = reactor_alloc(&acceptor->reactor);
  if (taken == NULL) {
    return -1;
  }
  struct accept_source *entry = container_of(taken, struct accept_source, source);
  struct source source = *taken;
  *entry = (struct accept_source){.source = source,
                                  .acceptor = acceptor,
                                  .listener = &acceptor->listeners[index],
                                  .index = index,
                                  .batch = 1,
                                  .patience = PATIENCE_MIN};
  acceptor->source_of[index] = entry;
  return reactor_add(&acceptor->reactor, &entry->source, entry->listener->fd, EPOLLIN);
}

int acceptor_open(struct acceptor *acceptor, const struct acceptor_setup *setup) {
  acceptor->config = setup->config;
  acceptor->log = setup->log;
  acceptor->admission = setup->admission;
  acceptor->model = setup->model;
  acceptor->listeners = setup->listeners;
  acceptor->listeners_count = setup->listeners_count;
  acceptor->stop_ns = acceptor->episode_ns = NEVER;
  acceptor->watch_ns = setup->model->ops->watch == NULL ? NEVER : 0;
  if (slab_init(&acceptor->accept_sources, sizeof(struct accept_source), CONFIG_LISTEN_MAX) == -1 ||
      reactor_open(&acceptor->reactor, &acceptor->accept_sources, &acceptor->stats) == -1 ||
      reactor_add_wake(&acceptor->reactor, &acceptor->inbox.wake) == -1) {
    return -1;
  }
  acceptor->reactor.on_event = on_accept_event;
  for (uint32_t i = 0; i < acceptor->listeners_count; i++) {
    if (open_accept_source(acceptor, i) == -1) {
      return -1;
    }
  }
  return 0;
}

void acceptor_close(struct acceptor *acceptor) {
  reactor_close(&acceptor->reactor);
  slab_fini(&acceptor->accept_sources);
  inbox_close(&acceptor->inbox);
}

/* ---- doors ---- */

/* The ${i}th door, or NULL where its listener is closed. */
static struct accept_source *accept_source_at(const struct acceptor *acceptor, uint32_t i) {
  struct accept_source *entry = acceptor->source_of[i];
  return entry->listener->fd == -1 ? NULL : entry;
}

static void unwatch_listeners(struct acceptor *acceptor) {
  for (uint32_t i = 0; i < acceptor->listeners_count; i++) {
    struct accept_source *entry = accept_source_at(acceptor, i);
    if (entry != NULL) {
      reactor_remove(&acceptor->reactor, &entry->source, entry->listener->fd);
    }
  }
}

/* Watch all listeners, or none where the kernel has no memory for that. */
static bool watch_listeners(struct acceptor *acceptor) {
  for (uint32_t i = 0; i < acceptor->listeners_count; i++) {
    struct accept_source *entry = accept_source_at(acceptor, i);
    if (entry != NULL &&
        reactor_add(&acceptor->reactor, &entry->source, entry->listener->fd, EPOLLIN) == -1) {
      unwatch_listeners(acceptor);
      return false;
    }
  }
  return true;
}

static void close_accept_source(struct acceptor *acceptor, struct accept_source *entry) {
  if (acceptor->state == ACCEPT_OPEN) {
    reactor_remove(&acceptor->reactor, &entry->source, entry->listener->fd);
  }
  listener_close(entry->listener);
}

/* Nobody can come to a UNIX listener that was shut, yet epoll reports it as ready for good. */
static void close_if_shut(struct acceptor *acceptor, struct accept_source *entry) {
  if (entry->listener->stopped && entry->listener->addr.addr.family == ADDR_UNIX) {
    close_accept_source(acceptor, entry);
  }
}

static uint32_t listeners_open(const struct acceptor *acceptor) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < acceptor->listeners_count; i++) {
    count += acceptor->listeners[i].fd != -1;
  }
  return count;
}

/* ---- pausing ---- */

static uint32_t live_conns(const struct acceptor *acceptor) {
  return acceptor->model->ops->live(acceptor->model);
}

static bool has_room(const struct acceptor *acceptor) {
  return live_conns(acceptor) < acceptor->config->max_connections &&
         acceptor->model->ops->has_room(acceptor->model);
}

static void pause_accepting(struct acceptor *acceptor, bool exhausted) {
  if (acceptor->state == ACCEPT_OPEN) {
    unwatch_listeners(acceptor);
    acceptor->state = ACCEPT_PAUSED;
  }
  acceptor->exhausted = exhausted;
  acceptor->live_seen = live_conns(acceptor);
  acceptor->retry_ns = acceptor->reactor.now_ns + RETRY_NS;
}

/* Descriptors or memory ran out: one line when that begins. */
static void note_exhausted(struct acceptor *acceptor, const char *what, int error) {
  uint64_t now_ns = acceptor->reactor.now_ns;
  stats_add(&acceptor->stats.accept_pauses, 1);
  if (acceptor->episode_ns == NEVER) {
    acceptor->episode_ns = now_ns;
    acceptor->exhausted_count = 0;
    log_errno(acceptor->log, LOG_WARN, what, error);
  }
  acceptor->exhausted_ns = now_ns;
  acceptor->exhausted_count++;
  pause_accepting(acceptor, true);
}

/* ... and one when there has been none for a second, or the server ends. */
static void end_episode(struct acceptor *acceptor) {
  struct log_line line;
  log_begin(&line, acceptor->log, LOG_WARN, "accepting again");
  log_u64(&line, "failures", acceptor->exhausted_count);
  log_u64(&line, "ms", (acceptor->exhausted_ns - acceptor->episode_ns) / NS_PER_MS);
  log_end(&line);
  acceptor->episode_ns = NEVER;
}

static void note_recovered(struct acceptor *acceptor) {
  if (acceptor->episode_ns != NEVER && acceptor->state == ACCEPT_OPEN &&
      acceptor->reactor.now_ns >= acceptor->exhausted_ns + EPISODE_OVER_NS) {
    end_episode(acceptor);
  }
}

/* May accepting go on: there is room, or it is worth another try? */
static bool may_resume(const struct acceptor *acceptor) {
  if (acceptor->exhausted && live_conns(acceptor) >= acceptor->live_seen &&
      acceptor->reactor.now_ns < acceptor->retry_ns) {
    return false;
  }
  return acceptor->config->overload == XCHG_OVERLOAD_REFUSE || has_room(acceptor);
}

/* ---- accepting ---- */

static void refuse(struct acceptor *acceptor, const struct accepted_conn *accepted,
                   enum xchg_reason reason) {
  stats_add(&acceptor->stats.ended[reason], 1);
  sys_close(accepted->fd);
}

/* Place ${guest}, which was admitted. Return: false if the system refused and the guest is held. */
static bool dispatch(struct acceptor *acceptor, const struct accepted_conn *accepted) {
  int dispatched = acceptor->model->ops->dispatch(acceptor->model, accepted);
  if (dispatched == -1) {
    acceptor->deferred = *accepted;
    acceptor->has_deferred = true;
    note_exhausted(acceptor, "cannot start a thread or process for a connection", errno);
    return false;
  }
  if (dispatched == 1) {
    stats_add(&acceptor->stats.wakes, 1);
  }
  return true;
}

/* A connection has been accepted. Return: may the batch go on? */
static bool on_accepted(struct acceptor *acceptor, struct accepted_conn *accepted) {
  enum xchg_reason refused;
  stats_add(&acceptor->stats.accepted, 1);
  if (acceptor->config->overload == XCHG_OVERLOAD_REFUSE && !has_room(acceptor)) {
    refuse(acceptor, accepted, XCHG_OVERLOAD);
    return true;
  }
  if (!admission_check(acceptor->admission, accepted, &refused)) {
    refuse(acceptor, accepted, refused);
    return true;
  }
  return dispatch(acceptor, accepted);
}

/*
 * An accept failed on that connection's account: counted; said at most once a second, since a peer
 * may cause it.  Where nothing but such failures comes the queue may not get shorter by them (a
 * security module's refusal leaves it as it is), so accepting pauses rather than spins.
 * Return: may the batch go on?
 */
static bool note_failed(struct acceptor *acceptor, int error) {
  stats_add(&acceptor->stats.accept_errors, 1);
  if (acceptor->reactor.now_ns >= acceptor->log_accept_ns) {
    acceptor->log_accept_ns = acceptor->reactor.now_ns + NS_PER_S;
    log_errno(acceptor->log, LOG_DEBUG, "accept failed", error);
  }
  if (++acceptor->failed_in_row < FAILURES_MAX) {
    return true;
  }
  acceptor->failed_in_row = 0;
  note_exhausted(acceptor, "accepting pauses", error);
  return false;
}

static void note_listener_failed(struct acceptor *acceptor, struct accept_source *entry,
                                 int error) {
  log_errno(acceptor->log, LOG_ERROR, "a listener broke", error);
  close_accept_source(acceptor, entry);
  atom_store_release_u32(&acceptor->listener_failed, 1); /* pairs with server_failed */
  wake_signal(acceptor->model->setup.done);
}

/*
 * Accept up to ${max} connections. Return: how many were looked for and found; fewer: the queue is
 * empty, or accepting paused.
 */
static uint32_t accept_batch(struct acceptor *acceptor, struct accept_source *entry, uint32_t max) {
  struct accepted_conn accepted = {.listener = entry->index};
  for (uint32_t i = 0; i < max; i++) {
    if (acceptor->config->overload == XCHG_OVERLOAD_WAIT && !has_room(acceptor)) {
      pause_accepting(acceptor, false);
      return i;
    }
    switch (listener_accept(entry->listener, &accepted)) {
      case ACCEPTED:
        acceptor->failed_in_row = 0;
        if (!on_accepted(acceptor, &accepted)) {
          return i;
        }
        break;
      case ACCEPT_NONE:
        close_if_shut(acceptor, entry);
        return i;
      case ACCEPT_NEXT:
        if (!note_failed(acceptor, errno)) {
          return i;
        }
        break;
      case ACCEPT_EXHAUSTED:
        note_exhausted(acceptor, "accepting pauses", errno);
        return i;
      case ACCEPT_BROKEN:
        note_listener_failed(acceptor, entry, errno);
        return i;
    }
  }
  return max;
}

/*
 * A batch that looks for one connection more than there is ends in an EAGAIN, which costs as much
 * as eight events.  So it grows slowly and falls at once, and the more often it has grown in vain,
 * the later it tries again.
 */
static void adapt_batch(struct accept_source *entry, uint32_t found) {
  if (found < entry->batch) {
    entry->patience =
        entry->probing ? (uint32_t)min_u64(entry->patience * 2, PATIENCE_MAX) : entry->patience;
    entry->batch = found > 0 ? found : 1;
    entry->full = 0;
    entry->probing = false;
    return;
  }
  if (entry->probing) {
    entry->patience = PATIENCE_MIN;
    entry->probing = false;
  }
  if (++entry->full >= entry->patience) {
    entry->probing = entry->batch < ACCEPT_BATCH_MAX;
    entry->batch = (uint32_t)min_u64(entry->batch * 2, ACCEPT_BATCH_MAX);
    entry->full = 0;
  }
}

static void on_accept_event(struct source *source, uint32_t events) {
  (void)events;
  struct accept_source *entry = container_of(source, struct accept_source, source);
  if (entry->acceptor->state != ACCEPT_OPEN || entry->listener->fd == -1) {
    return; /* paused by another door of this turn */
  }
  uint32_t found = accept_batch(entry->acceptor, entry, entry->batch);
  histogram_record(&entry->acceptor->batches, found);
  adapt_batch(entry, found);
}

static void resume(struct acceptor *acceptor) {
  if (acceptor->state != ACCEPT_PAUSED || !may_resume(acceptor)) {
    return;
  }
  if (acceptor->has_deferred) {
    struct accepted_conn accepted = acceptor->deferred;
    acceptor->has_deferred = false;
    if (!dispatch(acceptor, &accepted)) {
      return;
    }
  }
  if (watch_listeners(acceptor)) {
    acceptor->state = ACCEPT_OPEN;
  } else {
    note_exhausted(acceptor, "accepting pauses", errno);
  }
}

/* ---- the stop ---- */

static uint64_t grace_over_ns(const struct acceptor *acceptor) {
  return acceptor->stopping_now ? 0
                                : add_sat_u64(acceptor->stop_ns, acceptor->config->stop_grace_ns);
}

static uint64_t drain_over_ns(const struct acceptor *acceptor) {
  const struct config *config = acceptor->config;
  if (acceptor->stopping_now) {
    return 0;
  }
  return add_sat_u64(acceptor->stop_ns, max_u64(config->drain_timeout_ns, config->stop_grace_ns));
}

static void begin_stop(struct acceptor *acceptor, uint64_t stop_ns) {
  acceptor->stop_ns = stop_ns;
  for (uint32_t i = 0; i < acceptor->listeners_count; i++) {
    struct accept_source *entry = accept_source_at(acceptor, i);
    if (entry == NULL) {
      continue;
    }
    if (entry->listener->inherited && acceptor->state == ACCEPT_OPEN) {
      reactor_remove(&acceptor->reactor, &entry->source, entry->listener->fd);
    }
    listener_stop(entry->listener);
  }
}

/*
 * The grace is over: whoever is in a queue still comes in; an empty queue closes its listener.
 * Without a listener there is nobody to be graceful to.
 */
static void continue_drain(struct acceptor *acceptor) {
  uint64_t now_ns = acceptor->reactor.now_ns;
  if (acceptor->stop_ns == NEVER ||
      (now_ns < grace_over_ns(acceptor) && listeners_open(acceptor) > 0)) {
    return;
  }
  bool impatient = now_ns >= drain_over_ns(acceptor);
  for (uint32_t i = 0; i < acceptor->listeners_count; i++) {
    struct accept_source *entry = accept_source_at(acceptor, i);
    if (entry == NULL) {
      continue;
    }
    bool empty = acceptor->state == ACCEPT_OPEN &&
                 accept_batch(acceptor, entry, ACCEPT_BATCH_MAX) < ACCEPT_BATCH_MAX &&
                 acceptor->state == ACCEPT_OPEN;
    if ((empty || impatient) && entry->listener->fd != -1) {
      close_accept_source(acceptor, entry);
    }
  }
  if (listeners_open(acceptor) > 0) {
    return;
  }
  if (acceptor->has_deferred && impatient) {
    acceptor->has_deferred = false;
    admission_release(acceptor->admission, acceptor->deferred.ip_slot);
    refuse(acceptor, &acceptor->deferred, XCHG_DRAIN);
  }
  acceptor->finished = !acceptor->has_deferred && acceptor->model->ops->finish(acceptor->model);
}

/* ---- turns ---- */

static void take_tasks(struct acceptor *acceptor) {
  const struct task *task = inbox_take_all(&acceptor->inbox);
  for (; task != NULL; task = task->next) {
    if (acceptor->stop_ns == NEVER) {
      begin_stop(acceptor, task->time_ns);
    }
    acceptor->stopping_now = acceptor->stopping_now || task->kind == TASK_STOP_NOW;
  }
}

/* When something must be done though nothing happens. */
static uint64_t next_ns(const struct acceptor *acceptor) {
  uint64_t next = acceptor->watch_ns;
  uint64_t now_ns = acceptor->reactor.now_ns;
  if (acceptor->state == ACCEPT_PAUSED && acceptor->exhausted && now_ns < acceptor->retry_ns) {
    next = acceptor->retry_ns; /* after it what is missing is room, of which admit tells */
  }
  if (acceptor->episode_ns != NEVER && acceptor->state == ACCEPT_OPEN) {
    next = min_u64(next, acceptor->exhausted_ns + EPISODE_OVER_NS);
  }
  if (acceptor->stop_ns != NEVER) {
    uint64_t over_ns = grace_over_ns(acceptor);
    if (now_ns >= over_ns) {
      over_ns = drain_over_ns(acceptor);
    }
    if (now_ns >= over_ns) {
      over_ns = now_ns + RETRY_NS;
    }
    next = min_u64(next, over_ns);
  }
  return next;
}

/* Does the acceptor wait for the last connections of a stop? */
static bool waits_for_last(const struct acceptor *acceptor) {
  return acceptor->stop_ns != NEVER && listeners_open(acceptor) == 0;
}

/* Has what it waits for been released? */
static bool released(const struct acceptor *acceptor) {
  if (waits_for_last(acceptor) && !acceptor->has_deferred) {
    return live_conns(acceptor) == 0;
  }
  return acceptor->state == ACCEPT_PAUSED && may_resume(acceptor);
}

void acceptor_wait(struct acceptor *acceptor) {
  bool waits = acceptor->state == ACCEPT_PAUSED || waits_for_last(acceptor);
  if (waits) {
    room_prepare_wait(acceptor->admission);
  }
  if ((waits && released(acceptor)) || !inbox_prepare_wait(&acceptor->inbox)) {
    reactor_wait(&acceptor->reactor, 0);
  } else {
    reactor_wait(&acceptor->reactor, next_ns(acceptor));
    inbox_finish_wait(&acceptor->inbox);
  }
  if (waits) {
    room_finish_wait(acceptor->admission);
  }
}

void acceptor_run(struct acceptor *acceptor) {
  while (!acceptor->finished) {
    acceptor_wait(acceptor);
    reactor_dispatch(&acceptor->reactor);
    take_tasks(acceptor);
    if (acceptor->model->ops->reap != NULL) {
      acceptor->model->ops->reap(acceptor->model);
    }
    resume(acceptor);
    note_recovered(acceptor);
    if (acceptor->watch_ns <= acceptor->reactor.now_ns) {
      acceptor->watch_ns = acceptor->model->ops->watch(acceptor->model, acceptor->reactor.now_ns);
    }
    continue_drain(acceptor);
  }
  if (acceptor->episode_ns != NEVER) {
    end_episode(acceptor);
  }
}

void acceptor_send_drain(struct acceptor *acceptor, uint64_t stop_ns) {
  acceptor->drain_task = (struct task){.kind = TASK_DRAIN, .time_ns = stop_ns};
  inbox_push_mpsc(&acceptor->inbox, &acceptor->drain_task);
}

void acceptor_send_stop_now(struct acceptor *acceptor) {
  acceptor->stop_now_task = (struct task){.kind = TASK_STOP_NOW, .time_ns = sys_now_ns()};
  inbox_push_mpsc(&acceptor->inbox, &acceptor->stop_now_task);
}
