/*
 * library_clients: the clients of library.c's handler, one for each way in which a connection may
 * run and end.
 */
#include "tests/fail_nth/sessions.h"

#include "tests/fail_nth/clients.h"
#include "tests/fail_nth/ledger.h"

#include <string.h>

#define BIG 24000   /* more than the socket buffers hold */
#define HUGE 300000 /* more than two blocks of a slab hold */
#define TOO_LONG (500 * 1024)

/* Twenty messages at once, answered in order; then the end. */
static bool pipelined(struct client *client) {
  static const char text[] =
      "e1\ne2\nv3\ne4\ne5\ne6\ne7\ne8\nv9\ne10\ne11\ne12\ne13\ne14\ne15\ne16\ne17\ne18\ne19\ne20\n";
  if (!PUT(client, text) || !WANT(client, text)) {
    return false;
  }
  client_end(client);
  return client_want_end(client);
}

/* A message in three pieces with pauses; the end of stream ends the last message. */
static bool split(struct client *client) {
  if (!PUT(client, "e")) {
    return false;
  }
  client_wait_ms(3);
  if (!PUT(client, "in three pie")) {
    return false;
  }
  client_wait_ms(3);
  if (!PUT(client, "ces\nehalf") || !WANT(client, "ein three pieces\n")) {
    return false;
  }
  client_end(client);
  return WANT(client, "ehalf") && client_want_end(client);
}

/* A message larger than the buffers, from a client that starts reading late. */
static bool echo_long(struct client *client, char *text, size_t size) {
  for (size_t i = 1; i < size - 1; i++) {
    text[i] = (char)('a' + i % 23);
  }
  text[0] = 'e';
  text[size - 1] = '\n';
  if (!client_put(client, text, size)) {
    return false;
  }
  client_wait_ms(20);
  if (!client_want(client, text, size)) {
    return false;
  }
  client_end(client);
  return client_want_end(client);
}

static bool big(struct client *client) {
  static char text[BIG];
  return echo_long(client, text, sizeof(text));
}

/* A message whose memory is mapped, and mapped anew. */
static bool huge(struct client *client) {
  static char text[HUGE];
  return echo_long(client, text, sizeof(text));
}

/* Resets in the middle of a message, with bytes unread. */
static bool reset(struct client *client) {
  if (PUT(client, "eanswer\nehalf a mess")) {
    client_wait_ms(2);
  }
  client_reset(client);
  return true;
}

/* Bytes sent by reference. */
static bool by_reference(struct client *client) {
  static const char text[] = "lent for a while\nlent for a while\nemine\nlent for a while\n";
  if (!PUT(client, "k\n") || !WANT(client, "joined\n") || !PUT(client, "r\nr\nemine\nr\n") ||
      !WANT(client, text) || !PUT(client, "R\n")) {
    return false;
  }
  client_wait_ms(5);
  for (int i = 0; i < 100; i++) {
    if (!WANT(client, "lent for a while\n")) {
      return false;
    }
  }
  client_end(client);
  return client_want_end(client);
}

/* Later answers: from a timer, from offloaded work, from a post. */
static bool later(struct client *client) {
  if (!PUT(client, "k\n") || !WANT(client, "joined\n") || !PUT(client, "t\neafter\n") ||
      !WANT(client, "timer\neafter\n") || !PUT(client, "o\no\ne1\n") ||
      !WANT(client, "work\nwork\ne1\n") || !PUT(client, "x\n") || !WANT(client, "post\n") ||
      !PUT(client, "q\n") || !WANT(client, "bye\n")) {
    return false;
  }
  return client_want_end(client);
}

/* A member of a group that stays until the server stops. */
static bool member(struct client *client) {
  if (!PUT(client, "j\n") || !WANT(client, "joined\n") || !PUT(client, "P\n") ||
      !WANT(client, "news 1\nnews 2\nnews 3\n")) {
    return false;
  }
  return client_want_end(client);
}

/* Stays until the server stops, after messages. */
static bool idle(struct client *client) {
  return PUT(client, "k\n") && WANT(client, "joined\n") && PUT(client, "ehere\n") &&
         WANT(client, "ehere\n") && client_want_end(client);
}

/* A message that is too long. */
static bool too_long(struct client *client) {
  char text[4096];
  memset(text, 'l', sizeof(text));
  for (size_t i = 0; i < TOO_LONG / sizeof(text); i++) {
    if (!client_put(client, text, sizeof(text))) {
      return true;
    }
  }
  client_end(client);
  return client_want_end(client);
}

void library_start_clients(bool tcp) {
  (void)clients_start("pipelined", pipelined);
  (void)clients_start("split", split);
  (void)clients_start("big", big);
  (void)clients_start("reset", reset);
  (void)clients_start("by_reference", by_reference);
  (void)clients_start("later", later);
  clients_start("member", member)->stays = true;
  clients_start("idle", idle)->stays = true;
  /*
   * Long messages cost time: only for calls where they matter, and not where all calls are
   * shortened.
   */
  enum nth_call call = ledger_spec()->call;
  if (call == CALL_MMAP || call == CALL_MREMAP || call == CALL_MUNMAP || call == CALL_CLOSE) {
    (void)clients_start("huge", huge);
    if (!tcp) {
      (void)clients_start("too_long", too_long);
    }
  }
}
