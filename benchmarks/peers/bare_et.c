/*
 * bare_et: the bare loop with edge-triggered connections.  It reads until a short read.  See
 * loop.c.
 */
#include "benchmarks/peers/loop.h"

int main(int argc, char **argv) {
  struct peer_options options = peer_parse(argc, argv);
  peer_raise_descriptors();
  int listener = peer_listen(options.port, false);
  peer_announce(listener);
  loop_run(listener, options.exchange, true);
}
