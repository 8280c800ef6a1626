/*
 * crew: see crew.h.  The coordinator of its clients: they report news, what follows is decided
 * here.
 */
#include "crew.h"

#include "core/sys.h"

#include <errno.h>
#include <stdlib.h>

/* Clients of the ready queue that a turn lets go on, before epoll is asked again. */
#define READY_MAX 64

/* Exchanges that a turn declares due, to catch up after a stall without starving the sockets. */
#define DUE_MAX 4096

/* A failed connection's pause: at least, and more for many, or their attempts would be a flood. */
#define PAUSE_NS (10 * NS_PER_MS)
#define PAUSE_PER_CLIENT_NS (50 * NS_PER_US)

/* A time-out is noticed a sixteenth late at most, and within 100 ms. */
#define SCAN_PART 16
#define SCAN_MAX_NS (100 * NS_PER_MS)

int crew_init(struct crew *crew, struct client_env *env, const struct crew_share *share,
              uint64_t timeout_ns) {
  const size_t count = (size_t)share->active + share->idle;
  *crew = (struct crew){.env = env,
                        .active = share->active,
                        .idle = share->idle,
                        .timeout_ns = timeout_ns,
                        .opening_max = share->opening_max,
                        .due_ns = NEVER};
  crew->clients = calloc(count + 1, sizeof(*crew->clients));
  crew->starts = calloc(count + 1, env->pipeline * sizeof(*crew->starts));
  if (crew->clients == NULL || crew->starts == NULL) {
    crew_fini(crew);
    errno = ENOMEM;
    return -1;
  }
  for (uint32_t i = 0; i < count; i++) {
    const bool idle = i >= share->active;
    const uint32_t before = idle ? i - share->active : i;
    const uint32_t number = share->first + before * share->step;
    client_init(&crew->clients[i], number + (idle ? (uint32_t)env->connections : 0),
                crew->starts + (size_t)i * env->pipeline);
    crew->clients[i].idle = idle;
  }
  /* A counted exchange connects by itself. */
  crew->open_next = env->counted ? crew->active : 0;
  crew->to_settle = (uint32_t)count - crew->open_next;
  crew->pause_ns = max_u64(PAUSE_NS, crew->active * PAUSE_PER_CLIENT_NS);
  crew->scan_every_ns = max_u64(1, min_u64(timeout_ns / SCAN_PART, SCAN_MAX_NS));
  return 0;
}

void crew_fini(struct crew *crew) {
  for (uint32_t i = 0; crew->clients != NULL && i < crew->active + crew->idle; i++) {
    client_close(&crew->clients[i]);
  }
  free(crew->clients);
  free(crew->starts);
  crew->clients = NULL;
  crew->starts = NULL;
}

/* ---- the queues ---- */

static void make_ready(struct crew *crew, struct client *client) {
  if (client->ready) {
    return;
  }
  client->ready = true;
  client->ready_next = NULL;
  if (crew->ready.first == NULL) {
    crew->ready.first = client;
  } else {
    crew->ready.last->ready_next = client;
  }
  crew->ready.last = client;
}

static void make_shut(struct crew *crew, struct client *client) {
  assert(!client->shut);
  client->shut = true;
  client->retry_ns = crew->env->now + crew->pause_ns;
  client->shut_next = NULL;
  if (crew->shut.first == NULL) {
    crew->shut.first = client;
  } else {
    crew->shut.last->shut_next = client;
  }
  crew->shut.last = client;
}

/* The pauses that are over. */
static void reopen(struct crew *crew) {
  struct client *client;
  while ((client = crew->shut.first) != NULL && client->retry_ns <= crew->env->now) {
    crew->shut.first = client->shut_next;
    client->shut = false;
    make_ready(crew, client);
  }
}

/* ---- what follows the news ---- */

/* May ${client} begin one more exchange? */
static bool wanted(const struct crew *crew, const struct client *client) {
  return crew->running && (crew->env->schedule == NULL || client->due > 0) &&
         tally_has_room(crew->env->tally, crew->env->now);
}

static void take_due(const struct crew *crew, struct client *client) {
  if (crew->env->schedule != NULL) {
    client->due--;
  }
}

/* A counted exchange is a connection. */
static enum client_news feed_counted(struct crew *crew, struct client *client) {
  if (client->state == CLIENT_CLOSED && wanted(crew, client)) {
    take_due(crew, client);
    client_begin_counted(crew->env, client);
    return client_open(crew->env, client);
  }
  return client_send(crew->env, client);
}

/* An idle client exchanges one message, where there are replies, to prove that it is served. */
static enum client_news feed_idle(struct crew *crew, struct client *client) {
  struct client_env *env = crew->env;
  if (!env->counted && env->replies && client->begun == 0 && client_can_begin(env, client)) {
    client_begin(env, client);
  }
  return client_send(env, client);
}

/* Let ${client} begin what it may, and send. */
static enum client_news feed(struct crew *crew, struct client *client) {
  struct client_env *env = crew->env;
  if (client->idle) {
    return feed_idle(crew, client);
  }
  if (env->counted) {
    return feed_counted(crew, client);
  }
  if (client->state == CLIENT_OPEN && client->in == client->last) { /* --reconnect */
    client_close(client);
    return client_open(env, client);
  }
  while (client_can_begin(env, client) && wanted(crew, client)) {
    take_due(crew, client);
    client_begin(env, client);
  }
  const enum client_news news = client_send(env, client);
  if (news != CLIENT_WAITS || client->blocked) {
    return news;
  }
  /* Without replies it can go on at once. */
  const bool more =
      client->in == client->last || (client_can_begin(env, client) && wanted(crew, client));
  return client->state == CLIENT_OPEN && more ? CLIENT_MORE : CLIENT_WAITS;
}

/* The first connection of ${client} is made, or has failed. */
static void settle(struct crew *crew, struct client *client) {
  if (!client->settled && client->opening) {
    client->settled = true;
    crew->opening--;
    crew->settled++;
    crew_open(crew);
  }
}

/* Is ${client} served: greeted, and if idle, answered? */
static void verify(struct crew *crew, struct client *client) {
  const struct client_env *env = crew->env;
  if (client->settled || client->state != CLIENT_OPEN ||
      client->greeted < env->messages->greeting.total) {
    return;
  }
  if (client->idle && !env->counted && env->replies && client->in == 0) {
    return;
  }
  client->verified = true;
  settle(crew, client);
}

/* Where ${client} goes after a failure. */
static void failed(struct crew *crew, struct client *client) {
  settle(crew, client);
  if (client->idle || !crew->running) {
    return; /* a lost idle one stays lost; crew_start tries the others again */
  }
  if (client->shut) {
    return; /* it was to be tried again, and now begins anew */
  }
  if (crew->env->error == ERROR_CONNECT || client->failures > 1) {
    make_shut(crew, client);
  } else {
    make_ready(crew, client);
  }
}

static void follow(struct crew *crew, struct client *client, enum client_news news) {
  if (news == CLIENT_DONE) {
    news = feed(crew, client);
  }
  switch (news) {
    case CLIENT_DONE: /* feed opens at most */
    case CLIENT_WAITS:
      break;
    case CLIENT_MORE:
      make_ready(crew, client);
      break;
    case CLIENT_BUSY:
      make_shut(crew, client);
      break;
    case CLIENT_FAILED:
      failed(crew, client);
      break;
  }
}

void crew_event(struct crew *crew, struct client *client, uint32_t events) {
  enum client_news news = client_turn(crew->env, client, events);
  if (news == CLIENT_WAITS || news == CLIENT_MORE) {
    const enum client_news then = feed(crew, client);
    news = then == CLIENT_WAITS ? news : then;
    verify(crew, client);
  }
  follow(crew, client, client->unread && news == CLIENT_WAITS ? CLIENT_MORE : news);
}

/* Let a client of the ready queue go on. */
static void go_on(struct crew *crew, struct client *client) {
  crew->env->now = sys_now_ns();
  if (client->shut) {
    return;
  }
  const bool again = client->state == CLIENT_CONNECTING && client->fd == -1;
  if (again || (client->state == CLIENT_CLOSED && (client->idle || !crew->env->counted))) {
    follow(crew, client, client_open(crew->env, client));
  } else if (client->unread) {
    crew_event(crew, client, EPOLLIN);
  } else {
    follow(crew, client, feed(crew, client));
  }
}

/* ---- the order of things ---- */

void crew_open(struct crew *crew) {
  while (crew->opening < crew->opening_max && crew->open_next < crew->active + crew->idle) {
    struct client *client = &crew->clients[crew->open_next++];
    client->opening = true;
    crew->opening++;
    make_ready(crew, client);
  }
}

/* The time of the cursor's exchange. */
static uint64_t cursor_ns(const struct crew *crew) {
  const struct client *client = &crew->clients[crew->cursor];
  return client_intended_ns(crew->env, client, crew->round, NEVER);
}

void crew_start(struct crew *crew) {
  crew->running = true;
  crew->due_ns = cursor_ns(crew);
  for (uint32_t i = 0; i < crew->active; i++) {
    struct client *client = &crew->clients[i];
    if (crew->env->schedule == NULL || client->state == CLIENT_CLOSED) {
      make_ready(crew, client);
    }
  }
}

static void step_cursor(struct crew *crew) {
  if (++crew->cursor == crew->active) {
    crew->cursor = 0;
    crew->round++;
  }
  crew->due_ns = cursor_ns(crew);
}

/* Tell the clients what is due. */
static void note_due(struct crew *crew) {
  for (unsigned i = 0; i < DUE_MAX && crew->due_ns <= crew->env->now; i++) {
    struct client *client = &crew->clients[crew->cursor];
    client->due++;
    if (client->state != CLIENT_CONNECTING && !client->shut) {
      make_ready(crew, client);
    }
    step_cursor(crew);
  }
}

void crew_turn(struct crew *crew) {
  if (crew->running) {
    note_due(crew);
  }
  reopen(crew);
  for (unsigned i = 0; i < READY_MAX && crew->ready.first != NULL; i++) {
    struct client *client = crew->ready.first;
    crew->ready.first = client->ready_next;
    client->ready = false;
    go_on(crew, client);
  }
}

/* ---- time-outs ---- */

/* When what ${client} waits for is over the time-out; NEVER where it waits for nothing. */
static uint64_t overdue_ns(const struct crew *crew, const struct client *client) {
  uint64_t since = client_oldest_ns(crew->env, client);
  const bool first = !client->settled && (client->idle || !crew->env->counted);
  if (since == NEVER && client->state != CLIENT_CLOSED &&
      (client->state == CLIENT_CONNECTING || first)) {
    since = client->opened_ns;
  }
  return add_sat_u64(since, crew->timeout_ns);
}

/* Record what is over the time-out at its length, and give the connection up. */
static void give_up(struct crew *crew, struct client *client) {
  struct client_env *env = crew->env;
  const uint64_t in_flight = client->idle ? 0 : client_in_flight(env, client);
  if (in_flight == 0 && client->state == CLIENT_CONNECTING) {
    follow(crew, client, client_fail(env, client, ERROR_CONNECT, ETIMEDOUT));
    return;
  }
  const uint64_t first = env->counted ? client->exchange - 1 : client->in;
  for (uint64_t i = 0; i < in_flight && (env->counted || env->replies); i++) {
    const uint64_t start = client_start_ns(env, client, first + i);
    if (sub_sat_u64(env->now, start) >= crew->timeout_ns) {
      tally_overdue(env->tally, client_intended_ns(env, client, first + i, start), start, env->now);
    }
  }
  follow(crew, client, client_fail(env, client, ERROR_TIMEOUT, 0));
}

void crew_scan(struct crew *crew) {
  const uint64_t now = crew->env->now;
  if (now < crew->scan_ns) {
    return;
  }
  crew->scan_ns = now + crew->scan_every_ns;
  for (uint32_t i = 0; i < crew->active + crew->idle; i++) {
    struct client *client = &crew->clients[i];
    if (client->state != CLIENT_CLOSED && overdue_ns(crew, client) <= now) {
      give_up(crew, client);
    }
  }
}

uint64_t crew_due_ns(const struct crew *crew) {
  if (crew->ready.first != NULL) {
    return 0;
  }
  uint64_t due = crew->scan_ns;
  if (crew->shut.first != NULL) {
    due = min_u64(due, crew->shut.first->retry_ns);
  }
  return crew->running ? min_u64(due, crew->due_ns) : due;
}

uint64_t crew_backlog(struct crew *crew, uint64_t now) {
  uint64_t count = 0;
  while (crew->due_ns < now) {
    crew->clients[crew->cursor].due++;
    step_cursor(crew);
  }
  for (uint32_t i = 0; i < crew->active; i++) {
    count += crew->clients[i].due;
  }
  return count;
}

uint32_t crew_connected(const struct crew *crew, bool idle) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < crew->active + crew->idle; i++) {
    count += crew->clients[i].idle == idle && crew->clients[i].verified ? 1 : 0;
  }
  return count;
}
