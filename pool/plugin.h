/*
 * plugin: a handler from a shared object that was built apart (XCHG_HANDLER).
 *
 * The entry's name, xchg_plugin_0, carries the version of the interface, and the handler its size:
 * what was built against another version is refused with a sentence, never misread.
 */
#ifndef POOL_PLUGIN_H
#define POOL_PLUGIN_H

#include "core/xchg.h"

struct plugin {
  void *object; /* owns: what dlopen returned */
};

/**
 * plugin_open(plugin, path, why, why_size):
 * Load ${path}, which holds a '/', and ask it for its handler.
 * Lifetime: the handler, until plugin_close.
 * Return: the handler, or NULL with a sentence in ${why}: cannot be loaded, no entry of this
 * version, no handler, a handler of another size.  plugin_close is due in any case.
 */
const struct xchg_handler *plugin_open(struct plugin *plugin, const char *path, char *why,
                                       size_t why_size);
void plugin_close(struct plugin *plugin);

#endif
