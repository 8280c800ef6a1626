/*
 * unfinished: see unfinished.h.
 *
 * The exchanges of a client that are due and have not begun have consecutive numbers.  The first
 * one is recorded alone, since it is the oldest.  The others are divided into equal groups, at most
 * SAMPLES over all connections, and the age of one member stands for its group.  Its place within
 * the group moves from client to client, so that the samples of many clients are spread evenly.
 */
#include "unfinished.h"

/* Ages that are computed over all connections: a few milliseconds. */
#define SAMPLES UINT64_C(200000)

struct census {
  const struct clients *clients;
  struct result *result;
  uint64_t ended_ns;
  uint64_t room;        /* exchanges that --count still wants; NEVER = unlimited */
  uint64_t first, next; /* open loop: due in the window are the exchanges first <= k < next */
  uint64_t groups_max;  /* of one client */
};

/* Take at most ${count} from what --count wants. */
static uint64_t take_room(struct census *census, uint64_t count) {
  const uint64_t taken = min_u64(count, census->room);
  census->room -= census->room == NEVER ? 0 : taken;
  return taken;
}

/* Record ${count} exchanges with ages counted from ${intended} and, unless NEVER, ${start}. */
static void record(struct census *census, uint64_t intended, uint64_t start, bool answered,
                   uint64_t count) {
  struct result *result = census->result;
  struct hdr_histogram *const *times = result->unfinished_times;
  const uint64_t age = sub_sat_u64(census->ended_ns, intended);
  result->unfinished += count;
  result->unfinished_oldest_ns = max_u64(result->unfinished_oldest_ns, age);
  hdr_record_many(times[TIMES_LATENCY], age, count);
  if (!answered) {
    hdr_record_many(times[TIMES_FIRST_BYTE], age, count);
  }
  if (times[TIMES_UNCORRECTED] != NULL && start != NEVER) {
    hdr_record_many(times[TIMES_UNCORRECTED], sub_sat_u64(census->ended_ns, start), count);
  }
}

static void add_in_flight(struct census *census, const struct client *client) {
  const struct client_env *env = census->clients->env;
  const uint64_t count = client_in_flight(env, client);
  const uint64_t first = env->counted ? client->exchange - 1 : client->in;
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t start = client_start_ns(env, client, first + i);
    const uint64_t intended = client_intended_ns(env, client, first + i, start);
    const bool counts = env->schedule == NULL || intended >= env->counters->from_ns;
    const bool answered = env->counted ? client->answered : i == 0 && client->in_done > 0;
    if (counts && take_room(census, 1) == 1) {
      record(census, intended, start, answered, 1);
    }
  }
}

/* A connection that is being opened: its own time, and the exchange that waits for it. */
static void add_connecting(struct census *census, const struct client *client) {
  const struct client_env *env = census->clients->env;
  if (client->state != CLIENT_CONNECTING) {
    return;
  }
  const uint64_t opened_ns = client->opened_ns;
  hdr_record(census->result->unfinished_times[TIMES_CONNECT],
             sub_sat_u64(census->ended_ns, opened_ns));
  if (env->schedule == NULL && !env->counted && take_room(census, 1) == 1) {
    record(census, opened_ns, NEVER, false, 1);
  }
}

/* How many exchanges of ${client} have a number below ${k} in the schedule? */
static uint64_t own_below(const struct client_env *env, const struct client *client, uint64_t k) {
  return k > client->number ? (k - client->number - 1) / env->connections + 1 : 0;
}

/* Add the exchanges of client ${index} that were due in the window and have not begun. */
static void add_due(struct census *census, uint32_t index) {
  const struct clients *clients = census->clients;
  const struct client_env *env = clients->env;
  const struct client *client = &clients->all[index];
  const double place = ((double)index + 0.5) / clients->active;
  const uint64_t from = max_u64(client_next(env, client), own_below(env, client, census->first));
  const uint64_t due = sub_sat_u64(own_below(env, client, census->next), from);
  const uint64_t count = take_room(census, due);
  if (count == 0) {
    return;
  }
  census->result->dropped += count;
  record(census, client_intended_ns(env, client, from, NEVER), NEVER, false, 1);
  const uint64_t rest = count - 1;
  const uint64_t groups = min_u64(rest, census->groups_max);
  uint64_t at = 0;
  for (uint64_t group = 1; group <= groups; group++) {
    const uint64_t size = rest / groups + (group <= rest % groups ? 1 : 0);
    const uint64_t member = from + 1 + at + (uint64_t)((double)size * place);
    record(census, client_intended_ns(env, client, member, NEVER), NEVER, false, size);
    at += size;
  }
}

void unfinished_add(const struct clients *clients, uint64_t ended_ns, struct result *result) {
  const struct client_env *env = clients->env;
  const struct counters *counters = env->counters;
  struct census census = {
      .clients = clients,
      .result = result,
      .ended_ns = ended_ns,
      .room = counters->budget == NEVER ? NEVER : sub_sat_u64(counters->budget, counters->ended),
      .groups_max = max_u64(1, SAMPLES / env->connections)};
  for (uint32_t i = 0; i < clients->active && census.room > 0; i++) {
    add_in_flight(&census, &clients->all[i]);
    add_connecting(&census, &clients->all[i]);
  }
  if (env->schedule == NULL) {
    return;
  }
  census.first = schedule_count(env->schedule, counters->from_ns - env->start_ns);
  census.next = schedule_count(env->schedule, sub_sat_u64(ended_ns, env->start_ns));
  for (uint32_t i = 0; i < clients->active; i++) {
    add_due(&census, i);
  }
}
