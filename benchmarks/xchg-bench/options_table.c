/*
 * options_table: the rows, and the readers of values that are more than a number.
 *
 * A reader looks at one text only.  Upper limits are generous: they catch typing errors and what
 * does not fit the fields.
 */
#include "options_table.h"

#include "core/parse.h"
#include "units.h"
#include "proxy_header.h"
#include "objective.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GIB (UINT64_C(1) << 30)
#define RATE_MAX 1e9
#define ITEM_MAX 128

#define WANT_RATE "want a rate per second from 1 to 1G"
#define WANT_TIME "want a time such as 500ms, 2s or 1m30s"
#define WANT_POSITIVE_TIME WANT_TIME ", above 0"
#define WANT_COUNT "want an integer of at least 1"
#define WANT_PATH "want the path of a file"
#define WANT_TARGET "want host:port, [v6]:port or unix:/path"

/* ---- plain values ---- */

static int read_rate(const char *text, double *rate) {
  double number;
  if (units_parse_number(text, &number) == -1 || number < 1 || number > RATE_MAX) {
    return -1;
  }
  *rate = number;
  return 0;
}

static int read_positive_time(const char *text, uint64_t *time_ns) {
  return units_parse_time(text, time_ns) == -1 || *time_ns == 0 ? -1 : 0;
}

static int read_number(const struct option_row *row, const char *text, void *field) {
  uint64_t number;
  const int parsed =
      row->kind == OPTION_TIME ? units_parse_time(text, &number) : units_parse_count(text, &number);
  if (parsed == -1 || number < row->min || number > row->max) {
    return -1;
  }
  if (row->kind == OPTION_U32) {
    *(uint32_t *)field = (uint32_t)number;
  } else {
    *(uint64_t *)field = number;
  }
  return 0;
}

const char *option_read(struct options *options, enum option_id id, const char *text) {
  const struct option_row *row = &option_rows[id];
  void *field = (char *)options + row->field;
  switch (row->kind) {
    case OPTION_NONE:
      return NULL;
    case OPTION_FLAG:
      *(bool *)field = true;
      return NULL;
    case OPTION_U32:
    case OPTION_U64:
    case OPTION_TIME:
      return read_number(row, text, field) == -1 ? row->wanted : NULL;
    case OPTION_EXACT:
      return parse_u64(text, field) == -1 ? row->wanted : NULL;
    case OPTION_REAL:
      return read_rate(text, field) == -1 ? row->wanted : NULL;
    case OPTION_PATH:
      *(const char **)field = text;
      return *text == 0 ? row->wanted : NULL;
    case OPTION_OTHER:
      return row->read(options, text);
    case OPTION_WRONG:
      break;
  }
  return row->wanted;
}

/* ---- values with parts ---- */

/*
 * Copy the next item, up to ${separator} or the end, from ${*rest} to ${item}.  ${*rest} becomes
 * what follows it, or NULL after the last one.  Return: 0, or -1 if the item is too long.
 */
static int next_item(const char **rest, char separator, char item[ITEM_MAX]) {
  const char *end = strchrnul(*rest, separator);
  size_t size = (size_t)(end - *rest);
  if (size >= ITEM_MAX) {
    return -1;
  }
  memcpy(item, *rest, size);
  item[size] = 0;
  *rest = *end == 0 ? NULL : end + 1;
  return 0;
}

/* "64", "uniform:16,1024", "exp:200" */
static const char *read_size(struct options *o, const char *text) {
  static const char wanted[] = "want a size, uniform:MIN,MAX or exp:MEAN, of at most 1GiB";
  struct size_spec spec = {.kind = SIZE_FIXED};
  char item[ITEM_MAX];
  if (strncmp(text, "uniform:", 8) == 0) {
    spec.kind = SIZE_UNIFORM;
    text += 8;
    if (next_item(&text, ',', item) == -1 || units_parse_size(item, &spec.a) == -1 ||
        text == NULL || units_parse_size(text, &spec.b) == -1 || spec.a > spec.b || spec.b > GIB) {
      return wanted;
    }
  } else {
    if (strncmp(text, "exp:", 4) == 0) {
      spec.kind = SIZE_EXPONENTIAL;
      text += 4;
    }
    if (units_parse_size(text, &spec.a) == -1 || spec.a > GIB ||
        (spec.kind == SIZE_EXPONENTIAL && spec.a == 0)) {
      return wanted;
    }
  }
  o->size = spec;
  return NULL;
}

static const char *read_bind(struct options *o, const char *text) {
  uint32_t count = 0;
  while (text != NULL) {
    char item[ITEM_MAX];
    uint8_t bytes[16];
    if (count == BENCH_BIND_MAX || next_item(&text, ',', item) == -1) {
      return "want at most 64 numeric addresses, separated by commas";
    }
    if (inet_pton(AF_INET, item, bytes) == 1) {
      addr_from_ipv4(&o->bind[count], bytes, 0);
    } else if (inet_pton(AF_INET6, item, bytes) == 1) {
      addr_from_ipv6(&o->bind[count], bytes, 0);
    } else {
      return "want numeric addresses separated by commas, such as 127.0.0.1,127.0.0.2";
    }
    count++;
  }
  o->bind_count = count;
  return NULL;
}

static const char *read_proxy(struct options *o, const char *text) {
  return proxy_header_parse(text, &o->proxy) == -1 ? PROXY_HEADER_WANTED : NULL;
}

static const char *read_pids(struct options *o, const char *text) {
  uint32_t count = 0;
  while (text != NULL) {
    char item[ITEM_MAX], path[64];
    uint64_t pid;
    if (count == BENCH_PIDS_MAX || next_item(&text, ',', item) == -1 ||
        parse_u64(item, &pid) == -1 || pid == 0 || pid > INT32_MAX) {
      return "want at most 64 process ids, separated by commas";
    }
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (access(path, R_OK) == -1) {
      return "no such process, or it cannot be inspected";
    }
    o->pids[count++] = (int)pid;
  }
  o->pids_count = count;
  return NULL;
}

static const char *read_search(struct options *o, const char *text) {
  o->search = true;
  return objective_parse(text, &o->search_objective) == -1 ? "want " OBJECTIVE_WANTED : NULL;
}

static const char *read_slo(struct options *o, const char *text) {
  const bool wrong = objective_parse_list(text, o->slo, &o->slo_count) == -1;
  return wrong ? "want at most 16, separated by commas: " OBJECTIVE_WANTED : NULL;
}

/* FROM:TO:TIME */
static const char *read_ramp(struct options *o, const char *text) {
  char from[ITEM_MAX], to[ITEM_MAX];
  o->ramp = true;
  if (next_item(&text, ':', from) == -1 || text == NULL || next_item(&text, ':', to) == -1 ||
      text == NULL || read_rate(from, &o->ramp_from) == -1 || read_rate(to, &o->ramp_to) == -1 ||
      read_positive_time(text, &o->ramp_ns) == -1) {
    return "want FROM:TO:TIME such as 1k:10k:30s, rates from 1 to 1G";
  }
  return NULL;
}

/* R1,R2,...@TIME */
static const char *read_steps(struct options *o, const char *text) {
  static const char wanted[] = "want R1,R2,...@TIME such as 1k,2k,4k@10s, at most 64 rates";
  char rates[BENCH_STEPS_MAX * 32], item[ITEM_MAX];
  const char *at = strchr(text, '@'), *rest = rates;
  if (at == NULL || (size_t)(at - text) >= sizeof(rates) ||
      read_positive_time(at + 1, &o->step_ns) == -1) {
    return wanted;
  }
  memcpy(rates, text, (size_t)(at - text));
  rates[at - text] = 0;
  for (o->steps = 0; rest != NULL; o->steps++) {
    if (o->steps == BENCH_STEPS_MAX || next_item(&rest, ',', item) == -1 ||
        read_rate(item, &o->step_rate[o->steps]) == -1) {
      return wanted;
    }
  }
  return NULL;
}

/* ---- the target ---- */

/* Add an address that the name has, unless it is there or there is no room. */
static void add_address(struct options *options, const struct addrinfo *answer, uint16_t port) {
  struct addr addr = {.port = 0};
  char text[ADDR_TEXT_MAX], other[ADDR_TEXT_MAX];
  if (answer->ai_family == AF_INET) {
    const struct sockaddr_in *in = (const void *)answer->ai_addr;
    addr_from_ipv4(&addr, (const uint8_t *)&in->sin_addr, port);
  } else if (answer->ai_family == AF_INET6) {
    const struct sockaddr_in6 *in6 = (const void *)answer->ai_addr;
    addr_from_ipv6(&addr, in6->sin6_addr.s6_addr, port);
  } else {
    return;
  }
  addr_format(&addr, text);
  for (uint32_t i = 0; i < options->addresses_count; i++) {
    if (strcmp(addr_format(&options->addresses[i], other), text) == 0) {
      return;
    }
  }
  if (options->addresses_count < BENCH_ADDRESSES_MAX) {
    options->addresses[options->addresses_count++] = addr;
  }
}

/* A name and a port. */
static const char *resolve(const char *text, struct options *options) {
  const char *colon = strrchr(text, ':');
  char host[sizeof(((struct options *)0)->target)];
  if (colon == NULL || colon == text || colon[1] == 0 || memchr(text, ':', colon - text) != NULL ||
      strspn(colon + 1, "0123456789") != strlen(colon + 1) || strlen(colon + 1) > 5) {
    return WANT_TARGET;
  }
  memcpy(host, text, colon - text);
  host[colon - text] = 0;
  const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
  struct addrinfo *answers;
  const unsigned long port = strtoul(colon + 1, NULL, 10);
  if (port == 0 || port > UINT16_MAX) {
    return "want a port from 1 to 65535";
  }
  const int error = getaddrinfo(host, colon + 1, &hints, &answers);
  if (error != 0) {
    return gai_strerror(error);
  }
  for (const struct addrinfo *answer = answers; answer != NULL; answer = answer->ai_next) {
    add_address(options, answer, (uint16_t)port);
  }
  freeaddrinfo(answers);
  options->address = (struct addr_listen){.addr = options->addresses[0], .mode = -1};
  return options->addresses_count == 0 ? "has no IPv4 or IPv6 address" : NULL;
}

const char *option_read_target(struct options *options, const char *text) {
  struct addr_listen *address = &options->address;
  if (strlen(text) >= sizeof(options->target)) {
    return WANT_TARGET;
  }
  for (const char *at = text; *at != 0; at++) {
    if ((uint8_t)*at < 0x20 || *at == 0x7f) {
      return "want an address without control characters";
    }
  }
  memcpy(options->target, text, strlen(text) + 1);
  if (strstr(text, "://") != NULL) {
    return "want host:port without a scheme: xchg-bench is no HTTP client";
  }
  if (addr_parse_listen(text, address) == 0) {
    const bool is_unix = address->addr.family == ADDR_UNIX;
    const bool right = is_unix ? address->mode == -1 : !address->any && address->addr.port != 0;
    return right ? NULL : WANT_TARGET;
  }
  const bool is_address = strncmp(text, "unix:", 5) == 0 || text[0] == '[';
  return is_address ? WANT_TARGET : resolve(text, options);
}

/* ---- the table ---- */

#define FIELD(name) .field = offsetof(struct options, name)
#define U32(name, low, high) .kind = OPTION_U32, FIELD(name), .min = (low), .max = (high)
#define U64(name, low, high) .kind = OPTION_U64, FIELD(name), .min = (low), .max = (high)
#define TIME(name, low) .kind = OPTION_TIME, FIELD(name), .min = (low), .max = UINT64_MAX
#define PATH(name) .kind = OPTION_PATH, FIELD(name), .wanted = WANT_PATH
#define VARIABLE(name, variable_name) .key = (name), .variable = (variable_name)

const struct option_row option_rows[OPTION_ROWS] = {
    [OPTION_THREADS] = {'t', "threads", "N", "threads that generate the load (2)",
                        U32(threads, 1, 1024), "want an integer from 1 to 1024", "threads"},
    [OPTION_CONNECTIONS] = {'c', "connections", "N", "connections over all threads (10)",
                            U32(connections, 1, 1000000), "want an integer from 1 to 1M",
                            "connections"},
    [OPTION_DURATION] = {'d', "duration", "TIME", "length of the measured window (10s)",
                         TIME(duration_ns, 1), WANT_POSITIVE_TIME, "duration_s"},
    [OPTION_COUNT] = {'n', "count", "N", "stop after N exchanges", U64(count, 1, INT64_MAX),
                      WANT_COUNT, "count"},
    [OPTION_RATE] = {'R', "rate", "N", "open loop: N exchanges per second over all connections",
                     OPTION_REAL, FIELD(rate), .wanted = WANT_RATE, .key = "rate"},
    [OPTION_EXCHANGE] = {'x', "exchange", "NAME", "greet, line, echo or discard (greet)",
                         VARIABLE("exchange", "XCHG_EXCHANGE")},
    [OPTION_FRAME] = {0, "frame", "FRAME", "nul, line, u16, u32, fixed:N or raw",
                      VARIABLE("frame", "XCHG_FRAME")},
    [OPTION_GREETING] = {0, "greeting", "TEXT", "what the server sends first, or none",
                         VARIABLE("greeting", "XCHG_GREETING")},
    [OPTION_REPLY] = {0, "reply", "REPLY", "none, echo or text:TEXT",
                      VARIABLE("reply", "XCHG_REPLY")},
    [OPTION_MESSAGES] = {0, "messages", "N", "messages per connection; 0 = unlimited",
                         VARIABLE("messages", "XCHG_MESSAGES")},
    [OPTION_SIZE] = {0, "size", "SIZE", "message bytes: 64, uniform:16,1024 or exp:200 (64)",
                     OPTION_OTHER, .read = read_size},
    [OPTION_PIPELINE] = {'p', "pipeline", "N", "messages in flight on each connection (1)",
                         U32(pipeline, 1, 1024), "want an integer from 1 to 1024", "pipeline"},
    [OPTION_RECONNECT] = {0, "reconnect", "N", "reconnect after N messages (never)",
                          U64(reconnect, 1, UINT64_MAX), WANT_COUNT, "reconnect"},
    [OPTION_WARMUP] = {'w', "warmup", "TIME", "run this long before measuring (0)",
                       TIME(warmup_ns, 0), WANT_TIME, "warmup_s"},
    [OPTION_TIMEOUT] = {'T', "timeout", "TIME", "an exchange that takes longer is an error (2s)",
                        TIME(timeout_ns, 1), WANT_POSITIVE_TIME, "timeout_s"},
    [OPTION_INTERVAL] = {0, "interval", "TIME", "length of a row of a report, at least 10ms (1s)",
                         TIME(interval_ns, 10 * NS_PER_MS), WANT_TIME " of at least 10ms",
                         "interval_s"},
    [OPTION_SEED] = {0, "seed", "N", "seed of payloads and sizes (1)", OPTION_EXACT, FIELD(seed),
                     .wanted = "want an integer from 0 to 2^64-1", .key = "seed"},
    [OPTION_BIND] = {0, "bind", "ADDR,...", "source addresses for 10000 connections each",
                     OPTION_OTHER, .read = read_bind},
    [OPTION_PROXY] = {0, "proxy", "HEADER", "send a PROXY header first: v1, or v2,crc32c,unique-id",
                      OPTION_OTHER, .read = read_proxy},
    [OPTION_IDLE] = {0, "idle", "N", "extra connections to open and leave idle (0)",
                     U32(idle, 0, 1000000), "want an integer from 0 to 1M", "idle"},
    [OPTION_LATENCY] = {'L', "latency", NULL, "print the latency percentiles", OPTION_FLAG,
                        FIELD(percentiles)},
    [OPTION_UNCORRECTED] = {'U', "uncorrected", NULL,
                            "with -R: also print latency from the actual start", OPTION_FLAG,
                            FIELD(uncorrected)},
    [OPTION_U_LATENCY] = {0, "u_latency", NULL, NULL, OPTION_FLAG, FIELD(uncorrected)},
    [OPTION_PID] = {0, "pid", "PID,...", "report CPU time and memory of the server's processes",
                    OPTION_OTHER, .read = read_pids},
    [OPTION_SEARCH] = {0, "search", "COND", "find the highest rate that meets 'p99<2ms'",
                       OPTION_OTHER, .read = read_search},
    [OPTION_RAMP] = {0, "ramp", "FROM:TO:TIME", "open loop at a rate that changes linearly",
                     OPTION_OTHER, .read = read_ramp},
    [OPTION_RAMP_FROM] = {.kind = OPTION_REAL, FIELD(ramp_from), .key = "ramp_from"},
    [OPTION_RAMP_TO] = {.kind = OPTION_REAL, FIELD(ramp_to), .key = "ramp_to"},
    [OPTION_RAMP_TIME] = {.kind = OPTION_TIME, FIELD(ramp_ns), .key = "ramp_s"},
    [OPTION_STEP] = {0, "step", "R1,R2,...@TIME", "open loop at one rate after another",
                     OPTION_OTHER, .read = read_steps},
    [OPTION_STEP_TIME] = {.kind = OPTION_TIME, FIELD(step_ns), .key = "step_s"},
    [OPTION_SLO] = {0, "slo", "COND,...", "exit 99 if one is missed: 'p99<5ms,errors=0'",
                    OPTION_OTHER, .read = read_slo},
    [OPTION_FAIL_FAST] = {0, "fail-fast", NULL, "end once an objective of --slo cannot be kept",
                          OPTION_FLAG, FIELD(fail_fast)},
    [OPTION_REPEAT] = {0, "repeat", "N", "run N times and report medians (1)", U32(repeat, 1, 1000),
                       "want an integer from 1 to 1000", "repeat"},
    [OPTION_JSON] = {0, "json", "FILE",
                     "write a JSON report; - is standard output, without the text", PATH(json)},
    [OPTION_CSV] = {0, "csv", "FILE", "write a CSV file with a row for each interval", PATH(csv)},
    [OPTION_HDR] = {0, "hdr", "FILE", "write HdrHistogram's text form", PATH(hdr)},
    [OPTION_HTML] = {0, "html", "FILE", "write a self-contained HTML page", PATH(html)},
    [OPTION_HEADER] = {'H', "header", "HEADER", NULL, OPTION_WRONG,
                       .wanted = "xchg-bench is no HTTP client; use -x, --frame, --greeting and "
                                 "--reply to describe the exchange"},
    [OPTION_SCRIPT] = {'s', "script", "FILE", NULL, OPTION_WRONG,
                       .wanted = "there are no scripts; use -x, --frame, --reply, --size and "
                                 "--step to describe the load"},
    [OPTION_HELP] = {.letter = 'h', .name = "help", .help = "print this help and exit"},
    [OPTION_VERSION] = {.letter = 'v', .name = "version", .help = "print the version and exit"},
};
