/*
 * fork: a child process for each connection.  After each accept the server waits for all children
 * that have ended.  That needs no signal handler, and adds their CPU time to the parent's, where
 * it is measured.
 */
#include "benchmarks/peers/lecture.h"

#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
  struct peer_options options = peer_parse(argc, argv);
  int listener = peer_listen(options.port, false);
  peer_announce(listener);
  for (;;) {
    int fd = lecture_accept(listener);
    pid_t child = fork();
    if (child == 0) {
      close(listener);
      lecture_serve(fd, options.exchange);
      _exit(0);
    }
    close(fd); /* also if fork failed: the connection is dropped */
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
  }
}
