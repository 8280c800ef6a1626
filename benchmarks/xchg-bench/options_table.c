/*
 * options_table: the rows, and a reader for each.
 *
 * A reader looks at one text alone.  Upper ends are generous: they refuse typing errors and what
 * would not fit the fields.
 */
#include "options_table.h"

#include "core/env.h"
#include "units.h"
#include "objective.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GIB (UINT64_C(1) << 30)
#define RATE_MAX 1e9
#define RATE_WANTED "want a rate a second from 1 to 1G"
#define TIME_WANTED "want a time, as 500ms, 2s or 1m"
#define ITEM_MAX 128

static int read_u32(const char *text, uint64_t min, uint64_t max, uint32_t *value) {
  uint64_t number;
  if (units_parse_count(text, &number) == -1 || number < min || number > max)
    return -1;
  *value = (uint32_t)number;
  return 0;
}

static int read_rate(const char *text, double *rate) {
  double number;
  if (units_parse_number(text, &number) == -1 || number < 1 || number > RATE_MAX)
    return -1;
  *rate = number;
  return 0;
}

static int read_positive_time(const char *text, uint64_t *time_ns) {
  uint64_t number;
  if (units_parse_time(text, &number) == -1 || number == 0)
    return -1;
  *time_ns = number;
  return 0;
}

/* Cut the next item, up to ${separator} or the end, off ${*rest}; NULL behind the last. */
static int next_item(const char **rest, char separator, char item[ITEM_MAX]) {
  const char *end = strchrnul(*rest, separator);
  size_t size = (size_t)(end - *rest);
  if (size >= ITEM_MAX)
    return -1;
  memcpy(item, *rest, size);
  item[size] = 0;
  *rest = *end == 0 ? NULL : end + 1;
  return 0;
}

static const char *read_threads(struct options *o, const char *text) {
  return read_u32(text, 1, 1024, &o->threads) == -1 ? "want an integer from 1 to 1024" : NULL;
}
static const char *read_connections(struct options *o, const char *text) {
  return read_u32(text, 1, 1000000, &o->connections) == -1 ? "want an integer from 1 to 1M" : NULL;
}
static const char *read_duration(struct options *o, const char *text) {
  return read_positive_time(text, &o->duration_ns) == -1 ? TIME_WANTED ", above 0" : NULL;
}
static const char *read_count(struct options *o, const char *text) {
  uint64_t count;
  if (units_parse_count(text, &count) == -1 || count == 0 || count > INT64_MAX)
    return "want an integer from 1 on";
  o->count = count;
  return NULL;
}
static const char *read_rate_option(struct options *o, const char *text) {
  return read_rate(text, &o->rate) == -1 ? RATE_WANTED : NULL;
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
        text == NULL || units_parse_size(text, &spec.b) == -1 || spec.a > spec.b || spec.b > GIB)
      return wanted;
  } else {
    if (strncmp(text, "exp:", 4) == 0) {
      spec.kind = SIZE_EXPONENTIAL;
      text += 4;
    }
    if (units_parse_size(text, &spec.a) == -1 || spec.a > GIB ||
        (spec.kind == SIZE_EXPONENTIAL && spec.a == 0))
      return wanted;
  }
  o->size = spec;
  return NULL;
}
static const char *read_pipeline(struct options *o, const char *text) {
  return read_u32(text, 1, 1024, &o->pipeline) == -1 ? "want an integer from 1 to 1024" : NULL;
}
static const char *read_reconnect(struct options *o, const char *text) {
  if (units_parse_count(text, &o->reconnect) == -1 || o->reconnect == 0)
    return "want an integer from 1 on";
  return NULL;
}
static const char *read_warmup(struct options *o, const char *text) {
  return units_parse_time(text, &o->warmup_ns) == -1 ? TIME_WANTED : NULL;
}
static const char *read_timeout(struct options *o, const char *text) {
  return read_positive_time(text, &o->timeout_ns) == -1 ? TIME_WANTED ", above 0" : NULL;
}
static const char *read_seed(struct options *o, const char *text) {
  return env_parse_u64(text, &o->seed) == -1 ? "want an integer from 0 to 2^64-1" : NULL;
}

static const char *read_bind(struct options *o, const char *text) {
  uint32_t count = 0;
  while (text != NULL) {
    char item[ITEM_MAX];
    uint8_t bytes[16];
    if (count == BENCH_BIND_MAX || next_item(&text, ',', item) == -1)
      return "want at most 64 numeric addresses with commas";
    if (inet_pton(AF_INET, item, bytes) == 1)
      addr_from_ipv4(&o->bind[count], bytes, 0);
    else if (inet_pton(AF_INET6, item, bytes) == 1)
      addr_from_ipv6(&o->bind[count], bytes, 0);
    else
      return "want numeric addresses with commas, as 127.0.0.1,127.0.0.2";
    count++;
  }
  o->bind_count = count;
  return NULL;
}
static const char *read_idle(struct options *o, const char *text) {
  return read_u32(text, 0, 1000000, &o->idle) == -1 ? "want an integer from 0 to 1M" : NULL;
}
static const char *read_latency(struct options *o, const char *text) {
  (void)text;
  o->percentiles = true;
  return NULL;
}
static const char *read_uncorrected(struct options *o, const char *text) {
  (void)text;
  o->uncorrected = true;
  return NULL;
}

static const char *read_pids(struct options *o, const char *text) {
  uint32_t count = 0;
  while (text != NULL) {
    char item[ITEM_MAX], path[64];
    uint64_t pid;
    if (count == BENCH_PIDS_MAX || next_item(&text, ',', item) == -1 ||
        env_parse_u64(item, &pid) == -1 || pid == 0 || pid > INT32_MAX)
      return "want at most 64 process ids with commas";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (access(path, R_OK) == -1)
      return "there is no such process, or it cannot be looked at";
    o->pids[count++] = (int)pid;
  }
  o->pids_count = count;
  return NULL;
}

static const char *read_search(struct options *o, const char *text) {
  o->search = true;
  return objective_parse(text, &o->search_objective) == -1 ? "want " OBJECTIVE_WANTED : NULL;
}

/* FROM:TO:TIME */
static const char *read_ramp(struct options *o, const char *text) {
  char from[ITEM_MAX], to[ITEM_MAX];
  o->ramp = true;
  if (next_item(&text, ':', from) == -1 || text == NULL || next_item(&text, ':', to) == -1 ||
      text == NULL || read_rate(from, &o->ramp_from) == -1 || read_rate(to, &o->ramp_to) == -1 ||
      read_positive_time(text, &o->ramp_ns) == -1)
    return "want FROM:TO:TIME, as 1k:10k:30s, rates from 1 to 1G";
  return NULL;
}

/* R1,R2,...@TIME */
static const char *read_steps(struct options *o, const char *text) {
  static const char wanted[] = "want R1,R2,...@TIME, as 1k,2k,4k@10s, at most 64 rates";
  const char *at = strchr(text, '@');
  if (at == NULL || read_positive_time(at + 1, &o->step_ns) == -1)
    return wanted;
  o->steps = 0;
  for (const char *rest = text; rest != NULL && rest < at;) {
    char item[ITEM_MAX];
    size_t size = strcspn(rest, ",@");
    if (o->steps == BENCH_STEPS_MAX || size >= sizeof item)
      return wanted;
    memcpy(item, rest, size);
    item[size] = 0;
    if (read_rate(item, &o->step_rate[o->steps++]) == -1)
      return wanted;
    if (rest[size] == ',' && rest + size + 1 == at)
      return wanted;
    rest += size + 1;
  }
  return o->steps == 0 ? wanted : NULL;
}

static const char *read_slo(struct options *o, const char *text) {
  return objective_parse_list(text, o->slo, &o->slo_count) == -1
             ? "want at most 16 with commas: " OBJECTIVE_WANTED
             : NULL;
}
static const char *read_repeat(struct options *o, const char *text) {
  return read_u32(text, 1, 1000, &o->repeat) == -1 ? "want an integer from 1 to 1000" : NULL;
}

static const char *read_path(const char **path, const char *text) {
  *path = text;
  return *text == 0 ? "want the path of a file" : NULL;
}
static const char *read_json(struct options *o, const char *text) {
  return read_path(&o->json, text);
}
static const char *read_csv(struct options *o, const char *text) {
  return read_path(&o->csv, text);
}
static const char *read_hdr(struct options *o, const char *text) {
  return read_path(&o->hdr, text);
}
static const char *read_html(struct options *o, const char *text) {
  return read_path(&o->html, text);
}

static const char *refuse_header(struct options *o, const char *text) {
  (void)o, (void)text;
  return "this is no HTTP client; -x, --frame, --greeting and --reply say what is exchanged";
}
static const char *refuse_script(struct options *o, const char *text) {
  (void)o, (void)text;
  return "there are no scripts; -x, --frame, --reply, --size and --step say what is exchanged";
}

const struct option_row option_rows[OPTION_ROWS] = {
    [OPTION_THREADS] = {'t', "threads", "N", "threads that load the server (2)", read_threads},
    [OPTION_CONNECTIONS] = {'c', "connections", "N", "connections of all threads together (10)",
                            read_connections},
    [OPTION_DURATION] = {'d', "duration", "TIME", "length of the measured window (10s)",
                         read_duration},
    [OPTION_COUNT] = {'n', "count", "N", "end after so many exchanges", read_count},
    [OPTION_RATE] = {'R', "rate", "N", "open loop: exchanges a second over all connections",
                     read_rate_option},
    [OPTION_EXCHANGE] = {'x', "exchange", "NAME", "greet, line, echo or discard (greet)", NULL},
    [OPTION_FRAME] = {0, "frame", "FRAME", "nul, line, u16, u32, fixed:N or raw", NULL},
    [OPTION_GREETING] = {0, "greeting", "TEXT", "none, or what the server says first", NULL},
    [OPTION_REPLY] = {0, "reply", "REPLY", "none, echo or text:TEXT", NULL},
    [OPTION_MESSAGES] = {0, "messages", "N", "messages a connection; 0 = until we close", NULL},
    [OPTION_SIZE] = {0, "size", "SIZE", "bytes of a message: 64, uniform:16,1024, exp:200 (64)",
                     read_size},
    [OPTION_PIPELINE] = {'p', "pipeline", "N", "messages in flight on a connection (1)",
                         read_pipeline},
    [OPTION_RECONNECT] = {0, "reconnect", "N", "messages a connection before a new one (never)",
                          read_reconnect},
    [OPTION_WARMUP] = {'w', "warmup", "TIME", "run so long before the measured window (0)",
                       read_warmup},
    [OPTION_TIMEOUT] = {'T', "timeout", "TIME", "an exchange over it is an error (2s)",
                        read_timeout},
    [OPTION_SEED] = {0, "seed", "N", "of payloads and sizes (1)", read_seed},
    [OPTION_BIND] = {0, "bind", "ADDR,...", "source addresses, 10000 connections each", read_bind},
    [OPTION_IDLE] = {0, "idle", "N", "further connections that are opened and left idle (0)",
                     read_idle},
    [OPTION_LATENCY] = {'L', "latency", NULL, "print the table of percentiles", read_latency},
    [OPTION_UNCORRECTED] = {'U', "uncorrected", NULL, "with -R: that of the real starts too",
                            read_uncorrected},
    [OPTION_PID] = {0, "pid", "PID,...", "servers: report their CPU time, switches and memory",
                    read_pids},
    [OPTION_SEARCH] = {0, "search", "COND", "find the highest rate that keeps 'p99<2ms'",
                       read_search},
    [OPTION_RAMP] = {0, "ramp", "FROM:TO:TIME", "open loop with a rate that changes evenly",
                     read_ramp},
    [OPTION_STEP] = {0, "step", "R1,R2,...@TIME", "open loop at one rate after the other",
                     read_steps},
    [OPTION_SLO] = {0, "slo", "COND,...", "exit 99 where one is missed: 'p99<5ms,errors=0'",
                    read_slo},
    [OPTION_REPEAT] = {0, "repeat", "N", "so many runs, and their medians (1)", read_repeat},
    [OPTION_JSON] = {0, "json", "FILE", "write the report for machines", read_json},
    [OPTION_CSV] = {0, "csv", "FILE", "write a row a second", read_csv},
    [OPTION_HDR] = {0, "hdr", "FILE", "write HdrHistogram's text form", read_hdr},
    [OPTION_HTML] = {0, "html", "FILE", "write a self-contained page", read_html},
    [OPTION_HEADER] = {'H', "header", "HEADER", NULL, refuse_header},
    [OPTION_SCRIPT] = {'s', "script", "FILE", NULL, refuse_script},
    [OPTION_HELP] = {'h', "help", NULL, "print this, and exit", NULL},
    [OPTION_VERSION] = {'v', "version", NULL, "print the version, and exit", NULL},
};
