/*
 * builtin: see builtin.h.  Texts are framed once, here at the start; a reply's terminator is the
 * message's own (CR LF is answered with CR LF, and a message that the end of the stream ended gets
 * none).
 */
#include "net/builtin.h"

#include <stdlib.h>
#include <string.h>

static void greet(struct xchg_conn *conn) {
  const struct builtin *builtin = xchg_user(conn);
  (void)xchg_send(conn, builtin->greeting,
                  builtin->greeting_size); /* no memory ends the connection */
}

static void echo(struct xchg_conn *conn, const struct xchg_message *message) {
  (void)xchg_send(conn, message->frame, message->frame_size);
}

static void answer(struct xchg_conn *conn, const struct xchg_message *message) {
  const struct builtin *builtin = xchg_user(conn);
  const uint8_t *data = message->data;
  const uint8_t *end = (const uint8_t *)message->frame + message->frame_size;
  const uint8_t *tail = data + message->size;
  const struct iovec parts[] = {{builtin->reply, builtin->reply_size},
                                {(void *)tail, (size_t)(end - tail)}};
  (void)xchg_sendv(conn, parts, 2);
}

/*
 * What stands around a message of ${size} bytes: its length goes into ${head}, the terminator into
 * ${*tail}. Return: bytes of the former; those of the latter in ${*tail_size}.
 */
static size_t surround(const struct xchg_frame *frame, size_t size, uint8_t head[8], uint8_t *tail,
                       size_t *tail_size) {
  size_t head_size = frame->kind == XCHG_FRAME_PREFIX ? frame->size : 0;
  for (size_t i = 0; i < head_size; i++) {
    head[frame->little_endian ? i : head_size - 1 - i] = (uint8_t)(size >> 8 * i);
  }
  *tail = frame->kind == XCHG_FRAME_LINE ? '\n' : frame->delimiter;
  *tail_size = frame->kind == XCHG_FRAME_LINE || frame->kind == XCHG_FRAME_DELIMITER ? 1 : 0;
  return head_size;
}

/*
 * A new copy of ${text} with its prefix and, where ${with_tail}, its terminator; NULL without
 * memory.
 */
static uint8_t *framed(const struct xchg_frame *frame, const struct config_text *text,
                       bool with_tail, size_t *size) {
  uint8_t head[8], tail;
  size_t tail_size;
  size_t head_size = surround(frame, text->size, head, &tail, &tail_size);
  tail_size = with_tail ? tail_size : 0;
  *size = head_size + text->size + tail_size;
  uint8_t *bytes = malloc(*size + 1); /* an empty text is no failure */
  if (bytes != NULL) {
    memcpy(bytes, head, head_size);
    if (text->size > 0) {
      memcpy(bytes + head_size, text->bytes, text->size);
    }
    if (tail_size > 0) {
      bytes[head_size + text->size] = tail;
    }
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
