/* upgrade_request: see upgrade_request.h. */
#include "pool/upgrade_request.h"

#include "core/sys.h"
#include "core/env_vars.h"
#include "net/upgrade_socket.h"
#include "pool/privileges.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REQUEST_NS (5 * NS_PER_S)
#define BACKLOG 8
#define PRIVILEGED_PORTS 1024
#define ANSWER_MAX (sizeof(((struct upgrade_asker *)0)->changes) + 2 * UPGRADE_TEXT)

enum { CODE_BUSY = 75, CODE_USER = 77, CODE_CONFIG = 78 };

/* ---- life ---- */

void requests_init(struct upgrade_requests *r, struct upgrade *upgrade) {
  *r = (struct upgrade_requests){.upgrade = upgrade};
  r->listener.fd = r->reading.fd = r->waiting.fd = -1;
}

int requests_open(struct upgrade_requests *r, struct upgrade_listener *inherited, uint32_t count) {
  const struct config *config = r->upgrade->setup.config;
  r->config = (struct config){
      .use = USE_REQUESTS,
      .backlog = BACKLOG,
      .user = config->user,
      .listen = {config->upgrade_at},
      .listen_count = config->upgrade == UPGRADE_SOCKET && config->model == MODEL_POOL};
  const struct listeners_setup setup = {.config = &r->config,
                                        .log = r->upgrade->setup.log,
                                        .inherited = inherited,
                                        .inherited_count = count};
  uint32_t opened;
  return listeners_open(&r->listener, &opened, &setup);
}

static void end(struct upgrade_asker *asker) {
  if (asker->fd != -1) {
    sys_close(asker->fd);
    asker->fd = -1;
  }
}

void requests_close(struct upgrade_requests *r) {
  listener_close(&r->listener);
  end(&r->reading);
  end(&r->waiting);
}

/* The new process is the server.  Leave the socket to it, if it listens there. */
static void leave(struct upgrade_requests *r) {
  if (r->upgrade->keeps_requests) {
    listener_abandon(&r->listener);
  } else {
    listener_close(&r->listener);
  }
}

/* ---- answers ---- */

/* Answer ${asker}, and end with it. */
static void answer(struct upgrade_asker *asker, int code, const char *text) {
  char line[ANSWER_MAX + 16];
  snprintf(line, sizeof(line), "%d %s", code, text);
  (void)fd_socket_send(asker->fd, line, strlen(line), NULL, 0); /* it may be gone */
  end(asker);
}

/* Log a refusal, and answer it. */
static void refuse(struct upgrade_requests *r, struct upgrade_asker *asker, int code,
                   const char *why) {
  char text[UPGRADE_TEXT];
  struct log_line line;
  log_begin(&line, r->upgrade->setup.log, LOG_ERROR, "upgrade refused");
  log_str(&line, "reason", why);
  log_u64(&line, "uid", asker->uid);
  log_end(&line);
  snprintf(text, sizeof(text), "at step 'request': %s", why);
  answer(asker, code, text);
}

/* ---- what a request may change ---- */

static bool same(const char *a, const char *b) {
  return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void find_changes(struct upgrade_asker *asker, const char *const *own,
                         const char *const *wanted) {
  size_t used = 0;
  asker->changes[0] = 0;
  for (size_t i = 0; i < VAR_COUNT; i++) {
    const char *name = config_var_defs[i].name;
    if (!same(env_vars_find(own, name), env_vars_find(wanted, name))) {
      used += (size_t)snprintf(asker->changes + used, sizeof(asker->changes) - used, "%s%s",
                               used == 0 ? "" : " ", name);
      assert(used < sizeof(asker->changes));
    }
  }
}

/* Is ${item} one of the ${count} items at ${list}? */
static bool is_listed(const struct addr_listen *item, const struct addr_listen *list,
                      uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (listeners_same(item, &list[i])) {
      return true;
    }
  }
  return false;
}

static bool keeps_a_listener(const struct config *own, const struct config *wanted) {
  for (uint32_t i = 0; i < wanted->listen_count; i++) {
    if (is_listed(&wanted->listen[i], own->listen, own->listen_count)) {
      return true;
    }
  }
  return false;
}

/* Does ${list} have a privileged port that is not in ${own}? */
static bool adds_port(const struct addr_listen *list, uint32_t count, const struct addr_listen *own,
                      uint32_t own_count) {
  for (uint32_t i = 0; i < count; i++) {
    if (list[i].addr.family != ADDR_UNIX && list[i].addr.port > 0 &&
        list[i].addr.port < PRIVILEGED_PORTS && !is_listed(&list[i], own, own_count)) {
      return true;
    }
  }
  return false;
}

/* Is XCHG_USER of ${wanted} another user than that of this process? */
static bool is_another_user(struct config_user *wanted) {
  return wanted->set && (privileges_find_user(wanted) != NULL || wanted->uid != geteuid() ||
                         wanted->gid != getegid());
}

/* May an asker who is not root want ${wanted}? Return: 0, or an exit code and ${*why}. */
static int refusal_of_user(const struct upgrade_setup *setup, const struct config *wanted,
                           const char **why) {
  const struct config *own = setup->config;
  const struct listen_fds *passed = &setup->facts->passed;
  if (!same(own->handler, wanted->handler)) {
    *why = "only root may change XCHG_HANDLER";
    return CODE_CONFIG;
  }
  if (wanted->sandbox < own->sandbox) {
    *why = "only root may weaken XCHG_SANDBOX";
    return CODE_CONFIG;
  }
  if ((passed->data_count == 0 &&
       adds_port(wanted->listen, wanted->listen_count, own->listen, own->listen_count)) ||
      (passed->admin_count == 0 &&
       adds_port(wanted->admin, wanted->admin_count, own->admin, own->admin_count))) {
    *why = "only root may add a port below 1024";
    return SERVER_UNAVAILABLE;
  }
  return 0;
}

/* May the server become ${wanted}? Return: 0, or an exit code and ${*why}. */
static int refusal(const struct upgrade_setup *setup, struct config *wanted, bool root,
                   const char **why) {
  if (wanted->model != MODEL_POOL) {
    *why = "XCHG_MODEL must be pool";
  } else if (wanted->upgrade == UPGRADE_OFF) {
    *why = "XCHG_UPGRADE must not be off";
  } else if (is_another_user(&wanted->user)) {
    *why = "XCHG_USER must be the user of the server";
  } else if (setup->facts->passed.data_count == 0 && !keeps_a_listener(setup->config, wanted)) {
    *why = "no address of XCHG_LISTEN would stay";
  } else {
    return root ? 0 : refusal_of_user(setup, wanted, why);
  }
  return CODE_CONFIG;
}

/* Check the configuration of ${list}. Return: 0, or an exit code and ${*why}. */
static int check(const struct upgrade_setup *setup, const char *const *list, bool root,
                 const char **why) {
  FILE *faults = fopen("/dev/null", "w"); /* the asker has printed them */
  struct config *wanted = malloc(sizeof(*wanted));
  int code = SERVER_OSERR;
  *why = "there is no memory";
  if (faults != NULL && wanted != NULL) {
    code = CODE_CONFIG;
    *why = "the configuration has a fault";
    if (config_load(wanted, list, setup->facts, faults) == 0) {
      code = refusal(setup, wanted, root, why);
      config_fini(wanted);
    }
  }
  free(wanted);
  if (faults != NULL) {
    (void)fclose(faults); /* it was never read */
  }
  return code;
}

/* ---- askers ---- */

/*
 * List the ${size} bytes of ${texts}: NAME=value with names of variables of xchgd, each with its 0.
 * Return: to be freed; NULL if they are something else, or without memory.
 */
static const char **list_of(const char *texts, size_t size) {
  size_t count = 0;
  const char **list = calloc(size / 6 + 2, sizeof(*list)); /* XCHG_= is the shortest text */
  bool good = list != NULL && texts[size - 1] == 0;
  for (size_t at = 0; good && at < size; at += strlen(texts + at) + 1) {
    good = strncmp(texts + at, "XCHG_", 5) == 0 && strchr(texts + at, '=') != NULL;
    if (good) {
      list[count++] = texts + at;
    }
  }
  if (!good) {
    free(list);
    return NULL;
  }
  return list;
}

/* Begin the upgrade to ${list}, and let the asker wait for its outcome. */
static void begin(struct upgrade_requests *r, const char *const *list) {
  struct upgrade_asker *asker = &r->reading;
  find_changes(asker, r->upgrade->setup.environment, list);
  int code = upgrade_begin(r->upgrade, list);
  if (code != 0) {
    answer(asker, code, "at step 'start': see the log of the server");
    return;
  }
  r->waiting = *asker;
  asker->fd = -1;
}

/* The request ${texts} has come. */
static void on_request(struct upgrade_requests *r, const char *texts, size_t size) {
  struct upgrade_asker *asker = &r->reading;
  const char *why = "it is no list of variables";
  const char *obstacle = upgrade_obstacle(r->upgrade);
  if (obstacle != NULL) {
    refuse(r, asker, CODE_BUSY, obstacle);
    return;
  }
  const char **list = list_of(texts, size);
  int code = list == NULL ? CODE_CONFIG : check(&r->upgrade->setup, list, asker->uid == 0, &why);
  if (code == 0) {
    begin(r, list);
  } else {
    refuse(r, asker, code, why);
  }
  free(list);
}

static void accept_asker(struct upgrade_requests *r, uint64_t now_ns) {
  struct upgrade_asker *asker = &r->reading;
  asker->fd = upgrade_socket_accept(&r->listener, &asker->uid);
  asker->deadline_ns = now_ns + REQUEST_NS;
  if (asker->fd != -1 && asker->uid != 0 && asker->uid != geteuid()) {
    refuse(r, asker, CODE_USER, "another user");
  }
}

static void read_asker(struct upgrade_requests *r, uint64_t now_ns) {
  struct upgrade_asker *asker = &r->reading;
  int fds[FD_PACKET_FDS_MAX];
  unsigned fds_count = 0;
  size_t size;
  char *texts = malloc(FD_PACKET_BYTES_MAX);
  enum fd_io io =
      texts == NULL ? FD_IO_ERROR : fd_socket_recv(asker->fd, texts, &size, fds, &fds_count);
  for (unsigned i = 0; i < fds_count; i++) {
    sys_close(fds[i]);
  }
  if (io == FD_IO_OK && fds_count == 0) {
    on_request(r, texts, size);
  } else if (io == FD_IO_OK || io == FD_IO_REFUSED) {
    refuse(r, asker, CODE_CONFIG, "it has descriptors or is too long");
  } else if (io != FD_IO_AGAIN) {
    end(asker);
  } else if (now_ns >= asker->deadline_ns) {
    refuse(r, asker, CODE_CONFIG, "no request has come");
  }
  free(texts);
}

/* Tell the asker of an upgrade that is over. */
static void tell(struct upgrade_requests *r) {
  const struct upgrade_outcome *outcome = &r->upgrade->outcome;
  const char *changes = r->waiting.changes;
  char text[ANSWER_MAX];
  if (outcome->code != 0) {
    snprintf(text, sizeof(text), "at step '%s': %s", outcome->step, outcome->reason);
  } else {
    snprintf(text, sizeof(text), "%s%s%s", *changes == 0 ? "none" : changes,
             *outcome->reason == 0 ? "" : "; connections that stay: ", outcome->reason);
  }
  answer(&r->waiting, (int)outcome->code, text);
}

uint64_t requests_tend(struct upgrade_requests *r) {
  uint64_t now_ns = sys_now_ns();
  if (upgrade_left(r->upgrade)) {
    leave(r);
  }
  if (r->waiting.fd != -1 && r->upgrade->outcome.code != UINT64_MAX) {
    tell(r);
  }
  if (r->listener.fd != -1 && !r->held && r->reading.fd == -1) {
    accept_asker(r, now_ns);
  }
  if (r->reading.fd != -1) {
    read_asker(r, now_ns);
  }
  return r->reading.fd == -1 ? NEVER : r->reading.deadline_ns;
}

void requests_fds(const struct upgrade_requests *r, int *socket, int *asker) {
  *asker = r->reading.fd;
  *socket = *asker == -1 && !r->held ? r->listener.fd : -1;
}
