/*
 * handler_so: a handler as a plug-in: answers each line in capital letters.
 *
 *   cc -shared -fPIC -o handler_so.so handler_so.c $(pkg-config --cflags xchg)
 *   XCHG_HANDLER=$PWD/handler_so.so xchgd
 *
 * The object links nothing: xchgd has the calls that it makes.  There is no main; XCHG_PLUGIN makes
 * the entry by which xchgd finds the handler.
 */
#include <xchg.h>

/* Bytes that are changed and sent at a time: a message is constant and may be long. */
#define PIECE_MAX 1024

static char upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c; }

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  const char *from = message->frame; /* with the end of the line, as it came: LF or CR LF */
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
