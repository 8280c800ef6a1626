/*
 * bare_answer: the bare loop with a fixed answer to every N bytes, for exchanges whose answer
 * differs from the request.  `bare_answer PORT N ANSWER`; the answer may contain \r \n \t \0 \\
 * \xNN.
 *
 * It is the lower bound of request and answer, with which memcached, nginx and HAProxy are
 * compared: the same bytes in both directions, not parsed.  The answers to pipelined requests
 * leave in one send.  A table by descriptor holds how many bytes of a partial request have arrived.
 */
#include "benchmarks/peers/peer.h"
#include "benchmarks/peers/text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256
#define ANSWERS 256 /* the most in one send */

struct server {
  size_t request_size;
  size_t answer_size;
  char *answers;     /* owns: the answer, ANSWERS times */
  uint32_t *partial; /* owns: bytes of a partial request, by descriptor */
  char buffer[PEER_BUFFER_SIZE];
};

static bool serve(struct server *server, int fd) {
  ssize_t size = recv(fd, server->buffer, sizeof(server->buffer), 0);
  if (size <= 0) {
    return false;
  }
  size_t have = server->partial[fd] + (size_t)size;
  size_t count = have / server->request_size;
  server->partial[fd] = (uint32_t)(have % server->request_size);
  while (count > 0) {
    size_t now = count < ANSWERS ? count : ANSWERS;
    ssize_t wanted = (ssize_t)(now * server->answer_size);
    if (send(fd, server->answers, (size_t)wanted, MSG_NOSIGNAL) != wanted) {
      return false;
    }
    count -= now;
  }
  return true;
}

static void run(struct server *server, int listener) {
  struct epoll_event events[EVENTS], first = {.events = EPOLLIN, .data.fd = listener};
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll == -1 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &first) == -1) {
    peer_die("cannot use epoll");
  }
  for (;;) {
    int count = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        struct epoll_event event = {.events = EPOLLIN};
        event.data.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (event.data.fd == -1) {
          continue;
        }
        server->partial[event.data.fd] = 0;
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event) == -1) {
          close(event.data.fd);
        }
      } else if (!serve(server, fd)) {
        close(fd);
      }
    }
  }
}

int main(int argc, char **argv) {
  static struct server server;
  if (argc != 4 || atoi(argv[2]) < 1) {
    fprintf(stderr, "usage: %s PORT N ANSWER\n", argv[0]);
    return 64;
  }
  char *answer = text_unescape(argv[3], &server.answer_size);
  server.request_size = (size_t)atoi(argv[2]);
  server.partial = calloc(peer_raise_descriptors(), sizeof(*server.partial));
  server.answers = malloc(ANSWERS * server.answer_size);
  if (answer == NULL || server.answer_size == 0 || server.partial == NULL ||
      server.answers == NULL) {
    peer_die("cannot use this answer");
  }
  for (size_t i = 0; i < ANSWERS; i++) {
    memcpy(server.answers + i * server.answer_size, answer, server.answer_size);
  }
  free(answer);
  int listener = peer_listen(atoi(argv[1]), false);
  peer_announce(listener);
  run(&server, listener);
}
