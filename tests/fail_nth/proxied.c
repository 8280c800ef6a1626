/*
 * proxied: xchgd whose connections begin with a PROXY header: in one write with the message, split,
 * with a path that is kept, of a health check, and none at all.
 */
#include "tests/fail_nth/clients.h"
#include "tests/fail_nth/daemon_run.h"
#include "tests/fail_nth/sessions.h"

#include <stdio.h>
#include <string.h>

#define V2_HEAD(command, family, length) "\r\n\r\n\0\r\nQUIT\n" command family length
#define V2 V2_HEAD("\x21", "\x11", "\0\x0c") "\x7f\0\0\7\x7f\0\0\1\x30\x39\x1b\x58"
#define LOCAL V2_HEAD("\x20", "\0", "\0\0")
#define PATH_SIZE 108
#define GREETING "Message from server" /* and its NUL */

static bool greeted(struct client *client) {
  return client_want(client, GREETING, sizeof(GREETING)) && client_put(client, "thanks", 7) &&
         client_want_end(client);
}

static bool at_once(struct client *client) {
  return PUT(client, V2 "thanks\0") && client_want(client, GREETING, sizeof(GREETING)) &&
         client_want_end(client);
}

static bool split(struct client *client) {
  if (!PUT(client, "PROXY TC")) {
    return false;
  }
  client_wait_ms(2);
  return PUT(client, "P4 127.0.0.7 127.0.0.1 1 2\r\n") && greeted(client);
}

/* The server keeps this header, for the path. */
static bool path(struct client *client) {
  char header[16 + 2 * PATH_SIZE] = V2_HEAD("\x21", "\x31", "\0\xd8") "/run/client";
  return client_put(client, header, sizeof(header)) && greeted(client);
}

static bool check(struct client *client) {
  (void)PUT(client, LOCAL);
  client_wait_ms(1);
  client_reset(client);
  return true;
}

static bool no_header(struct client *client) { return PUT(client, "x") && client_want_end(client); }

static bool broken_off(struct client *client) {
  if (!PUT(client, "PROXY TCP4 1")) {
    return false;
  }
  client_end(client);
  return client_want_end(client);
}

/* Its header is complete only after the stop has begun. */
static bool late(struct client *client) {
  if (!PUT(client, "PROXY")) {
    return false;
  }
  client_wait_ms(60);
  return PUT(client, " UNKNOWN\r\n") && greeted(client);
}

static void start(void) {
  (void)clients_start("at_once", at_once);
  (void)clients_start("split", split);
  (void)clients_start("path", path);
  (void)clients_start("check", check);
  (void)clients_start("no_header", no_header);
  (void)clients_start("broken_off", broken_off);
  clients_start("late", late)->stays = true;
}

void *proxied_main(void *argument) {
  char listen[200];
  (void)argument;
  snprintf(listen, sizeof(listen), "XCHG_LISTEN=127.0.0.77:0;proxy=any,unix:%s;proxy=any",
           sessions_path());
  const char *const entries[] = {
      listen,
      "XCHG_PROXY_TRUST=127.0.0.0/8",
      "XCHG_PROXY_TIMEOUT=3s",
      "XCHG_WORKERS=2",
      "XCHG_MAX_CONNECTIONS=48",
      "XCHG_QUEUE=1",
      "XCHG_MESSAGE_TIMEOUT=3s",
      "XCHG_WRITE_TIMEOUT=3s",
      "XCHG_MAX_LIFETIME=5m",
      "XCHG_DENY=192.0.2.0/24",
  };
  daemon_run(entries, sizeof(entries) / sizeof(entries[0]), start);
  return NULL;
}
