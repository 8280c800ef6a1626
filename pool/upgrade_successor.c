/* upgrade_successor: see upgrade_successor.h. */
#include "pool/upgrade_successor.h"

#include "core/sys.h"
#include "pool/upgrade_point.h"
#include "pool/upgrade_spawn.h"
#include "pool/upgrade_send.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long the old process may take for its first packets. */
#define PATIENCE_MS 60000

/*
 * How long the kernel may take from the end of the channel to the end of a process that has died.
 */
#define EXIT_NS NS_PER_S

/* How long it may take from the first to the last TOTALS, if no connection stays. */
#define LAST_TOTALS_NS NS_PER_S

static void reach(const struct upgrade_successor *s, enum upgrade_point point) {
  upgrade_point(point, s->child == 0 ? SIDE_NEW : SIDE_PARENT);
}

static void send_kind(struct upgrade_successor *s, enum upgrade_kind kind) {
  const struct upgrade_packet packet = {.kind = kind};
  /* If it is gone, the next receive says so.  Without memory, the deadline of the other process. */
  (void)upgrade_channel_send(&s->channel, &packet);
}

/* ---- the start ---- */

int successor_open(struct upgrade_successor *s, const char *const **environment) {
  const char **list;
  struct upgrade_inherited inherited;
  *s = (struct upgrade_successor){.state = SUCCESSOR_NONE,
                                  .channel = {.fd = -1},
                                  .old_fd = -1,
                                  .deadline_ns = NEVER,
                                  .admin_ns = NEVER};
  if (upgrade_inherited_find(&inherited, *environment, &list) == -1) {
    return errno == ENOMEM ? -1 : 0;
  }
  int fd = inherited.channel;
  if (fd <= STDERR_FILENO || upgrade_channel_open(&s->channel, fd) == -1) {
    free(list); /* the variable stays, and is a fault */
    return 0;
  }
  (void)fcntl(fd, F_SETFD, FD_CLOEXEC); /* cannot fail: it is open */
  s->environment = list;
  s->program = inherited.path;
  *environment = (const char *const *)list;
  s->state = SUCCESSOR_STARTING;
  if (inherited.child != 0) {
    s->child = inherited.child;
    s->old_fd = upgrade_watch(s->child); /* -1: it has ended, or the next descriptor fails, too */
    if (s->old_fd != -1 && !upgrade_is_child(s->old_fd)) { /* another process has its number */
      upgrade_forget(&s->old_fd);
    }
    reach(s, POINT_SPAWNED);
    send_kind(s, UPGRADE_BACK);
  }
  return 0;
}

uint64_t successor_passed_to(const struct upgrade_successor *s) {
  bool child = s->state != SUCCESSOR_NONE && s->child == 0;
  return child ? s->hello.pid : (uint64_t)getpid();
}

void successor_close(struct upgrade_successor *s) {
  taker_close(&s->taker);
  upgrade_channel_close(&s->channel);
  handed_close(&s->handed);
  free(s->environment);
  s->environment = NULL;
}

/* Return: -1, because ${why}. */
static int give_up(struct upgrade_successor *s, const char *why) {
  s->why = why;
  return -1;
}

/*
 * Is ${packet} for the program that this process has replaced, or a signal?  The child of a return
 * may answer TOTALS late.
 */
static bool comes_before(struct upgrade_successor *s, const struct upgrade_packet *packet) {
  if (packet->kind == UPGRADE_SIGNAL) {
    s->signal = (int)packet->signal;
  }
  return packet->kind == UPGRADE_SIGNAL || (s->child != 0 && packet->kind == UPGRADE_STATUS);
}

/* Wait for a packet of ${kind}. Others may come before. Return: 0, or -1 with s->why. */
static int await_packet(struct upgrade_successor *s, struct upgrade_packet *packet,
                        enum upgrade_kind kind) {
  const char *why;
  enum channel_result result;
  while ((result = upgrade_channel_recv(&s->channel, packet, &why)) == CHANNEL_AGAIN ||
         (result == CHANNEL_OK && comes_before(s, packet))) {
    if (result == CHANNEL_OK) {
      continue;
    }
    struct pollfd fds[] = {{.fd = s->channel.fd, .events = POLLIN}};
    int ready = sys_poll(fds, 1, PATIENCE_MS);
    if (ready == 0 || (ready == -1 && errno != EINTR)) {
      return give_up(s, "it sends nothing");
    }
  }
  if (result == CHANNEL_REFUSED) {
    return give_up(s, why);
  }
  if (result != CHANNEL_OK) {
    return give_up(s, "it has ended");
  }
  if (packet->kind != kind) {
    upgrade_packet_close(packet);
    return give_up(s, "it sends another packet");
  }
  return 0;
}

int successor_hear(struct upgrade_successor *s) {
  struct upgrade_packet packet;
  if (await_packet(s, &packet, UPGRADE_HELLO) == -1) {
    return -1;
  }
  s->hello = packet.hello;
  if (s->child == 0) {
    s->old_fd = upgrade_watch((pid_t)s->hello.pid); /* -1: the end of the channel says the same */
    reach(s, POINT_SPAWNED);
  }
  return 0;
}

static int receive_listeners(struct upgrade_successor *s) {
  if (s->hello.listeners > CONFIG_LISTEN_MAX + CONFIG_ADMIN_MAX + 1) {
    return give_up(s, "it has too many listeners");
  }
  s->handed.listeners = calloc(s->hello.listeners, sizeof(*s->handed.listeners));
  while (s->handed.listeners != NULL && s->handed.count < s->hello.listeners) {
    struct upgrade_packet packet;
    if (await_packet(s, &packet, UPGRADE_LISTENER) == -1) {
      return -1;
    }
    s->handed.listeners[s->handed.count++] = packet.listener;
  }
  return s->handed.listeners == NULL ? give_up(s, "there is no memory") : 0;
}

int successor_introduce(struct upgrade_successor *s, struct config *config,
                        struct config_facts *facts, const struct xchg_handler *handler) {
  uint64_t reserve = config->descriptors - config->max_connections;
  struct upgrade_packet packet = {
      .kind = UPGRADE_HELLO,
      .hello = {.pid = (uint64_t)getpid(),
                .now_ns = sys_now_ns(),
                .fds_free = sub_sat_u64(facts->descriptors, reserve),
                .state_version = handler == NULL ? 0 : handler->state_version,
                .together = handler != NULL && handler->together,
                .version = XCHG_VERSION}};
  upgrade_exchange(config, handler, packet.hello.exchange);
  s->together = packet.hello.together != 0 || s->hello.together != 0;
  if (upgrade_channel_send(&s->channel, &packet) != CHANNEL_OK) {
    return give_up(s, "it has ended");
  }
  reach(s, POINT_HELLO);
  if (receive_listeners(s) == -1) {
    return -1;
  }
  reach(s, POINT_LISTENERS);
  handed_set_passed(&s->handed, facts);
  config->adopted = s->hello.connections;
  return 0;
}

int successor_ready(struct upgrade_successor *s, struct xchg_server *server, struct admin *admin,
                    struct listener *requests, struct log *log) {
  struct upgrade_packet packet = {.kind = UPGRADE_READY};
  s->server = server;
  s->admin = admin;
  s->requests = requests;
  s->log = log;
  handed_find(&s->handed, server);
  handed_settle(&s->handed, &packet.ready);
  acceptor_order_init(&s->release, &server->done);
  acceptor_order_init(&s->admin_release, &server->done);
  if (taker_open(&s->taker, server, &s->channel, log) == -1) {
    return -1;
  }
  s->taker.listener_of = s->handed.listener_of;
  s->taker.together = s->together;
  s->state = SUCCESSOR_READY;
  (void)upgrade_channel_send(&s->channel, &packet); /* if it is gone, the next receive says so */
  reach(s, POINT_READY);
  return 0;
}

/* ---- while connections come ---- */

static void configure(struct xchg_server *server) {
  for (uint32_t i = 0; i < server->listeners_count; i++) {
    listener_configure(&server->listeners[i], server->config);
  }
}

static void accept_data(struct upgrade_successor *s) {
  if (s->state == SUCCESSOR_READY) {
    s->state = SUCCESSOR_TAKING;
    configure(s->server);
    acceptor_order_send(&s->release, &s->server->acceptor, ACCEPTOR_RELEASE);
  }
}

static void accept_admin(struct upgrade_successor *s) {
  s->admin_ns = NEVER;
  if (s->admin != NULL && acceptor_order_answered(&s->admin_release) &&
      s->admin->server.acceptor.held) {
    configure(&s->admin->server);
    acceptor_order_send(&s->admin_release, &s->admin->server.acceptor, ACCEPTOR_RELEASE);
  }
}

/* This process is the server, and all that is held accepts. */
static void own_all(struct upgrade_successor *s) {
  accept_data(s);
  handed_own(&s->handed, s->server->listeners, s->server->listeners_count);
  handed_own(&s->handed, s->requests, 1);
  if (s->admin != NULL) {
    handed_own(&s->handed, s->admin->server.listeners, s->admin->server.listeners_count);
  }
}

/* What commands of the admin endpoint have set there. */
static void set_admin(struct upgrade_successor *s, const struct upgrade_account *account) {
  if (s->admin == NULL) {
    return;
  }
  atom_store_relaxed_u32(&s->admin->off, account->not_ready != 0);
  if (account->log_until_ns != 0 && account->log_level <= LOG_DEBUG) {
    log_set_level(s->log, (enum log_level)account->log_level);
    s->admin->log_until_ns = account->log_until_ns;
  }
}

/* New clients come when connections are served. */
static void accept_early(struct upgrade_successor *s) {
  if (!s->together) {
    accept_data(s);
  }
}

static void on_totals(struct upgrade_successor *s, const struct upgrade_account *account) {
  if (!upgrade_totals_read(s->server->base, account->totals.bytes, account->totals.size,
                           s->handed.listener_of)) {
    log_msg(s->log, LOG_WARN, "totals of the old process cannot be read");
  }
  s->left = account->stays;
  if (s->totals) {
    accept_admin(s);
    return;
  }
  s->totals = true;
  accept_early(s);
  set_admin(s, account);
  if (s->left == 0) { /* the last TOTALS come soon, and no counter may decrease */
    s->admin_ns = sys_now_ns() + LAST_TOTALS_NS;
  } else {
    accept_admin(s);
  }
  reach(s, POINT_TOTALS);
  send_kind(s, UPGRADE_STATUS);
}

static void on_packet(struct upgrade_successor *s, struct upgrade_packet *packet) {
  switch (packet->kind) {
    case UPGRADE_BATCH:
      accept_early(s);
      reach(s, s->serves || s->together ? POINT_BATCH_SENT : POINT_CANARY_SENT);
      taker_on_batch(&s->taker, packet);
      break;
    case UPGRADE_TOTALS:
      on_totals(s, &packet->account);
      break;
    case UPGRADE_COMMIT:
      own_all(s);
      if (!s->totals) { /* it accepts as well */
        accept_admin(s);
      }
      taker_commit(&s->taker);
      s->state = SUCCESSOR_COMMITTED;
      s->patient_ns = add_sat_u64(sys_now_ns(), s->server->config->drain_timeout_ns);
      break;
    case UPGRADE_SIGNAL:
      s->signal = (int)packet->signal;
      break;
    case UPGRADE_BACK:
      s->back = s->state == SUCCESSOR_COMMITTED;
      break;
    default: /* of a later version */
      break;
  }
}

/* The old process serves no connection any more.  What it has not counted ends here. */
static void settle_account(struct upgrade_successor *s) {
  struct server_base *base = s->server->base;
  accept_admin(s);
  if (!s->totals) { /* what it has counted is lost */
    stats_add(&base->accepted_elsewhere, s->taker.taken);
  } else {
    stats_add(&base->own_totals.ended[XCHG_ERROR], s->left);
  }
}

/* No packet comes any more. */
static void close_channel(struct upgrade_successor *s, enum successor_state state) {
  upgrade_channel_close(&s->channel);
  if (s->taker.state == TAKER_IDLE) { /* else taker_commit or taker_drop needs it */
    taker_close(&s->taker);
  }
  if (s->child == 0) { /* a child is waited for */
    upgrade_forget(&s->old_fd);
  }
  s->deadline_ns = NEVER;
  s->state = state;
}

struct upgrade_channel successor_release(struct upgrade_successor *s) {
  const struct upgrade_channel channel = s->channel;
  s->channel = (struct upgrade_channel){.fd = -1};
  s->back = false;
  settle_account(s);
  close_channel(s, SUCCESSOR_ALONE);
  return channel;
}

/* The child has closed the channel, and lives: it is the server. */
static void on_turned_back(struct upgrade_successor *s) {
  log_msg(s->log, LOG_WARN,
          "the child stays the server: this process closes what it has, and stays its parent");
  s->admin_ns = NEVER;
  taker_drop(&s->taker);
  close_channel(s, SUCCESSOR_TURNED_BACK);
}

/* The old process has ended. */
static void on_gone(struct upgrade_successor *s) {
  if (s->state < SUCCESSOR_COMMITTED) {
    struct log_line line;
    log_begin(&line, s->log, LOG_WARN,
              "the old process has ended during the upgrade: this one serves");
    log_u64(&line, "moved", s->taker.taken);
    log_end(&line);
    own_all(s);
    taker_commit(&s->taker);
  }
  settle_account(s);
  close_channel(s, SUCCESSOR_ALONE);
}

/*
 * The channel has ended.  That of a process that has died ends a little before the process.  Before
 * COMMIT a child that lives has turned back.
 */
static void on_end(struct upgrade_successor *s) {
  uint64_t now_ns = sys_now_ns();
  bool lives = s->child != 0 && s->old_fd != -1 && !upgrade_ended(s->old_fd);
  if (s->state >= SUCCESSOR_COMMITTED || !lives) {
    on_gone(s);
  } else if (s->deadline_ns == NEVER) {
    s->deadline_ns = now_ns + EXIT_NS;
  } else if (now_ns >= s->deadline_ns) {
    on_turned_back(s);
  }
}

/* Read one packet. Return: was there one? */
static bool receive(struct upgrade_successor *s) {
  struct upgrade_packet packet;
  const char *why;
  switch (upgrade_channel_recv(&s->channel, &packet, &why)) {
    case CHANNEL_OK:
      on_packet(s, &packet);
      upgrade_packet_close(&packet);
      return true;
    case CHANNEL_AGAIN:
    case CHANNEL_ERROR: /* the old process may live: look again */
      return false;
    case CHANNEL_REFUSED:
      if (packet.kind == UPGRADE_BATCH) {
        const struct upgrade_packet none = {.kind = UPGRADE_TAKEN, .number = packet.number};
        (void)upgrade_channel_send(&s->channel, &none); /* as in send_kind */
      }
      return true;
    case CHANNEL_GONE:
      on_end(s);
      return false;
  }
  return false;
}

void successor_tend(struct upgrade_successor *s) {
  int status; /* of no use */
  bool ended = s->state >= SUCCESSOR_READY && s->old_fd != -1 && upgrade_ended(s->old_fd);
  if (ended && s->channel.fd == -1 && upgrade_reap(s->old_fd, &status)) {
    upgrade_forget(&s->old_fd);
  }
  if (s->admin_ns <= sys_now_ns()) {
    accept_admin(s);
  }
  if (s->state < SUCCESSOR_READY || s->back) {
    return;
  }
  while (s->signal == 0 && !s->back && taker_tend(&s->taker)) {
    if (s->answered != s->taker.number) {
      s->answered = s->taker.number;
      reach(s, s->serves || s->together ? POINT_BATCH_TAKEN : POINT_CANARY_TAKEN);
    }
    if (s->taker.taken > 0 && !s->serves && !s->together) {
      s->serves = true;
      send_kind(s, UPGRADE_STATUS);
    }
    if (s->channel.fd == -1) {
      return;
    }
    if (!receive(s)) {
      if (ended && s->channel.fd != -1) { /* another process has its end of the channel, too */
        on_gone(s);
      }
      return;
    }
  }
}

void successor_send_stop(struct upgrade_successor *s) {
  const struct upgrade_packet packet = {.kind = UPGRADE_SIGNAL, .signal = SIGTERM};
  (void)upgrade_channel_send(&s->channel, &packet); /* if it has ended there is none to tell */
}

void successor_abort(const struct upgrade_successor *s) {
  if (s->child != 0 && s->old_fd != -1) {
    upgrade_signal(s->old_fd, SIGKILL);
  }
}

int successor_fd(const struct upgrade_successor *s, short *events) {
  bool answers = s->taker.state == TAKER_ANSWER;
  *events = answers ? POLLOUT : POLLIN;
  if (s->deadline_ns != NEVER) { /* it has ended: the deadline or the process says more */
    return -1;
  }
  return answers || s->taker.state == TAKER_IDLE ? upgrade_channel_fd(&s->channel) : -1;
}
