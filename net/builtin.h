/*
 * builtin: the built-in exchanges, as a handler on the public API (core/xchg.h).
 *
 * One handler serves all presets, which differ in their configuration only.  It sends a greeting
 * and answers a message with nothing, with the message itself or with a text.  An answer is framed
 * as the message was.  All workers share the struct, which is constant after builtin_init.
 */
#ifndef NET_BUILTIN_H
#define NET_BUILTIN_H

#include "core/xchg.h"
#include "core/config.h"

struct builtin {
  struct xchg_handler handler; /* .user points to this struct: do not copy it */
  uint8_t *greeting;           /* owns: framed; NULL = none */
  size_t greeting_size;
  uint8_t *reply; /* owns: prefix and text, without terminator; NULL = none or echo */
  size_t reply_size;
};

/** Copy greeting and reply from ${config} and choose the callbacks. Return: 0, or -1 (ENOMEM). */
int builtin_init(struct builtin *builtin, const struct config *config);
void builtin_fini(struct builtin *builtin);

#endif
