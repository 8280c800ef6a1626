/*
 * plugin: see plugin.h.
 *
 * The object is bound at once, so that a call which this program does not export is a fault of the
 * start and not of some later connection, and keeps its own names to itself.  What it brings is
 * trusted: it runs in our process from its constructors on, and the checks are there to find
 * mistakes, not malice.
 */
#include "pool/plugin.h"

#include <assert.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define ENTRY "xchg_plugin_0"

typedef const struct xchg_handler *entry_fn(void);

/* What dlopen complained of, without the path before it, which whoever reports it has named. */
static const char *complaint(const char *path) {
  const char *text = dlerror();
  if (text == NULL) {
    return "unknown error";
  }
  size_t length = strlen(path);
  bool named = strncmp(text, path, length) == 0 && strncmp(text + length, ": ", 2) == 0;
  return named ? text + length + 2 : text;
}

const struct xchg_handler *plugin_open(struct plugin *plugin, const char *path, char *why,
                                       size_t why_size) {
  assert(strchr(path, '/') != NULL); /* a bare name would be looked for in the system's folders */
  plugin->object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (plugin->object == NULL) {
    snprintf(why, why_size, "cannot be loaded: %s", complaint(path));
    return NULL;
  }
  entry_fn *entry = (entry_fn *)dlsym(plugin->object, ENTRY);
  if (entry == NULL) {
    snprintf(why, why_size,
             "has no entry " ENTRY ": no plug-in, or built for another version of xchg");
    return NULL;
  }
  const struct xchg_handler *handler = entry();
  if (handler == NULL) {
    snprintf(why, why_size, "its entry " ENTRY " gives no handler");
    return NULL;
  }
  if (handler->size != sizeof(*handler)) {
    snprintf(why, why_size,
             "its handler has %zu bytes, not %zu: built against another version of xchg.h",
             handler->size, sizeof(*handler));
    return NULL;
  }
  return handler;
}

void plugin_close(struct plugin *plugin) {
  if (plugin->object != NULL) {
    (void)dlclose(
        plugin->object); /* the rest of the process can do without whatever it failed at */
    plugin->object = NULL;
  }
}
