/*
 * handler_so: a plug-in for xchgd that answers each line in capital letters.
 *
 *   cc -shared -fPIC -o handler_so.so handler_so.c $(pkg-config --cflags xchg)
 *   XCHG_HANDLER=$PWD/handler_so.so xchgd
 *
 * The object links no library, because xchgd exports all calls. It has no main. XCHG_PLUGIN defines
 * the entry by which xchgd finds the handler.
 */
#include <xchg.h>

/* A message is constant and may be long, so it is changed and sent in pieces of this size. */
#define PIECE_MAX 1024

static char upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c; }

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  const char *from = message->frame; /* with the LF or CR LF that was received */
  size_t left = message->frame_size;
  while (left > 0) {
    char piece[PIECE_MAX];
    size_t size = left < PIECE_MAX ? left : PIECE_MAX;
    for (size_t i = 0; i < size; i++) {
      piece[i] = upper(from[i]);
    }
    if (xchg_send(conn, piece, size) == -1) {
      return; /* the connection is ending */
    }
    from += size;
    left -= size;
  }
}

static const struct xchg_handler shout = {
    .size = sizeof(shout),
    .frame = {.kind = XCHG_FRAME_LINE},
    .on_message = on_message,
};

XCHG_PLUGIN(shout)
