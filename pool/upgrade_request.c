/* upgrade_request: see upgrade_request.h. */
#include "pool/upgrade_request.h"

#include "core/sys.h"
#include "core/env_vars.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REQUEST_NS (5 * NS_PER_S)

enum { CODE_BUSY = 75, CODE_USER = 77, CODE_CONFIG = 78 };

/* ---- life ---- */

void requests_init(struct upgrade_requests *r, struct upgrade *upgrade) {
  *r = (struct upgrade_requests){.upgrade = upgrade};
  r->socket.fd = r->reading.channel.fd = r->waiting.channel.fd = -1;
}

int requests_open(struct upgrade_requests *r) {
  const struct config *config = r->upgrade->setup.config;
  r->gave_up = false;
  if (config->upgrade != UPGRADE_SOCKET || config->model != MODEL_POOL ||
      upgrade_socket_open(&r->socket, &config->upgrade_at) == 0) {
    return 0;
  }
  log_errno(r->upgrade->setup.log, LOG_ERROR, "cannot listen at the socket of XCHG_UPGRADE", errno);
  return SERVER_UNAVAILABLE;
}

void requests_leave(struct upgrade_requests *r) {
  r->gave_up = true;
  upgrade_socket_close(&r->socket);
}

void requests_close(struct upgrade_requests *r) {
  upgrade_socket_close(&r->socket);
  upgrade_channel_close(&r->reading.channel);
  upgrade_channel_close(&r->waiting.channel);
}

/* ---- answers ---- */

/* Answer ${asker}, and end with it. */
static void answer(struct upgrade_asker *asker, const struct upgrade_outcome *outcome) {
  const struct upgrade_packet packet = {.kind = UPGRADE_ANSWER, .outcome = *outcome};
  (void)upgrade_channel_send(&asker->channel, &packet); /* it may be gone */
  upgrade_channel_close(&asker->channel);
}

/* Log a refusal, and answer it. */
static void refuse(struct upgrade_requests *r, struct upgrade_asker *asker, uint64_t code,
                   const char *why) {
  struct upgrade_outcome outcome = {.code = code, .step = "request"};
  struct log_line line;
  snprintf(outcome.reason, sizeof(outcome.reason), "%s", why);
  log_begin(&line, r->upgrade->setup.log, LOG_ERROR, "upgrade refused");
  log_str(&line, "reason", why);
  log_u64(&line, "uid", asker->uid);
  log_end(&line);
  answer(asker, &outcome);
}

/* ---- what a request may change ---- */

/* The value of ${name} in the ${size} bytes at ${request}, or NULL. */
static const char *value_in(const char *request, size_t size, const char *name) {
  size_t length = strlen(name);
  for (size_t at = 0; at < size; at += strlen(request + at) + 1) {
    if (strncmp(request + at, name, length) == 0 && request[at + length] == '=' &&
        request[at + length + 1] != 0) {
      return request + at + length + 1;
    }
  }
  return NULL;
}

static bool same(const char *a, const char *b) {
  return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Add ${name} to the texts of changes. */
static void note_change(struct upgrade_asker *asker, const char *name, size_t size) {
  size_t used = strlen(asker->changes);
  int room = (int)(sizeof(asker->changes) - used);
  if (used + size + 2 < sizeof(asker->changes)) {
    snprintf(asker->changes + used, (size_t)room, "%s%.*s", used == 0 ? "" : " ", (int)size, name);
  }
}

static void find_changes(const struct upgrade_requests *r, struct upgrade_asker *asker,
                         const char *request, size_t size) {
  const char *const *environment = r->upgrade->setup.environment;
  asker->changes[0] = 0;
  for (size_t at = 0; at < size; at += strlen(request + at) + 1) {
    char name[64];
    size_t length = strcspn(request + at, "=");
    if (length < sizeof(name)) {
      snprintf(name, sizeof(name), "%.*s", (int)length, request + at);
      if (!same(env_vars_find(environment, name), value_in(request, size, name))) {
        note_change(asker, name, length);
      }
    }
  }
  for (const char *const *entry = environment; *entry != NULL; entry++) {
    char name[64];
    size_t length = strcspn(*entry, "=");
    if (strncmp(*entry, "XCHG_", 5) == 0 && length < sizeof(name) && (*entry)[length] != 0 &&
        (*entry)[length + 1] != 0) {
      snprintf(name, sizeof(name), "%.*s", (int)length, *entry);
      if (value_in(request, size, name) == NULL) {
        note_change(asker, name, length);
      }
    }
  }
}

/* Are the texts of a request NAME=value with names of variables of xchgd? */
static bool is_well_formed(const char *request, size_t size) {
  if (size > 0 && request[size - 1] != 0) {
    return false;
  }
  for (size_t at = 0; at < size; at += strlen(request + at) + 1) {
    if (strncmp(request + at, "XCHG_", 5) != 0 || strchr(request + at, '=') == NULL) {
      return false;
    }
  }
  return true;
}

/* Does one of the addresses of ${wanted} listen already? */
static bool keeps_a_listener(const struct config *own, const struct config *wanted) {
  for (uint32_t i = 0; i < own->listen_count; i++) {
    for (uint32_t j = 0; j < wanted->listen_count; j++) {
      if (listeners_same(&own->listen[i], &wanted->listen[j])) {
        return true;
      }
    }
  }
  return false;
}

/* Why may the server not become ${wanted}? Return: NULL = it may. */
static const char *refusal(const struct upgrade_setup *setup, const struct config *wanted,
                           bool root) {
  const struct config *own = setup->config;
  if (wanted->model != MODEL_POOL) {
    return "XCHG_MODEL must be pool";
  }
  if (setup->facts->passed.data_count == 0 && !keeps_a_listener(own, wanted)) {
    return "no address of XCHG_LISTEN would stay";
  }
  if (root) {
    return NULL;
  }
  if (!same(own->handler, wanted->handler)) {
    return "only root may change XCHG_HANDLER";
  }
  return wanted->sandbox < own->sandbox ? "only root may weaken XCHG_SANDBOX" : NULL;
}

/* Load the configuration of ${request}. Return: NULL, or why it is refused. */
static const char *check(const struct upgrade_setup *setup, const char *request, size_t size,
                         bool root) {
  size_t count = 0, at = 0;
  const char **list = calloc(size / 6 + 1, sizeof(*list)); /* XCHG_= is the shortest text */
  FILE *faults = fopen("/dev/null", "w");
  struct config *wanted = malloc(sizeof(*wanted));
  const char *why = "there is no memory";
  for (; list != NULL && at < size; at += strlen(request + at) + 1) {
    list[count++] = request + at;
  }
  if (list != NULL && faults != NULL && wanted != NULL) {
    why = "the configuration has a fault";
    if (config_load(wanted, list, setup->facts, faults) == 0) {
      why = refusal(setup, wanted, root);
      config_fini(wanted);
    }
  }
  free(wanted);
  if (faults != NULL) {
    (void)fclose(faults); /* it was never read */
  }
  free(list);
  return why;
}

/* ---- askers ---- */

/* A request has come. */
static void on_request(struct upgrade_requests *r, const struct upgrade_bytes *environment) {
  struct upgrade_asker *asker = &r->reading;
  const char *request = (const char *)environment->bytes;
  const struct upgrade_setup *setup = &r->upgrade->setup;
  const char *why = is_well_formed(request, environment->size)
                        ? check(setup, request, environment->size, asker->uid == 0)
                        : "it is no list of variables";
  if (upgrade_running(r->upgrade) || upgrade_left(r->upgrade)) {
    refuse(r, asker, CODE_BUSY, "another upgrade is under way");
    return;
  }
  if (why != NULL) {
    refuse(r, asker, CODE_CONFIG, why);
    return;
  }
  find_changes(r, asker, request, environment->size);
  int code = upgrade_begin(r->upgrade, request == NULL ? "" : request, environment->size);
  if (code != 0) {
    struct upgrade_outcome outcome = {.code = (uint64_t)code, .step = "start"};
    snprintf(outcome.reason, sizeof(outcome.reason), "%s",
             code == CODE_BUSY ? "a stop is under way" : "see the log of the server");
    answer(asker, &outcome);
    return;
  }
  r->waiting = *asker;
  *asker = (struct upgrade_asker){.channel = {.fd = -1}}; /* it waits now */
}

static void accept_asker(struct upgrade_requests *r, uint64_t now_ns) {
  uid_t uid;
  pid_t pid;
  int fd = upgrade_socket_accept(&r->socket, &uid, &pid);
  if (fd == -1) {
    return;
  }
  r->reading = (struct upgrade_asker){.uid = uid, .deadline_ns = now_ns + REQUEST_NS};
  if (upgrade_channel_open(&r->reading.channel, fd) == -1) {
    r->reading.channel.fd = -1;
    sys_close(fd);
  } else if (uid != 0 && uid != geteuid()) {
    refuse(r, &r->reading, CODE_USER, "another user");
  }
}

static void read_asker(struct upgrade_requests *r, uint64_t now_ns) {
  struct upgrade_packet packet;
  const char *why = "it is no request";
  switch (upgrade_channel_recv(&r->reading.channel, &packet, &why)) {
    case CHANNEL_OK:
      if (packet.kind == UPGRADE_REQUEST) {
        on_request(r, &packet.environment);
      } else {
        refuse(r, &r->reading, CODE_CONFIG, "it is no request");
      }
      upgrade_packet_close(&packet);
      break;
    case CHANNEL_AGAIN:
      if (now_ns >= r->reading.deadline_ns) {
        refuse(r, &r->reading, CODE_CONFIG, "no request has come");
      }
      break;
    case CHANNEL_REFUSED:
      refuse(r, &r->reading, CODE_CONFIG, why);
      break;
    case CHANNEL_GONE:
    case CHANNEL_ERROR:
      upgrade_channel_close(&r->reading.channel);
      break;
  }
}

/* Tell the asker of an upgrade that is over. */
static void tell(struct upgrade_requests *r) {
  struct upgrade_outcome outcome = r->upgrade->outcome;
  if (outcome.code == 0) {
    snprintf(outcome.reason, sizeof(outcome.reason), "%s", r->waiting.changes);
  }
  answer(&r->waiting, &outcome);
}

uint64_t requests_tend(struct upgrade_requests *r) {
  uint64_t now_ns = sys_now_ns();
  if (r->gave_up && !upgrade_running(r->upgrade) && !upgrade_left(r->upgrade)) {
    (void)requests_open(r); /* COMMIT came to nothing; the log says what fails */
  }
  if (r->waiting.channel.fd != -1 && r->upgrade->outcome.code != UINT64_MAX) {
    tell(r);
  }
  if (r->socket.fd != -1 && r->reading.channel.fd == -1) {
    accept_asker(r, now_ns);
  }
  if (r->reading.channel.fd != -1) {
    read_asker(r, now_ns);
  }
  return r->reading.channel.fd == -1 ? NEVER : r->reading.deadline_ns;
}

void requests_fds(const struct upgrade_requests *r, int *socket, int *asker) {
  *asker = r->reading.channel.fd;
  *socket = *asker == -1 ? r->socket.fd : -1;
}
