/*
 * upgrade: see upgrade.h.
 *
 * Each step waits for one thing: a packet, the answer of a thread, the end of the new process, or a
 * time.  upgrade_tend looks for all of them, so a needless call does no harm.
 */
#include "pool/upgrade.h"

#include "core/sys.h"
#include "pool/signals.h"
#include "pool/worker.h"
#include "pool/service.h"
#include "pool/upgrade_log.h"
#include "pool/upgrade_back.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CANARY_MAX 8                /* connections that go first */
#define CANARY_TAKEN_NS NS_PER_S    /* how long the new process may take to take them */
#define CANARY_NS (100 * NS_PER_MS) /* how long they run before others follow */
#define EXIT_NS NS_PER_S            /* for a new process that has closed the channel to exit */
#define CLOCKS_NS NS_PER_S          /* two clocks of one time namespace differ by less */
#define LATE_NS (100 * NS_PER_MS)   /* see is_late */

/*
 * Has the deadline passed?  It counts only if it has passed for LATE_NS: this process may have been
 * stopped, and what it waits for may have come meanwhile.
 */
static bool is_late(struct upgrade *u, uint64_t now_ns) {
  if (now_ns < u->deadline_ns) {
    return false;
  }
  bool late = u->late_ns == u->deadline_ns;
  u->late_ns = u->deadline_ns = now_ns + LATE_NS;
  return late;
}

/* Do not begin. Return: ${code}. */
static int refuse(struct upgrade *u, int code, const char *why, int error) {
  upgrade_log_refused(u->setup.log, why, error);
  return code;
}

/* ---- start ---- */

void upgrade_open(struct upgrade *u, const struct upgrade_setup *setup) {
  *u = (struct upgrade){.setup = *setup,
                        .image = {.binary = -1},
                        .channel = {.fd = -1},
                        .peer_fd = -1,
                        .deadline_ns = NEVER};
  acceptor_order_init(&u->order, &setup->server->done);
  acceptor_order_init(&u->admin_order, &setup->server->done);
  u->order.acceptor = &setup->server->acceptor;
  u->admin_order.acceptor = setup->admin == NULL ? NULL : &setup->admin->server.acceptor;
  upgrade_program_find(&u->program, setup->program);
}

/* Return: 0, or an exit code. */
static int spawn(struct upgrade *u, const char *const *request) {
  int other;
  if (upgrade_channel_pair(&u->channel, &other) == -1) {
    return refuse(u, SERVER_OSERR, "a channel cannot be made", errno);
  }
  const struct upgrade_image_setup image = {.program = &u->program,
                                            .environment = u->setup.environment,
                                            .request = request,
                                            .passed = u->setup.facts->passed.count > 0};
  signals_keep_children(&u->sigchld);
  if (giver_open(&u->giver, u->setup.server, &u->channel) == 0 &&
      upgrade_image_open(&u->image, &image) == 0) {
    u->peer_fd = upgrade_spawn(&u->image, other, &u->peer);
  }
  int error = errno;
  sys_close(other);
  if (u->peer_fd == -1) {
    upgrade_close_all(u);
    return refuse(u, SERVER_OSERR, "the new process cannot be started", error);
  }
  return 0;
}

const char *upgrade_obstacle(const struct upgrade *u) {
  if (u->stopping || u->step != STEP_NONE) {
    return u->stopping ? "a stop is under way" : "another upgrade is under way";
  }
  return u->setup.before->fd == -1 ? NULL : "the process before this one has not ended";
}

int upgrade_begin(struct upgrade *u, const char *const *request) {
  const char *obstacle = upgrade_obstacle(u);
  if (obstacle != NULL) {
    return refuse(u, 75, obstacle, 0);
  }
  u->outcome = (struct upgrade_outcome){.code = UINT64_MAX};
  int code = spawn(u, request);
  if (code == 0) {
    upgrade_introduce(u);
  }
  return code;
}

void upgrade_introduce(struct upgrade *u) {
  struct upgrade_packet packet = {.kind = UPGRADE_HELLO};
  u->started_ns = sys_now_ns();
  u->serves = u->totals_sent = u->counted = false;
  u->status = UPGRADE_UNKNOWN;
  u->step = STEP_START;
  u->deadline_ns = add_sat_u64(u->started_ns, u->setup.config->upgrade_timeout_ns);
  upgrade_make_hello(&u->setup, &packet.hello);
  if (upgrade_channel_send(&u->channel, &packet) != CHANNEL_OK) {
    upgrade_turn_back(u, "the channel is closed");
  }
  upgrade_reach(u, POINT_SPAWNED);
}

/* ---- listeners ---- */

static void on_hello(struct upgrade *u, const struct upgrade_hello *hello) {
  struct upgrade_hello own;
  upgrade_make_hello(&u->setup, &own);
  uint64_t apart_ns = max_u64(own.now_ns, hello->now_ns) - min_u64(own.now_ns, hello->now_ns);
  upgrade_reach(u, POINT_HELLO);
  if (apart_ns > CLOCKS_NS) {
    upgrade_turn_back(u, "the clocks of the two processes differ");
  } else if (hello->fds_free < own.connections) {
    upgrade_turn_back(u, "the new process can open too few descriptors");
  } else if (!upgrade_send_listeners(&u->setup, &u->channel)) {
    upgrade_turn_back(u, "the listeners cannot be sent");
  } else {
    const char *why_stay = upgrade_why_stay(&own, hello);
    if (why_stay != NULL) {
      giver_stop(&u->giver, why_stay);
    }
    u->giver.together = own.together != 0 || hello->together != 0;
    u->step = STEP_LISTENERS;
    upgrade_log_begun(u, hello->version);
    upgrade_reach(u, POINT_LISTENERS);
  }
}

/* ---- connections ---- */

/* Nothing moves any more. */
static void begin_totals(struct upgrade *u, uint64_t now_ns) {
  u->step = STEP_TOTALS;
  u->deadline_ns = now_ns + UPGRADE_ANSWER_NS;
}

static void begin_batches(struct upgrade *u) {
  u->step = STEP_BATCHES;
  u->deadline_ns = NEVER;
  giver_begin(&u->giver, UINT32_MAX,
              u->giver.together ? CANARY_TAKEN_NS : u->setup.config->upgrade_timeout_ns);
}

static void tend_hold(struct upgrade *u, uint64_t now_ns) {
  if (!acceptor_order_reach(&u->order, ACCEPTOR_HOLD)) {
    if (is_late(u, now_ns)) {
      upgrade_turn_back(u, "the acceptor does not answer");
    }
  } else if (u->giver.stopped) {
    begin_totals(u, now_ns);
  } else if (u->giver.together) { /* no canary: none is served before all are */
    begin_batches(u);
  } else {
    u->step = STEP_CANARY;
    u->deadline_ns = u->canary_ns = NEVER;
    giver_begin(&u->giver, CANARY_MAX, CANARY_TAKEN_NS);
  }
}

static enum giver_result tend_giver(struct upgrade *u, uint64_t now_ns) {
  uint32_t number = u->giver.number;
  enum giver_result result = giver_tend(&u->giver, now_ns);
  if (u->giver.number != number) {
    upgrade_reach(u, u->step == STEP_BATCHES ? POINT_BATCH_SENT : POINT_CANARY_SENT);
  }
  return result;
}

/* The canary goes, is served, and lives for a while. */
static void tend_canary(struct upgrade *u, uint64_t now_ns) {
  enum giver_result result = tend_giver(u, now_ns);
  if (result == GIVER_FAILED) {
    upgrade_turn_back(u, u->giver.why);
  }
  if (result != GIVER_DONE) {
    return;
  }
  if (u->canary_ns == NEVER) {
    u->canary_ns = now_ns;
    u->deadline_ns = now_ns + (u->serves ? CANARY_NS : UPGRADE_ANSWER_NS);
    upgrade_reach(u, POINT_CANARY_TAKEN);
  }
  if (u->giver.moved == 0 && u->giver.returned > 0) {
    upgrade_turn_back(u, "the new process takes no connection");
    return;
  }
  if (u->giver.moved == 0 || (u->serves && now_ns >= u->deadline_ns)) {
    begin_batches(u);
  } else if (!u->serves && is_late(u, now_ns)) {
    upgrade_turn_back(u, "the new process does not serve");
  }
}

/*
 * From now on it serves more than this process, so it is not killed: the rest stays here.  Where
 * connections move together it serves none of them: they come back.
 */
static void tend_batches(struct upgrade *u, uint64_t now_ns) {
  enum giver_result result = tend_giver(u, now_ns);
  if (result == GIVER_FAILED && u->giver.together) {
    upgrade_turn_back(u, u->giver.why);
    return;
  }
  if (result == GIVER_FAILED) {
    giver_stop(&u->giver, u->giver.why);
  }
  if (result != GIVER_BUSY) {
    begin_totals(u, now_ns);
  }
}

/* ---- totals ---- */

static void send_totals(struct upgrade *u) {
  u->counted = upgrade_send_totals(&u->setup, &u->channel, giver_staying(&u->giver));
  upgrade_reach(u, POINT_TOTALS);
}

/* The new process is the server. */
static void commit(struct upgrade *u) {
  const struct upgrade_packet packet = {.kind = UPGRADE_COMMIT};
  struct inbox *inbox;
  service_set_main(u->setup.service, u->peer); /* before its reports, and a kill of this process */
  enum channel_result sent = upgrade_channel_send(&u->channel, &packet);
  if (sent == CHANNEL_GONE || (sent != CHANNEL_OK && u->giver.suspended)) {
    service_set_main(u->setup.service, getpid());
    upgrade_turn_back(u, sent == CHANNEL_GONE ? "the new process has ended" : "COMMIT is not sent");
    return;
  } /* without room for the packet, the end of the channel has its meaning */
  for (uint32_t i = 0; (inbox = server_inbox(u->setup.server, i)) != NULL; i++) {
    worker_send_leave(worker_of_inbox(inbox), sys_now_ns());
  }
  giver_commit(&u->giver);
  u->step = STEP_LEFT;
  u->deadline_ns = NEVER;
  upgrade_log_done(u);
  upgrade_set_outcome(u, 0);
  giver_describe_left(&u->giver, u->outcome.reason);
}

/* The admin endpoint moves last: it accepts no more, then the totals go, and are answered. */
static void tend_totals(struct upgrade *u, uint64_t now_ns) {
  bool late = is_late(u, now_ns);
  (void)giver_tend(&u->giver, now_ns); /* if it was stopped, connections may still come back */
  bool waits = u->giver.state == GIVER_WAIT; /* for the answer to a batch */
  if (!u->totals_sent && (acceptor_order_reach(&u->admin_order, ACCEPTOR_HOLD) || late)) {
    u->totals_sent = true;
    send_totals(u);
    u->deadline_ns = now_ns + UPGRADE_ANSWER_NS;
  } else if (waits && late) {
    upgrade_turn_back(u, "the new process answers neither the last batch nor the totals");
  } else if (u->giver.suspended && late) {
    upgrade_turn_back(u, "the new process does not answer the totals");
  } else if (u->totals_sent && !waits && (late || !u->counted)) {
    log_msg(u->setup.log, LOG_WARN,
            u->counted ? "the new process does not answer the totals" : "totals cannot be sent");
    commit(u);
  }
}

static void tend_left(struct upgrade *u, uint64_t now_ns) {
  (void)acceptor_order_reach(&u->order, ACCEPTOR_LEAVE);       /* the next call asks again */
  (void)acceptor_order_reach(&u->admin_order, ACCEPTOR_LEAVE); /* the next call asks again */
  (void)giver_tend(&u->giver, now_ns);                         /* as in tend_totals */
}

void upgrade_close(struct upgrade *u) {
  if (u->step == STEP_NONE) {
    return;
  }
  if (u->step == STEP_LEFT) {
    if (u->channel.fd != -1) { /* the new process may have ended */
      (void)upgrade_send_totals(&u->setup, &u->channel, giver_staying(&u->giver));
    }
    giver_close(&u->giver);
  } else {
    upgrade_abort(u);
    upgrade_close_all(u);
  }
}

/* ---- packets ---- */

/* The new process breaks a rule. */
static void fail_early(struct upgrade *u, const char *why) {
  if (u->step < STEP_BATCHES) {
    upgrade_turn_back(u, why);
  }
}

static void on_packet(struct upgrade *u, const struct upgrade_packet *packet, uint64_t now_ns) {
  switch (packet->kind) {
    case UPGRADE_HELLO:
      if (u->step == STEP_START) {
        on_hello(u, &packet->hello);
      }
      break;
    case UPGRADE_READY:
      if (u->step == STEP_LISTENERS) {
        upgrade_reach(u, POINT_READY);
        u->order.taken = packet->ready.listens[USE_CLIENTS];
        u->admin_order.taken = packet->ready.listens[USE_ADMIN];
        u->keeps_requests = packet->ready.listens[USE_REQUESTS] != 0;
        u->step = STEP_HOLD;
        u->deadline_ns = now_ns + UPGRADE_ANSWER_NS;
      }
      break;
    case UPGRADE_TAKEN:
      if (!giver_on_taken(&u->giver, packet->number, packet->taken)) {
        fail_early(u, "the new process answers a batch that was not sent");
      } else if (u->step == STEP_BATCHES) {
        upgrade_reach(u, POINT_BATCH_TAKEN);
      }
      break;
    case UPGRADE_STATUS:
      u->serves = true;
      if (u->step == STEP_CANARY && u->canary_ns != NEVER) {
        u->deadline_ns = u->canary_ns + CANARY_NS;
      }
      if (u->step == STEP_TOTALS && u->totals_sent && u->giver.state != GIVER_WAIT) {
        commit(u);
      }
      break;
    case UPGRADE_SIGNAL:
      u->stops = u->step == STEP_LEFT;
      break;
    default: /* of a later version */
      break;
  }
}

/* The new process has ended, or has closed its channel. */
static void on_gone(struct upgrade *u, uint64_t now_ns) {
  if (u->step == STEP_LEFT) {
    upgrade_channel_close(&u->channel);
    giver_withdraw(&u->giver);
  } else if (u->step < STEP_LEFT) {
    upgrade_turn_back(u, u->returns && u->step < STEP_HOLD ? "the parent cannot become the server"
                                                           : "the new process has ended");
    if (u->step == STEP_KILL) {
      u->deadline_ns = now_ns + EXIT_NS; /* its exit code is the outcome */
    }
  }
}

/* Read one packet. Return: was there one? */
static bool receive(struct upgrade *u, uint64_t now_ns) {
  struct upgrade_packet packet;
  const char *why;
  if (u->channel.fd == -1) {
    return false; /* before an upgrade, and when the new process has ended after COMMIT */
  }
  switch (upgrade_channel_recv(&u->channel, &packet, &why)) {
    case CHANNEL_OK:
      on_packet(u, &packet, now_ns);
      upgrade_packet_close(&packet);
      return true;
    case CHANNEL_AGAIN:
      return false;
    case CHANNEL_REFUSED:
      fail_early(u, why);
      return true;
    case CHANNEL_ERROR:
      fail_early(u, "the channel cannot be read");
      return false;
    case CHANNEL_GONE:
      on_gone(u, now_ns);
      break;
  }
  return false;
}

/* ---- turning back ---- */

/*
 * Has the new process ended?  Then its last packets count, and no other process can serve what was
 * under way.  New clients do not wait for that.
 */
static void tend_kill(struct upgrade *u, uint64_t now_ns) {
  (void)upgrade_release(u); /* tend_return asks again */
  if (!upgrade_kill(u, now_ns)) {
    return;
  }
  while (receive(u, now_ns)) {
  }
  u->deadline_ns = u->stopping ? now_ns + UPGRADE_ANSWER_NS : NEVER;
  u->step = STEP_RETURN;
  giver_withdraw(&u->giver);
}

bool upgrade_cancel(struct upgrade *u) {
  if (u->step == STEP_RETURN && !u->stopping) { /* a thread that never answers delays no stop */
    u->deadline_ns = sys_now_ns() + UPGRADE_ANSWER_NS;
  }
  u->stopping = true;
  if (upgrade_running(u) && u->step < (u->returns ? STEP_LISTENERS : STEP_CANARY)) {
    upgrade_turn_back(u, "a stop has begun");
  }
  return upgrade_running(u);
}

void upgrade_pass_signal(struct upgrade *u, int number) {
  const struct upgrade_packet packet = {.kind = UPGRADE_SIGNAL, .signal = (uint64_t)number};
  if (upgrade_left(u)) {
    (void)upgrade_channel_send(&u->channel, &packet); /* if it has ended there is none to tell */
  }
}

/* ---- steps ---- */

static void tend_step(struct upgrade *u, uint64_t now_ns) {
  switch (u->step) {
    case STEP_NONE:
      break;
    case STEP_START:
    case STEP_LISTENERS:
      if (is_late(u, now_ns)) {
        upgrade_turn_back(u, "the new process is not ready in time");
      }
      break;
    case STEP_HOLD:
      tend_hold(u, now_ns);
      break;
    case STEP_CANARY:
      tend_canary(u, now_ns);
      break;
    case STEP_BATCHES:
      tend_batches(u, now_ns);
      break;
    case STEP_TOTALS:
      tend_totals(u, now_ns);
      break;
    case STEP_LEFT:
      tend_left(u, now_ns);
      break;
    case STEP_KILL:
      tend_kill(u, now_ns);
      break;
    case STEP_RETURN:
      upgrade_tend_return(u, now_ns);
      break;
  }
}

uint64_t upgrade_tend(struct upgrade *u) {
  uint64_t now_ns = sys_now_ns();
  enum upgrade_step before;
  do {
    before = u->step;
    bool ended = upgrade_process_fd(u) != -1 && upgrade_ended(u->peer_fd);
    while (u->step < STEP_KILL && receive(u, now_ns)) {
    }
    if (ended && u->step < STEP_KILL &&
        u->channel.fd != -1) { /* another process has its end, too */
      on_gone(u, now_ns);
    }
    tend_step(u, now_ns);
  } while (u->step != before);
  uint64_t giver_ns = u->step < STEP_KILL ? giver_next_ns(&u->giver) : NEVER; /* else it waits */
  return u->step == STEP_NONE ? NEVER : min_u64(u->deadline_ns, giver_ns);
}

int upgrade_fd(const struct upgrade *u, short *events) {
  *events = giver_sends(&u->giver) ? POLLIN | POLLOUT : POLLIN;
  return u->step < STEP_KILL ? upgrade_channel_fd(&u->channel) : -1;
}

int upgrade_process_fd(const struct upgrade *u) {
  return u->step == STEP_KILL || (u->step < STEP_KILL && u->channel.fd != -1) ? u->peer_fd : -1;
}
