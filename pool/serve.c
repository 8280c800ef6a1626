/*
 * serve: see serve.h.  The main thread waits for signals and for the end of threads.  All
 * connections run on other threads.
 */
#include "pool/serve.h"

#include "core/sys.h"
#include "core/parse.h"
#include "core/config.h"
#include "pool/stop_guard.h"
#include "pool/poll_set.h"
#include "pool/server_stats.h"
#include "pool/confine.h"
#include "pool/upgrade_log.h"
#include "pool/upgrade_round.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

/* How long threads may take after the drain timeout, if nothing ends meanwhile. */
#define STUCK_NS (2 * NS_PER_S)

#define EXIT_SECOND_SIGNAL 1

/* ---- the stop ---- */

/* Connections end at the drain timeout, which begins now. */
static void count_down(struct serve *s) {
  const struct config *config = s->setup.config;
  uint64_t patience_ns = max_u64(config->drain_timeout_ns, config->stop_grace_ns);
  s->delayed_ns = NEVER;
  s->drained_ns = add_sat_u64(sys_now_ns(), patience_ns);
  s->stuck_ns = add_sat_u64(s->drained_ns, STUCK_NS);
}

/* The delay is over. */
static void drain(struct serve *s) {
  s->drains = true;
  count_down(s);
  server_drain(&s->server);
}

/* /readyz says 503 before anything else happens. */
static void begin_stop(struct serve *s, uint64_t delay_ns) {
  s->begun = true;
  admin_server_set_draining(s->admin);
  server_log_stopping(s->setup.log, delay_ns);
  service_stopping(s->setup.service);
  successor_send_stop(s->setup.successor);
  s->delayed_ns = add_sat_u64(sys_now_ns(), delay_ns);
}

/* Does an upgrade have to end before a stop begins?  No other one begins. */
static bool stop_must_wait(struct serve *s) {
  bool running = upgrade_cancel(&s->upgrade);
  s->stop_waits = running || successor_waits(s->setup.successor);
  return s->stop_waits;
}

static void on_failure(struct serve *s) {
  if (!s->begun && stop_must_wait(s)) {
    return;
  }
  if (!s->begun) {
    begin_stop(s, 0);
  }
  if (!s->drains) {
    s->signalled = true;
    drain(s);
  }
}

/* A second signal has come. Thread: main's or the guard's. */
static void end_at_once(void *argument) {
  struct serve *s = argument;
  upgrade_abort(&s->upgrade);
  successor_abort(s->setup.successor);
  log_msg(s->setup.log, LOG_WARN, "second signal: ending at once");
  log_writer_flush(s->setup.log_writer);
  _exit(EXIT_SECOND_SIGNAL);
}

static void on_stop_signal(struct serve *s) {
  bool skip = s->setup.signals->stop == SIGINT && s->on_terminal;
  if (s->signalled) {
    end_at_once(s);
  }
  s->signalled = true;
  if (!s->begun && stop_must_wait(s)) {
    return;
  }
  if (!s->begun) {
    begin_stop(s, skip ? 0 : s->setup.config->drain_delay_ns);
  } else if (!s->drains && (skip || upgrade_left(&s->upgrade))) {
    s->delayed_ns = 0;
  }
}

/* Obey a signal that was sent to this process or passed on.  Another server gets it, too. */
static void obey_signal(struct serve *s, enum signals_what what) {
  const struct upgrade_successor *successor = s->setup.successor;
  if (successor_turned_back(successor)) {
    upgrade_round_pass(successor->old_fd, what, s->setup.signals);
    return;
  }
  switch (what) {
    case SIGNALS_STOP:
      upgrade_pass_signal(&s->upgrade, s->setup.signals->stop);
      on_stop_signal(s);
      break;
    case SIGNALS_STATS:
      if (upgrade_left(&s->upgrade)) {
        upgrade_pass_signal(&s->upgrade, SIGUSR1); /* the totals are there */
      } else {
        server_report(&s->server, "stats", true);
      }
      break;
    case SIGNALS_CHILD:
      server_sigchld(&s->server);
      break;
    case SIGNALS_UPGRADE:
      (void)upgrade_begin(&s->upgrade, NULL); /* the log says what came of it */
      break;
    case SIGNALS_NONE:
      break;
  }
}

/* Read one signal.  Until COMMIT the process with the id of the server answers all but a stop. */
static void read_signal(struct serve *s) {
  struct upgrade_successor *successor = s->setup.successor;
  enum signals_what what = signals_next(s->setup.signals);
  successor_tend(successor); /* COMMIT may have come before the signal */
  if (what == SIGNALS_STATS && successor_waits(successor)) {
    s->report_waits = successor_returns(successor); /* until the totals are here */
  } else if (what == SIGNALS_STOP || successor_returns(successor) || !successor_waits(successor)) {
    obey_signal(s, what);
  }
}

/* Obey what the old process has passed on. */
static void take_passed_signals(struct serve *s) {
  struct upgrade_successor *successor = s->setup.successor;
  for (successor_tend(successor); successor->signal != 0; successor_tend(successor)) {
    int number = successor->signal;
    successor->signal = 0;
    obey_signal(s, number == SIGUSR1 ? SIGNALS_STATS
                                     : signals_note(s->setup.signals, number, SIGNALS_PASSED));
  }
}

/*
 * Is it time to end?  Connections end at the drain timeout.  Offloaded work, and the process before
 * this one, whose last totals are awaited, may run until then.  A callback that blocks its thread
 * outlives it: the thread is left alone once nothing has ended for STUCK_NS.
 */
static bool is_over(struct serve *s) {
  uint64_t now_ns = sys_now_ns();
  if (server_finished(&s->server)) {
    bool awaits = server_stop_works(&s->server) != 0 ||
                  successor_is_connected(s->setup.successor) ||
                  (upgrade_left(&s->upgrade) && service_pending(s->setup.service));
    return !awaits || now_ns >= s->drained_ns;
  }
  if (now_ns < s->stuck_ns) {
    return false;
  }
  struct stats totals;
  server_totals(&s->server, &totals);
  uint64_t ended = stats_ended(&totals);
  bool stuck = ended == s->ended;
  s->ended = ended;
  s->stuck_ns = now_ns + STUCK_NS;
  return stuck;
}

/* ---- waiting ---- */

/* How long to wait for an event, in ms; -1 = without a limit. */
static int patience_ms(const struct serve *s) {
  uint64_t until_ns = server_finished(&s->server) ? s->drained_ns : s->stuck_ns;
  until_ns = min_u64(until_ns, min_u64(s->delayed_ns, s->upgrade_ns));
  until_ns = min_u64(until_ns, min_u64(s->log_ns, s->service_ns));
  if (until_ns == NEVER) {
    return -1;
  }
  uint64_t ms = sub_sat_u64(until_ns, sys_now_ns()) / NS_PER_MS + 1; /* rounded up */
  return (int)min_u64(ms, INT32_MAX);
}

/* Until COMMIT the manager listens to the old process.  After a return READY=1 awaits its end. */
static void tend_service(struct serve *s) {
  bool upgrades = successor_returns(s->setup.successor) ||
                  (upgrade_running(&s->upgrade) && !s->upgrade.returns);
  enum service_phase phase = s->drains  ? SERVICE_DRAINING
                             : s->begun ? SERVICE_DELAYED
                             : upgrades ? SERVICE_UPGRADING
                                        : SERVICE_SERVING;
  if (successor_waits(s->setup.successor)) {
    return;
  }
  s->service_ns =
      service_tend(s->setup.service, &s->server, phase, s->drains ? s->drained_ns : s->delayed_ns);
}

/* Called before signals are read, so that a signal after a command's answer comes second. */
static void obey_commands(struct serve *s) {
  s->log_ns = admin_server_tend_log(s->admin, sys_now_ns());
  if (!s->begun && !s->stop_waits && admin_server_drain_asked(s->admin) && !stop_must_wait(s)) {
    begin_stop(s, s->setup.config->drain_delay_ns);
  }
}

/* In a return: this process comes to the child, or goes back, or stays the parent. */
static void tend_round(struct serve *s) {
  struct upgrade_successor *successor = s->setup.successor;
  if (successor->back) {
    const struct upgrade_channel channel = successor_release(successor);
    upgrade_round_begin(&s->upgrade, &channel, (pid_t)successor->hello.pid);
  }
  if (s->report_waits && !successor_waits(successor)) {
    s->report_waits = false;
    obey_signal(s, SIGNALS_STATS);
  }
  if (successor_turned_back(successor) && !s->drains) {
    s->begun = s->drains = true;
    count_down(s);
    server_stop_now(&s->server);
  }
  s->requests.held = successor_waits(successor) || upgrade_returns(&s->upgrade) ||
                     successor_awaits_end(successor, sys_now_ns());
}

/* Go on with an upgrade, in the old process or in the new one. */
static void tend_upgrade(struct serve *s) {
  struct upgrade_successor *successor = s->setup.successor;
  take_passed_signals(s);
  tend_round(s);
  bool left = upgrade_left(&s->upgrade);
  s->upgrade_ns = upgrade_tend(&s->upgrade);
  admin_server_set_upgrading(s->admin, upgrade_running(&s->upgrade));
  if (upgrade_left(&s->upgrade) && !left) {
    s->begun = true;
    count_down(s); /* for what has stayed */
  }
  if (upgrade_left(&s->upgrade) && upgrade_admin_left(&s->upgrade)) {
    admin_server_end(s->admin); /* it counts no more; the new process has an endpoint */
  }
  if (upgrade_stops(&s->upgrade) && !s->drains) {
    log_msg(s->setup.log, LOG_INFO, "the new process stops or has ended: this one drains");
    drain(s);
  }
  s->upgrade_ns = min_u64(s->upgrade_ns, successor_next_ns(successor, sys_now_ns()));
  s->upgrade_ns = min_u64(s->upgrade_ns, requests_tend(&s->requests));
  if (upgrade_running(&s->upgrade)) { /* the request may have begun it */
    s->upgrade_ns = min_u64(s->upgrade_ns, s->upgrade.deadline_ns);
  }
  s->upgrade_ns = min_u64(s->upgrade_ns, upgrade_log_rest(s->setup.log, &s->upgrade.channel));
  s->upgrade_ns = min_u64(s->upgrade_ns, upgrade_log_rest(s->setup.log, &successor->channel));
  if (s->stop_waits && !upgrade_running(&s->upgrade) && !successor_waits(successor) &&
      !successor_turned_back(successor)) {
    s->stop_waits = false;
    if (upgrade_left(&s->upgrade)) {
      upgrade_pass_signal(&s->upgrade, SIGTERM);
      drain(s);
    } else {
      begin_stop(s, s->setup.config->drain_delay_ns);
    }
  }
}

static void do_what_is_due(struct serve *s) {
  if (server_failed(&s->server)) {
    on_failure(s);
  }
  if (s->delayed_ns != NEVER && s->delayed_ns <= sys_now_ns()) {
    drain(s);
  }
}

/* What main waits for: signals, the server's wake, then what an upgrade has open. */
static void fill(struct serve *s, struct poll_set *set) {
  short events;
  int request, asker;
  poll_set_add(set, s->setup.signals->fd, POLLIN);
  poll_set_add(set, server_done_fd(&s->server), POLLIN);
  int fd = upgrade_fd(&s->upgrade, &events);
  poll_set_add(set, fd, events);
  poll_set_add(set, upgrade_process_fd(&s->upgrade), POLLIN);
  fd = successor_fd(s->setup.successor, &events);
  poll_set_add(set, fd, events);
  poll_set_add(set, successor_process_fd(s->setup.successor), POLLIN);
  requests_fds(&s->requests, &request, &asker);
  poll_set_add(set, request, POLLIN);
  poll_set_add(set, asker, POLLIN);
}

/* Wait for signals, commands and the server's end. Return: the exit code. */
static int attend(struct serve *s) {
  tend_upgrade(s);
  tend_service(s);
  while (!is_over(s)) {
    struct poll_set set = {.count = 0};
    fill(s, &set);
    (void)sys_poll(set.fds, set.count, patience_ms(s)); /* EINTR and the like: look again */
    obey_commands(s);
    if (set.fds[0].revents != 0) {
      read_signal(s);
    }
    uint64_t count;
    if (set.fds[1].revents != 0 && read(set.fds[1].fd, &count, sizeof(count)) == -1 &&
        errno != EAGAIN) {
      log_errno(s->setup.log, LOG_ERROR, "cannot read an eventfd", errno);
    }
    do_what_is_due(s);
    tend_upgrade(s);
    tend_service(s); /* last: it may have sent what the end waits for */
  }
  return server_failed(&s->server) ? SERVER_OSERR : 0;
}

/* The exit code.  The old process of an upgrade may execute the new program here. */
static int final_code(struct serve *s, int code) {
  bool left = upgrade_left(&s->upgrade);
  return left ? upgrade_round_end(&s->upgrade, s->setup.signals, !s->drains) : code;
}

/* End without a return, as one that stays the parent when its child has ended. */
static void end_now(struct serve *s, int code) {
  struct upgrade_successor *successor = s->setup.successor;
  if (successor_stays_parent(successor)) {
    upgrade_channel_close(&successor->channel); /* the child learns of it by that */
    code = upgrade_round_wait(successor->old_fd, s->setup.signals);
  }
  code = final_code(s, code);
  log_writer_flush(s->setup.log_writer);
  _exit(code);
}

/*
 * End now if work or a callback still runs, or after a start that has failed late. It uses code and
 * data that a return would unmap, and nothing can stop it. So nothing is freed, and neither `done`
 * nor on_stop is called.
 */
static void leave_running(struct serve *s, int code) {
  bool finished = server_finished(&s->server);
  uint32_t jobs = server_stop_works(&s->server);
  if (finished && jobs == 0) {
    return;
  }
  if (s->begun) { /* else the start has failed and has said so */
    struct log_line line;
    log_begin(
        &line, s->setup.log, LOG_WARN,
        finished ? "ending before offloaded work has ended" : "ending while a callback blocks");
    log_u64(&line, "jobs", jobs);
    log_end(&line);
  }
  server_close_listeners(&s->server);
  end_now(s, code);
}

/*
 * End now if the process is left, but its admin endpoint has never answered: a stop of the endpoint
 * would stop the sockets for the new process, too.
 */
static void leave_endpoint(struct serve *s, int code) {
  if (upgrade_left(&s->upgrade) && !upgrade_admin_left(&s->upgrade)) {
    log_msg(s->setup.log, LOG_WARN, "ending while the admin endpoint does not answer");
    upgrade_close(&s->upgrade);
    end_now(s, code);
  }
}

/* ---- life ---- */

/* on_stop may block: a second signal ends the process, but the first one waits for on_stop. */
static void close_server(struct serve *s) {
  struct stop_guard guard;
  const struct xchg_handler *handler = s->setup.handler;
  bool stops = s->signalled || !upgrade_left(&s->upgrade);
  bool guarded = stops && handler != NULL && handler->on_stop != NULL;
  if (guarded) {
    stop_guard_begin(&guard, s->setup.signals, end_at_once, s);
  }
  server_close(&s->server); /* what is left may still post to the admin endpoint */
  if (guarded) {
    stop_guard_end(&guard);
  }
}

int serve_open(struct serve *serve, const struct serve_setup *setup) {
  *serve = (struct serve){.setup = *setup,
                          .on_terminal = isatty(STDERR_FILENO) == 1,
                          .delayed_ns = NEVER,
                          .drained_ns = NEVER,
                          .stuck_ns = NEVER,
                          .log_ns = NEVER,
                          .service_ns = NEVER,
                          .upgrade_ns = NEVER};
  const struct admin_setup admin = {.config = setup->config,
                                    .facts = setup->facts,
                                    .environment = setup->environment,
                                    .log = setup->log,
                                    .log_writer = setup->log_writer,
                                    .sandbox = setup->sandbox,
                                    .inherited = setup->successor->handed.listeners,
                                    .inherited_count = setup->successor->handed.count,
                                    .held = successor_is(setup->successor)};
  const struct server_setup server = {.config = setup->config,
                                      .log = setup->log,
                                      .handler = setup->handler,
                                      .sandbox = setup->sandbox,
                                      .passed = setup->facts->passed.data,
                                      .passed_count = setup->facts->passed.data_count,
                                      .inherited = setup->successor->handed.listeners,
                                      .inherited_count = setup->successor->handed.count,
                                      .held = successor_is(setup->successor)};
  int code = admin_server_open(&serve->admin, &admin);
  if (code == 0) {
    serve->opened = true;
    code = server_open(&serve->server, &server);
  }
  const struct upgrade_setup upgrade = {.config = setup->config,
                                        .facts = setup->facts,
                                        .environment = setup->environment,
                                        .program = setup->successor->program,
                                        .handler = setup->handler,
                                        .log = setup->log,
                                        .log_writer = setup->log_writer,
                                        .server = &serve->server,
                                        .admin = serve->admin,
                                        .before = &setup->successor->channel,
                                        .requests = &serve->requests.listener,
                                        .service = setup->service};
  upgrade_open(&serve->upgrade, &upgrade);
  requests_init(&serve->requests, &serve->upgrade);
  return code == 0 ? requests_open(&serve->requests, setup->successor->handed.listeners,
                                   setup->successor->handed.count)
                   : code;
}

/* The admin endpoint answers while on_start runs. Return: 0, or the exit code. */
static int start(struct serve *s) {
  int code = admin_server_start(s->admin);
  if (code == 0) {
    code = server_call_on_start(&s->server);
  }
  if (code == 0) {
    code = server_start(&s->server);
  }
  if (code == 0) {
    code = confine_main(s->setup.sandbox, s->setup.log);
  }
  if (code == 0 && successor_is(s->setup.successor) &&
      successor_ready(s->setup.successor, &s->server, s->admin, &s->requests.listener,
                      s->setup.log) == -1) {
    log_errno(s->setup.log, LOG_ERROR, "cannot take over connections", ENOMEM);
    code = SERVER_OSERR;
  }
  return code;
}

int serve_run(struct serve *s) {
  int code = start(s);
  if (code == 0) {
    admin_server_set_serving(s->admin,
                             &s->server); /* before `listening`: its reader may request /readyz */
    server_log_listening(&s->server, s->setup.handler != NULL, successor_is(s->setup.successor));
    if (!successor_is(s->setup.successor)) {
      service_ready(s->setup.service); /* else the manager knows it from the old process */
    }
    code = attend(s);
    if (!upgrade_left(&s->upgrade) && !successor_turned_back(s->setup.successor)) {
      /* else the totals are those of the other process */
      server_report(&s->server, "stopped", !server_finished(&s->server));
    }
    leave_endpoint(s, code);
    upgrade_close(&s->upgrade);
  }
  admin_server_end(s->admin); /* before anything that it reads is freed */
  if (s->server.accepting) {
    leave_running(s, code);
  }
  return code;
}

int serve_close(struct serve *serve, int code) {
  requests_close(&serve->requests);
  if (serve->opened) {
    close_server(serve);
  }
  admin_server_close(serve->admin);
  return final_code(serve, code);
}
