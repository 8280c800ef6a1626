/*
 * config: everything that can be tuned, from one table.
 *
 * The table in config_table.c has a row a variable: name, default, kind and range, where it goes
 * and what it does.  From it come the parser, --help, --explain, the manual page's section and
 * docs/configuration.md.
 * Loading lists all faults, one line each, before it fails.  What the machine says (CPUs,
 * descriptors) comes in as facts, so that this module asks nobody and tests can say anything.
 * What is loaded is struct config of config_data.h.
 */
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include "core/config_data.h"

#include <stdio.h>

/**
 * config_load(config, environment, facts, out):
 * Fill ${config} from the NULL-terminated ${environment}.  Every fault (a value that does not parse
 * or is out of range, values that contradict each other, an unknown XCHG_ variable) is written to
 * ${out} as one line: variable, value (escaped), what is allowed.
 * Return: the number of faults; with 0, ${config} is complete and config_fini is due, else there is
 * nothing to free, and errno is ENOMEM if one of them was want of memory, or EINVAL.
 */
unsigned config_load(struct config *config, const char *const *environment,
                     const struct config_facts *facts, FILE *out);
void config_fini(struct config *config);

/**
 * config_warn(config, environment, facts, log): log what is allowed but surely not meant: variables
 * that the model ignores (one line), a backlog over somaxconn.  ${environment} may be NULL where
 * ${config} was imported.  Thread: main, before the start.
 */
void config_warn(const struct config *config, const char *const *environment,
                 const struct config_facts *facts, struct log *log);

/** Write what --help and --explain print; and the generated pages. */
void config_help(FILE *out);
void config_explain(const struct config *config, const char *const *environment,
                    const struct config_facts *facts, FILE *out);
void config_write_markdown(FILE *out); /* docs/configuration.md */
void config_write_man(FILE *out);      /* the variables' section of xchgd.8 */

/** Descriptors that the server itself needs with ${config}, connections apart (the reserve). */
uint64_t config_reserve(const struct config *config, const struct config_facts *facts);

#endif
