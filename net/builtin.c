/*
 * builtin: see builtin.h.
 *
 * Greeting and reply are framed once, at the start.  The terminator of a reply is that of its
 * message: CR LF is answered with CR LF, and a message that the end of the stream ended gets none.
 */
#include "net/builtin.h"

#include "net/frame.h"

#include <stdlib.h>
#include <string.h>

static void greet(struct xchg_conn *conn) {
  const struct builtin *builtin = xchg_user(conn);
  /* A failed send means that there is no memory, and ends the connection. */
  (void)xchg_send(conn, builtin->greeting, builtin->greeting_size);
}

static void echo(struct xchg_conn *conn, const struct xchg_message *message) {
  (void)xchg_send(conn, message->frame, message->frame_size); /* without memory: see greet */
}

static void answer(struct xchg_conn *conn, const struct xchg_message *message) {
  const struct builtin *builtin = xchg_user(conn);
  const uint8_t *data = message->data;
  const uint8_t *end = (const uint8_t *)message->frame + message->frame_size;
  const uint8_t *tail = data + message->size;
  const struct iovec parts[] = {{builtin->reply, builtin->reply_size},
                                {(void *)tail, (size_t)(end - tail)}};
  (void)xchg_sendv(conn, parts, 2); /* without memory: see greet */
}

/* A new copy of ${text} with its prefix and, if ${with_tail}, its terminator; NULL: no memory. */
static uint8_t *framed(const struct xchg_frame *frame, const struct config_text *text,
                       bool with_tail, size_t *size) {
  uint8_t head[FRAME_HEAD_MAX];
  size_t tail_size, head_size = frame_head(frame, text->size, head);
  const uint8_t *tail = frame_tail(frame, &tail_size);
  tail_size = with_tail ? tail_size : 0;
  *size = head_size + text->size + tail_size;
  uint8_t *bytes = malloc(*size + 1); /* NULL always means: no memory */
  if (bytes != NULL) {
    memcpy(bytes, head, head_size);
    if (text->size > 0) {
      memcpy(bytes + head_size, text->bytes, text->size);
    }
    memcpy(bytes + head_size + text->size, tail, tail_size);
  }
  return bytes;
}

int builtin_init(struct builtin *builtin, const struct config *config) {
  *builtin = (struct builtin){.handler = {.size = sizeof(struct xchg_handler),
                                          .frame = config->frame,
                                          .max_message = config->max_message_bytes,
                                          .messages = config->messages,
                                          .user = builtin}};
  if (config->has_greeting) {
    builtin->handler.on_open = greet;
    builtin->greeting = framed(&config->frame, &config->greeting, true, &builtin->greeting_size);
    if (builtin->greeting == NULL) {
      return -1;
    }
  }
  if (config->reply == REPLY_ECHO) {
    builtin->handler.on_message = echo;
  } else if (config->reply == REPLY_TEXT) {
    builtin->handler.on_message = answer;
    builtin->reply = framed(&config->frame, &config->reply_text, false, &builtin->reply_size);
    if (builtin->reply == NULL) {
      builtin_fini(builtin);
      return -1;
    }
  }
  return 0;
}

void builtin_fini(struct builtin *builtin) {
  free(builtin->greeting);
  free(builtin->reply);
  builtin->greeting = builtin->reply = NULL;
}
