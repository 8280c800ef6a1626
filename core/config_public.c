/*
 * config_public: see config_public.h.
 *
 * Both ways walk the table.  A row with a field is in both structs: numbers are copied, whatever
 * their size, and lists are texts in the public one, which the rows' own parser reads.  What the
 * facts give (0 in the public struct) and what is to be held against them is config_finalize's, as
 * for an environment.
 *
 * A program's struct may hold any bytes: numbers are read as such and compared with the row's range
 * before they become a bool or an enum.
 */
#include "core/config_public.h"

#include "core/env_vars.h"
#include "core/config_vars.h"
#include "core/config.h"

#include <assert.h>
#include <string.h>

static_assert((int)XCHG_LOG_ERROR == (int)LOG_ERROR, "levels are copied as numbers");
static_assert((int)XCHG_LOG_WARN == (int)LOG_WARN, "levels are copied as numbers");
static_assert((int)XCHG_LOG_INFO == (int)LOG_INFO, "levels are copied as numbers");
static_assert((int)XCHG_LOG_DEBUG == (int)LOG_DEBUG, "levels are copied as numbers");
static_assert((int)XCHG_LOG_LOGFMT == (int)LOG_LOGFMT, "formats are copied as numbers");
static_assert((int)XCHG_LOG_JSON == (int)LOG_JSON, "formats are copied as numbers");

static void import_number(struct config_check *check, enum config_var var);
static void import_text(struct config_check *check, enum config_var var);

unsigned config_import(struct config *config, const struct xchg_config *from,
                       const struct config_facts *facts, FILE *out) {
  struct config_check check = {.config = config, .from = from, .facts = facts, .out = out};
  memset(config, 0, sizeof *config);
  if (from->size != sizeof *from) {
    fprintf(config_fault_begin(&check), "size=%zu: want %zu, sizeof(struct xchg_config)\n",
            from->size, sizeof *from);
    return check.faults;
  }
  for (size_t i = 0; i < VAR_COUNT; i++) {
    if (config_var_defs[i].field == NULL)
      continue;
    if (config_var_defs[i].kind <= KIND_ENUM)
      import_number(&check, (enum config_var)i);
    else
      import_text(&check, (enum config_var)i);
  }
  config_finalize(&check);
  return config_finish(&check);
}

void config_export(const struct config *config, struct xchg_config *to, size_t size,
                   const char *const *environment) {
  assert(size == sizeof *to);
  memset(to, 0, size);
  to->size = size;
  for (size_t i = 0; i < VAR_COUNT; i++) {
    const struct config_var_def *def = &config_var_defs[i];
    const char *text = env_vars_find(environment, def->name);
    char *member = (char *)to + def->public_offset;
    if (def->field == NULL || (text == NULL && def->derived != NULL))
      continue;
    if (text == NULL)
      text = def->default_text;
    if (def->kind <= KIND_ENUM)
      config_write_number(member, def->size, config_number(config, def));
    else
      memcpy(member, &text, sizeof text);
  }
}

static void import_number(struct config_check *check, enum config_var var) {
  const struct config_var_def *def = &config_var_defs[var];
  const struct config_span none = {.text = NULL};
  uint64_t value = config_read_number((const char *)check->from + def->public_offset, def->size);
  if (value == 0 && def->derived != NULL)
    return; /* config_finalize's */
  if (config_allows(def, value)) {
    config_write_number((char *)check->config + def->offset, def->size, value);
    return;
  }
  config_fault_unwanted(check, var, &none);
  if (def->default_text != NULL)
    config_apply(check, var, def->default_text);
}

static void import_text(struct config_check *check, enum config_var var) {
  const struct config_var_def *def = &config_var_defs[var];
  const char *text;
  memcpy(&text, (const char *)check->from + def->public_offset, sizeof text);
  config_apply(check, var, text != NULL ? text : def->default_text);
}
