/*
 * greet: xchgd with its default exchange under each model that needs no processes, and with echoed
 * u16 frames on a socket that a service manager has passed.
 */
#include "tests/fail_nth/clients.h"
#include "tests/fail_nth/daemon_run.h"
#include "tests/fail_nth/scheduler.h"
#include "tests/fail_nth/ledger.h"
#include "tests/fail_nth/real.h"
#include "tests/fail_nth/sessions.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/*
 * Not the address that clients connect from: thousands of their ports are in TIME_WAIT, and a
 * listener could not bind one of those.
 */
#define LISTEN_ADDRESS 0x7f00004d      /* 127.0.0.77, as in the texts here and in library.c */
#define PASSED_FD 3                    /* sd_listen_fds(3) */
#define GREETING "Message from server" /* and its NUL */

/* ---- clients ---- */

static bool greeted(struct client *client) {
  return client_want(client, GREETING, sizeof(GREETING)) && client_put(client, "thanks", 7) &&
         client_want_end(client);
}

static bool split(struct client *client) {
  if (!client_want(client, GREETING, sizeof(GREETING)) || !PUT(client, "th")) {
    return false;
  }
  client_wait_ms(2);
  if (!PUT(client, "an")) {
    return false;
  }
  client_wait_ms(2);
  return client_put(client, "ks", 3) && client_want_end(client);
}

/* The end of stream ends the message. */
static bool half_closed(struct client *client) {
  if (!PUT(client, "unasked")) {
    return false;
  }
  client_end(client);
  return client_want(client, GREETING, sizeof(GREETING)) && client_want_end(client);
}

static bool silent_end(struct client *client) {
  client_end(client);
  return client_want(client, GREETING, sizeof(GREETING)) && client_want_end(client);
}

/* More than one message: the server discards the excess. */
static bool chatty(struct client *client) {
  const struct spec *spec = ledger_spec();
  bool cut = spec->mode == MODE_SHORTEN || spec->mode == MODE_SHORTEN_ALL;
  char text[3000];
  memset(text, 'c', sizeof(text));
  text[9] = 0;
  if (!client_put(client, text, sizeof(text)) || !client_want(client, GREETING, sizeof(GREETING))) {
    return false;
  }
  /*
   * Bytes that were not read because a read was shortened look like bytes that came after the
   * close.
   */
  return client_want_end(client) || cut;
}

static bool reset(struct client *client) {
  (void)PUT(client, "half a mess");
  client_wait_ms(1);
  client_reset(client);
  return true;
}

/* In the middle of its message when the server is told to stop. */
static bool late(struct client *client) {
  if (!client_want(client, GREETING, sizeof(GREETING)) || !PUT(client, "slow")) {
    return false;
  }
  client_wait_ms(60);
  return client_put(client, "ly", 3) && client_want_end(client);
}

static void start_greeted(void) {
  (void)clients_start("greeted", greeted);
  (void)clients_start("split", split);
  (void)clients_start("half_closed", half_closed);
  (void)clients_start("silent_end", silent_end);
  (void)clients_start("chatty", chatty);
  (void)clients_start("reset", reset);
  clients_start("late", late)->stays = true;
}

/* ---- echoed frames ---- */

#define FRAMES "\0\3one\0\0\0\5three\0\1x"

/* Several frames in one write, one of them empty, one split in two; the end between messages. */
static bool framed(struct client *client) {
  if (!PUT(client, FRAMES FRAMES "\0") || !WANT(client, FRAMES FRAMES)) {
    return false;
  }
  client_wait_ms(2);
  if (!PUT(client, "\4fo") || !PUT(client, "ur") || !WANT(client, "\0\4four")) {
    return false;
  }
  client_end(client);
  return client_want_end(client);
}

static bool truncated(struct client *client) {
  if (!PUT(client, "\0\2ok\0\11half") || !WANT(client, "\0\2ok")) {
    return false;
  }
  client_end(client);
  return client_want_end(client);
}

static bool too_long(struct client *client) {
  return PUT(client, "\0\2ok\377\377and so on") && WANT(client, "\0\2ok") &&
         client_want_end(client);
}

/* Connected and between messages when the server stops. */
static bool stays(struct client *client) {
  return PUT(client, FRAMES) && WANT(client, FRAMES) && client_want_end(client);
}

static void start_framed(void) {
  (void)clients_start("framed", framed);
  (void)clients_start("truncated", truncated);
  (void)clients_start("too_long", too_long);
  (void)clients_start("reset", reset);
  clients_start("stays", stays)->stays = true;
}

/* ---- sessions ---- */

static void serve_greeting(const char *model, const char *admin) {
  char listen[200];
  snprintf(listen, sizeof(listen), "XCHG_LISTEN=127.0.0.77:0,unix:%s", sessions_path());
  const char *const entries[] = {
      listen,
      model,
      admin,
      "XCHG_WORKERS=2",
      "XCHG_MAX_CONNECTIONS=48",
      "XCHG_QUEUE=1",
      "XCHG_MESSAGE_TIMEOUT=3s",
      "XCHG_WRITE_TIMEOUT=3s",
      "XCHG_PIN=on",
      "XCHG_MAX_PER_IP=40",
      "XCHG_ALLOW=127.0.0.0/8,::1",
      "XCHG_DENY=192.0.2.0/24",
      "XCHG_REPLY=none",
      "XCHG_GREETING=Message from server",
  };
  daemon_run(entries, sizeof(entries) / sizeof(entries[0]), start_greeted);
}

void *greet_main(void *argument) {
  (void)argument;
  serve_greeting("XCHG_MODEL=pool", "XCHG_ADMIN=");
  return NULL;
}

void *greet_admin_main(void *argument) {
  (void)argument;
  serve_greeting("XCHG_MODEL=pool", "XCHG_ADMIN=127.0.0.77:0");
  return NULL;
}

void *greet_thread_main(void *argument) {
  (void)argument;
  serve_greeting("XCHG_MODEL=thread", "XCHG_ADMIN=");
  return NULL;
}

void *greet_iterative_main(void *argument) {
  (void)argument;
  serve_greeting("XCHG_MODEL=iterative", "XCHG_ADMIN=");
  return NULL;
}

/* Put a listener where a service manager would; the server closes it. */
static void pass_listener(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(LISTEN_ADDRESS)};
  int fd = real_socket(AF_INET, SOCK_STREAM, 0);
  if (fd != PASSED_FD && dup2(fd, PASSED_FD) == PASSED_FD) {
    close(fd);
  }
  if (real_bind(PASSED_FD, (const struct sockaddr *)&at, sizeof(at)) == -1 ||
      real_listen(PASSED_FD, 16) == -1) {
    ledger_fault("no listener to be passed: %s", strerror(errno));
  }
  ledger_opened(PASSED_FD, KIND_LISTENER);
}

void *passed_main(void *argument) {
  char pid[32];
  snprintf(pid, sizeof(pid), "LISTEN_PID=%d", (int)getpid());
  const char *const entries[] = {
      pid,
      "LISTEN_FDS=1",
      "XCHG_EXCHANGE=echo",
      "XCHG_FRAME=u16",
      "XCHG_MAX_MESSAGE=1000",
      "XCHG_WORKERS=2",
      "XCHG_MAX_CONNECTIONS=48",
      "XCHG_QUEUE=1",
      "XCHG_MESSAGE_TIMEOUT=3s",
      "XCHG_WRITE_TIMEOUT=3s",
      "XCHG_DISPATCH=round-robin",
      "XCHG_OVERLOAD=refuse",
      "XCHG_LOG_FORMAT=json",
  };
  (void)argument;
  pass_listener();
  daemon_run(entries, sizeof(entries) / sizeof(entries[0]), start_framed);
  if (ledger_kind(PASSED_FD) != KIND_NONE && !sessions_started()) {
    ledger_closed(PASSED_FD, close(PASSED_FD)); /* a start that failed early did not take it */
  }
  return NULL;
}
