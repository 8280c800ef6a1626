/*
 * log_writer: writes the lines of a log to a descriptor and makes no thread wait for it.
 *
 *   socket                                    sent with MSG_DONTWAIT     by the thread that logs
 *   pipe, terminal or device, opened again    written with O_NONBLOCK    by the thread that logs
 *   one that cannot be opened again           written, and waited for    by the thread xchg-log
 *   regular file                              written, and waited for    by the thread xchg-log
 *
 * A pipe or terminal is opened again through /proc/self/fd, because O_NONBLOCK of the shared
 * description must not change.  That fails for a terminal of another user or a pipe whose reader
 * has gone.  Polling such a descriptor does not help: a terminal may report that it is writable,
 * and the write waits nevertheless.  A disk has no O_NONBLOCK.  There, lines are copied to a
 * bounded buffer, and xchg-log writes them.
 *
 * A write may raise SIGPIPE, SIGXFSZ or SIGTTOU.  These are blocked in xchg-log and, during the
 * write, in a thread that logs.
 *
 * A line that the descriptor or the buffer does not take is lost and counted.  A line with the
 * count precedes the next one that is written.  Each line is one write of at most LOG_LINE_MAX
 * bytes, so that lines of several processes do not mix on a pipe.  After a partial write, the next
 * line begins with a line feed.
 *
 * A forked child has a copy of the buffer but no thread, and another thread may have held the mutex
 * at the fork.  So in a child lines are discarded, and destroying only frees.  A child of a process
 * that has not started the thread yet may start it, as daemon(3) after xchg_server_create does.
 */
#ifndef POOL_LOG_WRITER_H
#define POOL_LOG_WRITER_H

#include "core/log.h"

#include <stdbool.h>

struct log_writer;
struct sandbox;

/**
 * log_writer_create(fd, format, patient):
 * Prepare to write to ${fd}. The line that counts lost ones has ${format}. If ${patient}, the
 * thread writes to every kind of descriptor, so that no line is lost while its reader is slow. If
 * ${fd} is not open, all lines are lost.
 * Return: the writer, or NULL with errno.
 * Own: ${fd} stays the caller's, who may close it. The writer has a duplicate.
 */
struct log_writer *log_writer_create(int fd, enum log_format format, bool patient);

/**
 * log_writer_start(writer, sandbox):
 * Start the thread, if ${writer} needs one and has none. Until then its lines wait in the buffer.
 * The thread enters ${sandbox} first, unless that is NULL.
 * Return: 0; 1 with errno if the thread runs without a part of the sandbox; or -1 with errno.
 * Thread: one that owns ${writer} while no other uses it.
 */
int log_writer_start(struct log_writer *writer, const struct sandbox *sandbox);

/**
 * log_writer_put(user, level, line):
 * A log_call_fn: write ${line}, pass it to the thread, or count it as lost.
 * Thread: any.
 */
void log_writer_put(void *user, enum xchg_log_level level, const char *line);

/** Lines lost so far, in all. Thread: any. */
uint64_t log_writer_lost(const struct log_writer *writer);

/**
 * Wait until the lines are written, at most for one second. Nothing is freed and the thread goes
 * on: for a process that ends by _exit, or that executes another program and may fail to.
 * Thread: any, one at a time.
 */
void log_writer_flush(struct log_writer *writer);

/**
 * Write what is left, for at most one second, and free ${writer}. If the thread was not started, it
 * is started for that. A thread that still waits in a write then ends after that write.
 * Thread: one that owns ${writer} while no other uses it.
 */
void log_writer_destroy(struct log_writer *writer);

#endif
