/*
 * peer: see peer.h.  These functions may exit; none of them runs once a peer serves.
 */
#include "benchmarks/peers/peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

void peer_die(const char *what) {
  perror(what);
  exit(1);
}

static int parse_number(const char *text, long max, int *number) {
  char *end;
  errno = 0;
  long value = strtol(text, &end, 10);
  if (errno != 0 || end == text || *end != 0 || value < 0 || value > max) {
    return -1;
  }
  *number = (int)value;
  return 0;
}

static int parse_exchange(const char *text, enum peer_exchange *exchange) {
  static const char *const names[] = {
      [PEER_ECHO] = "echo", [PEER_GREET] = "greet", [PEER_HELLO] = "hello"};
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    if (strcmp(text, names[i]) == 0) {
      *exchange = (enum peer_exchange)i;
      return 0;
    }
  }
  return -1;
}

struct peer_options peer_parse(int argc, char **argv) {
  struct peer_options options = {0};
  if (argc < 3 || argc > 4 || parse_number(argv[1], 65535, &options.port) == -1 ||
      parse_exchange(argv[2], &options.exchange) == -1 ||
      (argc == 4 && parse_number(argv[3], 1024, &options.number) == -1)) {
    fprintf(stderr, "usage: %s PORT echo|greet|hello [N]\n", argv[0]);
    exit(64);
  }
  return options;
}

int peer_listen(int port, bool shared) {
  const int on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                .sin_port = htons((uint16_t)port)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd == -1) {
    peer_die("cannot make a socket");
  }
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1 ||
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1 ||
      (shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == -1)) {
    peer_die("cannot set a socket's option");
  }
  if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == -1 ||
      listen(fd, PEER_BACKLOG) == -1) {
    peer_die("cannot listen");
  }
  return fd;
}

int peer_port(int listener) {
  struct sockaddr_in address;
  socklen_t size = sizeof(address);
  if (getsockname(listener, (struct sockaddr *)&address, &size) == -1) {
    peer_die("cannot tell the port");
  }
  return ntohs(address.sin_port);
}

void peer_announce(int listener) {
  printf("listening 127.0.0.1:%d\n", peer_port(listener));
  if (fflush(stdout) == EOF) {
    peer_die("cannot write to stdout");
  }
}

size_t peer_raise_descriptors(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == -1) {
    peer_die("cannot tell the limit on descriptors");
  }
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) == -1) {
    peer_die("cannot raise the limit on descriptors");
  }
  return limit.rlim_max;
}
