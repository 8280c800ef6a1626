/*
 * config_load: fills struct config from an environment or from a struct xchg_config.
 *
 * Loading is one pass over the table.  A row's text comes from the environment, else from the
 * preset, else from the row.  Then come the values that depend on the facts, the contradictions and
 * the unknown names.  Loading does not stop at a fault, so that one run shows all of them.  A
 * refused value is replaced by its default and marked, because contradictions are reported between
 * accepted values only.
 *
 * If a handler defines the exchange, the five variables of a built-in exchange are not stored.
 *
 * Import and export walk the table, too.  A row with a field is in both structs.  Numbers are
 * copied.  A list is a text in struct xchg_config and is parsed as a variable is.  A program's
 * struct may hold any bytes, so numbers are checked against the row's range before they become a
 * bool or an enum.
 *
 * Loading allocates the two texts, the three lists and the handler's path.
 */
#include "core/error_text.h"
#include "core/env_vars.h"
#include "core/config.h"
#include "core/config_vars.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The bytes of a name or value that a line shows. */
#define SHOWN_MAX 64

/* Characters that would end a quoted value or begin an escape. */
#define QUOTED "'\"\\"

/* Longer names are not looked up: no known name and no name of Kubernetes is longer. */
#define NAME_MAX_SIZE 256

/* Begins the line of a fault if the facts name no program. */
#define PROGRAM "xchgd"

static_assert((int)XCHG_LOG_ERROR == (int)LOG_ERROR, "levels are copied as numbers");
static_assert((int)XCHG_LOG_WARN == (int)LOG_WARN, "levels are copied as numbers");
static_assert((int)XCHG_LOG_INFO == (int)LOG_INFO, "levels are copied as numbers");
static_assert((int)XCHG_LOG_DEBUG == (int)LOG_DEBUG, "levels are copied as numbers");
static_assert((int)XCHG_LOG_LOGFMT == (int)LOG_LOGFMT, "formats are copied as numbers");
static_assert((int)XCHG_LOG_JSON == (int)LOG_JSON, "formats are copied as numbers");

static const char *text_of(const struct config_check *check, enum config_var var);
static void print_program(const struct config_check *check);
static const char *decided_by(const struct config_check *check, enum config_var var);
static void load_var(struct config_check *check, enum config_var var);
static void check_connections(struct config_check *check);
static void check_names(struct config_check *check);
static void check_name(struct config_check *check, const char *name, size_t size,
                       const char *value);
static uint32_t round_up_to_power_of_two(uint32_t value);
static void import_number(struct config_check *check, enum config_var var);
static void import_text(struct config_check *check, enum config_var var);

unsigned config_load(struct config *config, const char *const *environment,
                     const struct config_facts *facts, FILE *out) {
  struct config_check check = {
      .config = config, .environment = environment, .facts = facts, .out = out};
  memset(config, 0, sizeof(*config));
  for (size_t i = 0; i < VAR_COUNT; i++) {
    load_var(&check, (enum config_var)i);
  }
  config_finalize(&check);
  config_check_builtin(&check);
  config_check_admin(&check);
  config_check_sandbox(&check);
  check_names(&check);
  return config_finish(&check);
}

unsigned config_import(struct config *config, const struct xchg_config *from,
                       const struct config_facts *facts, FILE *out) {
  struct config_check check = {.config = config, .from = from, .facts = facts, .out = out};
  memset(config, 0, sizeof(*config));
  if (from->size != sizeof(*from)) {
    fprintf(config_fault_begin(&check), "size=%zu: want %zu, sizeof(struct xchg_config)\n",
            from->size, sizeof(*from));
    return check.faults;
  }
  for (size_t i = 0; i < VAR_COUNT; i++) {
    if (config_var_defs[i].field == NULL) {
      continue;
    }
    if (config_var_defs[i].kind <= KIND_ENUM) {
      import_number(&check, (enum config_var)i);
    } else {
      import_text(&check, (enum config_var)i);
    }
  }
  config_finalize(&check);
  return config_finish(&check);
}

void config_export(const struct config *config, struct xchg_config *to, size_t size,
                   const char *const *environment) {
  assert(size == sizeof(*to));
  memset(to, 0, size);
  to->size = size;
  for (size_t i = 0; i < VAR_COUNT; i++) {
    const struct config_var_def *def = &config_var_defs[i];
    const char *text = env_vars_find(environment, def->name);
    char *member = (char *)to + def->public_offset;
    if (def->field == NULL || (text == NULL && def->derived != NULL)) {
      continue;
    }
    if (text == NULL) {
      text = def->default_text;
    }
    if (def->kind <= KIND_ENUM) {
      config_write_number(member, def->size, config_number(config, def));
    } else {
      memcpy(member, &text, sizeof(text));
    }
  }
}

unsigned config_finish(struct config_check *check) {
  if (check->faults > 0) {
    config_fini(check->config);
    errno = check->exhausted ? ENOMEM : EINVAL;
  }
  return check->faults;
}

void config_fini(struct config *config) {
  free(config->greeting.bytes);
  free(config->reply_text.bytes);
  free(config->handler);
  free(config->allow.blocks);
  free(config->deny.blocks);
  free(config->proxy_trust.blocks);
  memset(config, 0, sizeof(*config));
}

void config_warn(const struct config *config, const char *const *environment,
                 const struct config_facts *facts, struct log *log) {
  struct log_line line;
  config_warn_admin(config, log);
  char ignored[256] = "";
  size_t size = 0;
  for (size_t i = 0; i < VAR_COUNT && config->model != MODEL_POOL; i++) {
    const struct config_var_def *def = &config_var_defs[i];
    if (!def->pool_only || env_vars_find(environment, def->name) == NULL) {
      continue;
    }
    int written =
        snprintf(ignored + size, sizeof(ignored) - size, "%s%s", size == 0 ? "" : " ", def->name);
    assert(written > 0 && (size_t)written < sizeof(ignored) - size);
    size += (size_t)written;
  }
  if (size > 0) {
    log_begin(&line, log, LOG_WARN, "variables ignored outside XCHG_MODEL=pool");
    log_str(&line, "variables", ignored);
    log_end(&line);
  }
  if (config->max_per_ip > 0 && config_takes_proxy(config)) {
    log_msg(log, LOG_WARN, "XCHG_MAX_PER_IP does not apply to listeners with ;proxy=");
  }
  if (facts->somaxconn != 0 && config->backlog > facts->somaxconn) {
    log_begin(&line, log, LOG_WARN,
              "XCHG_BACKLOG is above net.core.somaxconn; the kernel uses the lower value");
    log_u64(&line, "backlog", config->backlog);
    log_u64(&line, "somaxconn", facts->somaxconn);
    log_end(&line);
  }
}

bool config_is_exchange(enum config_var var) {
  return var == VAR_EXCHANGE || config_var_defs[var].by_exchange != NULL;
}

bool config_has_handler(const struct config *config, const struct config_facts *facts) {
  return facts->handler || facts->embedded || config->handler != NULL;
}

FILE *config_fault_begin(struct config_check *check) {
  print_program(check);
  fputs(": ", check->out);
  check->faults++;
  return check->out;
}

FILE *config_fault(struct config_check *check, enum config_var var) {
  const struct config_var_def *def = &config_var_defs[var];
  bool number = check->from != NULL && def->kind <= KIND_ENUM;
  const char *text = number ? NULL : text_of(check, var);
  config_fault_begin(check);
  fprintf(check->out, "%s=", check->from != NULL ? def->field : def->name);
  if (number) {
    const char *member = (const char *)check->from + def->public_offset;
    fprintf(check->out, "%" PRIu64 ": ", config_read_number(member, def->size));
  } else {
    fputc('\'', check->out);
    if (text != NULL) {
      config_print_escaped(check->out, text, strlen(text), SHOWN_MAX, QUOTED);
    }
    fputs("': ", check->out);
  }
  check->refused[var] = true;
  return check->out;
}

void config_fault_unwanted(struct config_check *check, enum config_var var,
                           const struct config_span *bad) {
  char wanted[CONFIG_EXPECTED_MAX];
  FILE *out = config_fault(check, var);
  fprintf(out, "want %s", config_expected(&config_var_defs[var], wanted));
  if (bad->text != NULL) {
    fputs("; not '", out);
    config_print_escaped(out, bad->text, bad->size, SHOWN_MAX, QUOTED);
    fputc('\'', out);
  }
  fputc('\n', out);
}

void config_apply(struct config_check *check, enum config_var var, const char *text) {
  const struct config_var_def *def = &config_var_defs[var];
  struct config_span bad;
  enum config_result result = config_set(check->config, def, text, &bad);
  if (result == CONFIG_BAD) {
    config_fault_unwanted(check, var, &bad);
    text = config_default(def, check->config->exchange);
    if (text == NULL) {
      return;
    }
    result = config_set(check->config, def, text, &bad);
    assert(result != CONFIG_BAD);
  }
  if (result == CONFIG_NO_MEMORY) {
    fputs("out of memory\n", config_fault(check, var));
    check->exhausted = true;
  }
}

void config_finalize(struct config_check *check) {
  struct config *config = check->config;
  assert(check->facts->cpus > 0);
  if (config->workers == 0) {
    config->workers = (uint32_t)min_u64(check->facts->cpus, CONFIG_WORKERS_MAX);
  }
  config->workers_use_all_cpus = config->workers >= check->facts->cpus;
  config->queue = round_up_to_power_of_two(config->queue);
  if (config->slow_log_ns != 0 && config->slow_log_ns < NS_PER_MS) {
    fputs("want 0, or at least 1ms\n", config_fault(check, VAR_SLOW_LOG));
  }
  check_connections(check);
  config_check_proxy(check);
}

/* The text of ${var} as given, else its default, else NULL. */
static const char *text_of(const struct config_check *check, enum config_var var) {
  const struct config_var_def *def = &config_var_defs[var];
  const char *text;
  if (check->from != NULL) {
    memcpy(&text, (const char *)check->from + def->public_offset, sizeof(text));
  } else {
    text = env_vars_find(check->environment, def->name);
  }
  return text != NULL ? text : config_default(def, check->config->exchange);
}

/* Its caller chooses the name of a program. */
static void print_program(const struct config_check *check) {
  const char *program = check->facts->program != NULL ? check->facts->program : PROGRAM;
  config_print_escaped(check->out, program, strlen(program), SHOWN_MAX, "");
}

/* Why ${var} must not be set, or NULL if it may be. */
static const char *decided_by(const struct config_check *check, enum config_var var) {
  const struct config_facts *facts = check->facts;
  bool own = facts->handler || facts->embedded;
  if (config_is_exchange(var)) {
    if (own) {
      return "the program's handler defines the exchange";
    }
    if (env_vars_find(check->environment, config_var_defs[VAR_HANDLER].name) != NULL) {
      return "the handler of XCHG_HANDLER defines the exchange";
    }
  }
  if (var == VAR_HANDLER && own) {
    return "the program has its own handler";
  }
  if (var == VAR_MODEL && facts->embedded) {
    return "an embedded server always uses the pool model";
  }
  if (config_var_defs[var].daemon_only && facts->embedded) {
    return "an embedded server has no admin endpoint, and the program controls its stop and rights";
  }
  return NULL;
}

static void load_var(struct config_check *check, enum config_var var) {
  const struct config_var_def *def = &config_var_defs[var];
  const char *decided = decided_by(check, var);
  const char *text = text_of(check, var);
  if (decided != NULL && env_vars_find(check->environment, def->name) != NULL) {
    fprintf(config_fault(check, var), "must be unset: %s\n", decided);
    text = config_default(def, check->config->exchange);
  }
  if (decided != NULL && config_is_exchange(var)) {
    return;
  }
  if (text != NULL) {
    config_apply(check, var, text);
  }
}

/* Check the limit on connections against the descriptor limit, or derive it. */
static void check_connections(struct config_check *check) {
  struct config *config = check->config;
  uint64_t descriptors = check->facts->descriptors;
  bool known = !check->refused[VAR_LISTEN] && !check->refused[VAR_ADMIN] &&
               !check->refused[VAR_MODEL] && !check->refused[VAR_WORKERS];
  uint64_t reserve = known ? config_reserve(config, check->facts) : 0;
  uint64_t room = min_u64(sub_sat_u64(descriptors, reserve), CONFIG_CONNECTIONS_MAX);
  const char *which = check->facts->descriptors_soft ? "soft" : "hard";
  if (check->refused[VAR_MAX_CONNECTIONS]) {
    return;
  }
  if (check->facts->descriptors_error != 0) {
    if (config->max_connections == 0) {
      char text[ERROR_TEXT_MAX];
      fprintf(config_fault(check, VAR_MAX_CONNECTIONS),
              "the system does not tell the descriptor limit (getrlimit, prlimit64): %s; allow "
              "the call, or set a value\n",
              error_text(check->facts->descriptors_error, text));
    }
  } else if (room == 0) {
    fprintf(config_fault(check, VAR_MAX_CONNECTIONS),
            "the descriptor limit (RLIMIT_NOFILE, %s) of %" PRIu64
            " leaves no connection after a reserve of %" PRIu64 "; want a higher limit\n",
            which, descriptors, reserve);
  } else if (config->max_connections > room) {
    fprintf(config_fault(check, VAR_MAX_CONNECTIONS),
            "want an integer from 1 to %" PRIu64
            ": the descriptor limit (RLIMIT_NOFILE, %s) of %" PRIu64 " less a reserve of %" PRIu64
            "\n",
            room, which, descriptors, reserve);
  } else if (config->max_connections == 0) {
    bool pool = config->model == MODEL_POOL;
    config->max_connections = pool ? room : min_u64(room, CONFIG_CONNECTIONS_OUTSIDE_POOL);
  }
  config->descriptors = config->max_connections + reserve;
}

/* Every XCHG_ name in the environment must be in the table. */
static void check_names(struct config_check *check) {
  for (const char *const *entry = check->environment; *entry != NULL; entry++) {
    size_t size = strcspn(*entry, "=");
    if (strncmp(*entry, "XCHG_", 5) != 0 || (*entry)[size] == 0) {
      continue;
    }
    const char *value = *entry + size + 1;
    if (*value != 0) {
      check_name(check, *entry, size, value);
    }
  }
}

/* Write a fault unless the first ${size} bytes of ${name} are a known name or of Kubernetes. */
static void check_name(struct config_check *check, const char *name, size_t size,
                       const char *value) {
  const char *names[VAR_COUNT];
  char copy[NAME_MAX_SIZE] = "";
  if (size < sizeof(copy)) {
    memcpy(copy, name, size);
  }
  for (size_t i = 0; i < VAR_COUNT; i++) {
    names[i] = config_var_defs[i].name;
    if (strcmp(copy, names[i]) == 0) {
      return;
    }
  }
  if (env_vars_is_kubernetes(copy, value)) {
    return;
  }
  FILE *out = config_fault_begin(check);
  config_print_escaped(out, name, size, SHOWN_MAX, QUOTED);
  fputs("='", out);
  config_print_escaped(out, value, strlen(value), SHOWN_MAX, QUOTED);
  fputs("': unknown variable; ", out);
  const char *nearest = env_vars_nearest(copy, names, VAR_COUNT);
  if (nearest != NULL) {
    fprintf(out, "did you mean %s?\n", nearest);
  } else if (check->facts->embedded) {
    fputs("docs/configuration.md lists all\n", out);
  } else {
    print_program(check);
    fputs(" --help lists all\n", out);
  }
}

/* ${value} is at least 1 and at most 2^31. */
static uint32_t round_up_to_power_of_two(uint32_t value) {
  uint32_t power = 1;
  while (power < value) {
    power *= 2;
  }
  return power;
}

static void import_number(struct config_check *check, enum config_var var) {
  const struct config_var_def *def = &config_var_defs[var];
  const struct config_span none = {.text = NULL};
  uint64_t value = config_read_number((const char *)check->from + def->public_offset, def->size);
  if (value == 0 && def->derived != NULL) {
    return; /* config_finalize derives it */
  }
  if (config_allows(def, value)) {
    config_write_number((char *)check->config + def->offset, def->size, value);
    return;
  }
  config_fault_unwanted(check, var, &none);
  if (def->default_text != NULL) {
    config_apply(check, var, def->default_text);
  }
}

static void import_text(struct config_check *check, enum config_var var) {
  const struct config_var_def *def = &config_var_defs[var];
  const char *text;
  memcpy(&text, (const char *)check->from + def->public_offset, sizeof(text));
  config_apply(check, var, text != NULL ? text : def->default_text);
}
