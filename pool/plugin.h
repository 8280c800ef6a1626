/*
 * plugin: loads a handler from a shared object (XCHG_HANDLER).
 *
 * The name of the entry, xchg_plugin_0, holds the version of the interface, and the handler holds
 * its size.  So an object that was built for another version is refused with a reason.
 */
#ifndef POOL_PLUGIN_H
#define POOL_PLUGIN_H

#include "core/xchg.h"

struct plugin {
  void *object; /* owns: what dlopen returned */
};

/**
 * plugin_open(plugin, path, why, why_size):
 * Load ${path}, which contains a '/', and call its entry.
 * Lifetime: the handler is valid until plugin_close.
 * Return: the handler, or NULL with the reason in ${why}: cannot be loaded, no entry of this
 * version, no handler, a handler of another size.  plugin_close is due in both cases.
 */
const struct xchg_handler *plugin_open(struct plugin *plugin, const char *path, char *why,
                                       size_t why_size);
void plugin_close(struct plugin *plugin);

#endif
