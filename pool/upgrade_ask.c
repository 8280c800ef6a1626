/* upgrade_ask: see upgrade_ask.h. */
#include "pool/upgrade_ask.h"

#include "core/sys.h"
#include "core/error_text.h"
#include "net/upgrade_socket.h"
#include "pool/upgrade_channel.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { CODE_ABSENT = 69, CODE_SYSTEM = 71, CODE_USER = 77, CODE_CONFIG = 78 };

/* All XCHG_ variables of ${environment} as one block, to be freed; NULL without memory. */
static char *make_request(const char *const *environment, size_t *size) {
  size_t all = 1;
  for (const char *const *entry = environment; *entry != NULL; entry++) {
    all += strlen(*entry) + 1;
  }
  char *request = malloc(all);
  *size = 0;
  for (const char *const *entry = environment; request != NULL && *entry != NULL; entry++) {
    if (strncmp(*entry, "XCHG_", 5) == 0 && strchr(*entry, '=') != NULL) {
      size_t length = strlen(*entry) + 1;
      memcpy(request + *size, *entry, length);
      *size += length;
    }
  }
  return request;
}

/* Wait until ${channel} has a packet. Return: as upgrade_channel_recv. */
static enum channel_result await_packet(struct upgrade_channel *channel,
                                        struct upgrade_packet *packet) {
  const char *why;
  enum channel_result result;
  while ((result = upgrade_channel_recv(channel, packet, &why)) == CHANNEL_AGAIN) {
    struct pollfd fds[] = {{.fd = channel->fd, .events = POLLIN}};
    (void)sys_poll(fds, 1, -1); /* EINTR and the like: look again */
  }
  return result;
}

/* Say what has come of it. Return: the exit code. */
static int report(const struct upgrade_outcome *outcome, FILE *out, FILE *errors) {
  if (outcome->code == 0) {
    const char *changes = outcome->reason[0] == 0 ? "none" : outcome->reason;
    fprintf(out, "upgraded; changed variables: %s\n", changes);
    return 0;
  }
  fputs("the upgrade failed at step '", errors);
  config_print_escaped(errors, outcome->step, strlen(outcome->step), UPGRADE_TEXT, "'\\");
  fputs("': ", errors);
  config_print_escaped(errors, outcome->reason, strlen(outcome->reason), UPGRADE_TEXT, "");
  fputc('\n', errors);
  return outcome->code > 0 && outcome->code < 128 ? (int)outcome->code : CODE_SYSTEM;
}

static int exchange(struct upgrade_channel *channel, const char *request, size_t size, FILE *out,
                    FILE *errors) {
  struct upgrade_packet packet = {.kind = UPGRADE_REQUEST,
                                  .environment = {.bytes = (const uint8_t *)request, .size = size}};
  if (size > UPGRADE_REQUEST_MAX) {
    fprintf(errors, "the variables have %zu bytes; want at most %zu\n", size, UPGRADE_REQUEST_MAX);
    return CODE_CONFIG;
  }
  /* A refusal may come before the request is sent, so its failure says nothing. */
  (void)upgrade_channel_send(channel, &packet);
  if (await_packet(channel, &packet) == CHANNEL_OK && packet.kind == UPGRADE_ANSWER) {
    return report(&packet.outcome, out, errors);
  }
  fputs("the server has ended without an answer\n", errors);
  return CODE_SYSTEM;
}

static int connect_failed(int error, FILE *errors) {
  char text[ERROR_TEXT_MAX];
  fprintf(errors, "cannot reach the server at the socket of XCHG_UPGRADE: %s\n",
          error_text(error, text));
  return error == EACCES || error == EPERM ? CODE_USER : CODE_ABSENT;
}

int upgrade_ask(const struct config *config, const char *const *environment, FILE *out,
                FILE *errors) {
  struct upgrade_channel channel;
  size_t size;
  if (config->upgrade != UPGRADE_SOCKET || config->model != MODEL_POOL) {
    fputs("--upgrade: want XCHG_UPGRADE=unix:/path, and XCHG_MODEL=pool\n", errors);
    return CODE_CONFIG;
  }
  int fd = upgrade_socket_connect(&config->upgrade_at);
  if (fd == -1) {
    return connect_failed(errno, errors);
  }
  char *request = make_request(environment, &size);
  if (request == NULL || upgrade_channel_open(&channel, fd) == -1) {
    fputs("out of memory\n", errors);
    free(request);
    sys_close(fd);
    return CODE_SYSTEM;
  }
  int code = exchange(&channel, request, size, out, errors);
  upgrade_channel_close(&channel);
  free(request);
  return code;
}
