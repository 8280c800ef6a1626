/*
 * config_help: --help, --explain and the generated pages.
 *
 * All text about one variable comes from its row in config_vars.c.  This file adds headings, the
 * syntax of values, flags and exit codes.  `make check` compares the pages in docs/ with what this
 * file writes.
 *
 * No function here fails: the caller checks the stream for errors.
 */
#include "core/ascii.h"
#include "core/parse.h"
#include "core/env_vars.h"
#include "core/config.h"
#include "core/config_vars.h"

#include <inttypes.h>
#include <string.h>

/* --explain shortens longer values; only lists are that long. */
#define EXPLAINED_MAX 1024

/* The column of the defaults in --help. */
#define HELP_COLUMN 22

struct named_text {
  const char *name, *text;
};

static const struct named_text flags[] = {
    {"-h, --help", "print this text"},
    {"--version", "print the version"},
    {"--check", "validate the configuration and exit"},
    {"--explain", "print every variable: its value, where it came from and what it does"},
    {"--upgrade", "let the server at the socket of XCHG_UPGRADE become one with this environment"},
};

static const struct named_text exit_codes[] = {
    {"0", "stopped by a signal; or --help, --version, --check, --explain, --upgrade succeeded"},
    {"1", "a second signal ended the stop at once"},
    {"64", "usage: an unknown argument"},
    {"69", "an address is in use or cannot be bound; or --upgrade found no server"},
    {"71", "the system refused memory, threads or descriptors; a listener or an upgrade failed"},
    {"74", "standard output could not be written"},
    {"75", "--upgrade: another upgrade or a stop is under way"},
    {"77", "--upgrade: the server belongs to another user"},
    {"78", "the configuration has a fault, or --upgrade may not change it in this way"},
};

static const struct named_text syntaxes[] = {
    {"integer", "4096"},
    {"size", "bytes: 4096, 64KiB, 1MiB, 2GiB"},
    {"time", "500us, 250ms, 30s, 5m; a bare 0 needs no unit"},
    {"switch", "on, off"},
    {"list", "items separated by commas, without spaces"},
    {"text", "bytes, with the escapes \\n \\r \\t \\0 \\\\ and \\xNN (two hexadecimal digits)"},
};

static const char markdown_head[] =
    "# Configuration\n\n"
    "This page is generated from the table in core/config_vars.c; do not edit it.\n\n"
    "`xchgd` is configured through environment variables only. `xchgd --check` validates them.\n"
    "`xchgd --explain` prints the value of each variable, where it comes from and what it does.\n\n"
    "If the configuration has faults, `xchgd` prints one line for each and exits with code 78. "
    "These\n"
    "are faults:\n\n"
    "- a value that does not parse or is out of range\n"
    "- values that contradict each other\n"
    "- an unknown variable whose name begins with `XCHG_`; the line names the nearest known one\n\n"
    "Variables that Kubernetes injects for a Service called xchg or xchg-something are "
    "ignored.\n\n";

/* What --explain prints about one variable. */
struct explained {
  const char *text;   /* the value as given, or NULL: ${number} */
  uint64_t number;    /* the effective figure */
  const char *source; /* default, environment, limit or cgroup */
  bool clamped;
};

static struct explained explain(enum config_var var, const struct config *config,
                                const char *const *environment, const struct config_facts *facts);
static void explain_effective(struct explained *explained, enum config_var var,
                              const struct config *config, const struct config_facts *facts);
static void explain_clamped(struct explained *explained, uint64_t effective);
static const char *default_words(const struct config_var_def *def);
static void print_presets(FILE *out);
static void print_sentence(FILE *out, const char *text, void (*print)(FILE *, const char *));
static void print_markdown(FILE *out, const char *text);
static void print_roff(FILE *out, const char *text);
static void print_json(FILE *out, const char *text);

void config_help(FILE *out) {
  char wanted[CONFIG_EXPECTED_MAX];
  fputs("usage: xchgd [-h | --help | --version | --check | --explain | --upgrade]\n\n", out);
  fputs("Serves TCP message exchanges. Configured through environment variables only.\n\n", out);
  for (size_t i = 0; i < count_of(flags); i++) {
    fprintf(out, "  %-12s%s\n", flags[i].name, flags[i].text);
  }
  fputs("\nValues (an empty value counts as not set; case does not matter in names of values):\n\n",
        out);
  for (size_t i = 0; i < count_of(syntaxes); i++) {
    fprintf(out, "  %-12s%s\n", syntaxes[i].name, syntaxes[i].text);
  }
  fputs("\nVariables:\n\n", out);
  for (size_t i = 0; i < VAR_COUNT; i++) {
    const struct config_var_def *def = &config_var_defs[i];
    fprintf(out, "  %-*s default: %s\n      %s\n      %s\n", HELP_COLUMN, def->name,
            default_words(def), def->what, config_expected(def, wanted));
  }
  fputs("\nExit codes:\n\n", out);
  for (size_t i = 0; i < count_of(exit_codes); i++) {
    fprintf(out, "  %-4s%s\n", exit_codes[i].name, exit_codes[i].text);
  }
}

void config_explain(const struct config *config, const char *const *environment,
                    const struct config_facts *facts, FILE *out) {
  bool handled = config_has_handler(config, facts);
  for (size_t i = 0; i < VAR_COUNT; i++) {
    const struct config_var_def *def = &config_var_defs[i];
    struct explained explained = explain((enum config_var)i, config, environment, facts);
    fprintf(out, "%s=", def->name);
    if (handled && config_is_exchange((enum config_var)i)) {
      fprintf(out, " (set by the handler) %s\n", def->what);
      continue;
    }
    if (explained.text != NULL) {
      config_print_escaped(out, explained.text, strlen(explained.text), EXPLAINED_MAX, "");
    } else {
      fprintf(out, "%" PRIu64, explained.number);
    }
    fprintf(out, " (%s%s", explained.source, explained.clamped ? ", clamped" : "");
    if (def->pool_only && config->model != MODEL_POOL) {
      fputs(", ignored outside XCHG_MODEL=pool", out);
    }
    if (i == VAR_MAX_MESSAGE && handled) {
      fputs(", unless the handler sets one", out);
    }
    uint32_t passed = i == VAR_LISTEN  ? facts->passed.data_count
                      : i == VAR_ADMIN ? facts->passed.admin_count
                                       : 0;
    if (passed > 0) {
      fprintf(out, ", replaced by %" PRIu32 " passed in LISTEN_FDS", passed);
    }
    fprintf(out, ") %s\n", def->what);
  }
}

void config_write_settings(const struct config *config, const char *const *environment,
                           const struct config_facts *facts, FILE *out) {
  bool handled = config_has_handler(config, facts);
  const char *before = "{";
  for (size_t i = 0; i < VAR_COUNT; i++) {
    if (handled && config_is_exchange((enum config_var)i)) {
      continue;
    }
    struct explained explained = explain((enum config_var)i, config, environment, facts);
    fprintf(out, "%s\"%s\":{\"value\":\"", before, config_var_defs[i].name);
    if (explained.text != NULL) {
      print_json(out, explained.text);
    } else {
      fprintf(out, "%" PRIu64, explained.number);
    }
    fprintf(out, "\",\"from\":\"%s\"}", explained.source);
    before = ",";
  }
  fputc('}', out);
}

void config_write_markdown(FILE *out) {
  char wanted[CONFIG_EXPECTED_MAX];
  fputs(markdown_head, out);
  fputs("## Values\n\n| kind | syntax |\n|---|---|\n", out);
  for (size_t i = 0; i < count_of(syntaxes); i++) {
    fprintf(out, "| %s | ", syntaxes[i].name);
    print_markdown(out, syntaxes[i].text);
    fputs(" |\n", out);
  }
  fputs("\nAn empty value counts as not set. Case does not matter in names of values.\n\n", out);
  fputs("## Variables\n\n| variable | default | values | meaning |\n|---|---|---|---|\n", out);
  for (size_t i = 0; i < VAR_COUNT; i++) {
    const struct config_var_def *def = &config_var_defs[i];
    fprintf(out, "| `%s` | ", def->name);
    print_markdown(out, default_words(def));
    fputs(" | ", out);
    print_markdown(out, config_expected(def, wanted));
    fputs(" | ", out);
    print_sentence(out, def->what, print_markdown);
    if (def->more != NULL) {
      fputc(' ', out);
      print_markdown(out, def->more);
    }
    fprintf(out, "%s |\n", def->pool_only ? " Ignored outside XCHG_MODEL=pool." : "");
  }
  fputs("\n## Presets\n\nThe defaults that each value of `XCHG_EXCHANGE` sets:\n\n", out);
  print_presets(out);
  fputs("\n## Exit codes\n\n| code | reason |\n|---|---|\n", out);
  for (size_t i = 0; i < count_of(exit_codes); i++) {
    fprintf(out, "| %s | %s |\n", exit_codes[i].name, exit_codes[i].text);
  }
}

void config_write_man(FILE *out) {
  char wanted[CONFIG_EXPECTED_MAX];
  for (size_t i = 0; i < VAR_COUNT; i++) {
    const struct config_var_def *def = &config_var_defs[i];
    fprintf(out, ".TP\n.B %s\n", def->name);
    print_sentence(out, def->what, print_roff);
    if (def->more != NULL) {
      fputc('\n', out);
      print_roff(out, def->more);
    }
    fputs("\nValues: ", out);
    print_roff(out, config_expected(def, wanted));
    fputs(".\nDefault: ", out);
    print_roff(out, default_words(def));
    fprintf(out, ".\n%s", def->pool_only ? "Ignored outside XCHG_MODEL=pool.\n" : "");
  }
}

/* The value of ${var}, and where it comes from. */
static struct explained explain(enum config_var var, const struct config *config,
                                const char *const *environment, const struct config_facts *facts) {
  const struct config_var_def *def = &config_var_defs[var];
  struct explained explained = {.text = env_vars_find(environment, def->name),
                                .source = "environment"};
  if (explained.text == NULL) {
    explained.text = config_default(def, config->exchange);
    explained.source = "default";
  }
  explain_effective(&explained, var, config, facts);
  return explained;
}

/* Find the effective value if it can differ from the given one. */
static void explain_effective(struct explained *explained, enum config_var var,
                              const struct config *config, const struct config_facts *facts) {
  const struct config_var_def *def = &config_var_defs[var];
  uint64_t room = sub_sat_u64(facts->descriptors, config_reserve(config, facts));
  if (def->kind == KIND_ENUM) {
    explained->text = def->names[config_number(config, def)];
  } else if (var == VAR_QUEUE) {
    explain_clamped(explained, config->queue);
  } else if (var == VAR_BACKLOG && facts->somaxconn != 0) {
    explain_clamped(explained, min_u64(config->backlog, facts->somaxconn));
  } else if (var == VAR_WORKERS && explained->text == NULL) {
    explained->number = config->workers;
    explained->source = facts->cpus_from_cgroup ? "cgroup" : "default";
    explained->clamped = facts->cpus > config->workers;
  } else if (var == VAR_MAX_CONNECTIONS && explained->text == NULL) {
    /* Outside pool the default is a constant, unless the descriptors allow less. */
    bool limited =
        config->model == MODEL_POOL || config->max_connections < CONFIG_CONNECTIONS_OUTSIDE_POOL;
    explained->number = config->max_connections;
    explained->source = limited ? "limit" : "default";
    explained->clamped = limited && (config->model != MODEL_POOL || config->max_connections < room);
  }
}

/* Show ${effective} if the given integer differs. */
static void explain_clamped(struct explained *explained, uint64_t effective) {
  uint64_t given;
  if (parse_u64(explained->text, &given) == 0 && given == effective) {
    return;
  }
  explained->text = NULL;
  explained->number = effective;
  explained->clamped = true;
}

/* The default of ${row} as readable text. */
static const char *default_words(const struct config_var_def *def) {
  const char *text = config_default(def, EXCHANGE_GREET);
  if (text == NULL) {
    return def->derived;
  }
  return *text == 0 ? "empty" : text;
}

/* A table of what each preset sets. */
static void print_presets(FILE *out) {
  const struct config_var_def *preset = &config_var_defs[VAR_EXCHANGE];
  fputs("| preset |", out);
  for (size_t i = 0; i < VAR_COUNT; i++) {
    if (config_var_defs[i].by_exchange != NULL) {
      fprintf(out, " `%s` |", config_var_defs[i].name);
    }
  }
  fputs("\n|---|---|---|---|---|\n", out);
  for (size_t i = 0; preset->names[i] != NULL; i++) {
    fprintf(out, "| `%s` |", preset->names[i]);
    for (size_t j = 0; j < VAR_COUNT; j++) {
      if (config_var_defs[j].by_exchange != NULL) {
        fprintf(out, " %s |", config_var_defs[j].by_exchange[i]);
      }
    }
    fputc('\n', out);
  }
}

/* Write ${text} as a sentence: with a capital letter and a full stop. */
static void print_sentence(FILE *out, const char *text, void (*print)(FILE *, const char *)) {
  fputc(ascii_upper(*text), out);
  print(out, text + 1);
  fputc('.', out);
}

/* Write ${text} escaped for Markdown, for tables too. */
static void print_markdown(FILE *out, const char *text) {
  for (; *text != 0; text++) {
    if (strchr("\\|*<", *text) != NULL) {
      fputc('\\', out);
    }
    fputc(*text, out);
  }
}

/* Write ${text} escaped for roff. It must not begin a line with a control character. */
static void print_roff(FILE *out, const char *text) {
  for (; *text != 0; text++) {
    if (*text == '\\') {
      fputs("\\e", out);
    } else if (*text == '-') {
      fputs("\\-", out);
    } else {
      fputc(*text, out);
    }
  }
}

/* Write the inside of a JSON string. A byte that is no ASCII stands for its own code point. */
static void print_json(FILE *out, const char *text) {
  for (size_t i = 0; i < EXPLAINED_MAX && text[i] != 0; i++) {
    uint8_t byte = (uint8_t)text[i];
    if (byte < 0x20 || byte >= 0x7f || byte == '"' || byte == '\\') {
      fprintf(out, "\\u%04x", byte);
    } else {
      fputc(byte, out);
    }
  }
}
