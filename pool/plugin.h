/*
 * plugin: loads a handler from a shared object (XCHG_HANDLER).
 *
 * The name of the entry, xchg_plugin_1, holds the version of the interface, and the handler holds
 * its size.  So an object that was built for another version is refused with a reason.  Version 0
 * lacks the callbacks of a live upgrade: its connections stay with the old process.
 */
#ifndef POOL_PLUGIN_H
#define POOL_PLUGIN_H

#include "core/xchg.h"

struct plugin {
  void *object;                /* owns: what dlopen returned */
  struct xchg_handler handler; /* a copy: its members of a later version are 0 */
};

/**
 * plugin_open(plugin, path, why, why_size):
 * Load ${path}, which contains a '/', and call its entry.
 * Lifetime: the handler is in ${plugin}, and valid until plugin_close.
 * Return: the handler, or NULL with the reason in ${why}: cannot be loaded, no entry of this
 * version, no handler, a handler of another size.  plugin_close is due in both cases.
 */
const struct xchg_handler *plugin_open(struct plugin *plugin, const char *path, char *why,
                                       size_t why_size);
void plugin_close(struct plugin *plugin);

#endif
