/*
 * thread: a detached thread for each connection.  glibc reuses the stacks of threads that have
 * ended.
 */
#include "benchmarks/peers/lecture.h"

#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

#define STACK_SIZE (128 * 1024)

static void *serve_echo(void *argument) {
  lecture_serve((int)(intptr_t)argument, PEER_ECHO);
  return NULL;
}

static void *serve_greet(void *argument) {
  lecture_serve((int)(intptr_t)argument, PEER_GREET);
  return NULL;
}

static void *serve_hello(void *argument) {
  lecture_serve((int)(intptr_t)argument, PEER_HELLO);
  return NULL;
}

int main(int argc, char **argv) {
  static void *(*const routines[])(void *) = {
      [PEER_ECHO] = serve_echo, [PEER_GREET] = serve_greet, [PEER_HELLO] = serve_hello};
  struct peer_options options = peer_parse(argc, argv);
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0 ||
      pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) != 0 ||
      pthread_attr_setstacksize(&attributes, STACK_SIZE) != 0) {
    peer_die("cannot set a thread's attributes");
  }
  peer_raise_descriptors();
  int listener = peer_listen(options.port, false);
  peer_announce(listener);
  for (;;) {
    pthread_t thread;
    int fd = lecture_accept(listener);
    if (pthread_create(&thread, &attributes, routines[options.exchange], (void *)(intptr_t)fd) !=
        0) {
      close(fd);
    }
  }
}
