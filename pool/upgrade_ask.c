/* upgrade_ask: see upgrade_ask.h. */
#include "pool/upgrade_ask.h"

#include "core/sys.h"
#include "core/error_text.h"
#include "core/parse.h"
#include "net/fd_socket.h"
#include "net/upgrade_socket.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { CODE_ABSENT = 69, CODE_SYSTEM = 71, CODE_USER = 77, CODE_CONFIG = 78 };

/*
 * All XCHG_ variables of ${environment} as one block, to be freed, with room for an answer and a 0.
 * Return: NULL without memory.
 */
static char *make_request(const char *const *environment, size_t *size) {
  size_t all = FD_PACKET_BYTES_MAX + 1;
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

/* Wait for a packet at ${fd}, and add a 0. Return: has one come? */
static bool await_answer(int fd, char *bytes) {
  int fds[FD_PACKET_FDS_MAX];
  unsigned count;
  size_t size;
  enum fd_io io;
  while ((io = fd_socket_recv(fd, bytes, &size, fds, &count)) == FD_IO_AGAIN) {
    struct pollfd polled[] = {{.fd = fd, .events = POLLIN}};
    (void)sys_poll(polled, 1, -1); /* EINTR and the like: look again */
  }
  bytes[size] = 0;
  return io == FD_IO_OK; /* the server sends no descriptors */
}

/* Say what has come of it. Return: the exit code. */
static int report(const char *answer, FILE *out, FILE *errors) {
  uint64_t code;
  const char *text = parse_digits(answer, &code);
  if (text == NULL || *text != ' ' || code > 127) {
    fputs("the server has sent no answer\n", errors);
    return CODE_SYSTEM;
  }
  text++;
  fputs(code == 0 ? "upgraded; changed variables: " : "the upgrade failed ",
        code == 0 ? out : errors);
  config_print_escaped(code == 0 ? out : errors, text, strlen(text), SIZE_MAX, "");
  fputc('\n', code == 0 ? out : errors);
  return (int)code;
}

/* ${request} has ${size} bytes, and room for the answer. */
static int exchange(int fd, char *request, size_t size, FILE *out, FILE *errors) {
  if (size > FD_PACKET_BYTES_MAX) {
    fprintf(errors, "the variables have %zu bytes; want at most %zu\n", size, FD_PACKET_BYTES_MAX);
    return CODE_CONFIG;
  }
  /* A refusal may come before the request is sent, so its failure says nothing. */
  (void)fd_socket_send(fd, request, size, NULL, 0);
  if (await_answer(fd, request)) {
    return report(request, out, errors);
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
  int code = CODE_SYSTEM;
  if (request == NULL) {
    fputs("out of memory\n", errors);
  } else {
    code = exchange(fd, request, size, out, errors);
  }
  free(request);
  sys_close(fd);
  return code;
}
