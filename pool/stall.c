/* stall: see stall.h. */
#include "pool/stall.h"

#include "core/sys.h"
#include "pool/worker.h"

#include <inttypes.h>
#include <stdio.h>

/* Start of the turn of the ${i}th thread, 0 = the acceptor; ${*turn_ns} is 0 if it waits. */
static bool turn_of(struct xchg_server *server, uint32_t i, uint64_t *turn_ns) {
  if (i == 0) {
    *turn_ns = atom_load_relaxed_u64(&server->acceptor.turn_ns);
    return true;
  }
  struct inbox *inbox = server_inbox(server, i - 1);
  if (inbox == NULL) {
    return false;
  }
  *turn_ns = atom_load_relaxed_u64(&container_of(inbox, struct worker, inbox)->turn_ns);
  return true;
}

bool stall_find(struct xchg_server *server, struct stall *stall) {
  const struct config *config = server->config;
  uint64_t turn_ns, now_ns = sys_now_ns();
  if (config->model != MODEL_POOL || config->stall_ns == 0) {
    return false;
  }
  for (uint32_t i = 0; turn_of(server, i, &turn_ns); i++) {
    stall->age_ns = turn_ns == 0 ? 0 : sub_sat_u64(now_ns, turn_ns);
    if (stall->age_ns > config->stall_ns) {
      if (i == 0) {
        snprintf(stall->thread, sizeof(stall->thread), "xchg-accept");
      } else {
        snprintf(stall->thread, sizeof(stall->thread), "xchg-work-%" PRIu32, i - 1);
      }
      return true;
    }
  }
  return false;
}

const char *stall_format(const struct stall *stall, char text[STALL_TEXT_MAX]) {
  snprintf(text, STALL_TEXT_MAX, "%s %" PRIu64 "s", stall->thread, stall->age_ns / NS_PER_S);
  return text;
}
