/*
 * sd_notify: reports the state to a service manager, by datagrams to NOTIFY_SOCKET (sd_notify(3)).
 *
 * The socket is opened at the start and kept, so a stop needs no new descriptor.  Sending never
 * blocks.  A state that the manager's queue has no room for stays pending, and is sent later in its
 * order.  Where the manager is gone the server works without it.  The main thread only.
 * pool/service decides what is sent when.
 */
#ifndef NET_SD_NOTIFY_H
#define NET_SD_NOTIFY_H

#include <stdbool.h>

#define SD_NOTIFY_PENDING_MAX 4 /* READY=1, RELOADING=1, MAINPID= and STOPPING=1, each once */
#define SD_NOTIFY_RETRY_MS 100

struct log;

struct sd_notify {
  int fd;                                     /* owns; -1 = no service manager */
  const char *pending[SD_NOTIFY_PENDING_MAX]; /* borrows, in their order; NULL = none */
  bool delayed;                               /* the log has said that they are */
  bool failed;                                /* the log has said that the manager is gone */
};

/**
 * Connect to ${path}: "/...", "@..." for an abstract name, or NULL for none.
 * Return: 0, or -1 with errno.
 */
int sd_notify_open(struct sd_notify *notify, const char *path);
void sd_notify_close(struct sd_notify *notify);

/**
 * sd_notify_send(notify, state, log):
 * Send ${state}, or keep it as pending, once and behind all others.  The text must stay until
 * sd_notify_pending is false.  A delay and a failure are logged.
 */
void sd_notify_send(struct sd_notify *notify, const char *state, struct log *log);

/**
 * sd_notify_try(notify, text, log):
 * Send ${text} now, or leave it out if there is no room or a state is pending. Only the first
 * failure of another kind is logged.
 * Return: false if there was no room.
 */
bool sd_notify_try(struct sd_notify *notify, const char *text, struct log *log);

/**
 * sd_notify_retry(notify, log):
 * Send what is pending, as far as there is room.  Call it every SD_NOTIFY_RETRY_MS while
 * sd_notify_pending.
 */
void sd_notify_retry(struct sd_notify *notify, struct log *log);
bool sd_notify_pending(const struct sd_notify *notify);

#endif
