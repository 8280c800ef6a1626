/*
 * exhaustion: logs the beginning and the end of an episode of exhausted descriptors or memory.
 *
 * One line when it begins, one when it is over: after a second without another failure.
 */
#ifndef POOL_EXHAUSTION_H
#define POOL_EXHAUSTION_H

#include "core/log.h"

#define EXHAUSTION_OVER_NS NS_PER_S

struct exhaustion {
  uint64_t start_ns; /* NEVER = there is none */
  uint64_t last_ns;  /* its latest failure */
  uint64_t count;    /* its failures */
};

/** A failure with ${error}, which ${what} describes. The first one of an episode is logged. */
void exhaustion_note(struct exhaustion *episode, struct log *log, uint64_t now_ns, const char *what,
                     int error);

/** When it will be over, if no other failure comes; NEVER = there is none. */
static inline uint64_t exhaustion_over_ns(const struct exhaustion *episode) {
  return episode->start_ns == NEVER ? NEVER : episode->last_ns + EXHAUSTION_OVER_NS;
}

/** It is over: log how long it took. Nothing happens if there is none. */
void exhaustion_end(struct exhaustion *episode, struct log *log);

#endif
