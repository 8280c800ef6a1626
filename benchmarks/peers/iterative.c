/*
 * iterative: accept, serve, close, one connection at a time.  The other clients wait in the
 * backlog, so echo can be measured with one connection only.
 */
#include "benchmarks/peers/lecture.h"

int main(int argc, char **argv) {
  struct peer_options options = peer_parse(argc, argv);
  int listener = peer_listen(options.port, false);
  peer_announce(listener);
  for (;;) {
    lecture_serve(lecture_accept(listener), options.exchange);
  }
}
