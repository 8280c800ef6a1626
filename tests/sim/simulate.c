/*
 * simulate: runs the real server, its acceptor and its workers, over a simulated machine, one seed
 * after the other.
 *
 *   simulate [--from N] [--seeds N] [--seed N] [--move even|all|none] [--trace] [--mutant NAME]
 *
 * Real: pool/server, acceptor, model_pool, worker, admit, inbox, all of net and core.  Simulated:
 * network, epoll, eventfd, clock, threads.  Not simulated: pool/daemon, signals, the other models,
 * UNIX sockets, sockets passed by LISTEN_FDS, and handlers of programs with the calls that only
 * they make (posts, groups, timers, offloading).
 *
 * Every even seed packs and unpacks all connections of a worker whenever it has had turns (see
 * mover.h).  --move says which seeds do.
 *
 * A seed decides everything.  The exit code is 1 if a seed failed; the run ends after FAILURES_MAX
 * of them.  If a signal, a sanitizer or a seed of more than SECONDS_MAX ends the program, it prints
 * the seed first.  (UBSan must abort for that: see TEST_ENV.)
 */
#include "tests/sim/kernel.h"
#include "tests/sim/memory.h"
#include "tests/sim/mover.h"
#include "tests/sim/oracle.h"
#include "tests/sim/plan.h"
#include "tests/fault/seam.h"
#include "tests/sim/workload.h"

#include "pool/server_stats.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEEDS 10000
#define FAILURES_MAX 10
#define PROGRESS 100000           /* seeds between two lines of progress */
#define SECONDS_MAX 60            /* of real time for a seed, which takes about a millisecond */
#define STOP_NS (500 * NS_PER_MS) /* what a stop may take beyond check_patience_ns */

static struct xchg_server server;

/* Which seeds move connections: those divisible by it; 0 = none. */
static uint64_t move_every = 2;

/* What all runs together have seen. */
static struct {
  uint64_t served, refused_starts, calls, messages, bytes_in, bytes_out, seconds;
  uint64_t ended[XCHG_REASONS];
} sums;

/* ---- one run ---- */

static void take_line(void *user, enum xchg_log_level level, const char *line) {
  (void)user;
  (void)level;
  world_trace("log: %s", line);
}

/* Wait for the threads to end, as pool/daemon does. */
static void await_end(void) {
  while (!server_finished(&server)) {
    struct pollfd done = {.fd = server_done_fd(&server), .events = POLLIN};
    uint64_t until_ns = plan.stop_now_ns;
    if (world.now_ns >= plan.stop_now_ns) {
      server_stop_now(&server);
      until_ns = NEVER;
    }
    uint64_t ms = until_ns == NEVER ? 1000 : (until_ns - world.now_ns) / NS_PER_MS + 1;
    if (sys_poll(&done, 1, (int)min_u64(ms, 1000)) == 1) {
      kernel_file(done.fd, FILE_EVENT)->count = 0;
    }
    if (world.now_ns > oracle.stop_now_ns + STOP_NS + check_patience_ns()) {
      world_fail("the stop does not end");
    }
  }
}

static void serve(void) {
  struct stats stats;
  peers_start();
  check_deadlines_start();
  while (world_wait(&plan, plan.stop_ns)) {
  }
  uint64_t patience_ns = max_u64(plan.config.drain_timeout_ns, plan.config.stop_grace_ns);
  oracle.stop_ns = world.now_ns;
  oracle.stop_now_ns = min_u64(oracle.stop_ns + patience_ns, plan.stop_now_ns);
  world_trace("the stop begins");
  server_drain(&server);
  await_end();
  oracle.over = true;
  server_totals(&server, &stats);
  check_totals(&stats);
  if (prng_chance(&world.prng, 100)) {
    server_report(&server, "stopped", false);
  }
  sums.served++;
  sums.messages += oracle.messages;
  sums.bytes_in += oracle.bytes_in;
  sums.bytes_out += oracle.bytes_out;
  for (int i = 0; i < XCHG_REASONS; i++) {
    sums.ended[i] += stats.ended[i];
  }
}

static void *run_main(void *unused) {
  struct log log;
  const struct server_setup setup = {.config = &plan.config, .log = &log};
  log_init(&log, take_line, NULL, plan.config.log_level, plan.config.log_format);
  if (prng_chance(&world.prng, plan.faults.start)) {
    memory_fail((uint32_t)prng_between(&world.prng, 1, 30));
  }
  int code = server_open(&server, &setup);
  if (code == 0) {
    oracle_listen(&server);
    mover_watch(move_every > 0 && world.seed % move_every == 0 ? &server : NULL);
    code = server_start(&server);
  }
  memory_fail(0);
  if (code == 0) {
    plan.faults.start = 0;
    serve();
  } else {
    sums.refused_starts++;
    if (plan.faults.start == 0) {
      world_fail("the server does not start, exit code %d", code);
    }
  }
  oracle.over = true;
  mover_watch(NULL);
  server_close(&server);
  return unused;
}

/* Check what a run that did not fail has left. */
static void look_back(void) {
  if (memory_blocks() != 0) {
    world_fail("%" PRId64 " blocks of memory were not freed", memory_blocks());
  }
  if (memory_maps() != 0) {
    world_fail("%" PRId64 " mappings were not unmapped", memory_maps());
  }
  if (kernel_open_count() != 0) {
    world_fail("%u descriptors were not closed", kernel_open_count());
  }
  check_peers();
}

/* Return: did it succeed? */
static bool run(uint64_t seed) {
  world_reset(seed);
  kernel_reset();
  network_reset();
  arena_reset();
  oracle_reset();
  memory_reset();
  mover_watch(NULL);
  if (plan_make() == -1) {
    world_fail("the configuration of the plan is invalid");
    return false;
  }
  peers_make(plan.peers);
  memory_reset();
  (void)world_spawn(run_main, NULL);
  world_run();
  if (!world.failed) {
    look_back();
  }
  sums.calls += oracle.calls;
  sums.seconds += (world.now_ns - plan.begin_ns) / NS_PER_S;
  config_fini(&plan.config);
  return !world.failed;
}

/* ---- many seeds ---- */

struct orders {
  uint64_t from, seeds, failures;
};

/* Of the sanitizers' interface; NULL where none is linked. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

/* In a signal handler, where the lock of stdio may be held: hence write(2). */
static void say_seed(const char *what) {
  char line[100];
  int size = snprintf(line, sizeof(line), "seed %" PRIu64 ": %s\n", world.seed, what);
  if (write(STDOUT_FILENO, line, (size_t)size) != size) {
    _exit(1);
  }
}

static void died(int number) {
  char what[60];
  snprintf(what, sizeof(what), "%s %d",
           number == SIGALRM ? "no end within the time limit, signal" : "the server died of signal",
           number);
  say_seed(what);
  (void)fflush(stdout); /* the last lines of a trace */
  (void)raise(number);  /* blocked until we return, and then it has no handler */
}

static void sanitizer_died(void) {
  (void)signal(SIGABRT, SIG_DFL); /* a sanitizer may end by it */
  if (alarm(0) > 0) {             /* within a seed, not in the leak check at the end */
    say_seed("a sanitizer has reported an error");
  }
}

/*
 * The handlers run on a stack of their own, because the stack of a fiber may have overflowed.  A
 * signal that a sanitizer handles is left to it: it reports more, and calls back.
 */
static void catch_deaths(void) {
  static char stack[64 * 1024];
  static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGALRM};
  const stack_t place = {.ss_sp = stack, .ss_size = sizeof(stack)};
  struct sigaction action = {.sa_handler = died, .sa_flags = SA_ONSTACK | SA_RESETHAND};
  (void)sigaltstack(&place, NULL);
  for (size_t i = 0; i < count_of(numbers); i++) {
    struct sigaction before;
    if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL) {
      (void)sigaction(numbers[i], &action, NULL);
    }
  }
  if (__sanitizer_set_death_callback != NULL) {
    __sanitizer_set_death_callback(sanitizer_died);
  }
}

static void report(const struct orders *orders, uint64_t failures) {
  printf("seeds %" PRIu64 " to %" PRIu64 ": %" PRIu64 " served to the end, %" PRIu64
         " refused at the start, %" PRIu64 " failed\n",
         orders->from, world.seed, sums.served, sums.refused_starts, failures);
  printf("%" PRIu64 " system calls, %" PRIu64 " simulated seconds, %" PRIu64 " messages, %" PRIu64
         " bytes in, %" PRIu64 " bytes out; connections:",
         sums.calls, sums.seconds, sums.messages, sums.bytes_in, sums.bytes_out);
  for (enum xchg_reason i = 0; i < XCHG_REASONS; i++) {
    printf(" %s %" PRIu64, xchg_reason_name(i), sums.ended[i]);
  }
  printf("; %" PRIu64 " moved\n", mover_moved());
}

static int run_all(const struct orders *orders) {
  uint64_t failures = 0;
  for (uint64_t i = 0; i < orders->seeds && failures < orders->failures; i++) {
    (void)alarm(SECONDS_MAX);
    if (!run(orders->from + i)) {
      failures++;
      printf("seed %" PRIu64 ": %s\n", world.seed, world.failure);
      fflush(stdout);
    }
    if ((i + 1) % PROGRESS == 0) {
      printf("%" PRIu64 " seeds, %" PRIu64 " failed\n", i + 1, failures);
      fflush(stdout);
    }
  }
  (void)alarm(0);
  report(orders, failures);
  return failures > 0 ? 1 : 0;
}

static enum mutant mutant_of(const char *name) {
  static const char *const names[MUTANTS] = {"none", "drop", "flip", "edge",  "wake",
                                             "late", "ack",  "fin",  "accept"};
  for (int i = 0; i < MUTANTS; i++) {
    if (strcmp(name, names[i]) == 0) {
      return (enum mutant)i;
    }
  }
  fprintf(stderr, "simulate: no mutant '%s'\n", name);
  exit(64);
}

int main(int argc, char **argv) {
  const char *seeds = getenv("SIMULATE_SEEDS");
  struct orders orders = {.from = 1,
                          .failures = FAILURES_MAX,
                          .seeds = seeds != NULL ? strtoull(seeds, NULL, 10) : SEEDS};
  for (int i = 1; i < argc; i++) {
    const char *value = i + 1 < argc ? argv[i + 1] : "";
    if (strcmp(argv[i], "--trace") == 0) {
      world.trace = true;
      continue;
    }
    i++;
    if (strcmp(argv[i - 1], "--from") == 0) {
      orders.from = strtoull(value, NULL, 10);
    } else if (strcmp(argv[i - 1], "--seeds") == 0) {
      orders.seeds = strtoull(value, NULL, 10);
    } else if (strcmp(argv[i - 1], "--seed") == 0) {
      orders.from = strtoull(value, NULL, 10);
      orders.seeds = 1;
    } else if (strcmp(argv[i - 1], "--failures") == 0) {
      orders.failures = strtoull(value, NULL, 10);
    } else if (strcmp(argv[i - 1], "--move") == 0) {
      move_every = strcmp(value, "all") == 0 ? 1 : strcmp(value, "none") == 0 ? 0 : 2;
    } else if (strcmp(argv[i - 1], "--mutant") == 0) {
      world.mutant = mutant_of(value);
    } else {
      fprintf(stderr,
              "usage: simulate [--from N] [--seeds N] [--seed N] [--move even|all|none] "
              "[--trace] [--mutant N]\n");
      return 64;
    }
  }
  catch_deaths();
  return run_all(&orders);
}
