/* upgrade_back: see upgrade_back.h. */
#include "pool/upgrade_back.h"

#include "core/sys.h"
#include "pool/signals.h"
#include "pool/upgrade_log.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

void upgrade_set_outcome(struct upgrade *u, uint64_t code) {
  u->outcome.code = code;
  snprintf(u->outcome.step, sizeof(u->outcome.step), "%s", upgrade_step_name(u->failed));
  snprintf(u->outcome.reason, sizeof(u->outcome.reason), "%s", u->reason);
}

void upgrade_turn_back(struct upgrade *u, const char *why) {
  bool lives = u->returns && u->step < STEP_HOLD;
  u->failed = u->step;
  snprintf(u->reason, sizeof(u->reason), "%s", why);
  u->step = lives ? STEP_RETURN : STEP_KILL;
  u->deadline_ns = lives ? NEVER : 0;
  u->killed = false;
}

void upgrade_close_all(struct upgrade *u) {
  upgrade_channel_close(&u->channel);
  giver_close(&u->giver);
  upgrade_forget(&u->peer_fd);
  upgrade_image_close(&u->image);
  u->returns = false;
  u->step = STEP_NONE;
  signals_restore_children(&u->sigchld);
}

bool upgrade_kill(struct upgrade *u, uint64_t now_ns) {
  if (upgrade_reap(u->peer_fd, &u->status)) {
    return true;
  }
  if (now_ns < u->deadline_ns) {
    return false;
  }
  if (!u->killed) {
    upgrade_signal(u->peer_fd, SIGKILL);
    u->killed = true;
    u->deadline_ns = u->returns ? now_ns + UPGRADE_ANSWER_NS : NEVER;
    return false;
  }
  giver_abandon(&u->giver);
  return true;
}

bool upgrade_release(struct upgrade *u) {
  bool accepts = acceptor_order_reach(&u->order, ACCEPTOR_RELEASE);
  return acceptor_order_reach(&u->admin_order, ACCEPTOR_RELEASE) && accepts;
}

void upgrade_tend_return(struct upgrade *u, uint64_t now_ns) {
  bool accepts = upgrade_release(u);
  (void)giver_tend(&u->giver, now_ns); /* only its state counts */
  if ((!accepts || u->giver.state != GIVER_IDLE) && now_ns < u->deadline_ns) {
    return;
  }
  char status[UPGRADE_TEXT];
  int code = WIFEXITED(u->status) ? WEXITSTATUS(u->status) : 0;
  upgrade_describe_status(u->status, status, sizeof(status));
  stats_add(&u->setup.server->base->own_totals.ended[XCHG_ERROR], u->giver.moved);
  upgrade_log_turned_back(u, status);
  upgrade_set_outcome(u, code == 78 || code == 69 ? (uint64_t)code : SERVER_OSERR);
  upgrade_close_all(u);
}
