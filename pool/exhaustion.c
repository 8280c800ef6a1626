/* exhaustion: see exhaustion.h. */
#include "pool/exhaustion.h"

void exhaustion_note(struct exhaustion *episode, struct log *log, uint64_t now_ns, const char *what,
                     int error) {
  if (episode->start_ns == NEVER) {
    *episode = (struct exhaustion){.start_ns = now_ns};
    log_errno(log, LOG_WARN, what, error);
  }
  episode->last_ns = now_ns;
  episode->count++;
}

void exhaustion_end(struct exhaustion *episode, struct log *log) {
  if (episode->start_ns == NEVER) {
    return;
  }
  struct log_line line;
  log_begin(&line, log, LOG_WARN, "accepting again");
  log_u64(&line, "failures", episode->count);
  log_u64(&line, "ms", (episode->last_ns - episode->start_ns) / NS_PER_MS);
  log_end(&line);
  episode->start_ns = NEVER;
}
