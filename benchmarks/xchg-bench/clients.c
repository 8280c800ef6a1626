/*
 * clients: see clients.h.  The clients report outcomes, and the decisions are made here.
 */
#include "clients.h"

#include "core/sys.h"

#include <errno.h>
#include <stdlib.h>

/* Ready clients that one call runs before epoll is asked again. */
#define READY_MAX 64

/* Clients that one call finds due; more would starve the sockets after a stall. */
#define DUE_MAX 4096

/* Pause after a failed connection: a minimum, and more for many clients to prevent a flood. */
#define PAUSE_NS (10 * NS_PER_MS)
#define PAUSE_PER_CLIENT_NS (50 * NS_PER_US)

/* A timeout is noticed at most a sixteenth late, and at most 100 ms late. */
#define SCAN_PART 16
#define SCAN_MAX_NS (100 * NS_PER_MS)

int clients_init(struct clients *clients, struct client_env *env,
                 const struct clients_share *share) {
  const size_t count = (size_t)share->active + share->idle;
  *clients = (struct clients){.env = env,
                              .active = share->active,
                              .idle = share->idle,
                              .opening_max = share->opening_max,
                              .due_ns = NEVER};
  clients->all = calloc(count + 1, sizeof(*clients->all));
  clients->starts = calloc(count + 1, env->pipeline * sizeof(*clients->starts));
  if (clients->all == NULL || clients->starts == NULL) {
    clients_fini(clients);
    errno = ENOMEM;
    return -1;
  }
  for (uint32_t i = 0; i < count; i++) {
    const bool idle = i >= share->active;
    const uint32_t before = idle ? i - share->active : i;
    const uint32_t number = share->first + before * share->step;
    client_init(&clients->all[i], number + (idle ? (uint32_t)env->connections : 0),
                clients->starts + (size_t)i * env->pipeline);
    clients->all[i].idle = idle;
  }
  /* A counted exchange opens its own connection. */
  clients->open_next = env->counted ? clients->active : 0;
  clients->first_total = (uint32_t)count - clients->open_next;
  clients->pause_ns = max_u64(PAUSE_NS, clients->active * PAUSE_PER_CLIENT_NS);
  clients->scan_every_ns = max_u64(1, min_u64(env->timeout_ns / SCAN_PART, SCAN_MAX_NS));
  return 0;
}

void clients_fini(struct clients *clients) {
  for (uint32_t i = 0; clients->all != NULL && i < clients->active + clients->idle; i++) {
    client_close(&clients->all[i]);
  }
  free(clients->all);
  free(clients->starts);
  clients->all = NULL;
  clients->starts = NULL;
}

/* ---- the queues ---- */

static void make_ready(struct clients *clients, struct client *client) {
  if (client->ready) {
    return;
  }
  client->ready = true;
  client->ready_next = NULL;
  if (clients->ready.first == NULL) {
    clients->ready.first = client;
  } else {
    clients->ready.last->ready_next = client;
  }
  clients->ready.last = client;
}

static void schedule_retry(struct clients *clients, struct client *client) {
  assert(!client->retrying);
  client->retrying = true;
  client->retry_ns = clients->env->now + clients->pause_ns;
  client->retry_next = NULL;
  if (clients->retrying.first == NULL) {
    clients->retrying.first = client;
  } else {
    clients->retrying.last->retry_next = client;
  }
  clients->retrying.last = client;
}

/* Make the clients ready whose pause has ended. */
static void end_retry_pauses(struct clients *clients) {
  struct client *client;
  while ((client = clients->retrying.first) != NULL && client->retry_ns <= clients->env->now) {
    clients->retrying.first = client->retry_next;
    client->retrying = false;
    make_ready(clients, client);
  }
}

/* ---- outcomes ---- */

/* May ${client} begin one more exchange? */
static bool may_begin(const struct clients *clients, const struct client *client) {
  const struct client_env *env = clients->env;
  return clients->running && !counters_is_over(env->counters, env->now) &&
         client_intended_ns(env, client, client_next(env, client), 0) <= env->now &&
         counters_has_room(env->counters, env->now);
}

/* In a counted exchange, a connection is an exchange. */
static enum client_outcome begin_and_send_counted(struct clients *clients, struct client *client) {
  if (client->state == CLIENT_CLOSED && may_begin(clients, client)) {
    client_begin_counted(clients->env, client);
    return client_open(clients->env, client);
  }
  return client_send(clients->env, client);
}

/* Exchange one message, if there are replies, to prove that an idle client is served. */
static enum client_outcome begin_and_send_idle(struct clients *clients, struct client *client) {
  struct client_env *env = clients->env;
  if (!env->counted && env->replies && client->begun == 0 && client_can_begin(env, client)) {
    client_begin(env, client);
  }
  return client_send(env, client);
}

/* Begin what ${client} may begin, and send. */
static enum client_outcome begin_and_send(struct clients *clients, struct client *client) {
  struct client_env *env = clients->env;
  if (client->idle) {
    return begin_and_send_idle(clients, client);
  }
  if (env->counted) {
    return begin_and_send_counted(clients, client);
  }
  if (client->state == CLIENT_OPEN && client->in == client->last) { /* --reconnect */
    client_close(client);
    return client_open(env, client);
  }
  while (client_can_begin(env, client) && may_begin(clients, client)) {
    client_begin(env, client);
  }
  const enum client_outcome outcome = client_send(env, client);
  if (outcome != CLIENT_WAITS || client->blocked) {
    return outcome;
  }
  /* Without replies it can continue at once. */
  const bool more =
      client->in == client->last || (client_can_begin(env, client) && may_begin(clients, client));
  return client->state == CLIENT_OPEN && more ? CLIENT_MORE : CLIENT_WAITS;
}

/* The first connection of ${client} is made or has failed. */
static void finish_first_connection(struct clients *clients, struct client *client) {
  if (!client->first_done && client->opening) {
    client->first_done = true;
    clients->opening--;
    clients->first_done++;
    clients_open(clients);
  }
}

/* Mark ${client} as verified if it has its greeting and, if idle, its reply. */
static void check_verified(struct clients *clients, struct client *client) {
  const struct client_env *env = clients->env;
  if (client->first_done || client->state != CLIENT_OPEN ||
      client->greeted < env->messages->greeting.total) {
    return;
  }
  if (client->idle && !env->counted && env->replies && client->in == 0) {
    return;
  }
  client->verified = true;
  finish_first_connection(clients, client);
}

/* Decide what ${client} does after a failure. */
static void handle_failure(struct clients *clients, struct client *client) {
  finish_first_connection(clients, client);
  if (client->idle || !clients->running) {
    return; /* a lost idle client stays lost; clients_start retries the others */
  }
  if (client->retrying) {
    return; /* it is already in the queue */
  }
  if (clients->env->error == ERROR_CONNECT || client->failures > 1) {
    schedule_retry(clients, client);
  } else {
    make_ready(clients, client);
  }
}

static void handle_outcome(struct clients *clients, struct client *client,
                           enum client_outcome outcome) {
  if (outcome == CLIENT_DONE) {
    outcome = begin_and_send(clients, client);
  }
  switch (outcome) {
    case CLIENT_DONE: /* begin_and_send only opens */
    case CLIENT_WAITS:
      break;
    case CLIENT_MORE:
      make_ready(clients, client);
      break;
    case CLIENT_BUSY:
      schedule_retry(clients, client);
      break;
    case CLIENT_FAILED:
      handle_failure(clients, client);
      break;
  }
}

void clients_on_event(struct clients *clients, struct client *client, uint32_t events) {
  enum client_outcome outcome = client_on_event(clients->env, client, events);
  if (outcome == CLIENT_WAITS || outcome == CLIENT_MORE) {
    const enum client_outcome then = begin_and_send(clients, client);
    outcome = then == CLIENT_WAITS ? outcome : then;
    check_verified(clients, client);
  }
  handle_outcome(clients, client,
                 client->unread && outcome == CLIENT_WAITS ? CLIENT_MORE : outcome);
}

/* Run a client from the ready queue. */
static void resume_client(struct clients *clients, struct client *client) {
  clients->env->now = sys_now_ns();
  if (client->retrying || counters_is_over(clients->env->counters, clients->env->now)) {
    return;
  }
  const bool again = client->state == CLIENT_CONNECTING && client->fd == -1;
  if (again || (client->state == CLIENT_CLOSED && (client->idle || !clients->env->counted))) {
    handle_outcome(clients, client, client_open(clients->env, client));
  } else if (client->unread) {
    clients_on_event(clients, client, EPOLLIN);
  } else {
    handle_outcome(clients, client, begin_and_send(clients, client));
  }
}

/* ---- the schedule ---- */

void clients_open(struct clients *clients) {
  while (clients->opening < clients->opening_max &&
         clients->open_next < clients->active + clients->idle) {
    struct client *client = &clients->all[clients->open_next++];
    client->opening = true;
    clients->opening++;
    make_ready(clients, client);
  }
}

/* When the cursor's exchange is due. */
static uint64_t cursor_ns(const struct clients *clients) {
  const struct client *client = &clients->all[clients->cursor];
  return client_intended_ns(clients->env, client, clients->round, NEVER);
}

void clients_start(struct clients *clients) {
  clients->running = true;
  clients->due_ns = cursor_ns(clients);
  for (uint32_t i = 0; i < clients->active; i++) {
    struct client *client = &clients->all[i];
    if (clients->env->schedule == NULL || client->state == CLIENT_CLOSED) {
      make_ready(clients, client);
    }
  }
}

/*
 * The round of the first client that is the last one due at ${now}, or 0.  The round before it is
 * due for every client.
 */
static uint64_t last_round(const struct clients *clients, uint64_t now) {
  const struct client_env *env = clients->env;
  const uint64_t due = schedule_count(env->schedule, sub_sat_u64(now, env->start_ns));
  const uint64_t number = clients->all[0].number;
  return due > number ? (due - number - 1) / env->connections : 0;
}

static void step_cursor(struct clients *clients) {
  if (++clients->cursor == clients->active) {
    const uint64_t last = last_round(clients, clients->env->now);
    clients->cursor = 0;
    clients->round = max_u64(clients->round + 1, sub_sat_u64(last, 1));
  }
  clients->due_ns = cursor_ns(clients);
}

/* Make the clients ready whose exchange is due. */
static void note_due(struct clients *clients) {
  for (unsigned i = 0; i < DUE_MAX && clients->due_ns <= clients->env->now; i++) {
    struct client *client = &clients->all[clients->cursor];
    if (client->state != CLIENT_CONNECTING && !client->retrying) {
      make_ready(clients, client);
    }
    step_cursor(clients);
  }
}

void clients_run_ready(struct clients *clients) {
  if (clients->running) {
    note_due(clients);
  }
  end_retry_pauses(clients);
  for (unsigned i = 0; i < READY_MAX && clients->ready.first != NULL; i++) {
    if (atom_load_relaxed_u32(clients->stopped) != 0) { /* one client may move a mebibyte */
      return;
    }
    struct client *client = clients->ready.first;
    clients->ready.first = client->ready_next;
    client->ready = false;
    resume_client(clients, client);
  }
}

/* ---- timeouts ---- */

void clients_end_late(struct clients *clients) {
  struct client_env *env = clients->env;
  const uint64_t now = env->now;
  for (uint32_t i = 0; i < clients->active + clients->idle; i++) {
    struct client *client = &clients->all[i];
    if (client->state != CLIENT_CLOSED && client_deadline_ns(env, client) <= now) {
      handle_outcome(clients, client, client_time_out(env, client));
    }
  }
}

void clients_scan_timeouts(struct clients *clients) {
  const uint64_t now = clients->env->now;
  if (now < clients->scan_ns) {
    return;
  }
  clients->scan_ns = now + clients->scan_every_ns;
  clients_end_late(clients);
}

uint64_t clients_due_ns(const struct clients *clients) {
  if (clients->ready.first != NULL) {
    return 0;
  }
  uint64_t due = clients->scan_ns;
  if (clients->retrying.first != NULL) {
    due = min_u64(due, clients->retrying.first->retry_ns);
  }
  return clients->running ? min_u64(due, clients->due_ns) : due;
}

uint32_t clients_connected(const struct clients *clients, bool idle) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < clients->active + clients->idle; i++) {
    count += clients->all[i].idle == idle && clients->all[i].verified ? 1 : 0;
  }
  return count;
}
