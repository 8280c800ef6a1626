/*
 * options: getopt_long over the table, then the exchange, then the contradictions.
 *
 * getopt permutes, so options may follow the address, as with wrk.  Its own messages are switched
 * off: a fault of ours names the option and its value in one line.
 */
#include "options.h"

#include "core/xchg.h"
#include "options_table.h"

#include <assert.h>
#include <getopt.h>
#include <string.h>

/* What getopt returns for row i is this + i: no letter. */
#define VALUE_BASE 256

static void set_defaults(struct options *options);
static void list_options(struct option *longs, char *shorts);
static enum option_id row_of(int value);
static int parse_all(struct options_parser *parser, int argc, char **argv);
static int parse_one(struct options_parser *parser, enum option_id id, const char *text);
static int parse_target(struct options_parser *parser, int argc, char **argv);
static int refuse(struct options_parser *parser, int value, char **argv);

enum options_outcome options_parse(struct options *options, char **argv, FILE *out, FILE *errors) {
  struct options_parser parser = {.options = options, .errors = errors};
  int argc = 0;
  while (argv[argc] != NULL)
    argc++;
  set_defaults(options);
  int result = parse_all(&parser, argc, argv);
  if (parser.given[OPTION_HELP] != NULL) {
    options_help(out);
    return OPTIONS_DONE;
  }
  if (parser.given[OPTION_VERSION] != NULL) {
    fputs("xchg-bench " XCHG_VERSION "\n", out);
    return OPTIONS_DONE;
  }
  if (result == -1 || parse_target(&parser, argc, argv) == -1 ||
      options_load_exchange(&parser) == -1)
    return OPTIONS_FAULT;
  if (options_check(&parser) == -1) {
    options_fini(options);
    return OPTIONS_FAULT;
  }
  return OPTIONS_RUN;
}

void options_fini(struct options *options) { config_fini(&options->exchange); }

void options_help(FILE *out) {
  fputs(
      "Usage: xchg-bench [options] ADDRESS\n"
      "       xchg-bench compare A.json B.json ...\n"
      "       xchg-bench merge A.json B.json ...\n\n"
      "Runs message exchanges against the server at ADDRESS (host:port, [v6]:port, unix:/path),\n"
      "compares every answer byte by byte, and reports rate and latency.\n\n",
      out);
  for (size_t i = 0; i < OPTION_ROWS; i++) {
    const struct option_row *row = &option_rows[i];
    char names[48];
    if (row->what == NULL)
      continue;
    snprintf(names, sizeof names, "%c%c%s --%s%s%s", row->letter != 0 ? '-' : ' ',
             row->letter != 0 ? row->letter : ' ', row->letter != 0 ? "," : " ", row->name,
             row->argument != NULL ? " " : "", row->argument != NULL ? row->argument : "");
    fprintf(out, "  %-34s %s\n", names, row->what);
  }
  fputs(
      "\nNumbers may be 1k, 1.5M, 1G; times 500us, 250ms, 2s, 1m, 1h, or bare seconds.\n"
      "Exit status: 130 interrupted, 64 usage, 1 no exchange succeeded or an answer was wrong,\n"
      "99 an objective was missed, 0.\n",
      out);
}

/* At most ${size_max} bytes of ${text}, on one line whatever they are. */
static void print_escaped(FILE *out, const char *text, size_t size_max) {
  for (size_t i = 0; i < size_max && text[i] != 0; i++) {
    if ((uint8_t)text[i] < 0x20 || text[i] == 0x7f)
      fprintf(out, "\\x%02x", (uint8_t)text[i]);
    else
      fputc(text[i], out);
  }
}

FILE *options_fault(struct options_parser *parser, enum option_id id) {
  const struct option_row *row = &option_rows[id];
  const char *text = parser->given[id];
  fputs("xchg-bench: ", parser->errors);
  if (row->name != NULL)
    fprintf(parser->errors, "--%s", row->name);
  else
    fprintf(parser->errors, "-%c", row->letter);
  if (row->argument != NULL && text != NULL) {
    fputs(" '", parser->errors);
    print_escaped(parser->errors, text, 64);
    fputc('\'', parser->errors);
  }
  fputs(": ", parser->errors);
  return parser->errors;
}

static void set_defaults(struct options *options) {
  memset(options, 0, sizeof *options);
  options->size = (struct size_spec){.kind = SIZE_FIXED, .a = 64};
  options->pipeline = 1;
  options->seed = 1;
  options->threads = 2;
  options->connections = 10;
  options->duration_ns = 10 * NS_PER_S;
  options->timeout_ns = 2 * NS_PER_S;
  options->repeat = 1;
}

/* What getopt_long wants. ":" first: a missing argument is told from an unknown option. */
static void list_options(struct option *longs, char *shorts) {
  *shorts++ = ':';
  for (int i = 0; i < OPTION_ROWS; i++) {
    const struct option_row *row = &option_rows[i];
    if (row->letter != 0) {
      *shorts++ = row->letter;
      if (row->argument != NULL)
        *shorts++ = ':';
    }
    if (row->name != NULL)
      *longs++ = (struct option){.name = row->name,
                                 .has_arg = row->argument != NULL ? required_argument : no_argument,
                                 .val = VALUE_BASE + i};
  }
  *shorts = 0;
  *longs = (struct option){.name = NULL};
}

/* The row of what getopt returned, OPTION_ROWS where it is none. */
static enum option_id row_of(int value) {
  if (value >= VALUE_BASE)
    return (enum option_id)(value - VALUE_BASE);
  for (int i = 0; i < OPTION_ROWS; i++) {
    if (value != 0 && option_rows[i].letter == value)
      return (enum option_id)i;
  }
  return OPTION_ROWS;
}

static int parse_all(struct options_parser *parser, int argc, char **argv) {
  struct option longs[OPTION_ROWS + 1];
  char shorts[2 * OPTION_ROWS + 2];
  list_options(longs, shorts);
  opterr = 0;
  optind = 0; /* GNU: begin anew */
  for (int value; (value = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
    if (value == '?' || value == ':')
      return refuse(parser, value, argv);
    enum option_id id = row_of(value);
    assert(id < OPTION_ROWS);
    if (id == OPTION_HELP || id == OPTION_VERSION) {
      parser->given[id] = "";
      return 0;
    }
    if (parse_one(parser, id, optarg != NULL ? optarg : "") == -1)
      return -1;
  }
  return 0;
}

static int parse_one(struct options_parser *parser, enum option_id id, const char *text) {
  const struct option_row *row = &option_rows[id];
  parser->given[id] = text;
  const char *wanted = row->read == NULL ? NULL : row->read(parser->options, text);
  if (wanted == NULL)
    return 0;
  fprintf(options_fault(parser, id), "%s\n", wanted);
  return -1;
}

/* An option that nobody knows, or one without its argument. */
static int refuse(struct options_parser *parser, int value, char **argv) {
  enum option_id id = row_of(optopt);
  if (value == ':' && id < OPTION_ROWS)
    fprintf(options_fault(parser, id), "want an argument: %s\n", option_rows[id].argument);
  else if (optopt >= VALUE_BASE && id < OPTION_ROWS)
    fprintf(options_fault(parser, id), "takes no argument\n");
  else if (optopt > ' ' && optopt < 0x7f)
    fprintf(parser->errors, "xchg-bench: unknown option '-%c'; try 'xchg-bench --help'\n", optopt);
  else {
    fputs("xchg-bench: unknown option '", parser->errors);
    print_escaped(parser->errors, argv[optind - 1], 64);
    fputs("'; try 'xchg-bench --help'\n", parser->errors);
  }
  return -1;
}

static int parse_target(struct options_parser *parser, int argc, char **argv) {
  if (optind != argc - 1) {
    fprintf(parser->errors, "xchg-bench: want one ADDRESS, not %d; try 'xchg-bench --help'\n",
            argc - optind);
    return -1;
  }
  const char *wrong = options_read_target(parser->options, argv[optind]);
  if (wrong == NULL)
    return 0;
  fputs("xchg-bench: '", parser->errors);
  print_escaped(parser->errors, argv[optind], 128);
  fprintf(parser->errors, "': %s\n", wrong);
  return -1;
}
