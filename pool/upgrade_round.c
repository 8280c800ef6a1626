/* upgrade_round: see upgrade_round.h. */
#include "pool/upgrade_round.h"

#include "core/sys.h"
#include "pool/log_writer.h"
#include "pool/upgrade_point.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define CODE_OF_SIGNAL 128 /* as shells say it */

/* ---- the child ---- */

void upgrade_round_begin(struct upgrade *u, const struct upgrade_channel *channel, pid_t parent) {
  u->channel = *channel;
  if (upgrade_obstacle(u) != NULL) {
    upgrade_channel_close(&u->channel);
    return;
  }
  u->peer = parent;
  u->peer_fd = upgrade_watch(parent);
  if (u->peer_fd == -1 || giver_open(&u->giver, u->setup.server, &u->channel) == -1) {
    log_errno(u->setup.log, LOG_WARN, "the connections cannot return to the parent", errno);
    upgrade_forget(&u->peer_fd);
    upgrade_channel_close(&u->channel);
    return;
  }
  u->returns = true;
  upgrade_introduce(u);
}

/* ---- the parent ---- */

/* It returns on failure. */
static void execute(struct upgrade *u) {
  upgrade_image_set_channel(&u->image, u->channel.fd, u->peer);
  log_writer_flush(u->setup.log_writer);
  upgrade_point(POINT_EXECUTE, SIDE_OLD);
  upgrade_image_execute(&u->image, u->channel.fd);
  log_errno(u->setup.log, LOG_WARN,
            "cannot execute the new program in place: this process stays the parent of the server",
            errno);
}

void upgrade_round_pass(int fd, enum signals_what what, const struct signals *signals) {
  switch (what) {
    case SIGNALS_STOP:
      upgrade_pass(fd, signals->stop);
      break;
    case SIGNALS_STATS:
      upgrade_pass(fd, SIGUSR1);
      break;
    case SIGNALS_UPGRADE:
      upgrade_pass(fd, SIGUSR2);
      break;
    case SIGNALS_CHILD: /* the descriptor says more */
    case SIGNALS_NONE:
      break;
  }
}

/* Reap what has ended, but not the child ${fd}. */
static void reap_others(int fd) {
  int status; /* of no use */
  siginfo_t info = {.si_pid = 0};
  while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0 &&
         !upgrade_peek(fd, &status)) {         /* so it is another one */
    (void)waitpid(info.si_pid, NULL, WNOHANG); /* ECHILD: another thread has waited for it */
    info.si_pid = 0;
  }
}

int upgrade_round_wait(int fd, struct signals *signals) {
  int status;
  struct sigaction before; /* of no use */
  signals_keep_children(&before);
  while (!upgrade_peek(fd, &status)) {
    if (signals->reaps) {
      reap_others(fd);
    }
    struct pollfd fds[] = {{.fd = signals->fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    (void)sys_poll(fds, 2, -1); /* EINTR and the like: look again */
    if (fds[0].revents != 0) {
      upgrade_round_pass(fd, signals_next(signals), signals);
    }
  }
  if (WIFSIGNALED(status)) {
    return CODE_OF_SIGNAL + WTERMSIG(status);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : SERVER_OSERR;
}

/* A stop that came here since COMMIT is for the server. */
static void leave(struct upgrade *u, struct signals *signals) {
  enum signals_what what;
  upgrade_point(POINT_EXIT, SIDE_CHILD);
  while ((what = signals_next(signals)) != SIGNALS_NONE) {
    if (what == SIGNALS_STOP) {
      upgrade_pass_signal(u, signals->stop);
    }
  }
}

int upgrade_round_end(struct upgrade *u, struct signals *signals, bool may_execute) {
  if (u->returns) {
    leave(u, signals);
  } else if (may_execute && u->channel.fd != -1) {
    execute(u);
  }
  upgrade_channel_close(&u->channel);
  int code = u->returns ? 0 : upgrade_round_wait(u->peer_fd, signals);
  upgrade_forget(&u->peer_fd);
  upgrade_image_close(&u->image);
  return code;
}
