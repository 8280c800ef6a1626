/*
 * config_public: between struct xchg_config, which a program fills, and struct config, which the
 * server runs on.
 *
 * Numbers are carried by the same table that describes the variables (config_table), so that a
 * value has one range, whichever way it comes in.
 */
#ifndef CORE_CONFIG_PUBLIC_H
#define CORE_CONFIG_PUBLIC_H

#include "core/config_data.h"

#include <stdio.h>

/**
 * config_import(config, from, facts, out):
 * Fill ${config} from ${from}, the model being pool and the exchange left to a handler.  Every
 * fault is one line to ${out} as config_load writes it, the field's name in place of the
 * variable's.
 * Return: the number of faults; with 0, ${config} is complete and config_fini is due, else there is
 * nothing to free, and errno is as after config_load.
 */
unsigned config_import(struct config *config, const struct xchg_config *from,
                       const struct config_facts *facts, FILE *out);

/**
 * config_export(config, to, size, environment):
 * Fill ${to}, of ${size} bytes, from a ${config} that config_load has filled; its strings point
 * into ${environment} or are constant.
 */
void config_export(const struct config *config, struct xchg_config *to, size_t size,
                   const char *const *environment);

#endif
