/*
 * reuseport: the bare loop once a core, each with a listener of its own on one port: the kernel
 * spreads the connections by a hash of their addresses, and nothing is shared.  The third argument
 * is the number of loops; without it, one for each CPU that the process may use.
 *
 * The upper bound of what any hand-off between threads can reach; what it cannot do is give a new
 * connection to the loop that has time for it.
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
  return sched_getaffinity(0, sizeof set, &set) == -1 ? 1 : CPU_COUNT(&set);
}

int main(int argc, char **argv) {
  struct peer_options options = peer_parse(argc, argv);
  struct core cores[1024];
  int count = options.number > 0 ? options.number : usable_cpus();
  peer_raise_descriptors();
  for (int i = 0; i < count; i++) {
    /* The first one's port is everybody's. */
    int port = i == 0 ? options.port : peer_port(cores[0].listener);
    cores[i].listener = peer_listen(port, true);
    cores[i].exchange = options.exchange;
  }
  for (int i = 1; i < count; i++) {
    errno = pthread_create(&cores[i].thread, NULL, run_core, &cores[i]);
    if (errno != 0)
      peer_die("cannot start a thread");
  }
  peer_announce(cores[0].listener);
  run_core(&cores[0]);
}
