/*
 * options_check: the target, the exchange as core/config loads it, and what contradicts what.
 *
 * The exchange's options travel as an environment of six variables beside facts so generous that
 * nothing but the exchange itself can be at fault; a fault's line is turned back into our words.
 */
#include "options_table.h"

#include "objective.h"

#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CONNECTIONS_PER_ADDRESS 10000
#define VARIABLE_MAX 4096

/* The options that are variables of the server. */
static const struct {
  enum option_id id;
  const char *variable;
} exchange_options[] = {{OPTION_EXCHANGE, "XCHG_EXCHANGE"},
                        {OPTION_FRAME, "XCHG_FRAME"},
                        {OPTION_GREETING, "XCHG_GREETING"},
                        {OPTION_REPLY, "XCHG_REPLY"},
                        {OPTION_MESSAGES, "XCHG_MESSAGES"}};

static const char *resolve(const char *text, struct addr_listen *address);
static void tell_exchange(struct options_parser *parser, const char *lines);
static int check_threads(struct options_parser *parser);
static int check_loop(struct options_parser *parser);
static int check_messages(struct options_parser *parser);
static int check_size(struct options_parser *parser);
static int check_addresses(struct options_parser *parser);
static int check_reports(struct options_parser *parser);
static int refuse_with(struct options_parser *parser, enum option_id id, const char *why);

const char *options_read_target(struct options *options, const char *text) {
  static const char wanted[] = "want host:port, [v6]:port or unix:/path";
  struct addr_listen *address = &options->address;
  if (strlen(text) >= sizeof options->target)
    return wanted;
  memcpy(options->target, text, strlen(text) + 1);
  if (strstr(text, "://") != NULL)
    return "want host:port, without a scheme: this is no HTTP client";
  if (addr_parse_listen(text, address) == 0) {
    if (address->addr.family == ADDR_UNIX)
      return address->mode == -1 ? NULL : wanted;
    return address->any || address->addr.port == 0 ? wanted : NULL;
  }
  if (strncmp(text, "unix:", 5) == 0 || text[0] == '[')
    return wanted;
  return resolve(text, address);
}

int options_load_exchange(struct options_parser *parser) {
  static const struct config_facts facts = {.cpus = 1, .descriptors = 1 << 20, .somaxconn = 4096};
  char variables[count_of(exchange_options)][VARIABLE_MAX];
  const char *environment[count_of(exchange_options) + 2] = {"XCHG_MAX_MESSAGE=1GiB"};
  size_t count = 1;
  for (size_t i = 0; i < count_of(exchange_options); i++) {
    enum option_id id = exchange_options[i].id;
    if (parser->given[id] == NULL)
      continue;
    int size = snprintf(variables[i], VARIABLE_MAX, "%s=%s", exchange_options[i].variable,
                        parser->given[id]);
    if (size >= VARIABLE_MAX)
      return refuse_with(parser, id, "want less than 4000 bytes");
    environment[count++] = variables[i];
  }
  char *lines = NULL;
  size_t size;
  FILE *out = open_memstream(&lines, &size);
  if (out == NULL) {
    fputs("xchg-bench: no memory\n", parser->errors);
    return -1;
  }
  unsigned faults = config_load(&parser->options->exchange, environment, &facts, out);
  fclose(out);
  if (faults > 0)
    tell_exchange(parser, lines);
  free(lines);
  return faults > 0 ? -1 : 0;
}

int options_check(struct options_parser *parser) {
  struct options *o = parser->options;
  /* An end by count needs none by time. */
  if (o->count > 0 && parser->given[OPTION_DURATION] == NULL)
    o->duration_ns = NEVER;
  if (check_threads(parser) == -1 || check_loop(parser) == -1 || check_messages(parser) == -1 ||
      check_size(parser) == -1 || check_addresses(parser) == -1 || check_reports(parser) == -1)
    return -1;
  return 0;
}

/* A name and a port. Return: NULL, or what is wrong. */
static const char *resolve(const char *text, struct addr_listen *address) {
  const char *colon = strrchr(text, ':');
  char host[sizeof((struct options *)0)->target];
  if (colon == NULL || colon == text || colon[1] == 0 || memchr(text, ':', colon - text) != NULL ||
      strspn(colon + 1, "0123456789") != strlen(colon + 1) || strlen(colon + 1) > 5)
    return "want host:port, [v6]:port or unix:/path";
  memcpy(host, text, colon - text);
  host[colon - text] = 0;
  const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
  struct addrinfo *answers;
  unsigned long port = strtoul(colon + 1, NULL, 10);
  if (port == 0 || port > UINT16_MAX)
    return "want a port from 1 to 65535";
  int error = getaddrinfo(host, colon + 1, &hints, &answers);
  if (error != 0)
    return gai_strerror(error);
  *address = (struct addr_listen){.mode = -1};
  if (answers->ai_family == AF_INET) {
    const struct sockaddr_in *in = (const void *)answers->ai_addr;
    addr_from_ipv4(&address->addr, (const uint8_t *)&in->sin_addr, (uint16_t)port);
  } else {
    const struct sockaddr_in6 *in6 = (const void *)answers->ai_addr;
    addr_from_ipv6(&address->addr, in6->sin6_addr.s6_addr, (uint16_t)port);
  }
  freeaddrinfo(answers);
  return NULL;
}

/* The first line of config's, as one about options: "xchgd: XCHG_FRAME='x': want ...". */
static void tell_exchange(struct options_parser *parser, const char *lines) {
  const char *p = lines;
  fputs("xchg-bench", parser->errors);
  p += strcspn(p, ":\n");
  while (*p != 0 && *p != '\n') {
    size_t skip = 0;
    for (size_t i = 0; i < count_of(exchange_options) && skip == 0; i++) {
      size_t size = strlen(exchange_options[i].variable);
      if (strncmp(p, exchange_options[i].variable, size) != 0)
        continue;
      fprintf(parser->errors, "--%s ", option_rows[exchange_options[i].id].name);
      skip = size + (p[size] == '=' ? 1 : 0);
    }
    if (skip == 0)
      fputc(*p++, parser->errors);
    p += skip;
  }
  fputc('\n', parser->errors);
}

/* Write a line about option ${id}. Return: -1. */
static int refuse_with(struct options_parser *parser, enum option_id id, const char *why) {
  fprintf(options_fault(parser, id), "%s\n", why);
  return -1;
}

/* A thread without a connection does nothing: asked for it is a mistake, by default it is not. */
static int check_threads(struct options_parser *parser) {
  struct options *o = parser->options;
  if (o->threads <= o->connections)
    return 0;
  if (parser->given[OPTION_THREADS] != NULL)
    return refuse_with(parser, OPTION_THREADS, "want at most as many threads as connections");
  o->threads = o->connections;
  return 0;
}

/* One of -R, --ramp, --step and --search says what the rate is; shapes bring their own length. */
static int check_loop(struct options_parser *parser) {
  static const enum option_id rates[] = {OPTION_RATE, OPTION_RAMP, OPTION_STEP, OPTION_SEARCH};
  struct options *o = parser->options;
  const char **given = parser->given;
  size_t shapes = 0;
  for (size_t i = 0; i < count_of(rates); i++) {
    if (given[rates[i]] != NULL && shapes++ > 0)
      return refuse_with(parser, rates[i], "want one of --rate, --ramp, --step and --search");
  }
  if (o->uncorrected && shapes == 0)
    return refuse_with(parser, OPTION_UNCORRECTED, "nothing is corrected without --rate");
  if (o->search && o->search_objective.percent == OBJECTIVE_RATE)
    return refuse_with(parser, OPTION_SEARCH,
                       "want a objective of latency or errors: the rate is "
                       "what is searched");
  bool shaped = shapes > 0 && given[OPTION_RATE] == NULL;
  if (shaped && o->count > 0)
    return refuse_with(parser, OPTION_COUNT, "does not go with --ramp, --step and --search");
  if (shaped && !o->search && given[OPTION_DURATION] != NULL)
    return refuse_with(parser, OPTION_DURATION, "--ramp and --step bring their own");
  if ((o->search || o->steps > 0) && o->repeat > 1)
    return refuse_with(parser, OPTION_REPEAT, "does not go with --step and --search");
  return 0;
}

static int check_messages(struct options_parser *parser) {
  const struct options *o = parser->options;
  uint64_t messages = o->exchange.messages;
  bool raw = o->exchange.frame.kind == XCHG_FRAME_RAW;
  if (messages > 0 && o->pipeline > messages)
    return refuse_with(parser, OPTION_PIPELINE,
                       "want at most as many in flight as the exchange has messages");
  if (messages > 0 && o->reconnect > 0)
    return refuse_with(parser, OPTION_RECONNECT,
                       "an exchange with a fixed number of messages is a connection anyway");
  if (raw && o->pipeline > 1 && (messages > 0 || o->exchange.reply == REPLY_TEXT))
    return refuse_with(parser, OPTION_PIPELINE,
                       "a raw message is what a read returns, so that several in flight merge");
  if (messages == 0 && o->exchange.reply == REPLY_NONE) {
    if (o->search && objective_is_latency(&o->search_objective))
      return refuse_with(parser, OPTION_SEARCH, "an endless exchange without reply has no latency");
    for (uint32_t i = 0; i < o->slo_count; i++) {
      if (objective_is_latency(&o->slo[i]))
        return refuse_with(parser, OPTION_SLO, "an endless exchange without reply has no latency");
    }
  }
  return 0;
}

/* Can the frame carry such messages? What was not given follows a fixed frame. */
static int check_size(struct options_parser *parser) {
  struct options *o = parser->options;
  const struct xchg_frame *frame = &o->exchange.frame;
  uint64_t smallest = o->size.kind == SIZE_EXPONENTIAL ? 1 : o->size.a;
  uint64_t largest = o->size.kind == SIZE_UNIFORM ? o->size.b : o->size.a;
  if (frame->kind == XCHG_FRAME_FIXED) {
    if (parser->given[OPTION_SIZE] == NULL)
      o->size.a = frame->size;
    else if (o->size.kind == SIZE_EXPONENTIAL || smallest != frame->size || largest != frame->size)
      return refuse_with(parser, OPTION_SIZE, "want the N of --frame fixed:N");
  }
  if (frame->kind == XCHG_FRAME_PREFIX && frame->size == 2 && largest > UINT16_MAX)
    return refuse_with(parser, OPTION_SIZE, "want at most 65535 bytes under --frame u16");
  if (frame->kind == XCHG_FRAME_RAW && smallest == 0)
    return refuse_with(parser, OPTION_SIZE, "want at least 1 byte under --frame raw");
  return 0;
}

static int check_addresses(struct options_parser *parser) {
  const struct options *o = parser->options;
  uint64_t all = (uint64_t)o->connections + o->idle;
  if (o->bind_count == 0)
    return 0;
  for (uint32_t i = 0; i < o->bind_count; i++) {
    if (o->bind[i].family != o->address.addr.family)
      return refuse_with(parser, OPTION_BIND, "want addresses of the target's family");
  }
  if (all > (uint64_t)o->bind_count * CONNECTIONS_PER_ADDRESS)
    return refuse_with(parser, OPTION_BIND, "want an address for each 10000 connections");
  return 0;
}

/* Two reports in one file would destroy each other. */
static int check_reports(struct options_parser *parser) {
  static const enum option_id files[] = {OPTION_JSON, OPTION_CSV, OPTION_HDR, OPTION_HTML};
  for (size_t i = 0; i < count_of(files); i++) {
    for (size_t j = 0; j < i; j++) {
      const char *a = parser->given[files[i]], *b = parser->given[files[j]];
      if (a != NULL && b != NULL && strcmp(a, b) == 0 && strncmp(a, "/dev/", 5) != 0)
        return refuse_with(parser, files[i], "want a file of its own");
    }
  }
  return 0;
}
