/*
 * version_0: a plug-in that was built when the interface had version 0.  Its struct is a copy of
 * that version's.
 */
#include "core/xchg.h"

struct handler_0 {
  size_t size;
  struct xchg_frame frame;
  size_t max_message;
  uint64_t messages;
  size_t state_size;
  void *user;
  bool proxy_tlvs;
  int (*on_start)(struct xchg_server *server);
  void (*on_stop)(struct xchg_server *server);
  void (*on_open)(struct xchg_conn *conn);
  void (*on_message)(struct xchg_conn *conn, const struct xchg_message *message);
  void (*on_drain)(struct xchg_conn *conn);
  void (*on_timer)(struct xchg_conn *conn);
  void (*on_close)(struct xchg_conn *conn, enum xchg_reason reason);
};

XCHG_ENTRY const struct handler_0 *xchg_plugin_0(void);

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  (void)xchg_send(conn, message->frame, message->frame_size);
}

static void on_close(struct xchg_conn *conn, enum xchg_reason reason) {
  (void)conn;
  (void)reason;
}

/* What follows the handler in memory is none of it. */
static const struct {
  struct handler_0 handler;
  uint64_t next[8];
} object = {.handler = {.size = sizeof(struct handler_0),
                        .frame = {.kind = XCHG_FRAME_LINE},
                        .on_message = on_message,
                        .on_close = on_close},
            .next = {1, 1, 1, 1, 1, 1, 1, 1}};

const struct handler_0 *xchg_plugin_0(void) { return &object.handler; }
