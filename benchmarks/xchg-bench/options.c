/*
 * options: getopt_long over the table, then the exchange, then the checks of all options together.
 *
 * getopt permutes, so options may follow the address, as with wrk.  Its own messages are off: a
 * fault names the option and its value in one line.
 */
#include "options.h"

#include "core/xchg.h"
#include "escaped.h"
#include "objective.h"
#include "options_table.h"

#include <assert.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

/* getopt returns VALUE_BASE + i for row i, which no letter can be. */
#define VALUE_BASE 256

#define CONNECTIONS_PER_ADDRESS 10000
#define VARIABLE_MAX 4096

struct parser {
  struct options *options;
  FILE *errors;
  /* the argument of each option, "" if it takes none; NULL = not given */
  const char *given[OPTION_ROWS];
};

/* ---- faults ---- */

/* Write the one line of a fault: option ${id}, its value, and ${why}. Return: -1. */
static int refuse(struct parser *parser, enum option_id id, const char *why) {
  fprintf(parser->errors, "xchg-bench: --%s", option_rows[id].name);
  if (option_rows[id].argument != NULL && parser->given[id] != NULL) {
    fputs(" '", parser->errors);
    escaped_put(parser->errors, parser->given[id], 64);
    fputc('\'', parser->errors);
  }
  fprintf(parser->errors, ": %s\n", why);
  return -1;
}

/* The same for an option that is unknown, has no argument, or has one too many. */
static int refuse_unknown(struct parser *parser, enum option_id id, bool misses, char **argv) {
  if (misses && id < OPTION_ROWS) {
    fprintf(parser->errors, "xchg-bench: --%s: want an argument: %s\n", option_rows[id].name,
            option_rows[id].argument);
  } else if (optopt >= VALUE_BASE && id < OPTION_ROWS) {
    return refuse(parser, id, "takes no argument");
  } else if (optopt > ' ' && optopt < 0x7f) {
    fprintf(parser->errors, "xchg-bench: unknown option '-%c'; try 'xchg-bench --help'\n", optopt);
  } else {
    fputs("xchg-bench: unknown option '", parser->errors);
    escaped_put(parser->errors, argv[optind - 1], 64);
    fputs("'; try 'xchg-bench --help'\n", parser->errors);
  }
  return -1;
}

/* ---- the command line ---- */

static void set_defaults(struct options *options) {
  memset(options, 0, sizeof(*options));
  options->size = (struct size_spec){.kind = SIZE_FIXED, .a = 64};
  options->pipeline = 1;
  options->seed = 1;
  options->threads = 2;
  options->connections = 10;
  options->duration_ns = 10 * NS_PER_S;
  options->timeout_ns = 2 * NS_PER_S;
  options->interval_ns = NS_PER_S;
  options->repeat = 1;
}

/* Make getopt_long's lists.  A leading ":" tells a missing argument from an unknown option. */
static void list_options(struct option *longs, char *shorts) {
  *shorts++ = ':';
  for (int i = 0; i < OPTION_ROWS; i++) {
    const struct option_row *row = &option_rows[i];
    if (row->letter != 0) {
      *shorts++ = row->letter;
      if (row->argument != NULL) {
        *shorts++ = ':';
      }
    }
    if (row->name != NULL) {
      *longs++ = (struct option){.name = row->name,
                                 .has_arg = row->argument != NULL ? required_argument : no_argument,
                                 .val = VALUE_BASE + i};
    }
  }
  *shorts = 0;
  *longs = (struct option){.name = NULL};
}

/* The row of getopt's ${value}, or OPTION_ROWS. */
static enum option_id row_of(int value) {
  if (value >= VALUE_BASE) {
    return (enum option_id)(value - VALUE_BASE);
  }
  int i = 0;
  while (i < OPTION_ROWS && (value == 0 || option_rows[i].letter != value)) {
    i++;
  }
  return (enum option_id)i;
}

static int parse_all(struct parser *parser, int argc, char **argv) {
  struct option longs[OPTION_ROWS + 1];
  char shorts[2 * OPTION_ROWS + 2];
  list_options(longs, shorts);
  opterr = 0;
  optind = 0; /* GNU: start again */
  for (int value; (value = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
    if (value == '?' || value == ':') {
      return refuse_unknown(parser, row_of(optopt), value == ':', argv);
    }
    enum option_id id = row_of(value);
    assert(id < OPTION_ROWS);
    parser->given[id] = optarg != NULL ? optarg : "";
    if (id == OPTION_HELP || id == OPTION_VERSION) {
      return 0;
    }
    const char *wrong = option_read(parser->options, id, parser->given[id]);
    if (wrong != NULL) {
      return refuse(parser, id, wrong);
    }
  }
  return 0;
}

static int parse_target(struct parser *parser, int argc, char **argv) {
  if (optind != argc - 1) {
    fprintf(parser->errors, "xchg-bench: want one ADDRESS, not %d; try 'xchg-bench --help'\n",
            argc - optind);
    return -1;
  }
  const char *wrong = option_read_target(parser->options, argv[optind]);
  if (wrong == NULL) {
    return 0;
  }
  fputs("xchg-bench: '", parser->errors);
  escaped_put(parser->errors, argv[optind], 128);
  fprintf(parser->errors, "': %s\n", wrong);
  return -1;
}

static void print_help(FILE *out) {
  fputs(
      "Usage: xchg-bench [options] ADDRESS\n"
      "       xchg-bench compare [--fail-above PERCENT] A.json B.json ...\n"
      "       xchg-bench merge A.json B.json ... [--json FILE]\n\n"
      "Run message exchanges against the server at ADDRESS (host:port, [v6]:port or unix:/path),\n"
      "compare every answer byte by byte, and report rate and latency.\n\n",
      out);
  for (size_t i = 0; i < OPTION_ROWS; i++) {
    const struct option_row *row = &option_rows[i];
    char names[48];
    if (row->help == NULL) {
      continue;
    }
    snprintf(names, sizeof(names), "%c%c%s --%s%s%s", row->letter != 0 ? '-' : ' ',
             row->letter != 0 ? row->letter : ' ', row->letter != 0 ? "," : " ", row->name,
             row->argument != NULL ? " " : "", row->argument != NULL ? row->argument : "");
    fprintf(out, "  %-34s %s\n", names, row->help);
  }
  fputs(
      "\nNumbers: 1k, 1.5M, 1G. Times: 500us, 250ms, 2s, 1m30s, 1h, or seconds without a unit.\n"
      "Exit status, the first that applies: 130 interrupted, 64 usage error, 74 standard output\n"
      "could not be written, 1 no exchange succeeded, an answer was wrong or a report could not "
      "be\n"
      "written, 99 an objective was missed, 0 otherwise.\n",
      out);
}

/* ---- the exchange ---- */

/*
 * Write the first line of ${lines}, which core/config wrote about variables, as one about options:
 * "xchgd: XCHG_FRAME='x': want ..." becomes "xchg-bench: --frame 'x': want ...".
 */
static void print_exchange_fault(struct parser *parser, const char *lines) {
  const char *p = lines + strcspn(lines, ":\n");
  fputs("xchg-bench", parser->errors);
  while (*p != 0 && *p != '\n') {
    size_t skip = 0;
    for (size_t i = 0; i < OPTION_ROWS && skip == 0; i++) {
      const char *variable = option_rows[i].variable;
      if (variable != NULL && strncmp(p, variable, strlen(variable)) == 0) {
        fprintf(parser->errors, "--%s ", option_rows[i].name);
        skip = strlen(variable);
        skip += p[skip] == '=' ? 1 : 0;
      }
    }
    if (skip == 0) {
      fputc(*p++, parser->errors);
    }
    p += skip;
  }
  fputc('\n', parser->errors);
}

/*
 * Load the exchange from the options that are variables of the server.  The facts about the machine
 * are generous, so only the exchange can be at fault.
 * Return: 0, and the caller must call config_fini; or -1 after one line.
 */
static int load_exchange(struct parser *parser) {
  static const struct config_facts facts = {.cpus = 1, .descriptors = 1 << 20, .somaxconn = 4096};
  enum { VARIABLES_MAX = 5 };
  char variables[VARIABLES_MAX][VARIABLE_MAX];
  const char *environment[VARIABLES_MAX + 2] = {"XCHG_MAX_MESSAGE=1GiB"};
  size_t count = 0;
  for (size_t i = 0; i < OPTION_ROWS; i++) {
    if (option_rows[i].variable == NULL || parser->given[i] == NULL) {
      continue;
    }
    assert(count < VARIABLES_MAX);
    int size = snprintf(variables[count], VARIABLE_MAX, "%s=%s", option_rows[i].variable,
                        parser->given[i]);
    if (size >= VARIABLE_MAX) {
      return refuse(parser, (enum option_id)i, "want less than 4000 bytes");
    }
    environment[count + 1] = variables[count];
    count++;
  }
  char *lines = NULL;
  size_t size;
  FILE *out = open_memstream(&lines, &size);
  if (out == NULL) {
    fputs("xchg-bench: out of memory\n", parser->errors);
    return -1;
  }
  unsigned faults = config_load(&parser->options->exchange, environment, &facts, out);
  fclose(out);
  if (faults > 0) {
    print_exchange_fault(parser, lines);
  }
  free(lines);
  return faults > 0 ? -1 : 0;
}

/* ---- checks of options together: 0, or -1 after one line ---- */

/* A thread without a connection is an error only if --threads was given. */
static int check_threads(struct parser *parser) {
  struct options *o = parser->options;
  if (o->threads <= o->connections) {
    return 0;
  }
  if (parser->given[OPTION_THREADS] != NULL) {
    return refuse(parser, OPTION_THREADS, "want at most as many threads as connections");
  }
  o->threads = o->connections;
  return 0;
}

/* At most one of -R, --ramp, --step and --search sets the rate; a shape has its own duration. */
static int check_loop(struct parser *parser) {
  static const enum option_id rates[] = {OPTION_RATE, OPTION_RAMP, OPTION_STEP, OPTION_SEARCH};
  const struct options *o = parser->options;
  const char **given = parser->given;
  size_t shapes = 0;
  for (size_t i = 0; i < count_of(rates); i++) {
    if (given[rates[i]] != NULL && shapes++ > 0) {
      return refuse(parser, rates[i], "want only one of --rate, --ramp, --step and --search");
    }
  }
  const bool shaped = shapes > 0 && given[OPTION_RATE] == NULL;
  if (o->uncorrected && shapes == 0) {
    return refuse(parser, OPTION_UNCORRECTED, "needs --rate: a closed loop is not corrected");
  }
  if (o->search && o->search_objective.percent == OBJECTIVE_RATE) {
    return refuse(parser, OPTION_SEARCH,
                  "want a latency or errors: the rate is what the search varies");
  }
  if (shaped && o->count > 0) {
    return refuse(parser, OPTION_COUNT, "cannot be combined with --ramp, --step and --search");
  }
  if (shaped && !o->search && given[OPTION_DURATION] != NULL) {
    return refuse(parser, OPTION_DURATION, "--ramp and --step have their own duration");
  }
  if ((o->search || o->steps > 0) && o->repeat > 1) {
    return refuse(parser, OPTION_REPEAT, "cannot be combined with --step and --search");
  }
  return 0;
}

/* A median of several runs, and a search, are decided only at their end. */
static int check_fail_fast(struct parser *parser) {
  const struct options *o = parser->options;
  if (!o->fail_fast) {
    return 0;
  }
  if (o->slo_count == 0) {
    return refuse(parser, OPTION_FAIL_FAST, "needs the objectives of --slo");
  }
  if (o->repeat > 1 || o->search) {
    return refuse(parser, OPTION_FAIL_FAST, "cannot be combined with --repeat and --search");
  }
  return 0;
}

static int check_messages(struct parser *parser) {
  static const char no_latency[] = "an endless exchange without reply has no latency";
  const struct options *o = parser->options;
  const uint64_t messages = o->exchange.messages;
  const bool raw = o->exchange.frame.kind == XCHG_FRAME_RAW;
  if (messages > 0 && o->pipeline > messages) {
    return refuse(parser, OPTION_PIPELINE,
                  "want at most as many in flight as the exchange has messages");
  }
  if (messages > 0 && o->reconnect > 0) {
    return refuse(parser, OPTION_RECONNECT,
                  "an exchange with a fixed number of messages has its own connection");
  }
  if (raw && o->pipeline > 1 && (messages > 0 || o->exchange.reply == REPLY_TEXT)) {
    return refuse(parser, OPTION_PIPELINE,
                  "a raw message is the result of one read, so several in flight merge");
  }
  if (messages > 0 || o->exchange.reply != REPLY_NONE) {
    return 0;
  }
  if (o->search && objective_is_latency(&o->search_objective)) {
    return refuse(parser, OPTION_SEARCH, no_latency);
  }
  for (uint32_t i = 0; i < o->slo_count; i++) {
    if (objective_is_latency(&o->slo[i])) {
      return refuse(parser, OPTION_SLO, no_latency);
    }
  }
  return 0;
}

/* Can the frame carry messages of this size?  Without --size, a fixed frame sets it. */
static int check_size(struct parser *parser) {
  struct options *o = parser->options;
  const struct xchg_frame *frame = &o->exchange.frame;
  const uint64_t smallest = o->size.kind == SIZE_EXPONENTIAL ? 1 : o->size.a;
  const uint64_t largest = o->size.kind == SIZE_UNIFORM ? o->size.b : o->size.a;
  if (frame->kind == XCHG_FRAME_FIXED) {
    if (parser->given[OPTION_SIZE] == NULL) {
      o->size.a = frame->size;
    } else if (o->size.kind == SIZE_EXPONENTIAL || smallest != frame->size ||
               largest != frame->size) {
      return refuse(parser, OPTION_SIZE, "want the N of --frame fixed:N");
    }
  }
  if (frame->kind == XCHG_FRAME_PREFIX && frame->size == 2 && largest > UINT16_MAX) {
    return refuse(parser, OPTION_SIZE, "want at most 65535 bytes with --frame u16");
  }
  if (frame->kind == XCHG_FRAME_RAW && smallest == 0) {
    return refuse(parser, OPTION_SIZE, "want at least 1 byte with --frame raw");
  }
  return 0;
}

/* With --bind, only addresses of its family can be used. */
static void drop_addresses(struct options *o) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < o->addresses_count && o->bind_count > 0; i++) {
    if (o->addresses[i].family == o->bind[0].family) {
      o->addresses[kept++] = o->addresses[i];
    }
  }
  if (kept > 0) {
    o->addresses_count = kept;
    o->address.addr = o->addresses[0];
  }
}

static int check_addresses(struct parser *parser) {
  struct options *o = parser->options;
  drop_addresses(o);
  const uint64_t all = (uint64_t)o->connections + o->idle;
  for (uint32_t i = 0; i < o->bind_count; i++) {
    if (o->bind[i].family != o->address.addr.family) {
      return refuse(parser, OPTION_BIND, "want addresses of the target's family");
    }
  }
  if (o->bind_count > 0 && all > (uint64_t)o->bind_count * CONNECTIONS_PER_ADDRESS) {
    return refuse(parser, OPTION_BIND, "want an address for each 10000 connections");
  }
  return 0;
}

/* Two reports in one file would overwrite each other. */
static int check_reports(struct parser *parser) {
  static const enum option_id files[] = {OPTION_JSON, OPTION_CSV, OPTION_HDR, OPTION_HTML};
  for (size_t i = 0; i < count_of(files); i++) {
    for (size_t j = 0; j < i; j++) {
      const char *a = parser->given[files[i]], *b = parser->given[files[j]];
      if (a != NULL && b != NULL && strcmp(a, b) == 0 && strncmp(a, "/dev/", 5) != 0) {
        return refuse(parser, files[i], "want a file that no other report uses");
      }
    }
  }
  return 0;
}

static int check_all(struct parser *parser) {
  int (*const checks[])(struct parser *) = {check_threads,  check_loop, check_fail_fast,
                                            check_messages, check_size, check_addresses,
                                            check_reports};
  for (size_t i = 0; i < count_of(checks); i++) {
    if (checks[i](parser) == -1) {
      return -1;
    }
  }
  return 0;
}

/* ---- the calls ---- */

enum options_outcome options_parse(struct options *options, char **argv, FILE *out, FILE *errors) {
  struct parser parser = {.options = options, .errors = errors};
  int argc = 0;
  while (argv[argc] != NULL) {
    argc++;
  }
  set_defaults(options);
  const int parsed = parse_all(&parser, argc, argv);
  if (parser.given[OPTION_HELP] != NULL) {
    print_help(out);
    return OPTIONS_DONE;
  }
  if (parser.given[OPTION_VERSION] != NULL) {
    fputs("xchg-bench " XCHG_VERSION "\n", out);
    return OPTIONS_DONE;
  }
  if (parsed == -1 || parse_target(&parser, argc, argv) == -1 || load_exchange(&parser) == -1) {
    return OPTIONS_FAULT;
  }
  if (options->count > 0 && parser.given[OPTION_DURATION] == NULL) {
    options->duration_ns = NEVER; /* the count alone ends the run */
  }
  if (check_all(&parser) == -1) {
    options_fini(options);
    return OPTIONS_FAULT;
  }
  return OPTIONS_RUN;
}

void options_fini(struct options *options) { config_fini(&options->exchange); }
