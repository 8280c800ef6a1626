/*
 * plugin: see plugin.h.
 *
 * All symbols are bound when the object is loaded.  So a call that this program does not export
 * fails at the start, not at a later connection.  The object's own names stay local.  A plug-in is
 * trusted: its code runs from its constructors on.  The checks find mistakes, not malice.
 */
#include "pool/plugin.h"

#include <assert.h>
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define ENTRY "xchg_plugin_1"
#define ENTRY_0 "xchg_plugin_0" /* of objects whose handler ends before state_version */
#define SIZE_0 offsetof(struct xchg_handler, state_version)

typedef const struct xchg_handler *entry_fn(void);

/* The text of dlerror without the path, which the caller reports itself. */
static const char *complaint(const char *path) {
  /* rules-ok: xchgd sets no locale, and nothing of a plug-in has run when its loading fails */
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
  assert(strchr(path, '/') != NULL); /* dlopen searches the system's folders for a bare name */
  plugin->object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (plugin->object == NULL) {
    snprintf(why, why_size, "cannot be loaded: %s", complaint(path));
    return NULL;
  }
  const char *name = ENTRY;
  entry_fn *entry = (entry_fn *)dlsym(plugin->object, ENTRY);
  if (entry == NULL) {
    name = ENTRY_0;
    entry = (entry_fn *)dlsym(plugin->object, ENTRY_0);
  }
  if (entry == NULL) {
    snprintf(why, why_size,
             "has no entry " ENTRY ": no plug-in, or built for another version of xchg");
    return NULL;
  }
  const struct xchg_handler *handler = entry();
  size_t size = strcmp(name, ENTRY) == 0 ? sizeof(*handler) : SIZE_0;
  if (handler == NULL) {
    snprintf(why, why_size, "its entry %s gives no handler", name);
    return NULL;
  }
  if (handler->size != size) {
    snprintf(why, why_size,
             "its handler has %zu bytes, not %zu: built against another version of xchg.h",
             handler->size, size);
    return NULL;
  }
  plugin->handler = (struct xchg_handler){0};
  memcpy(&plugin->handler, handler, size);
  plugin->handler.size = sizeof(plugin->handler);
  return &plugin->handler;
}

void plugin_close(struct plugin *plugin) {
  if (plugin->object != NULL) {
    (void)dlclose(plugin->object); /* a failure leaves the object loaded, which does no harm */
    plugin->object = NULL;
  }
}
