/* live: see live.h. */
#include "live.h"

#include "core/sys.h"
#include "units.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define COLUMNS_UNKNOWN 80

/* A time of 0 means that no exchange ended. */
static void format_ms(uint64_t time_ns, char text[UNITS_TEXT_MAX]) {
  units_format_fixed(time_ns == 0 ? NAN : (double)time_ns / (double)NS_PER_MS, 3, text);
}

const char *live_format(const struct interval *interval, uint64_t errors, double length_s,
                        unsigned columns, char text[LIVE_TEXT_MAX]) {
  enum { PARTS = 5 };
  char parts[PARTS][64], rate[UNITS_TEXT_MAX], p50[UNITS_TEXT_MAX], p99[UNITS_TEXT_MAX];
  const bool is_partial = interval->seconds < length_s * 0.999;
  const double end_s = interval->at_s + interval->seconds;
  const double per_second = units_divide((double)interval->exchanges, interval->seconds);
  units_format_fixed(per_second, 0, rate);
  format_ms(interval->p50_ns, p50);
  format_ms(interval->p99_ns, p99);
  snprintf(parts[0], sizeof(parts[0]), "%7.*f s", is_partial || length_s < 1 ? 2 : 0, end_s);
  snprintf(parts[1], sizeof(parts[1]), "  %s%*s /s", is_partial ? "~" : "", is_partial ? 10 : 11,
           rate);
  snprintf(parts[2], sizeof(parts[2]), "  p50 %9s ms", p50);
  snprintf(parts[3], sizeof(parts[3]), "  p99 %9s ms", p99);
  snprintf(parts[4], sizeof(parts[4]), "  errors %" PRIu64, errors);
  size_t used = 0;
  text[0] = 0;
  for (int i = 0; i < PARTS; i++) {
    const size_t size = strlen(parts[i]);
    if (used + size >= columns || used + size >= LIVE_TEXT_MAX) {
      break;
    }
    memcpy(text + used, parts[i], size + 1);
    used += size;
  }
  return text;
}

int live_open(int fd) {
  char path[32];
  if (isatty(fd) != 1) {
    return -1;
  }
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  return open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

/* Is this process a job in the background of the terminal ${fd}?  With tostop a write stops it. */
static bool is_background(int fd) {
  const pid_t foreground = tcgetpgrp(fd); /* -1: not the terminal of this session */
  return foreground != -1 && foreground != getpgrp();
}

void live_show(int fd, const char *text) {
  char line[LIVE_TEXT_MAX + 8];
  if (is_background(fd)) {
    return;
  }
  /* \r and \033[K: this line takes the place of the last one, which may have been longer. */
  const int size = snprintf(line, sizeof(line), "\r%s\033[K", text);
  (void)sys_write(fd, line, (size_t)size); /* if it fails, this line is not shown */
}

unsigned live_columns(int fd) {
  struct winsize size;
  return ioctl(fd, TIOCGWINSZ, &size) == -1 || size.ws_col == 0 ? COLUMNS_UNKNOWN : size.ws_col;
}
