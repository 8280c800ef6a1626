/*
 * plan: see plan.h.  A configuration is written as environment text and read by the real parser.
 * Values are small, so that limits are reached.
 */
#include "tests/sim/plan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct plan plan;

static uint64_t pick(uint64_t low, uint64_t high) { return prng_scaled(&world.prng, low, high); }

static bool chance(unsigned permille) { return prng_chance(&world.prng, permille); }

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
  va_list list;
  char *line = plan.lines[plan.lines_count];
  va_start(list, format);
  vsnprintf(line, PLAN_LINE, format, list);
  va_end(list);
  plan.environment[plan.lines_count++] = line;
}

/* Set ${name} to a time between the two, in microseconds; sometimes to 0 if ${off}. */
static void say_time(const char *name, uint64_t low_us, uint64_t high_us, bool off) {
  if (off && chance(150)) {
    say("%s=0", name);
  } else if (chance(850)) {
    say("%s=%" PRIu64 "us", name, pick(low_us, high_us));
  }
}

/* ---- the exchange ---- */

static const char *word(uint64_t size) {
  static char text_bytes[64];
  memset(text_bytes, 'a' + (int)prng_below(&world.prng, 26), size);
  text_bytes[size] = 0;
  return text_bytes;
}

static void say_exchange(void) {
  static const char *const exchanges[] = {"greet", "line", "echo", "discard"};
  static const char *const frames[] = {"nul", "line", "u16", "u32", "raw"};
  uint64_t fixed = 0, text = pick(1, 40);
  say("XCHG_EXCHANGE=%s", exchanges[prng_below(&world.prng, 4)]);
  if (chance(150)) {
    fixed = pick(1, 40);
    text = fixed;
    say("XCHG_FRAME=fixed:%" PRIu64, fixed);
  } else if (chance(700)) {
    say("XCHG_FRAME=%s", frames[prng_below(&world.prng, 5)]);
  }
  if (chance(300)) {
    say("XCHG_GREETING=text:%s", word(text));
  } else if (fixed > 0 || chance(300)) {
    say("XCHG_GREETING=none");
  }
  if (chance(650)) {
    say("XCHG_REPLY=echo");
  } else if (chance(400)) {
    say("XCHG_REPLY=text:%s", word(text));
  }
  if (chance(500)) {
    say("XCHG_MESSAGES=%" PRIu64, pick(0, 6));
  }
  if (chance(30)) {
    say("XCHG_MAX_MESSAGE=300KiB");
  } else if (chance(700)) {
    say("XCHG_MAX_MESSAGE=%" PRIu64, fixed + pick(1, 5000));
  }
}

/* ---- limits and times ---- */

/* All listeners take PROXY headers, or none does. */
static void say_listen(void) {
  static const char *const options[] = {";proxy=v1", ";proxy=v2", ";proxy=any"};
  plan.proxied = chance(250);
  const char *option = plan.proxied ? options[prng_below(&world.prng, 3)] : "";
  switch (prng_below(&world.prng, 4)) {
    case 0:
      say("XCHG_LISTEN=127.0.0.1:0%s", option);
      break;
    case 1:
      say("XCHG_LISTEN=[::1]:0%s", option);
      break;
    case 2:
      say("XCHG_LISTEN=:0%s", option);
      break;
    default:
      say("XCHG_LISTEN=127.0.0.1:0%s,:0%s,[::1]:0%s", option, option, option);
      break;
  }
  if (plan.proxied) {
    say("XCHG_PROXY_TRUST=0.0.0.0/0,::/0");
    say_time("XCHG_PROXY_TIMEOUT", 3000000, 60000000, false);
  }
}

static void say_limits(void) {
  say_listen();
  say("XCHG_BACKLOG=%" PRIu64, pick(chance(200) ? 1 : 8, 60));
  say("XCHG_WORKERS=%" PRIu64, pick(1, 4));
  say("XCHG_QUEUE=%" PRIu64, pick(1, 16));
  say("XCHG_DISPATCH=%s", chance(500) ? "least" : "round-robin");
  if (chance(150)) {
    say_time("XCHG_SPIN", 1, 200, true);
  }
  say("XCHG_MAX_CONNECTIONS=%" PRIu64, pick(chance(300) ? 1 : 10, 60));
  say("XCHG_OVERLOAD=%s", chance(700) ? "wait" : "refuse");
  if (chance(200)) {
    say("XCHG_MAX_PER_IP=%" PRIu64, pick(1, 6));
  }
  if (chance(100)) {
    say("XCHG_DENY=10.0.0.0/8,fd00::/8");
  }
  if (chance(50)) {
    say("XCHG_ALLOW=127.0.0.0/8,::1");
  }
  say("XCHG_MAX_PENDING=%" PRIu64, UINT64_C(4096) + pick(0, 20000));
  if (chance(300)) {
    say("XCHG_SNDBUF=16KiB");
  }
}

static void say_times(void) {
  say_time("XCHG_IDLE_TIMEOUT", 50000, 20000000, true);
  say_time("XCHG_MESSAGE_TIMEOUT", 50000, 10000000, true);
  say_time("XCHG_WRITE_TIMEOUT", 50000, 10000000, true);
  if (chance(200)) {
    say_time("XCHG_MAX_LIFETIME", 50000, 10000000, false);
  }
  say_time("XCHG_LINGER", 1000, 3000000, true);
  say_time("XCHG_STOP_GRACE", 1000, 500000, true);
  say_time("XCHG_DRAIN_TIMEOUT", 1000, 20000000, true);
}

static void say_the_rest(void) {
  static const char *const levels[] = {"error", "warn", "info", "debug"};
  say("XCHG_NODELAY=%s", chance(500) ? "on" : "off");
  say("XCHG_KEEPALIVE=%s", chance(500) ? "on" : "off");
  say("XCHG_REUSEPORT=%s", chance(500) ? "on" : "off");
  say("XCHG_OFFLOAD_THREADS=%" PRIu64, pick(0, 4));
  say("XCHG_LOG_LEVEL=%s", levels[prng_below(&world.prng, 4)]);
  say("XCHG_LOG_FORMAT=%s", chance(500) ? "logfmt" : "json");
  say("XCHG_SLOW_LOG=%s", chance(500) ? "0" : "20ms");
}

/* ---- faults ---- */

static unsigned now_and_then(unsigned seeds, unsigned most) {
  return chance(seeds) ? (unsigned)pick(1, most) : 0;
}

static void choose_faults(void) {
  static const int starving[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
  struct faults *faults = &plan.faults;
  bool any = chance(500); /* the other seeds have no faults that excuse anything */
  unsigned few = any ? 150 : 0;
  *faults = (struct faults){.starve_ns = NEVER, .starved_ns = NEVER};
  faults->eintr = now_and_then(300, 200);
  faults->shorten = now_and_then(300, 300);
  faults->start = now_and_then(any ? 20 : 0, 100);
  faults->accept = now_and_then(few, 500);
  faults->recv = now_and_then(few, 50);
  faults->send = now_and_then(few, 50);
  faults->control = now_and_then(few, 200);
  faults->option = now_and_then(few, 500);
  faults->map = now_and_then(few, 300);
  faults->unmap = now_and_then(few, 300);
  faults->breaks = now_and_then(2 * few, 500);
  if (chance(few)) {
    faults->starve_ns = plan.begin_ns + pick(0, 5 * NS_PER_S);
    faults->starved_ns = faults->starve_ns + pick(1, 3 * NS_PER_S);
    faults->starve_errno = starving[prng_below(&world.prng, 4)];
  }
}

static void choose_weather(void) {
  struct weather *weather = &world.weather;
  *weather = (struct weather){.yield = (unsigned)prng_below(&world.prng, 400)};
  weather->yield_atom = chance(500) ? 0 : (unsigned)pick(1, 300);
  weather->call_ns = pick(100, 3000);
  weather->late_ns = pick(1, 2 * NS_PER_MS);
  weather->spurious = now_and_then(300, 300);
  if (chance(200)) {
    weather->stall = (unsigned)pick(1, 100);
    weather->stall_ns = pick(NS_PER_US, (chance(200) ? 3000 : 200) * NS_PER_MS);
  }
}

int plan_make(void) {
  const struct config_facts facts = {.cpus = 1024, .descriptors = 1048576, .somaxconn = 4096};
  plan.lines_count = 0;
  say_exchange();
  say_limits();
  say_times();
  say_the_rest();
  plan.environment[plan.lines_count] = NULL;
  plan.begin_ns = world.now_ns;
  plan.peers = (uint32_t)(chance(500) ? pick(1, 30) : prng_between(&world.prng, 8, 60));
  plan.stop_ns = plan.begin_ns + pick(NS_PER_MS, 30 * NS_PER_S);
  plan.stop_now_ns = chance(100) ? plan.stop_ns + pick(1, 2 * NS_PER_S) : NEVER;
  choose_weather();
  choose_faults();
  for (uint32_t i = 0; i < plan.lines_count; i++) {
    world_trace("%s", plan.lines[i]);
  }
  return config_load(&plan.config, plan.environment, &facts, stderr) == 0 ? 0 : -1;
}
