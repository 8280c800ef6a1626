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
#include "pool/upgrade_point.h"

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
#define ANSWER_NS (5 * NS_PER_S)    /* for the canary to be served, for TOTALS, and for acceptors */
#define EXIT_NS NS_PER_S            /* for a new process that has closed the channel to exit */
#define CLOCKS_NS NS_PER_S          /* two clocks of one time namespace differ by less */

static const char *step_name(enum upgrade_step step) {
  static const char *const names[] = {"none",    "start",  "listeners", "hold", "canary",
                                      "batches", "totals", "left",      "kill", "return"};
  static_assert(count_of(names) == STEP_RETURN + 1, "each step has a name");
  return names[step];
}

/* ---- the end of an upgrade ---- */

static void end(struct upgrade *u, uint64_t code) {
  u->outcome.code = code;
  snprintf(u->outcome.step, sizeof(u->outcome.step), "%s", step_name(u->failed));
  snprintf(u->outcome.reason, sizeof(u->outcome.reason), "%s", u->reason);
}

/* Do not begin. Return: ${code}. */
static int refuse(struct upgrade *u, int code, const char *why, int error) {
  upgrade_log_refused(u->setup.log, why, error);
  return code;
}

/* Kill the new process in the next turn; nothing is served before its end is known. */
static void turn_back(struct upgrade *u, const char *why) {
  u->failed = u->step;
  snprintf(u->reason, sizeof(u->reason), "%s", why);
  u->step = STEP_KILL;
  u->deadline_ns = 0;
}

static void close_all(struct upgrade *u) {
  upgrade_channel_close(&u->channel);
  giver_close(&u->giver);
  upgrade_forget(&u->child_fd);
  u->step = STEP_NONE;
}

/* There is no new process any more. */
static void close_without_child(struct upgrade *u) {
  close_all(u);
  signals_restore_children(&u->sigchld);
}

/* ---- start ---- */

void upgrade_open(struct upgrade *u, const struct upgrade_setup *setup) {
  *u = (struct upgrade){
      .setup = *setup, .channel = {.fd = -1}, .child_fd = -1, .deadline_ns = NEVER};
  acceptor_order_init(&u->order, &setup->server->done);
  acceptor_order_init(&u->admin_order, &setup->server->done);
  u->order.acceptor = &setup->server->acceptor;
  u->admin_order.acceptor = setup->admin == NULL ? NULL : &setup->admin->server.acceptor;
  upgrade_program_find(&u->program);
}

/* Return: 0, or an exit code. */
static int spawn(struct upgrade *u, const char *const *request) {
  int other;
  if (upgrade_channel_pair(&u->channel, &other) == -1) {
    return refuse(u, SERVER_OSERR, "a channel cannot be made", errno);
  }
  const struct upgrade_spawn_setup spawn = {.program = &u->program,
                                            .environment = u->setup.environment,
                                            .request = request,
                                            .passed = u->setup.facts->passed.count > 0,
                                            .channel = other};
  signals_keep_children(&u->sigchld);
  if (giver_open(&u->giver, u->setup.server, &u->channel) == 0) {
    u->child_fd = upgrade_spawn(&spawn, &u->child);
  }
  int error = errno;
  sys_close(other);
  if (u->child_fd == -1) {
    close_without_child(u);
    return refuse(u, SERVER_OSERR, "the new process cannot be started", error);
  }
  return 0;
}

const char *upgrade_obstacle(const struct upgrade *u) {
  if (u->stopping || u->step != STEP_NONE) {
    return u->stopping ? "a stop is under way" : "another upgrade is under way";
  }
  return u->setup.before->fd == -1 ? NULL : "the process before this one still has connections";
}

int upgrade_begin(struct upgrade *u, const char *const *request) {
  const char *obstacle = upgrade_obstacle(u);
  if (obstacle != NULL) {
    return refuse(u, 75, obstacle, 0);
  }
  if (getpid() == 1) {
    return refuse(u, SERVER_OSERR, "the end of this process would end its container", 0);
  }
  u->outcome = (struct upgrade_outcome){.code = UINT64_MAX};
  u->started_ns = sys_now_ns();
  u->serves = u->totals_sent = u->counted = false;
  int code = spawn(u, request);
  if (code != 0) {
    return code;
  }
  struct upgrade_packet packet = {.kind = UPGRADE_HELLO};
  u->step = STEP_START;
  u->deadline_ns = add_sat_u64(u->started_ns, u->setup.config->upgrade_timeout_ns);
  upgrade_make_hello(&u->setup, &packet.hello);
  if (upgrade_channel_send(&u->channel, &packet) != CHANNEL_OK) {
    turn_back(u, "the channel is closed");
  }
  upgrade_point(POINT_SPAWNED, 0);
  return 0;
}

/* ---- listeners ---- */

static void on_hello(struct upgrade *u, const struct upgrade_hello *hello) {
  struct upgrade_hello own;
  upgrade_make_hello(&u->setup, &own);
  uint64_t apart_ns = max_u64(own.now_ns, hello->now_ns) - min_u64(own.now_ns, hello->now_ns);
  upgrade_point(POINT_HELLO, 0);
  if (apart_ns > CLOCKS_NS) {
    turn_back(u, "the clocks of the two processes differ");
  } else if (hello->fds_free < own.connections) {
    turn_back(u, "the new process can open too few descriptors");
  } else if (!upgrade_send_listeners(&u->setup, &u->channel)) {
    turn_back(u, "the listeners cannot be sent");
  } else {
    if (u->setup.handler != NULL || strcmp(own.exchange, hello->exchange) != 0) {
      giver_stop(&u->giver, u->setup.handler != NULL ? "they have a handler" : "another exchange");
    }
    u->step = STEP_LISTENERS;
    upgrade_log_begun(u->setup.log, u->child, u->program.path, hello->version,
                      upgrade_live(&u->setup));
    upgrade_point(POINT_LISTENERS, 0);
  }
}

/* ---- connections ---- */

/* Nothing moves any more. */
static void begin_totals(struct upgrade *u, uint64_t now_ns) {
  u->step = STEP_TOTALS;
  u->deadline_ns = now_ns + ANSWER_NS;
}

static void tend_hold(struct upgrade *u, uint64_t now_ns) {
  if (!acceptor_order_reach(&u->order, ACCEPTOR_HOLD)) {
    if (now_ns >= u->deadline_ns) {
      turn_back(u, "the acceptor does not answer");
    }
  } else if (u->giver.stopped) {
    begin_totals(u, now_ns);
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
    upgrade_point(u->step == STEP_BATCHES ? POINT_BATCH_SENT : POINT_CANARY_SENT, 0);
  }
  return result;
}

/* The canary goes, is served, and lives for a while. */
static void tend_canary(struct upgrade *u, uint64_t now_ns) {
  enum giver_result result = tend_giver(u, now_ns);
  if (result == GIVER_FAILED) {
    turn_back(u, u->giver.why);
  }
  if (result != GIVER_DONE) {
    return;
  }
  if (u->canary_ns == NEVER) {
    u->canary_ns = now_ns;
    upgrade_point(POINT_CANARY_TAKEN, 0);
  }
  if (u->giver.moved == 0 && u->giver.returned > 0) {
    turn_back(u, "the new process takes no connection");
    return;
  }
  u->deadline_ns = u->canary_ns + (u->serves ? CANARY_NS : ANSWER_NS);
  if (u->giver.moved == 0 || (u->serves && now_ns >= u->deadline_ns)) {
    u->step = STEP_BATCHES;
    u->deadline_ns = NEVER;
    giver_begin(&u->giver, UINT32_MAX, u->setup.config->upgrade_timeout_ns);
  } else if (now_ns >= u->deadline_ns) {
    turn_back(u, "the new process does not serve");
  }
}

/* From now on it serves more than this process, so it is not killed: the rest stays here. */
static void tend_batches(struct upgrade *u, uint64_t now_ns) {
  enum giver_result result = tend_giver(u, now_ns);
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
  upgrade_point(POINT_TOTALS, 0);
}

/* The new process is the server. */
static void commit(struct upgrade *u) {
  const struct upgrade_packet packet = {.kind = UPGRADE_COMMIT};
  struct inbox *inbox;
  service_set_main(u->setup.service, u->child); /* before its reports, and a kill of this process */
  if (upgrade_channel_send(&u->channel, &packet) == CHANNEL_GONE) {
    service_set_main(u->setup.service, getpid());
    turn_back(u, "the new process has ended");
    return;
  } /* without room for the packet, the end of the channel has its meaning */
  for (uint32_t i = 0; (inbox = server_inbox(u->setup.server, i)) != NULL; i++) {
    worker_send_leave(worker_of_inbox(inbox), sys_now_ns());
  }
  u->step = STEP_LEFT;
  u->deadline_ns = NEVER;
  const struct upgrade_sums sums = {.child = u->child,
                                    .listeners = u->setup.server->listeners_count,
                                    .started_ns = u->started_ns};
  upgrade_log_done(u->setup.log, &u->giver, &sums);
  end(u, 0);
  giver_describe_left(&u->giver, u->outcome.reason);
}

/* The admin endpoint moves last: it accepts no more, then the totals go, and are answered. */
static void tend_totals(struct upgrade *u, uint64_t now_ns) {
  bool late = now_ns >= u->deadline_ns;
  (void)giver_tend(&u->giver, now_ns); /* if it was stopped, connections may still come back */
  bool waits = u->giver.state == GIVER_WAIT; /* for the answer to a batch */
  if (!u->totals_sent && (acceptor_order_reach(&u->admin_order, ACCEPTOR_HOLD) || late)) {
    u->totals_sent = true;
    send_totals(u);
    u->deadline_ns = now_ns + ANSWER_NS;
  } else if (waits && late) {
    turn_back(u, "the new process answers neither the last batch nor the totals");
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
  if (u->step == STEP_LEFT && u->channel.fd != -1) {
    /* the new process may have ended */
    (void)upgrade_send_totals(&u->setup, &u->channel, giver_staying(&u->giver));
  } else {
    upgrade_abort(u);
  }
  close_all(u);
}

/* ---- packets ---- */

/* The new process breaks a rule. */
static void fail_early(struct upgrade *u, const char *why) {
  if (u->step < STEP_BATCHES) {
    turn_back(u, why);
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
        upgrade_point(POINT_READY, 0);
        u->order.taken = packet->ready.listens[USE_CLIENTS];
        u->admin_order.taken = packet->ready.listens[USE_ADMIN];
        u->keeps_requests = packet->ready.listens[USE_REQUESTS] != 0;
        u->step = STEP_HOLD;
        u->deadline_ns = now_ns + ANSWER_NS;
      }
      break;
    case UPGRADE_TAKEN:
      if (!giver_on_taken(&u->giver, packet->number, packet->taken, now_ns)) {
        fail_early(u, "the new process answers a batch that was not sent");
      } else if (u->step == STEP_BATCHES) {
        upgrade_point(POINT_BATCH_TAKEN, 0);
      }
      break;
    case UPGRADE_STATUS:
      u->serves = true;
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
      break;
  }
  if (u->step < STEP_LEFT) {
    turn_back(u, "the new process has ended");
    u->deadline_ns = now_ns + EXIT_NS; /* its exit code is the outcome */
  } else if (u->step == STEP_LEFT) {
    upgrade_channel_close(&u->channel);
    giver_withdraw(&u->giver);
  }
  return false;
}

/* ---- turning back ---- */

/* Accept again. Return: have both acceptors answered? */
static bool release(struct upgrade *u) {
  bool accepts = acceptor_order_reach(&u->order, ACCEPTOR_RELEASE);
  return acceptor_order_reach(&u->admin_order, ACCEPTOR_RELEASE) && accepts;
}

/*
 * Has the new process ended?  Then its last packets count, and no other process can serve what was
 * under way.  New clients do not wait for that.
 */
static void tend_kill(struct upgrade *u, uint64_t now_ns) {
  (void)release(u); /* tend_return asks again */
  if (!upgrade_reap(u->child_fd, &u->status)) {
    if (now_ns >= u->deadline_ns) {
      upgrade_kill(u->child_fd);
      u->deadline_ns = NEVER;
    }
    return;
  }
  while (receive(u, now_ns)) {
  }
  u->deadline_ns = u->stopping ? now_ns + ANSWER_NS : NEVER;
  u->step = STEP_RETURN;
  giver_withdraw(&u->giver);
}

/* What was under way becomes connections here.  A thread that is late is waited for. */
static void tend_return(struct upgrade *u, uint64_t now_ns) {
  bool accepts = release(u);
  (void)giver_tend(&u->giver, now_ns); /* only its state counts */
  if ((!accepts || u->giver.state != GIVER_IDLE) && now_ns < u->deadline_ns) {
    return;
  }
  char status[UPGRADE_TEXT];
  int code = WIFEXITED(u->status) ? WEXITSTATUS(u->status) : 0;
  upgrade_describe_status(u->status, status, sizeof(status));
  stats_add(&u->setup.server->base->own_totals.ended[XCHG_ERROR], u->giver.moved);
  upgrade_log_turned_back(u->setup.log, &u->giver, step_name(u->failed), u->reason, status);
  end(u, code == 78 || code == 69 ? (uint64_t)code : SERVER_OSERR);
  close_without_child(u);
}

bool upgrade_cancel(struct upgrade *u) {
  if (u->step == STEP_RETURN && !u->stopping) { /* a thread that never answers delays no stop */
    u->deadline_ns = sys_now_ns() + ANSWER_NS;
  }
  u->stopping = true;
  if (upgrade_running(u) && u->step < STEP_CANARY) {
    turn_back(u, "a stop has begun");
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
      if (now_ns >= u->deadline_ns) {
        turn_back(u, "the new process is not ready in time");
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
      tend_return(u, now_ns);
      break;
  }
}

uint64_t upgrade_tend(struct upgrade *u) {
  uint64_t now_ns = sys_now_ns();
  enum upgrade_step before;
  do {
    before = u->step;
    while (u->step < STEP_KILL && receive(u, now_ns)) {
    }
    tend_step(u, now_ns);
  } while (u->step != before);
  uint64_t giver_ns = u->step < STEP_KILL ? giver_next_ns(&u->giver) : NEVER; /* else it waits */
  return u->step == STEP_NONE ? NEVER : min_u64(u->deadline_ns, giver_ns);
}

int upgrade_fd(const struct upgrade *u, short *events) {
  *events = giver_sends(&u->giver) ? POLLIN | POLLOUT : POLLIN;
  int fd = u->step == STEP_KILL ? u->child_fd : -1;
  return u->step < STEP_KILL ? upgrade_channel_fd(&u->channel) : fd;
}
