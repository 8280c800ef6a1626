/* A parse function: two decimal digits give the length of the message. */
#include <xchg.h>

static size_t parse(struct xchg_conn *conn, const void *data,
                    size_t size) {
  const unsigned char *digits = data;
  size_t length = 0;
  (void)conn;
  for (size_t i = 0; i < 2 && i < size; i++) {
    if (digits[i] < '0' || digits[i] > '9') {
      return XCHG_PARSE_ERROR;
    }
    length = length * 10 + (size_t)(digits[i] - '0');
  }
  return size < 2 ? 2 : 2 + length;
}

const struct xchg_handler handler = {
    .size = sizeof(struct xchg_handler),
    .frame = {.kind = XCHG_FRAME_CUSTOM, .parse = parse},
    .max_message = 2 + 99,
};
