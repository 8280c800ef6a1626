/*
 * reuseport: one bare loop per core, each with its own listener on the same port.  The kernel
 * spreads the connections by a hash of their addresses, and the loops share nothing.  The third
 * argument is the number of loops; the default is one per usable CPU.
 *
 * This is the upper bound for any hand-off between threads.  It cannot give a new connection to
 * the loop with the least work.
 */
#include "benchmarks/peers/loop.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>

struct core {
  pthread_t thread;
  int listener;
  enum peer_exchange exchange;
};

static void *run_core(void *argument) {
  struct core *core = argument;
  loop_run(core->listener, core->exchange, false);
}

static int usable_cpus(void) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == -1 ? 1 : CPU_COUNT(&set);
}

int main(int argc, char **argv) {
  struct peer_options options = peer_parse(argc, argv);
  struct core cores[1024];
  int count = options.number > 0 ? options.number : usable_cpus();
  peer_raise_descriptors();
  for (int i = 0; i < count; i++) {
    /* All loops share the port of the first. */
    int port = i == 0 ? options.port : peer_port(cores[0].listener);
    cores[i].listener = peer_listen(port, true);
    cores[i].exchange = options.exchange;
  }
  for (int i = 1; i < count; i++) {
    errno = pthread_create(&cores[i].thread, NULL, run_core, &cores[i]);
    if (errno != 0) {
      peer_die("cannot start a thread");
    }
  }
  peer_announce(cores[0].listener);
  run_core(&cores[0]);
}
