/*
 * builtin: the built-in exchanges, as handlers on the public contract (core/xchg.h) and nothing
 * else.
 *
 * One handler serves all of them: it greets with a text, and answers a message with nothing, with
 * the message itself or with a text, framed as the message was.  The presets differ in
 * configuration alone.  Constant once prepared; all workers share it.
 */
#ifndef NET_BUILTIN_H
#define NET_BUILTIN_H

#include "core/xchg.h"
#include "core/config.h"

struct builtin {
  struct xchg_handler handler; /* its user points to this object: do not copy it */
  uint8_t *greeting;           /* owns: framed; NULL = none */
  size_t greeting_size;
  uint8_t *reply; /* owns: prefix and text, without terminator; NULL = none or echo */
  size_t reply_size;
};

/** Prepare ${exchange} as ${config} says, which need not outlive it. Return: 0, or -1 (ENOMEM). */
int builtin_init(struct builtin *builtin, const struct config *config);
void builtin_fini(struct builtin *builtin);

#endif
