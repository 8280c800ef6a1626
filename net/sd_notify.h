/*
 * sd_notify: tells a service manager how things stand (sd_notify(3)'s protocol: a datagram to
 * NOTIFY_SOCKET).
 *
 * The socket is opened at the start and kept, so that a stop needs no descriptor.  Sending never
 * blocks and failures are ignored: the server works without a listener there.
 */
#ifndef NET_SD_NOTIFY_H
#define NET_SD_NOTIFY_H

struct sd_notify {
  int fd; /* owns; -1 = nobody wants to know */
};

/**
 * Connect to ${path} ("/..." or "@..." for an abstract name; NULL = none). Return: 0, or -1 with
 * errno.
 */
int sd_notify_open(struct sd_notify *notify, const char *path);
void sd_notify_close(struct sd_notify *notify);

/** Send ${state}, "READY=1" or "STOPPING=1". */
void sd_notify_send(const struct sd_notify *notify, const char *state);

#endif
