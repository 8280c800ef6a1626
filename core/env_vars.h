/*
 * env_vars: finds a variable in the environment, and tells what an unknown name may be.
 *
 * The product looks up a variable with env_vars_find only.
 */
#ifndef CORE_ENV_VARS_H
#define CORE_ENV_VARS_H

#include "core/base.h"

#include <stdbool.h>

/**
 * The value of ${name} in the NULL-terminated ${environment}, or NULL if it is unset or empty. It
 * lives as long as ${environment}.
 */
const char *env_vars_find(const char *const *environment, const char *name);

/**
 * The nearest of ${count} ${names} to ${name} by edits (a swap is one edit), or NULL if all need
 * edits of half of the length of ${name} or more.
 */
const char *env_vars_nearest(const char *name, const char *const *names, size_t count);

/** Does Kubernetes inject ${name} with ${value} for a Service named xchg or xchg-something? */
bool env_vars_is_kubernetes(const char *name, const char *value);

#endif
