/*
 * config_check: values that contradict each other.
 *
 * Each value alone is right.  Only accepted values are compared: a refused one has its own fault.
 */
#include "core/config_vars.h"

#include <inttypes.h>
#include <string.h>

/* Is there a TCP listener that requires PROXY headers, or one that does not? */
static bool has_tcp_listener(const struct config *config, bool proxied) {
  for (uint32_t i = 0; i < config->listen_count; i++) {
    const struct addr_listen *listen = &config->listen[i];
    if (listen->addr.family != ADDR_UNIX && (listen->proxy != ADDR_PROXY_OFF) == proxied) {
      return true;
    }
  }
  return false;
}

bool config_takes_proxy(const struct config *config) {
  if (config->passed_proxy) {
    return true;
  }
  for (uint32_t i = 0; i < config->listen_count; i++) {
    if (config->listen[i].proxy != ADDR_PROXY_OFF) {
      return true;
    }
  }
  return false;
}

void config_check_proxy(struct config_check *check) {
  const struct config *config = check->config;
  if (config->proxy_trust.count == 0 && has_tcp_listener(config, true) &&
      !check->refused[VAR_PROXY_TRUST] && !check->refused[VAR_LISTEN]) {
    fputs("want the addresses of the proxies: a TCP listener has ;proxy=\n",
          config_fault(check, VAR_PROXY_TRUST));
  }
}

void config_check_sandbox(struct config_check *check) {
  const struct config *config = check->config;
  if (config->sandbox > SANDBOX_AUTO && config->model != MODEL_POOL &&
      !check->refused[VAR_SANDBOX] && !check->refused[VAR_MODEL]) {
    fputs("want auto or off, or XCHG_MODEL=pool\n", config_fault(check, VAR_SANDBOX));
  } else if (config->sandbox > SANDBOX_AUTO && config->upgrade != UPGRADE_OFF &&
             !check->refused[VAR_SANDBOX] && !check->refused[VAR_UPGRADE]) {
    fputs("want auto or off, or XCHG_UPGRADE=off: an upgrade executes a program\n",
          config_fault(check, VAR_SANDBOX));
  }
}

/* Can the frame carry ${text}? */
static void check_text(struct config_check *check, enum config_var var,
                       const struct config_text *text) {
  const struct xchg_frame *frame = &check->config->frame;
  switch (frame->kind) {
    case XCHG_FRAME_RAW:
    case XCHG_FRAME_CUSTOM: /* only a handler has it */
      break;
    case XCHG_FRAME_DELIMITER:
      if (memchr(text->bytes, 0, text->size) != NULL) {
        fputs("want a text without a 0 byte, which ends a message of XCHG_FRAME=nul\n",
              config_fault(check, var));
      }
      break;
    case XCHG_FRAME_LINE:
      if (memchr(text->bytes, '\n', text->size) != NULL) {
        fputs("want a text without LF, which ends a message of XCHG_FRAME=line\n",
              config_fault(check, var));
      }
      break;
    case XCHG_FRAME_PREFIX: {
      uint64_t size_max = frame->size == 2 ? UINT16_MAX : UINT32_MAX;
      if (text->size > size_max) {
        fprintf(config_fault(check, var),
                "want a text of at most %" PRIu64 " bytes under XCHG_FRAME=%s, not of %zu\n",
                size_max, frame->size == 2 ? "u16" : "u32", text->size);
      }
      break;
    }
    case XCHG_FRAME_FIXED:
      if (text->size != frame->size) {
        fprintf(config_fault(check, var),
                "want a text of exactly %zu bytes under XCHG_FRAME=fixed:%zu, not of %zu\n",
                frame->size, frame->size, text->size);
      }
      break;
  }
}

void config_check_builtin(struct config_check *check) {
  const struct config *config = check->config;
  const bool *refused = check->refused;
  bool framed = !refused[VAR_EXCHANGE] && !refused[VAR_FRAME];
  bool fixed = framed && config->frame.kind == XCHG_FRAME_FIXED;
  if (fixed && config->frame.size > config->max_message_bytes && !refused[VAR_MAX_MESSAGE]) {
    fprintf(config_fault(check, VAR_FRAME),
            "want N at most %" PRIu64 ", the value of XCHG_MAX_MESSAGE\n",
            config->max_message_bytes);
  }
  bool greets = config->has_greeting && !refused[VAR_EXCHANGE] && !refused[VAR_GREETING];
  if (framed && greets) {
    check_text(check, VAR_GREETING, &config->greeting);
  }
  if (framed && config->reply == REPLY_TEXT && !refused[VAR_REPLY]) {
    check_text(check, VAR_REPLY, &config->reply_text);
  }
  if (greets && config->defer_accept_s > 0 && !refused[VAR_DEFER_ACCEPT] && !refused[VAR_LISTEN] &&
      has_tcp_listener(config, false)) {
    fputs("want 0 or XCHG_GREETING=none: the client would wait for the greeting\n",
          config_fault(check, VAR_DEFER_ACCEPT));
  }
}
