/*
 * check_builtin: the built-in exchanges over real connections: greeting and replies under each
 * frame at every split, and the four presets.
 */
#include "tests/fixtures/conn_fixture.h"

#include "net/builtin.h"

#include <stdio.h>

/* An exchange, what the client sends, and every byte that it must get. */
struct dialogue {
  const char *greeting; /* NULL = none */
  struct xchg_frame frame;
  enum config_reply reply;
  const char *text; /* for REPLY_TEXT */
  uint64_t messages;
  const char *sends;
  size_t sends_size;
  const char *gets;
  size_t gets_size;
  enum xchg_reason reason;
};

#define BYTES(text) text, sizeof(text) - 1

/* clang-format off */
#define RAW \
  { .kind = XCHG_FRAME_RAW }
#define LINE \
  { .kind = XCHG_FRAME_LINE }
#define FIXED \
  { .kind = XCHG_FRAME_FIXED, .size = 2 }
#define NUL \
  { .kind = XCHG_FRAME_DELIMITER }
#define U16 \
  { .kind = XCHG_FRAME_PREFIX, .size = 2 }
#define U32 \
  { .kind = XCHG_FRAME_PREFIX, .size = 4 }

static const struct dialogue dialogues[] = {
    /* the presets greet, line, echo and discard */
    {"Message from server", NUL, REPLY_NONE, NULL, 1,
     BYTES("hi\0"), BYTES("Message from server\0"), XCHG_FINISHED},
    {NULL, LINE, REPLY_ECHO, NULL, 1,
     BYTES("hello\r\nignored\n"), BYTES("hello\r\n"), XCHG_FINISHED},
    {NULL, RAW, REPLY_ECHO, NULL, 0,
     BYTES("a\0b\nc"), BYTES("a\0b\nc"), XCHG_FINISHED},
    {NULL, RAW, REPLY_NONE, NULL, 0, BYTES("a\0b\nc"), BYTES(""), XCHG_FINISHED},
    /* a text for each message, with the terminator of that message */
    {NULL, LINE, REPLY_TEXT, "ok", 0,
     BYTES("a\nb\r\n\nd"), BYTES("ok\nok\r\nok\nok"), XCHG_FINISHED},
    {NULL, NUL, REPLY_TEXT, "ok", 2,
     BYTES("a\0b\0c\0"), BYTES("ok\0ok\0"), XCHG_FINISHED},
    {NULL, U16, REPLY_TEXT, "ok", 0,
     BYTES("\0\1a\0\0"), BYTES("\0\2ok\0\2ok"), XCHG_FINISHED},
    {NULL, U32, REPLY_TEXT, "ok", 0,
     BYTES("\0\0\0\1a"), BYTES("\0\0\0\2ok"), XCHG_FINISHED},
    {NULL, FIXED, REPLY_TEXT, "ok", 0, BYTES("abcd"), BYTES("okok"),
     XCHG_FINISHED},
    {NULL, NUL, REPLY_TEXT, "", 0, BYTES("a\0b\0"), BYTES("\0\0"), XCHG_FINISHED},
    /* a greeting has the frame's terminator or length */
    {"hi", LINE, REPLY_ECHO, NULL, 1, BYTES("x\n"), BYTES("hi\nx\n"),
     XCHG_FINISHED},
    {"hi", U16, REPLY_ECHO, NULL, 1, BYTES("\0\1x"), BYTES("\0\2hi\0\1x"),
     XCHG_FINISHED},
    {"hi", U32, REPLY_NONE, NULL, 1, BYTES("\0\0\0\0"), BYTES("\0\0\0\2hi"),
     XCHG_FINISHED},
    {"hi", FIXED, REPLY_NONE, NULL, 1, BYTES("xy"), BYTES("hi"), XCHG_FINISHED},
    {"hi", RAW, REPLY_ECHO, NULL, 0, BYTES("xy"), BYTES("hixy"), XCHG_FINISHED},
    {"", NUL, REPLY_NONE, NULL, 1, BYTES("x\0"), BYTES("\0"), XCHG_FINISHED},
    /* incomplete or too long messages */
    {NULL, U16, REPLY_ECHO, NULL, 0, BYTES("\0\2x"), BYTES(""), XCHG_TRUNCATED},
    {"hi", NUL, REPLY_NONE, NULL, 1, BYTES(""), BYTES("hi\0"), XCHG_PEER},
    {NULL, U32, REPLY_ECHO, NULL, 0, BYTES("\1\0\0\0"), BYTES(""), XCHG_TOO_LONG},
};
/* clang-format on */

static void configure(const struct dialogue *dialogue) {
  struct config *config = &fixture.config;
  config->frame = dialogue->frame;
  config->messages = dialogue->messages;
  config->reply = dialogue->reply;
  config->has_greeting = dialogue->greeting != NULL;
  if (config->has_greeting) {
    config->greeting.bytes = (uint8_t *)strdup(dialogue->greeting);
    config->greeting.size = strlen(dialogue->greeting);
  }
  if (dialogue->text != NULL) {
    config->reply_text.bytes = (uint8_t *)strdup(dialogue->text);
    config->reply_text.size = strlen(dialogue->text);
  }
}

static void start(struct builtin *builtin, const struct dialogue *dialogue) {
  configure(dialogue);
  ck_assert_int_eq(builtin_init(builtin, &fixture.config), 0);
  ck_assert_ptr_eq(builtin->handler.user, builtin);
  ck_assert_uint_eq(builtin->handler.size, sizeof(struct xchg_handler));
  free(fixture.config.greeting.bytes); /* the exchange has its own copies */
  free(fixture.config.reply_text.bytes);
  fixture.handler = builtin->handler;
  fixture_start(false);
}

START_TEST(test_dialogue_at_every_split) {
  const struct dialogue *dialogue = &dialogues[_i];
  for (size_t split = 0; split <= dialogue->sends_size; split++) {
    struct builtin builtin;
    start(&builtin, dialogue);
    int fd = client_connect();
    char got[64];
    client_send(fd, dialogue->sends, split);
    client_send(fd, dialogue->sends + split, dialogue->sends_size - split);
    client_shutdown(fd);
    ck_assert_uint_eq(client_recv(fd, got, sizeof(got)), dialogue->gets_size);
    ck_assert_mem_eq(got, dialogue->gets, dialogue->gets_size);
    fixture_until_all_closed();
    ck_assert_uint_eq(fixture_ended(dialogue->reason), 1);
    close(fd);
    conn_fixture_reset();
    builtin_fini(&builtin);
    ck_assert_ptr_null(builtin.greeting);
    ck_assert_ptr_null(builtin.reply);
    builtin_fini(&builtin); /* a second call does nothing */
  }
}
END_TEST

/* Out of memory for the greeting or for a reply: the connection ends as memory. */
START_TEST(test_out_of_memory_ends_the_connection) {
  struct builtin builtin;
  start(&builtin, &dialogues[_i == 0 ? 0 : 4]);
  fixture_without_staging();
  uint64_t ceiling = fixture.ctx.bufs.bytes_max;
  fixture.ctx.bufs.bytes_max = _i == 0 ? 0 : ceiling;
  int fd = client_connect();
  fixture.ctx.bufs.bytes_max = 0;
  if (_i == 1) {
    CLIENT_SEND(fd, "a\n");
  }
  fixture_until_all_closed();
  ck_assert_uint_eq(fixture_ended(XCHG_MEMORY), 1);
  client_expect_end(fd);
  close(fd);
  conn_fixture_fini();
  builtin_fini(&builtin);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_dialogue_at_every_split, count_of(dialogues)},
      {test_out_of_memory_ends_the_connection, 2},
  };
  return run_suite_fixture("exchange", tests, count_of(tests), conn_fixture_init,
                           conn_fixture_fini);
}
