/* listen_fds: see listen_fds.h. */
#include "core/listen_fds.h"

#include "core/parse.h"
#include "core/env_vars.h"

#include <string.h>

#define FIRST 3 /* sd_listen_fds(3): SD_LISTEN_FDS_START */

static const struct {
  const char *name;
  bool is_admin;
  enum addr_proxy proxy;
} kinds[] = {{"admin", true, ADDR_PROXY_OFF},
             {"data-proxy-v1", false, ADDR_PROXY_V1},
             {"data-proxy-v2", false, ADDR_PROXY_V2},
             {"data-proxy-any", false, ADDR_PROXY_ANY}};

/* LISTEN_FDS, if it is for ${pid}; else 0. */
static uint32_t count_passed(const char *const *environment, uint64_t pid) {
  const char *pid_text = env_vars_find(environment, "LISTEN_PID");
  const char *fds_text = env_vars_find(environment, "LISTEN_FDS");
  uint64_t for_pid, fds;
  if (pid_text == NULL || fds_text == NULL || parse_u64(pid_text, &for_pid) == -1 ||
      parse_u64(fds_text, &fds) == -1 || for_pid != pid) {
    return 0;
  }
  return (uint32_t)min_u64(fds, UINT32_MAX);
}

/* Add the next socket, which has the name of ${size} bytes at ${name}. Return: 0, or -1. */
static int add(struct listen_fds *passed, const char *name, size_t size) {
  bool is_admin = false;
  struct listen_fd socket = {.fd = FIRST + (int)(passed->data_count + passed->admin_count)};
  for (size_t i = 0; i < count_of(kinds); i++) {
    if (strlen(kinds[i].name) == size && memcmp(kinds[i].name, name, size) == 0) {
      is_admin = kinds[i].is_admin;
      socket.proxy = kinds[i].proxy;
    }
  }
  if (passed->data_count + passed->admin_count == passed->count ||
      (is_admin ? passed->admin_count == LISTEN_FDS_ADMIN_MAX
                : passed->data_count == LISTEN_FDS_DATA_MAX)) {
    return -1;
  }
  if (is_admin) {
    passed->admin[passed->admin_count++] = socket;
  } else {
    passed->data[passed->data_count++] = socket;
  }
  return 0;
}

static int add_all(struct listen_fds *passed, const char *names) {
  if (names == NULL) {
    for (uint32_t i = 0; i < passed->count; i++) {
      if (add(passed, "", 0) == -1) {
        return -1;
      }
    }
    return 0;
  }
  for (;;) {
    const char *end = strchrnul(names, ':');
    if (add(passed, names, (size_t)(end - names)) == -1) {
      return -1;
    }
    if (*end == 0) {
      return passed->data_count + passed->admin_count == passed->count ? 0 : -1;
    }
    names = end + 1;
  }
}

void listen_fds_read(struct listen_fds *passed, const char *const *environment, uint64_t pid) {
  *passed = (struct listen_fds){.count = count_passed(environment, pid)};
  if (passed->count > 0 && add_all(passed, env_vars_find(environment, "LISTEN_FDNAMES")) == -1) {
    passed->data_count = passed->admin_count = 0;
    passed->invalid = true;
  }
}
