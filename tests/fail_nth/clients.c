/*
 * clients: see clients.h.
 *
 * A client that waits for its socket checks it again whenever a thread has made progress, for at
 * most PATIENCE_NS of simulated time.  Only the idle timeout of the server is longer.
 */
#include "tests/fail_nth/clients.h"

#include "core/base.h"
#include "tests/fail_nth/scheduler.h"
#include "tests/fail_nth/ledger.h"
#include "tests/fail_nth/real.h"
#include "tests/fail_nth/sessions.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_NS (8 * NS_PER_S)
#define CLIENT_RCVBUF 4096

static struct {
  struct client clients[CLIENTS_MAX];
  unsigned count;
  struct sockaddr_storage to;
  socklen_t to_size;
} all;

void clients_reset(void) { all.count = 0; }

void clients_aim(int listener_fd) {
  all.to_size = sizeof(all.to);
  if (real_getsockname(listener_fd, (struct sockaddr *)&all.to, &all.to_size) == -1) {
    ledger_fault("the address of the server is unknown");
  }
}

struct client *clients_at(unsigned i) {
  return &all.clients[i];
}
unsigned clients_count(void) { return all.count; }

int clients_find(const struct sockaddr_storage *address, socklen_t size) {
  for (unsigned i = 0; i < all.count; i++) {
    const struct client *client = &all.clients[i];
    if (client->size == size && memcmp(&client->address, address, size) == 0) {
      return (int)i;
    }
  }
  return -1;
}

static void *client_main(void *argument) {
  struct client *client = argument;
  client->right = client_connect(client) && client->script(client);
  client->done = true;
  if (client->fd != -1) {
    close(client->fd);
    client->fd = -1;
  }
  return NULL;
}

struct client *clients_start(const char *name, bool (*script)(struct client *client)) {
  struct client *client = &all.clients[all.count++];
  *client = (struct client){.name = name, .script = script, .fd = -1};
  if (scheduler_start(client_main, client) == NULL) {
    ledger_fault("too many clients");
  }
  return client;
}

void clients_await(bool staying_too) {
  for (unsigned i = 0; i < all.count; i++) {
    const struct client *client = &all.clients[i];
    while (!client->done && (staying_too || !client->stays)) {
      scheduler_pause(NEVER);
    }
  }
  scheduler_progress();
}

/* How many clients may notice something although their own connection was not hit. */
static unsigned others_allowed(bool started) {
  const struct spec *spec = ledger_spec();
  if (!started) {
    return CLIENTS_MAX;
  }
  if (spec->rule == NULL || ledger_hits() == 0) {
    return 0;
  }
  if (sessions[spec->session].one_by_one && spec->mode == MODE_FOREVER) {
    return CLIENTS_MAX;
  }
  enum effect effect = spec->mode == MODE_ONCE ? spec->rule->once : spec->rule->forever;
  return effect == ALL ? CLIENTS_MAX : effect == ONE ? 1 : 0;
}

void clients_check(bool started) {
  unsigned others = 0;
  const char *name = NULL;
  for (unsigned i = 0; i < all.count; i++) {
    const struct client *client = &all.clients[i];
    if (!client->right && !client->hit) {
      others++;
      name = name == NULL ? client->name : name;
    }
  }
  if (others > others_allowed(started)) {
    ledger_fault("client %s was cut off (%u of %u)", name, others, all.count);
  }
}

/* ---- the steps of scripts ---- */

/* Wait until the socket may have something new. Return: false after the last moment to wait. */
static bool look_again(uint64_t until_ns) {
  if (scheduler_now_ns() >= until_ns) {
    return false;
  }
  scheduler_pause(until_ns);
  return true;
}

static void note_address(struct client *client) {
  client->size = sizeof(client->address);
  (void)real_getsockname(client->fd, (struct sockaddr *)&client->address, &client->size);
}

bool client_connect(struct client *client) {
  uint64_t until_ns = scheduler_now_ns() + PATIENCE_NS;
  int size = CLIENT_RCVBUF, on = 1, error = 0;
  socklen_t error_size = sizeof(error);
  client->fd = real_socket(all.to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (client->fd == -1) {
    ledger_fault("no socket for a client: %s", strerror(errno));
    return false;
  }
  (void)real_setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
  if (all.to.ss_family != AF_UNIX) { /* Nagle's delays are real time */
    (void)real_setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  } else {
    /* Bind a name, by which the server's side can be told from the others. */
    const struct sockaddr own = {.sa_family = AF_UNIX};
    (void)real_bind(client->fd, &own, sizeof(own.sa_family));
    note_address(client);
  }
  while (real_connect(client->fd, (const struct sockaddr *)&all.to, all.to_size) == -1) {
    if (errno == EINPROGRESS || errno == EALREADY) {
      note_address(client);
      struct pollfd fds = {.fd = client->fd, .events = POLLOUT};
      (void)poll(&fds, 1, 0);
      if (fds.revents != 0) {
        (void)getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &error_size);
        break;
      }
    } else if (errno != EAGAIN) {
      return errno == EISCONN;
    }
    if (!look_again(until_ns)) {
      return false;
    }
  }
  scheduler_progress();
  note_address(client);
  return error == 0;
}

bool client_put(struct client *client, const void *data, size_t size) {
  uint64_t until_ns = scheduler_now_ns() + PATIENCE_NS;
  const uint8_t *bytes = data;
  while (size > 0) {
    ssize_t put = send(client->fd, bytes, size, MSG_NOSIGNAL);
    if (put > 0) {
      bytes += put;
      size -= (size_t)put;
      scheduler_progress();
    } else if (errno != EAGAIN || !look_again(until_ns)) {
      return false;
    }
  }
  return true;
}

bool client_want(struct client *client, const void *data, size_t size) {
  uint64_t until_ns = scheduler_now_ns() + PATIENCE_NS;
  const uint8_t *wanted = data;
  uint8_t bytes[4096];
  while (size > 0) {
    ssize_t got = recv(client->fd, bytes, min_u64(size, sizeof(bytes)), 0);
    if (got == 0 || (got == -1 && (errno != EAGAIN || !look_again(until_ns)))) {
      return false;
    }
    if (got == -1) {
      continue;
    }
    scheduler_progress();
    if (memcmp(bytes, wanted, (size_t)got) != 0) {
      ledger_fault("client %s: wrong bytes after %zu", client->name, client->received);
      return false;
    }
    client->received += (size_t)got;
    wanted += got;
    size -= (size_t)got;
  }
  return true;
}

bool client_want_end(struct client *client) {
  uint64_t until_ns = scheduler_now_ns() + (client->stays ? 5 * PATIENCE_NS : PATIENCE_NS);
  char byte;
  for (;;) {
    ssize_t got = recv(client->fd, &byte, 1, 0);
    if (got == 1) {
      ledger_fault("client %s: more bytes than expected", client->name);
      return false;
    }
    if (got == 0) {
      scheduler_progress();
      return true;
    }
    if (errno != EAGAIN || !look_again(until_ns)) {
      return false;
    }
  }
}

void client_end(struct client *client) {
  (void)shutdown(client->fd, SHUT_WR);
  scheduler_progress();
}

void client_reset(struct client *client) {
  const struct linger now = {.l_onoff = 1, .l_linger = 0};
  (void)real_setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  close(client->fd);
  client->fd = -1;
  scheduler_progress();
}

void client_wait_ms(unsigned ms) {
  uint64_t until_ns = scheduler_now_ns() + ms * NS_PER_MS;
  while (scheduler_now_ns() < until_ns) {
    scheduler_pause(until_ns);
  }
  scheduler_progress();
}
