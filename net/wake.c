/* wake: see wake.h. */
#include "net/wake.h"

#include "core/sys.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>

int wake_open(struct wake *wake) {
  wake->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  return wake->fd == -1 ? -1 : 0;
}

void wake_close(struct wake *wake) {
  if (wake->fd != -1) {
    sys_close(wake->fd);
    wake->fd = -1;
  }
}

void wake_signal(struct wake *wake) {
  static const uint64_t one = 1;
  while (sys_write(wake->fd, &one, sizeof(one)) == -1 && errno == EINTR) {
  }
}
