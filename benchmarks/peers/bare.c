/*
 * bare: one thread with a level-triggered epoll loop, the lower bound of cost.  See loop.c.
 */
#include "benchmarks/peers/loop.h"

int main(int argc, char **argv) {
  struct peer_options options = peer_parse(argc, argv);
  peer_raise_descriptors();
  int listener = peer_listen(options.port, false);
  peer_announce(listener);
  loop_run(listener, options.exchange, false);
}
