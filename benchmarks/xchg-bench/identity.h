/*
 * identity: what tells a report from every other one: when, where and by which command it was made.
 *
 * merge uses it to refuse a report that it has already counted, and a reader to repeat the run.
 */
#ifndef BENCH_IDENTITY_H
#define BENCH_IDENTITY_H

#include "json_write.h"
#include "json_read.h"
#include "bench.h"

/* The text of a moment, such as "2026-11-29T16:22:09.123Z". */
#define IDENTITY_MOMENT_MAX 32

/* Reports in a merged one. */
#define IDENTITY_MERGED_MAX 4096

/**
 * identity_make(identity, argv):
 * Note this moment, this machine and the command ${argv}, which ends with NULL.  The run id is
 * random.
 */
void identity_make(struct identity *identity, char *const *argv);

/** Write ${identity} as members of the open object. */
void identity_write(struct json_writer *writer, const struct identity *identity);

/**
 * identity_read(identity, json):
 * Read what identity_write wrote from the members of ${json}.
 * Return: NULL, and the caller must call identity_fini; or the key that is missing or wrong, with
 * nothing to free.
 */
const char *identity_read(struct identity *identity, const struct json *json);

/**
 * identity_merge(identity, more):
 * Add ${more}, a part of a merged report, to ${identity}, which is all 0 before the first call.
 * Hosts and commands are listed; machine and address stay only if all have the same.  The merged
 * report has a run id of its own and the ids of its parts.
 * Return: 0, or -1 with errno: EEXIST if ${more} or a part of it was added before, E2BIG above
 * IDENTITY_MERGED_MAX parts, or ENOMEM.
 * Own: the caller must call identity_fini in each case.
 */
int identity_merge(struct identity *identity, const struct identity *more);
void identity_fini(struct identity *identity);

/** Now, in ms since 1970. */
uint64_t identity_now_ms(void);

/** Write a moment in ms since 1970 as UTC. Return: ${text}. */
const char *identity_format(uint64_t ms, char text[IDENTITY_MOMENT_MAX]);

/** Read what identity_format wrote: 0, or -1. */
int identity_parse(const char *text, uint64_t *ms);

#endif
