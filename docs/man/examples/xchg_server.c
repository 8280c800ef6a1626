/* A program that serves until SIGTERM or SIGINT. */
#include <signal.h>
#include <stdio.h>
#include <xchg.h>

extern char **environ;

static void echo(struct xchg_conn *conn,
                 const struct xchg_message *message) {
  xchg_send(conn, message->frame, message->frame_size);
}

int main(void) {
  const struct xchg_handler handler = {.size = sizeof(handler),
                                       .on_message = echo};
  struct xchg_config config;
  sigset_t signals;
  int which, result = -1;

  signal(SIGPIPE, SIG_IGN);
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  if (xchg_config_from_env(&config, sizeof(config), environ,
                           stderr) == -1) {
    return 78;
  }
  struct xchg_server *server = xchg_server_create(&config, &handler);
  if (server != NULL && xchg_server_start(server) == 0) {
    sigwait(&signals, &which);
    xchg_server_drain(server);
    result = xchg_server_wait(server);
  }
  xchg_server_destroy(server);
  return result == 0 ? 0 : 1;
}
