/*
 * fork: the lecture's second server: a child process for each connection.  Ended children are
 * waited for after each accept, at most so many as there are, without a signal handler: that saves
 * its cost, and their CPU time is added to the parent's, where it is measured.
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
    close(fd); /* a fork that the system refuses costs this connection */
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
  }
}
