/*
 * socket_file: the file of a UNIX listener, from the check of an old one to its removal.
 *
 * It owns a descriptor of the file's folder.  The folder's path is resolved once, and everything
 * after that is relative to the descriptor: a link that is swapped into the path later leads
 * nowhere else.  Only bind and the test for a live server take the whole path, because no such call
 * takes a folder.  socket_file_claim therefore checks what bind has made.
 *
 * It does not protect a folder that others may write to: there they can remove the file and put
 * another one in its place.
 */
#ifndef NET_SOCKET_FILE_H
#define NET_SOCKET_FILE_H

#include "core/addr.h"

struct socket_file {
  bool open;      /* folder is valid */
  int folder;     /* owns; locked until socket_file_unlock */
  uint64_t inode; /* of the own file; 0 = none */
  uint64_t device;
};

/**
 * socket_file_prepare(file, addr):
 * Open and lock the folder of ${addr}, then remove the socket file of a dead server.  The lock is
 * for the time between bind and listen, in which a server looks dead to another that starts on the
 * same path.  If another program holds the lock too long, or the folder is unreadable, the start
 * continues without it.
 * Return: 0, or -1 with errno if the folder cannot be opened.
 */
int socket_file_prepare(struct socket_file *file, const struct addr_listen *addr);

/**
 * socket_file_claim(file, addr):
 * After bind: check that the file is a socket of this user with one name, note it, and set its
 * mode.
 * Return: NULL; or what failed, for the log, with errno.
 */
const char *socket_file_claim(struct socket_file *file, const struct addr_listen *addr);

/**
 * Let ${uid} and ${gid} own the claimed file. Return: 0, or -1 with errno: ENOENT if another file
 * has replaced it.
 */
int socket_file_give(const struct socket_file *file, const struct addr_listen *addr, uint32_t uid,
                     uint32_t gid);

/**
 * Open the folder of ${addr}, whose file another process has made: socket_file_own says when it is
 * ours. Return: 0, or -1 with errno; then the file is never removed.
 */
int socket_file_attach(struct socket_file *file, const struct addr_listen *addr);

/** The attached file with this number is ours from now on, and socket_file_remove removes it. */
static inline void socket_file_own(struct socket_file *file, uint64_t inode, uint64_t device) {
  file->device = device;
  file->inode = file->open ? inode : 0;
}

/** Release the lock. */
void socket_file_unlock(const struct socket_file *file);

/**
 * socket_file_remove(file, addr):
 * Remove the claimed file unless another has replaced it.  Later calls do nothing.
 * Return: 0, or -1 with errno if the file stays.  The next start on the path replaces it.
 */
int socket_file_remove(struct socket_file *file, const struct addr_listen *addr);

/** Close the folder. */
void socket_file_close(struct socket_file *file);

#endif
