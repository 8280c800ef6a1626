/*
 * sd_notify: reports the state to a service manager, by datagrams to NOTIFY_SOCKET (sd_notify(3)).
 *
 * The socket is opened at the start and kept, so a stop needs no new descriptor.  Sending never
 * blocks.  Failures are ignored, because the server works without a service manager.  The main
 * thread only.
 */
#ifndef NET_SD_NOTIFY_H
#define NET_SD_NOTIFY_H

struct sd_notify {
  int fd; /* owns; -1 = no service manager */
};

/**
 * Connect to ${path}: "/...", "@..." for an abstract name, or NULL for none.
 * Return: 0, or -1 with errno.
 */
int sd_notify_open(struct sd_notify *notify, const char *path);
void sd_notify_close(struct sd_notify *notify);

/** Send ${state}, "READY=1" or "STOPPING=1". */
void sd_notify_send(const struct sd_notify *notify, const char *state);

#endif
