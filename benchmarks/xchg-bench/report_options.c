/*
 * report_options: the numbers come from the table of options.
 *
 * The exchange is written as the values of the server's variables, and core/config reads them.
 */
#include "report_options.h"

#include "core/parse.h"
#include "proxy_header.h"
#include "objective.h"
#include "options_table.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The plain numbers, in the order in which a report has them. */
static const enum option_id numbers[] = {
    OPTION_THREADS,   OPTION_CONNECTIONS, OPTION_IDLE,      OPTION_DURATION, OPTION_INTERVAL,
    OPTION_WARMUP,    OPTION_TIMEOUT,     OPTION_COUNT,     OPTION_RATE,     OPTION_PIPELINE,
    OPTION_RECONNECT, OPTION_SEED,        OPTION_RAMP_FROM, OPTION_RAMP_TO,  OPTION_RAMP_TIME,
    OPTION_STEP_TIME, OPTION_REPEAT,
};

static const char *const presets[] = {"greet", "line", "echo", "discard"};

static void write_number(struct json_writer *writer, const struct options *options,
                         const struct option_row *row) {
  const void *field = (const char *)options + row->field;
  uint64_t time_ns;
  switch (row->kind) {
    case OPTION_U32:
      json_put_u64(writer, row->key, *(const uint32_t *)field);
      break;
    case OPTION_REAL:
      json_put_double(writer, row->key, *(const double *)field);
      break;
    case OPTION_TIME:
      time_ns = *(const uint64_t *)field;
      json_put_double(writer, row->key,
                      time_ns == NEVER ? NAN : (double)time_ns / (double)NS_PER_S);
      break;
    default:
      json_put_u64(writer, row->key, *(const uint64_t *)field);
  }
}

/* Write "text:" and ${text} with the escapes of XCHG_GREETING and XCHG_REPLY. */
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

/* ${frame} as a value of XCHG_FRAME; ${text} has room for fixed:N. */
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
  json_put_text(writer, "frame", frame_word(&exchange->frame, frame, sizeof(frame)));
  if (exchange->has_greeting) {
    put_exchange_text(writer, "greeting", &exchange->greeting);
  } else {
    json_put_text(writer, "greeting", "none");
  }
  if (exchange->reply == REPLY_TEXT) {
    put_exchange_text(writer, "reply", &exchange->reply_text);
  } else {
    json_put_text(writer, "reply", exchange->reply == REPLY_ECHO ? "echo" : "none");
  }
  json_put_u64(writer, "messages", exchange->messages);
  json_put_u64(writer, "max_message", exchange->max_message_bytes);
}

static void write_size(struct json_writer *writer, const struct size_spec *size) {
  char text[64];
  if (size->kind == SIZE_UNIFORM) {
    snprintf(text, sizeof(text), "uniform:%" PRIu64 ",%" PRIu64, size->a, size->b);
  } else {
    snprintf(text, sizeof(text), "%s%" PRIu64, size->kind == SIZE_FIXED ? "" : "exp:", size->a);
  }
  json_put_text(writer, "size", text);
}

static void write_objectives(struct json_writer *writer, const struct options *options) {
  json_put_text(writer, "search", options->search ? options->search_objective.text : NULL);
  json_open(writer, "slo", '[');
  for (uint32_t i = 0; i < options->slo_count; i++) {
    json_put_text(writer, NULL, options->slo[i].text);
  }
  json_close(writer, ']');
}

void report_options_write(struct json_writer *writer, const struct options *options) {
  json_open(writer, "options", '{');
  write_exchange(writer, &options->exchange);
  write_size(writer, &options->size);
  for (size_t i = 0; i < count_of(numbers); i++) {
    write_number(writer, options, &option_rows[numbers[i]]);
  }
  json_put_bool(writer, "ramp", options->ramp);
  json_open(writer, "step_rates", '[');
  for (uint32_t i = 0; i < options->steps; i++) {
    json_put_double(writer, NULL, options->step_rate[i]);
  }
  json_close(writer, ']');
  write_objectives(writer, options);
  json_put_bool(writer, "fail_fast", options->fail_fast);
  json_put_bool(writer, "percentiles", options->percentiles);
  json_put_bool(writer, "uncorrected", options->uncorrected);
  json_open(writer, "bind", '[');
  for (uint32_t i = 0; i < options->bind_count; i++) {
    char text[ADDR_TEXT_MAX];
    json_put_text(writer, NULL, addr_format(&options->bind[i], text));
  }
  json_close(writer, ']');
  char proxy[PROXY_HEADER_TEXT_MAX];
  json_put_text(writer, "proxy", proxy_header_format(&options->proxy, proxy));
  json_open(writer, "pids", '[');
  for (uint32_t i = 0; i < options->pids_count; i++) {
    json_put_u64(writer, NULL, (uint64_t)options->pids[i]);
  }
  json_close(writer, ']');
  json_close(writer, '}');
}

/* ---- reading back ---- */

static bool is_number(const struct json *json) { return json != NULL && json->kind == JSON_NUMBER; }

/* A string without a 0 byte, which would hide the rest of it. */
static bool is_text(const struct json *json) {
  return json != NULL && json->kind == JSON_STRING && strlen(json->text) == json->size;
}

static bool is_array(const struct json *json, size_t size_max) {
  return json != NULL && json->kind == JSON_ARRAY && json->size <= size_max;
}

static bool read_bool(const struct json *json, bool *value) {
  *value = json != NULL && json->kind == JSON_TRUE;
  return json != NULL && (json->kind == JSON_TRUE || json->kind == JSON_FALSE);
}

static bool read_number(struct options *options, const struct option_row *row,
                        const struct json *json) {
  void *field = (char *)options + row->field;
  if (row->kind == OPTION_TIME && json != NULL && json->kind == JSON_NULL) {
    *(uint64_t *)field = NEVER;
    return true;
  }
  if (!is_number(json)) {
    return false;
  }
  switch (row->kind) {
    case OPTION_U32:
      *(uint32_t *)field = (uint32_t)json->integer;
      return json->integral && json->integer <= UINT32_MAX;
    case OPTION_REAL:
      *(double *)field = json->number;
      return json->number >= 0 && json->number <= REPORT_RATE_MAX;
    case OPTION_TIME:
      if (!(json->number >= 0 && json->number < 1e9)) {
        return false;
      }
      *(uint64_t *)field = (uint64_t)llround(json->number * (double)NS_PER_S);
      return true;
    default:
      *(uint64_t *)field = json->integer;
      return json->integral;
  }
}

/*
 * Make the line "VARIABLE=VALUE" of ${key} in ${json}.  Return: the line, which the caller frees;
 * NULL if the member is missing, of the wrong kind or holds a 0, or if memory is out.
 */
static char *make_line(const struct json *json, const char *key, const char *variable,
                       bool is_integer) {
  const struct json *member = json_member(json, key);
  char *line = NULL;
  int made = -1;
  if (is_integer && is_number(member) && member->integral) {
    made = asprintf(&line, "%s=%" PRIu64, variable, member->integer);
  } else if (!is_integer && is_text(member)) {
    made = asprintf(&line, "%s=%s", variable, member->text);
  }
  return made == -1 ? NULL : line;
}

/* Let core/config read the exchange. */
static const char *read_exchange(struct config *exchange, const struct json *json) {
  static const struct config_facts facts = {.cpus = 1, .descriptors = 1 << 20};
  enum { LINES_MAX = 6 };
  char *lines[LINES_MAX + 1] = {make_line(json, "max_message", "XCHG_MAX_MESSAGE", true)};
  const char *wrong = lines[0] == NULL ? "max_message" : NULL;
  size_t count = 1;
  for (size_t i = 0; i < OPTION_ROWS && wrong == NULL; i++) {
    const struct option_row *row = &option_rows[i];
    if (row->variable != NULL) {
      assert(count < LINES_MAX);
      lines[count] = make_line(json, row->key, row->variable, i == OPTION_MESSAGES);
      wrong = lines[count++] == NULL ? row->key : NULL;
    }
  }
  FILE *null = fopen("/dev/null", "w");
  if (wrong == NULL &&
      (null == NULL || config_load(exchange, (const char *const *)lines, &facts, null) > 0)) {
    wrong = "exchange";
  }
  for (size_t i = 0; i < count; i++) {
    free(lines[i]);
  }
  if (null != NULL) {
    fclose(null);
  }
  return wrong;
}

/* "64", "uniform:16,1024", "exp:200": as write_size writes them. */
static bool read_size(struct size_spec *size, const struct json *json) {
  static const char uniform[] = "uniform:", exponential[] = "exp:";
  char text[64];
  if (!is_text(json) || json->size >= sizeof(text)) {
    return false;
  }
  snprintf(text, sizeof(text), "%s", json->text);
  if (strncmp(text, uniform, strlen(uniform)) == 0) {
    char *comma = strchr(text, ',');
    if (comma == NULL) {
      return false;
    }
    *comma = 0;
    *size = (struct size_spec){.kind = SIZE_UNIFORM};
    return parse_u64(text + strlen(uniform), &size->a) == 0 && parse_u64(comma + 1, &size->b) == 0;
  }
  bool exponential_size = strncmp(text, exponential, strlen(exponential)) == 0;
  *size = (struct size_spec){.kind = exponential_size ? SIZE_EXPONENTIAL : SIZE_FIXED};
  return parse_u64(text + (exponential_size ? strlen(exponential) : 0), &size->a) == 0;
}

static const char *read_objectives(struct options *options, const struct json *json) {
  const struct json *search = json_member(json, "search"), *slo = json_member(json, "slo");
  options->search = is_text(search);
  if (search == NULL || (!options->search && search->kind != JSON_NULL)) {
    return "search";
  }
  if (options->search && objective_parse(search->text, &options->search_objective) == -1) {
    return "search";
  }
  if (!is_array(slo, BENCH_SLO_MAX)) {
    return "slo";
  }
  for (const struct json *item = slo->first; item != NULL; item = item->next) {
    if (!is_text(item) || objective_parse(item->text, &options->slo[options->slo_count]) == -1) {
      return "slo";
    }
    options->slo_count++;
  }
  return NULL;
}

/* Reports of older versions have no such key. */
static bool read_proxy(struct bench_proxy *proxy, const struct json *json) {
  return json == NULL || (is_text(json) && proxy_header_parse(json->text, proxy) == 0);
}

/* "127.0.0.1:0", as addr_format writes a source address. */
static bool read_addr(struct addr *addr, const struct json *json) {
  struct addr_listen listen;
  if (!is_text(json) || addr_parse_listen(json->text, &listen) == -1 ||
      listen.addr.family == ADDR_UNIX) {
    return false;
  }
  *addr = listen.addr;
  return true;
}

static const char *read_lists(struct options *options, const struct json *json) {
  const struct json *rates = json_member(json, "step_rates"), *pids = json_member(json, "pids");
  const struct json *bind = json_member(json, "bind");
  if (!is_array(rates, BENCH_STEPS_MAX)) {
    return "step_rates";
  }
  for (const struct json *item = rates->first; item != NULL; item = item->next) {
    if (!is_number(item) || !(item->number > 0 && item->number <= REPORT_RATE_MAX)) {
      return "step_rates";
    }
    options->step_rate[options->steps++] = item->number;
  }
  if (!is_array(pids, BENCH_PIDS_MAX)) {
    return "pids";
  }
  for (const struct json *item = pids->first; item != NULL; item = item->next) {
    if (!is_number(item) || !item->integral || item->integer > INT32_MAX) {
      return "pids";
    }
    options->pids[options->pids_count++] = (int)item->integer;
  }
  if (!is_array(bind, BENCH_BIND_MAX)) {
    return "bind";
  }
  for (const struct json *item = bind->first; item != NULL; item = item->next) {
    if (!read_addr(&options->bind[options->bind_count++], item)) {
      return "bind";
    }
  }
  return NULL;
}

const char *report_options_read(struct options *options, const struct json *json) {
  *options = (struct options){.threads = 0};
  for (size_t i = 0; i < count_of(numbers); i++) {
    const struct option_row *row = &option_rows[numbers[i]];
    if (!read_number(options, row, json_member(json, row->key))) {
      return row->key;
    }
  }
  if (!read_size(&options->size, json_member(json, "size"))) {
    return "size";
  }
  if (!read_bool(json_member(json, "ramp"), &options->ramp)) {
    return "ramp";
  }
  if (!read_bool(json_member(json, "fail_fast"), &options->fail_fast)) {
    return "fail_fast";
  }
  if (!read_bool(json_member(json, "percentiles"), &options->percentiles)) {
    return "percentiles";
  }
  if (!read_bool(json_member(json, "uncorrected"), &options->uncorrected)) {
    return "uncorrected";
  }
  if (!read_proxy(&options->proxy, json_member(json, "proxy"))) {
    return "proxy";
  }
  const char *wrong = read_objectives(options, json);
  if (wrong == NULL) {
    wrong = read_lists(options, json);
  }
  return wrong == NULL ? read_exchange(&options->exchange, json) : wrong;
}
