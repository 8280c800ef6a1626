/*
 * acceptor: see acceptor.h for the states.
 *
 * One turn: wait, accept from the listeners that are ready, take tasks, reap what has ended, resume
 * accepting, continue the stop.  The listeners are level-triggered, so a batch may end anywhere.
 */
#include "pool/acceptor.h"

#include "core/sys.h"
#include "core/probe.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FAILURES_MAX 64            /* failed accepts in a row before a pause */
#define RETRY_NS (100 * NS_PER_MS) /* between attempts while descriptors or memory are exhausted */

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
                                  .listener = &acceptor->setup.listeners[index],
                                  .index = index};
  accept_batch_init(&entry->batch);
  acceptor->source_of[index] = entry;
  return reactor_add(&acceptor->reactor, &entry->source, entry->listener->fd, EPOLLIN);
}

int acceptor_open(struct acceptor *acceptor, const struct acceptor_setup *setup) {
  acceptor->setup = *setup;
  acceptor->stop_ns = acceptor->episode.start_ns = NEVER;
  acceptor->watch_ns = setup->model->ops->watch == NULL ? NEVER : 0;
  if (slab_init(&acceptor->accept_sources, sizeof(struct accept_source), CONFIG_LISTEN_MAX) == -1 ||
      reactor_open(&acceptor->reactor, &acceptor->accept_sources, &acceptor->stats) == -1 ||
      reactor_add_wake(&acceptor->reactor, &acceptor->inbox.wake) == -1) {
    return -1;
  }
  acceptor->reactor.on_event = on_accept_event;
  for (uint32_t i = 0; i < acceptor->setup.listeners_count; i++) {
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

void acceptor_abandon(struct acceptor *acceptor) {
  if (acceptor->has_deferred) {
    sys_close(acceptor->deferred.fd);
  }
  acceptor_close(acceptor);
}

/* ---- listeners ---- */

/* The ${i}th listener, or NULL if it is closed. */
static struct accept_source *accept_source_at(const struct acceptor *acceptor, uint32_t i) {
  struct accept_source *entry = acceptor->source_of[i];
  return entry->listener->fd == -1 ? NULL : entry;
}

static void unwatch_listeners(struct acceptor *acceptor) {
  for (uint32_t i = 0; i < acceptor->setup.listeners_count; i++) {
    struct accept_source *entry = accept_source_at(acceptor, i);
    if (entry != NULL) {
      reactor_remove(&acceptor->reactor, &entry->source, entry->listener->fd);
    }
  }
}

/* Watch all listeners, or none if the kernel is out of memory. */
static bool watch_listeners(struct acceptor *acceptor) {
  for (uint32_t i = 0; i < acceptor->setup.listeners_count; i++) {
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

/* A UNIX listener that was shut down accepts nothing, but epoll reports it as ready forever. */
static void close_if_shut(struct acceptor *acceptor, struct accept_source *entry) {
  if (entry->listener->stopped && entry->listener->addr.addr.family == ADDR_UNIX) {
    close_accept_source(acceptor, entry);
  }
}

static uint32_t listeners_open(const struct acceptor *acceptor) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < acceptor->setup.listeners_count; i++) {
    count += acceptor->setup.listeners[i].fd != -1;
  }
  return count;
}

/* ---- pausing ---- */

static uint32_t live_conns(const struct acceptor *acceptor) {
  return acceptor->setup.model->ops->live(acceptor->setup.model);
}

/* Look for how many connections there is room now. */
static uint32_t count_room(const struct acceptor *acceptor) {
  struct model *model = acceptor->setup.model;
  uint64_t room = sub_sat_u64(acceptor->setup.config->max_connections, live_conns(acceptor));
  if (room > 0 && model->ops->free_places != NULL) {
    room = min_u64(room, model->ops->free_places(model));
  }
  return (uint32_t)room;
}

/* What was found last stays, less what was dispatched since.  So most connections need no look. */
static bool has_room(struct acceptor *acceptor) {
  if (acceptor->room == 0) {
    acceptor->room = count_room(acceptor);
  }
  return acceptor->room > 0;
}

/* Pause: descriptors or memory are exhausted with ${error}, or (0) there is no room. */
static void pause_accepting(struct acceptor *acceptor, int error) {
  if (acceptor->state == ACCEPT_OPEN) {
    unwatch_listeners(acceptor);
    acceptor->state = ACCEPT_PAUSED;
    pause_clock_start(&acceptor->pauses, acceptor->reactor.now_ns);
    probe_pause(error);
  }
  acceptor->exhausted = error != 0;
  acceptor->live_seen = live_conns(acceptor);
  acceptor->retry_ns = acceptor->reactor.now_ns + RETRY_NS;
}

/* When the episode is over, without another failure; NEVER = there is none, or it goes on. */
static uint64_t episode_over_ns(const struct acceptor *acceptor) {
  bool begun = acceptor->episode.start_ns != NEVER && acceptor->state == ACCEPT_OPEN;
  return begun ? exhaustion_over_ns(&acceptor->episode) : NEVER;
}

/* Descriptors or memory are exhausted. */
static void note_exhausted(struct acceptor *acceptor, const char *what, int error) {
  stats_add(&acceptor->stats.accept_pauses, 1);
  exhaustion_note(&acceptor->episode, acceptor->setup.log, acceptor->reactor.now_ns, what, error);
  pause_accepting(acceptor, error);
}

/* May accepting resume: is there room, and if it was exhausted, is it worth another attempt? */
static bool may_resume(const struct acceptor *acceptor) {
  if (acceptor->held) {
    return false;
  }
  if (acceptor->exhausted && live_conns(acceptor) >= acceptor->live_seen &&
      acceptor->reactor.now_ns < acceptor->retry_ns) {
    return false;
  }
  return acceptor->setup.config->overload == XCHG_OVERLOAD_REFUSE || count_room(acceptor) > 0;
}

/* ---- accepting ---- */

static void refuse(struct acceptor *acceptor, const struct accepted_conn *accepted,
                   enum xchg_reason reason) {
  stats_add(&acceptor->stats.ended[reason], 1);
  probe_refuse(reason, &accepted->addr);
  if (reason == XCHG_PROXY) {
    stats_add(&acceptor->stats.proxy_rejected[STATS_PROXY_UNTRUSTED], 1);
  }
  sys_close(accepted->fd);
}

/* Dispatch ${accepted}, which was admitted. Return: false if the system refused: it is deferred. */
static bool dispatch(struct acceptor *acceptor, const struct accepted_conn *accepted) {
  int dispatched = acceptor->setup.model->ops->dispatch(acceptor->setup.model, accepted);
  if (dispatched == -1) {
    acceptor->deferred = *accepted;
    acceptor->has_deferred = true;
    note_exhausted(acceptor, "cannot start a thread or process for a connection", errno);
    return false;
  }
  acceptor->room--; /* has_room was true, for a deferred connection when it was accepted */
  if (dispatched == 1) {
    stats_add(&acceptor->stats.wakes, 1);
  }
  return true;
}

/* A connection was accepted. Return: may the batch continue? */
static bool on_accepted(struct acceptor *acceptor, struct accepted_conn *accepted) {
  enum xchg_reason refused;
  probe_accept(accepted->listener, accepted->fd);
  if (acceptor->setup.config->overload == XCHG_OVERLOAD_REFUSE && !has_room(acceptor)) {
    refuse(acceptor, accepted, XCHG_OVERLOAD);
    return true;
  }
  if (!admission_check(acceptor->setup.admission, accepted, &refused)) {
    refuse(acceptor, accepted, refused);
    return true;
  }
  return dispatch(acceptor, accepted);
}

/*
 * An accept failed because of its connection.  A peer can cause that, so it is logged at most once
 * a second.  A failure may leave the connection in the backlog (a security module's refusal does),
 * so after FAILURES_MAX in a row accepting pauses instead of spinning.
 * Return: may the batch continue?
 */
static bool note_failed(struct acceptor *acceptor, int error) {
  stats_add(&acceptor->stats.accept_errors, 1);
  if (acceptor->reactor.now_ns >= acceptor->log_accept_ns) {
    acceptor->log_accept_ns = acceptor->reactor.now_ns + NS_PER_S;
    log_errno(acceptor->setup.log, LOG_DEBUG, "accept failed", error);
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
  char address[XCHG_ADDRESS_MAX], text[XCHG_ADDRESS_MAX + 32];
  snprintf(text, sizeof(text), "listener '%s' failed",
           addr_format_listen(&entry->listener->addr, address, sizeof(address)));
  log_errno(acceptor->setup.log, LOG_ERROR, text, error);
  close_accept_source(acceptor, entry);
  atom_store_release_u32(&acceptor->listener_failed, 1); /* pairs with server_failed */
  wake_signal(acceptor->setup.model->setup.done);
}

/*
 * Accept up to ${max} connections. Return: how many there were; fewer than ${max}: the backlog is
 * empty, or accepting was paused.
 */
static uint32_t accept_up_to(struct acceptor *acceptor, struct accept_source *entry, uint32_t max) {
  struct accepted_conn accepted = {.listener = (uint16_t)entry->index,
                                   .proxy = (uint8_t)entry->listener->addr.proxy};
  for (uint32_t i = 0; i < max; i++) {
    if (acceptor->setup.config->overload == XCHG_OVERLOAD_WAIT && !has_room(acceptor)) {
      pause_accepting(acceptor, 0);
      return i;
    }
    switch (listener_accept(entry->listener, &accepted)) {
      case ACCEPTED:
        acceptor->failed_in_row = 0;
        stats_add(&entry->accepted, 1);
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

static void on_accept_event(struct source *source, uint32_t events) {
  (void)events;
  struct accept_source *entry = container_of(source, struct accept_source, source);
  if (entry->acceptor->state != ACCEPT_OPEN || entry->listener->fd == -1) {
    return; /* another listener of this turn has paused accepting */
  }
  uint32_t found = accept_up_to(entry->acceptor, entry, entry->batch.size);
  histogram_record(&entry->acceptor->batches, found);
  accept_batch_adapt(&entry->batch, found);
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
    pause_clock_stop(&acceptor->pauses, acceptor->reactor.now_ns);
    probe_resume();
  } else {
    note_exhausted(acceptor, "accepting pauses", errno);
  }
}

/* ---- the stop ---- */

static uint64_t grace_over_ns(const struct acceptor *acceptor) {
  return acceptor->stopping_now
             ? 0
             : add_sat_u64(acceptor->stop_ns, acceptor->setup.config->stop_grace_ns);
}

static uint64_t drain_over_ns(const struct acceptor *acceptor) {
  const struct config *config = acceptor->setup.config;
  uint64_t patience_ns = max_u64(config->drain_timeout_ns, config->stop_grace_ns);
  return acceptor->stopping_now ? 0 : add_sat_u64(acceptor->stop_ns, patience_ns);
}

static void begin_stop(struct acceptor *acceptor, uint64_t stop_ns) {
  acceptor->stop_ns = stop_ns;
  for (uint32_t i = 0; i < acceptor->setup.listeners_count; i++) {
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
 * After the grace: accept the connections that are still in a backlog, and close a listener whose
 * backlog is empty.  If no listener is open, the grace is over at once.
 */
static void continue_drain(struct acceptor *acceptor) {
  uint64_t now_ns = acceptor->reactor.now_ns;
  if (acceptor->stop_ns == NEVER ||
      (now_ns < grace_over_ns(acceptor) && listeners_open(acceptor) > 0)) {
    return;
  }
  bool impatient = now_ns >= drain_over_ns(acceptor);
  for (uint32_t i = 0; i < acceptor->setup.listeners_count; i++) {
    struct accept_source *entry = accept_source_at(acceptor, i);
    if (entry == NULL) {
      continue;
    }
    bool empty = acceptor->state == ACCEPT_OPEN &&
                 accept_up_to(acceptor, entry, ACCEPT_BATCH_MAX) < ACCEPT_BATCH_MAX &&
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
    admission_release(acceptor->setup.admission, acceptor->deferred.ip_slot);
    refuse(acceptor, &acceptor->deferred, XCHG_DRAIN);
  }
  struct model *model = acceptor->setup.model;
  acceptor->finished =
      !acceptor->has_deferred && (model->ops->finish == NULL || model->ops->finish(model));
}

/* ---- an upgrade ---- */

void acceptor_hold(struct acceptor *acceptor) {
  if (acceptor->state == ACCEPT_OPEN) {
    unwatch_listeners(acceptor);
    acceptor->state = ACCEPT_PAUSED;
    acceptor->exhausted = false;
  }
  acceptor->held = true;
}

/* ---- turns ---- */

static void take_tasks(struct acceptor *acceptor) {
  struct task *task = inbox_take_all(&acceptor->inbox);
  while (task != NULL) {
    struct task *next = task->next; /* the sender may use an order again at once */
    if (task->kind == TASK_ORDER) {
      struct acceptor_order *order = container_of(task, struct acceptor_order, task);
      order->run(order, acceptor);
    } else {
      if (acceptor->stop_ns == NEVER) {
        begin_stop(acceptor, task->time_ns);
      }
      acceptor->stopping_now = acceptor->stopping_now || task->kind == TASK_STOP_NOW;
    }
    task = next;
  }
}

/* When the next step is due, if no event comes before. */
static uint64_t next_ns(const struct acceptor *acceptor) {
  uint64_t next = acceptor->watch_ns;
  uint64_t now_ns = acceptor->reactor.now_ns;
  if (acceptor->state == ACCEPT_PAUSED && acceptor->exhausted && now_ns < acceptor->retry_ns) {
    next = acceptor->retry_ns; /* later only room can be missing: room_wake ends the wait */
  }
  next = min_u64(next, episode_over_ns(acceptor));
  if (acceptor->stop_ns != NEVER) {
    uint64_t over_ns = grace_over_ns(acceptor);
    if (now_ns >= over_ns && acceptor->state == ACCEPT_OPEN && listeners_open(acceptor) > 0) {
      return now_ns; /* the batch of continue_drain was full: no event follows if it was the last */
    }
    if (now_ns >= over_ns) {
      over_ns = drain_over_ns(acceptor);
    }
    next = min_u64(next, over_ns > now_ns ? over_ns : now_ns + RETRY_NS);
  }
  return next;
}

/* Does the acceptor wait for the last connections to end? */
static bool waits_for_last(const struct acceptor *acceptor) {
  return acceptor->stop_ns != NEVER && listeners_open(acceptor) == 0;
}

/* Is what the acceptor waits for there? */
static bool released(const struct acceptor *acceptor) {
  if (waits_for_last(acceptor) && !acceptor->has_deferred) {
    return live_conns(acceptor) == 0;
  }
  return acceptor->state == ACCEPT_PAUSED && may_resume(acceptor);
}

void acceptor_wait(struct acceptor *acceptor) {
  bool waits = (acceptor->state == ACCEPT_PAUSED && !acceptor->held) || waits_for_last(acceptor);
  if (waits) {
    room_prepare_wait(acceptor->setup.admission);
  }
  if ((waits && released(acceptor)) || !inbox_prepare_wait(&acceptor->inbox)) {
    reactor_wait(&acceptor->reactor, 0);
  } else {
    reactor_wait(&acceptor->reactor, next_ns(acceptor));
    inbox_finish_wait(&acceptor->inbox);
  }
  if (waits) {
    room_finish_wait(acceptor->setup.admission);
  }
}

void acceptor_run(struct acceptor *acceptor) {
  while (!acceptor->finished) {
    acceptor_wait(acceptor);
    atom_store_relaxed_u64(&acceptor->turn_ns, acceptor->reactor.now_ns);
    reactor_dispatch(&acceptor->reactor);
    take_tasks(acceptor);
    if (acceptor->setup.model->ops->reap != NULL) {
      acceptor->setup.model->ops->reap(acceptor->setup.model);
    }
    resume(acceptor);
    if (episode_over_ns(acceptor) <= acceptor->reactor.now_ns) {
      exhaustion_end(&acceptor->episode, acceptor->setup.log);
    }
    if (acceptor->watch_ns <= acceptor->reactor.now_ns) {
      acceptor->watch_ns =
          acceptor->setup.model->ops->watch(acceptor->setup.model, acceptor->reactor.now_ns);
    }
    continue_drain(acceptor);
    atom_store_relaxed_u64(&acceptor->turn_ns, 0);
  }
  pause_clock_stop(&acceptor->pauses, acceptor->reactor.now_ns);
  probe_stop(PROBE_ACCEPTED);
  exhaustion_end(&acceptor->episode, acceptor->setup.log);
}
