/* load_server: see load_server.h.  Level-triggered; it blocks only in epoll_wait. */
#include "tests/unit/load_server.h"

#include "core/base.h"

#include <check.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static void watch(struct load_server *server, int fd) {
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  ck_assert_int_eq(epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event), 0);
}

static void greet_and_accept(struct load_server *server) {
  const int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
  if (fd == -1) {
    return;
  }
  atom_add_relaxed_u32(&server->accepted, 1);
  if (server->greeting != NULL) {
    (void)send(fd, server->greeting, strlen(server->greeting) + 1, MSG_NOSIGNAL);
  }
  watch(server, fd);
}

static void reset(int fd) {
  const struct linger linger = {.l_onoff = 1, .l_linger = 0};
  (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
  close(fd);
}

static void stall(uint64_t ns) {
  const struct timespec time = {.tv_sec = (time_t)(ns / NS_PER_S),
                                .tv_nsec = (long)(ns % NS_PER_S)};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL); /* the fault itself */
}

/* Answer the ${size} bytes that ${fd} has sent, with the fault if it is due. */
static void misbehave(struct load_server *server, int fd, uint8_t *bytes, size_t size) {
  const bool first = server->fault != FAULT_NONE && server->reached++ == 0;
  switch (server->fault) {
    case FAULT_NONE:
      break;
    case FAULT_WRONG:
      bytes[size / 2] ^= 1;
      break;
    case FAULT_SHORT:
      (void)send(fd, bytes, size / 2, MSG_NOSIGNAL);
      close(fd);
      return;
    case FAULT_RESET:
      reset(fd);
      return;
    case FAULT_MUTE:
      return;
    case FAULT_STALL:
      if (first) {
        stall(server->stall_ns);
      }
      break;
    case FAULT_CALL:
      if (first) {
        server->call();
      }
      break;
  }
  (void)send(fd, bytes, size, MSG_NOSIGNAL);
}

static void answer(struct load_server *server, int fd) {
  uint8_t bytes[16384];
  const ssize_t got = recv(fd, bytes, sizeof(bytes), 0);
  if (got <= 0 || server->greeting != NULL) {
    close(fd);
    return;
  }
  misbehave(server, fd, bytes, (size_t)got);
}

static void *serve(void *argument) {
  struct load_server *server = argument;
  const enum load_fault fault = server->fault;
  for (;;) {
    struct epoll_event events[64];
    const int count = epoll_wait(server->epoll_fd, events, 64, -1);
    for (int i = 0; i < count; i++) {
      const int fd = events[i].data.fd;
      if (fd == server->stop_fd) {
        return NULL;
      }
      if (fd == server->listener) {
        greet_and_accept(server);
        continue;
      }
      const bool due = atom_add_relaxed_u32(&server->messages, 1) + 1 >= server->after;
      server->fault = due ? fault : FAULT_NONE;
      answer(server, fd);
    }
  }
}

static int bound(uint16_t port, uint16_t *got) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  socklen_t size = sizeof(address);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ck_assert_int_ne(fd, -1);
  ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, size), 0);
  ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
  *got = ntohs(address.sin_port);
  return fd;
}

static int bound_path(const char *path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  ck_assert_int_ne(fd, -1);
  ck_assert_uint_lt(strlen(path), sizeof(address.sun_path));
  strcpy(address.sun_path, path);
  ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
  return fd;
}

uint16_t load_server_absent(int *fd) {
  uint16_t port;
  *fd = bound(0, &port);
  return port;
}

void load_server_start(struct load_server *server) {
  server->listener = server->path != NULL ? bound_path(server->path) : bound(0, &server->port);
  ck_assert_int_eq(listen(server->listener, server->backlog > 0 ? server->backlog : 4096), 0);
  server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  server->stop_fd = eventfd(0, EFD_CLOEXEC);
  ck_assert_int_ne(server->epoll_fd, -1);
  ck_assert_int_ne(server->stop_fd, -1);
  watch(server, server->listener);
  watch(server, server->stop_fd);
  ck_assert_int_eq(pthread_create(&server->thread, NULL, serve, server), 0);
}

void load_server_stop(struct load_server *server) {
  ck_assert_int_eq(eventfd_write(server->stop_fd, 1), 0);
  ck_assert_int_eq(pthread_join(server->thread, NULL), 0);
  close(server->listener);
  close(server->epoll_fd);
  close(server->stop_fd);
}
