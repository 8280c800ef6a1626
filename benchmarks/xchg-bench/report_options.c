/*
 * report_options: see report_options.h.
 *
 * The exchange is written as the values of the server's variables, and read by core/config like
 * those.
 */
#include "report_options.h"

#include "core/env.h"
#include "objective.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum row_kind { ROW_U32, ROW_U64, ROW_RATE, ROW_TIME };

/* A number of struct options. */
struct row {
  const char *name;
  enum row_kind kind;
  size_t offset;
};

#define ROW(name, kind, field) \
  { name, kind, offsetof(struct options, field) }
static const struct row rows[] = {
    ROW("threads", ROW_U32, threads),     ROW("connections", ROW_U32, connections),
    ROW("idle", ROW_U32, idle),           ROW("duration_s", ROW_TIME, duration_ns),
    ROW("warmup_s", ROW_TIME, warmup_ns), ROW("timeout_s", ROW_TIME, timeout_ns),
    ROW("count", ROW_U64, count),         ROW("rate", ROW_RATE, rate),
    ROW("pipeline", ROW_U32, pipeline),   ROW("reconnect", ROW_U64, reconnect),
    ROW("seed", ROW_U64, seed),           ROW("ramp_from", ROW_RATE, ramp_from),
    ROW("ramp_to", ROW_RATE, ramp_to),    ROW("ramp_s", ROW_TIME, ramp_ns),
    ROW("step_s", ROW_TIME, step_ns),     ROW("repeat", ROW_U32, repeat),
};

static const char *const presets[] = {"greet", "line", "echo", "discard"};

static void write_rows(struct json_writer *writer, const struct options *options) {
  for (size_t i = 0; i < count_of(rows); i++) {
    const void *field = (const char *)options + rows[i].offset;
    switch (rows[i].kind) {
      case ROW_U32:
        json_put_u64(writer, rows[i].name, *(const uint32_t *)field);
        break;
      case ROW_U64:
        json_put_u64(writer, rows[i].name, *(const uint64_t *)field);
        break;
      case ROW_RATE:
        json_put_double(writer, rows[i].name, *(const double *)field);
        break;
      case ROW_TIME: {
        uint64_t time_ns = *(const uint64_t *)field;
        json_put_double(writer, rows[i].name,
                        time_ns == NEVER ? NAN : (double)time_ns / (double)NS_PER_S);
        break;
      }
    }
  }
}

/* Write "text:" and ${text} with escapes, as XCHG_GREETING and XCHG_REPLY know them. */
static void put_exchange_text(struct json_writer *writer, const char *name,
                              const struct config_text *text) {
  char *escaped = malloc(6 + 4 * text->size), *at = escaped;
  if (escaped == NULL) {
    json_put_null(writer, name);
    return;
  }
  at = stpcpy(at, "text:");
  for (size_t i = 0; i < text->size; i++) {
    uint8_t byte = text->bytes[i];
    bool plain = byte >= 0x20 && byte < 0x7f && byte != '\\';
    at += snprintf(at, 5, plain ? "%c" : "\\x%02x", byte);
  }
  json_put_text(writer, name, escaped);
  free(escaped);
}

/* ${frame} as XCHG_FRAME says it; ${text} has room for a fixed one. */
static const char *frame_word(const struct xchg_frame *frame, char *text, size_t size) {
  switch (frame->kind) {
    case XCHG_FRAME_DELIMITER:
      return "nul";
    case XCHG_FRAME_LINE:
      return "line";
    case XCHG_FRAME_PREFIX:
      return frame->size == 2 ? "u16" : "u32";
    case XCHG_FRAME_FIXED:
      snprintf(text, size, "fixed:%zu", frame->size);
      return text;
    default:
      return "raw";
  }
}

static void write_exchange(struct json_writer *writer, const struct config *exchange) {
  char frame[32];
  json_put_text(writer, "exchange", presets[exchange->exchange]);
  json_put_text(writer, "frame", frame_word(&exchange->frame, frame, sizeof frame));
  if (exchange->has_greeting)
    put_exchange_text(writer, "greeting", &exchange->greeting);
  else
    json_put_text(writer, "greeting", "none");
  if (exchange->reply == REPLY_TEXT)
    put_exchange_text(writer, "reply", &exchange->reply_text);
  else
    json_put_text(writer, "reply", exchange->reply == REPLY_ECHO ? "echo" : "none");
  json_put_u64(writer, "messages", exchange->messages);
  json_put_u64(writer, "max_message", exchange->max_message_bytes);
}

static void write_size(struct json_writer *writer, const struct size_spec *size) {
  char text[64];
  if (size->kind == SIZE_UNIFORM)
    snprintf(text, sizeof text, "uniform:%" PRIu64 ",%" PRIu64, size->a, size->b);
  else
    snprintf(text, sizeof text, "%s%" PRIu64, size->kind == SIZE_FIXED ? "" : "exp:", size->a);
  json_put_text(writer, "size", text);
}

static void write_objectives(struct json_writer *writer, const struct options *options) {
  json_put_text(writer, "search", options->search ? options->search_objective.text : NULL);
  json_open(writer, "slo", '[');
  for (uint32_t i = 0; i < options->slo_count; i++)
    json_put_text(writer, NULL, options->slo[i].text);
  json_close(writer, ']');
}

void report_options_write(struct json_writer *writer, const struct options *options) {
  json_open(writer, "options", '{');
  write_exchange(writer, &options->exchange);
  write_size(writer, &options->size);
  write_rows(writer, options);
  json_put_bool(writer, "ramp", options->ramp);
  json_open(writer, "step_rates", '[');
  for (uint32_t i = 0; i < options->steps; i++)
    json_put_double(writer, NULL, options->step_rate[i]);
  json_close(writer, ']');
  write_objectives(writer, options);
  json_put_bool(writer, "percentiles", options->percentiles);
  json_put_bool(writer, "uncorrected", options->uncorrected);
  json_open(writer, "bind", '[');
  for (uint32_t i = 0; i < options->bind_count; i++) {
    char text[ADDR_TEXT_MAX];
    json_put_text(writer, NULL, addr_format(&options->bind[i], text));
  }
  json_close(writer, ']');
  json_open(writer, "pids", '[');
  for (uint32_t i = 0; i < options->pids_count; i++)
    json_put_u64(writer, NULL, (uint64_t)options->pids[i]);
  json_close(writer, ']');
  json_close(writer, '}');
}

/* ---- reading back ---------------------------------------------------------------- */

static bool is_number(const struct json *json) { return json != NULL && json->kind == JSON_NUMBER; }

static bool is_text(const struct json *json) { return json != NULL && json->kind == JSON_STRING; }

static bool is_array(const struct json *json, size_t size_max) {
  return json != NULL && json->kind == JSON_ARRAY && json->size <= size_max;
}

static bool read_bool(const struct json *json, bool *value) {
  *value = json != NULL && json->kind == JSON_TRUE;
  return json != NULL && (json->kind == JSON_TRUE || json->kind == JSON_FALSE);
}

static bool read_row(const struct row *row, const struct json *json, void *field) {
  bool never = row->kind == ROW_TIME && json != NULL && json->kind == JSON_NULL;
  if (never)
    *(uint64_t *)field = NEVER;
  if (never || !is_number(json))
    return never;
  switch (row->kind) {
    case ROW_U32:
      *(uint32_t *)field = (uint32_t)json->integer;
      return json->integral && json->integer <= UINT32_MAX;
    case ROW_U64:
      *(uint64_t *)field = json->integer;
      return json->integral;
    case ROW_RATE:
      *(double *)field = json->number;
      return json->number >= 0;
    case ROW_TIME:
      if (!(json->number >= 0 && json->number < 1e9))
        return false;
      *(uint64_t *)field = (uint64_t)llround(json->number * (double)NS_PER_S);
      return true;
  }
  return false;
}

/* Have core/config read the exchange. */
static const char *read_exchange(struct config *exchange, const struct json *json) {
  static const char *const texts[][2] = {{"exchange", "XCHG_EXCHANGE"},
                                         {"frame", "XCHG_FRAME"},
                                         {"greeting", "XCHG_GREETING"},
                                         {"reply", "XCHG_REPLY"}};
  static const struct config_facts facts = {.cpus = 1, .descriptors = 1 << 20};
  const char *environment[count_of(texts) + 3] = {NULL}, *wrong = NULL;
  char *lines[count_of(texts) + 2] = {NULL};
  const struct json *messages = json_member(json, "messages");
  const struct json *longest = json_member(json, "max_message");
  if (!is_number(messages) || !messages->integral)
    return "messages";
  if (!is_number(longest) || !longest->integral)
    return "max_message";
  FILE *null = fopen("/dev/null", "w");
  int made = null == NULL ? -1 : 0;
  for (size_t i = 0; i < count_of(texts) && wrong == NULL && made != -1; i++) {
    const struct json *text = json_member(json, texts[i][0]);
    if (is_text(text) && strlen(text->text) == text->size)
      made = asprintf(&lines[i], "%s=%s", texts[i][1], text->text);
    else
      wrong = texts[i][0];
    environment[i] = lines[i];
  }
  if (wrong == NULL && made != -1)
    made = asprintf(&lines[4], "XCHG_MESSAGES=%" PRIu64, messages->integer);
  if (wrong == NULL && made != -1)
    made = asprintf(&lines[5], "XCHG_MAX_MESSAGE=%" PRIu64, longest->integer);
  environment[4] = lines[4];
  environment[5] = lines[5];
  if (wrong == NULL && (made == -1 || config_load(exchange, environment, &facts, null) > 0))
    wrong = "exchange";
  for (size_t i = 0; i < count_of(lines); i++)
    free(lines[i]);
  if (null != NULL)
    fclose(null);
  return wrong;
}

/* "64", "uniform:16,1024", "exp:200": whole bytes, as write_size has them. */
static bool read_size(struct size_spec *size, const struct json *json) {
  static const char uniform[] = "uniform:", exponential[] = "exp:";
  char text[64];
  if (!is_text(json) || json->size >= sizeof text)
    return false;
  snprintf(text, sizeof text, "%s", json->text);
  if (strncmp(text, uniform, strlen(uniform)) == 0) {
    char *comma = strchr(text, ',');
    if (comma == NULL)
      return false;
    *comma = 0;
    *size = (struct size_spec){.kind = SIZE_UNIFORM};
    return env_parse_u64(text + strlen(uniform), &size->a) == 0 &&
           env_parse_u64(comma + 1, &size->b) == 0;
  }
  bool spread = strncmp(text, exponential, strlen(exponential)) == 0;
  *size = (struct size_spec){.kind = spread ? SIZE_EXPONENTIAL : SIZE_FIXED};
  return env_parse_u64(text + (spread ? strlen(exponential) : 0), &size->a) == 0;
}

static const char *read_objectives(struct options *options, const struct json *json) {
  const struct json *search = json_member(json, "search"), *slo = json_member(json, "slo");
  options->search = is_text(search);
  if (search == NULL || (!options->search && search->kind != JSON_NULL))
    return "search";
  if (options->search && objective_parse(search->text, &options->search_objective) == -1)
    return "search";
  if (!is_array(slo, BENCH_SLO_MAX))
    return "slo";
  for (const struct json *item = slo->first; item != NULL; item = item->next) {
    if (!is_text(item) || objective_parse(item->text, &options->slo[options->slo_count]) == -1)
      return "slo";
    options->slo_count++;
  }
  return NULL;
}

/* "127.0.0.1:0", as addr_format writes a source address. */
static bool read_addr(struct addr *addr, const struct json *json) {
  struct addr_listen listen;
  if (!is_text(json) || addr_parse_listen(json->text, &listen) == -1 ||
      listen.addr.family == ADDR_UNIX)
    return false;
  *addr = listen.addr;
  return true;
}

static const char *read_lists(struct options *options, const struct json *json) {
  const struct json *rates = json_member(json, "step_rates"), *pids = json_member(json, "pids");
  const struct json *bind = json_member(json, "bind");
  if (!is_array(rates, BENCH_STEPS_MAX))
    return "step_rates";
  for (const struct json *item = rates->first; item != NULL; item = item->next) {
    if (!is_number(item) || !(item->number > 0))
      return "step_rates";
    options->step_rate[options->steps++] = item->number;
  }
  if (!is_array(pids, BENCH_PIDS_MAX))
    return "pids";
  for (const struct json *item = pids->first; item != NULL; item = item->next) {
    if (!is_number(item) || !item->integral || item->integer > INT32_MAX)
      return "pids";
    options->pids[options->pids_count++] = (int)item->integer;
  }
  if (!is_array(bind, BENCH_BIND_MAX))
    return "bind";
  for (const struct json *item = bind->first; item != NULL; item = item->next) {
    if (!read_addr(&options->bind[options->bind_count++], item))
      return "bind";
  }
  return NULL;
}

const char *report_options_read(struct options *options, const struct json *json) {
  *options = (struct options){.threads = 0};
  for (size_t i = 0; i < count_of(rows); i++) {
    void *field = (char *)options + rows[i].offset;
    if (!read_row(&rows[i], json_member(json, rows[i].name), field))
      return rows[i].name;
  }
  if (!read_size(&options->size, json_member(json, "size")))
    return "size";
  if (!read_bool(json_member(json, "ramp"), &options->ramp))
    return "ramp";
  if (!read_bool(json_member(json, "percentiles"), &options->percentiles))
    return "percentiles";
  if (!read_bool(json_member(json, "uncorrected"), &options->uncorrected))
    return "uncorrected";
  const char *wrong = read_objectives(options, json);
  if (wrong == NULL)
    wrong = read_lists(options, json);
  return wrong == NULL ? read_exchange(&options->exchange, json) : wrong;
}
