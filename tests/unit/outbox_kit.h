/*
 * outbox_kit: an outbox beside a plain array of the bytes that went in.
 *
 * What is lent is malloc'ed and freed by its release, so that a byte that is looked at too late is
 * one that the sanitizers see.  In the release itself the outbox must hold just what was queued
 * behind the loan.  Everything that is done to a model is done to both, and both are compared.
 */
#ifndef TESTS_UNIT_OUTBOX_KIT_H
#define TESTS_UNIT_OUTBOX_KIT_H

#include "net/outbox.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define CARGOS_MAX 40
#define CEILING ((uint64_t)1 << 20)
#define STREAM_BYTES ((size_t)1 << 18)
#define PARTS_MAX (2 * CARGOS_MAX + 1) /* of an outbox that holds all loans there are */

/* An outbox and what must be in it: stream[out..in). */
struct model {
  struct outbox outbox;
  uint8_t *stream; /* owns */
  size_t in, out;
  uint32_t lent, released; /* loans of more than 0 bytes */
};

/* The argument of a loan's release. */
struct lender {
  struct model *model;
  void *data;      /* owns */
  size_t end;      /* of the loan, in the stream */
  uint32_t number; /* among the model's loans */
};

static struct buf_pool bufs;
static struct outbox_pool pool;

/* libcheck writes a record for each of its assertions; what is asked so often says only a no. */
static inline void holds(bool what, const char *text) {
  if (!what) {
    ck_abort_msg("broken: %s", text);
  }
}

static inline void setup(void) {
  ck_assert_int_eq(buf_pool_init(&bufs, 1000, CEILING), 0);
  ck_assert_int_eq(outbox_pool_init(&pool, &bufs, CARGOS_MAX), 0);
}

static inline void teardown(void) {
  ck_assert_uint_eq(pool.cargos.used, 0);
  ck_assert_uint_eq(bufs.bytes, 0);
  outbox_pool_fini(&pool);
  buf_pool_fini(&bufs);
}

/* ---- the model ---- */

static inline void model_init(struct model *model) {
  *model = (struct model){.stream = malloc(STREAM_BYTES)};
  ck_assert_ptr_nonnull(model->stream);
}

/* The books are in order, whatever is in them. */
static inline void check_books(const struct outbox *outbox) {
  holds(outbox->bytes == NULL || buf_size(outbox->bytes) > 0, "bytes == NULL where none waits");
  if (outbox->last == NULL) {
    return;
  }
  size_t sum = 0;
  struct cargo *cargo = outbox->last;
  do {
    cargo = cargo->next;
    holds(cargo->loan.size > 0, "no loan that is over is in the ring");
    holds(cargo->behind == NULL || buf_size(cargo->behind) > 0, "behind == NULL where none waits");
    sum += cargo->loan.size + buf_size(cargo->behind);
  } while (cargo != outbox->last);
  holds(outbox->last->total == sum, "total is the sum");
}

/* The first parts, and as many of them as may be. */
static inline void check_parts(const struct outbox *outbox, const struct iovec *parts, int count,
                               int max) {
  struct iovec some[PARTS_MAX];
  int used = outbox_parts(outbox, some, max);
  holds(used == (max < count ? max : count), "as many parts as there are, or may be");
  for (int i = 0; i < used; i++) {
    holds(some[i].iov_base == parts[i].iov_base && some[i].iov_len == parts[i].iov_len,
          "less room for parts: the first ones");
  }
}

static inline void check(const struct model *model) {
  const struct outbox *outbox = &model->outbox;
  struct iovec parts[PARTS_MAX];
  check_books(outbox);
  holds(outbox_size(outbox) == model->in - model->out, "size");
  holds(outbox_empty(outbox) == (model->in == model->out), "empty where nothing waits");
  int count = outbox_parts(outbox, parts, PARTS_MAX);
  size_t at = model->out;
  for (int i = 0; i < count; i++) {
    holds(parts[i].iov_len > 0 && parts[i].iov_len <= model->in - at, "the size of a part");
    holds(memcmp(parts[i].iov_base, model->stream + at, parts[i].iov_len) == 0, "its bytes");
    at += parts[i].iov_len;
  }
  holds(at == model->in, "the parts are everything");
  check_parts(outbox, parts, count, 0);
  check_parts(outbox, parts, count, 1);
  check_parts(outbox, parts, count, count / 2);
  check_parts(outbox, parts, count, count);
}

/* The loans that are over, and no others, were given back. */
static inline void release(void *argument) {
  struct lender *lender = argument;
  struct model *model = lender->model;
  holds(lender->number == model->released, "loans are released in order, once");
  check_books(&model->outbox);
  holds(outbox_size(&model->outbox) == model->in - lender->end,
        "at a release the outbox holds what is behind the loan");
  model->released++;
  free(lender->data);
  free(lender);
}

/* ---- what is done to both ---- */

static inline int append(struct model *model, const void *data, size_t size) {
  ck_assert_uint_le(model->in + size, STREAM_BYTES);
  if (outbox_append(&pool, &model->outbox, data, size) == -1) {
    check(model);
    return -1;
  }
  memcpy(model->stream + model->in, data, size);
  model->in += size;
  check(model);
  return 0;
}

static inline int lend(struct model *model, const void *data, size_t size) {
  ck_assert_uint_le(model->in + size, STREAM_BYTES);
  struct lender *lender = malloc(sizeof(*lender));
  ck_assert_ptr_nonnull(lender);
  *lender = (struct lender){.model = model, .data = malloc(size), .end = model->in + size};
  ck_assert_ptr_nonnull(lender->data);
  memcpy(lender->data, data, size);
  lender->number = model->lent;
  struct loan loan = {lender->data, size, release, lender};
  if (outbox_lend(&pool, &model->outbox, &loan) == -1) {
    free(lender->data); /* still ours, so that a release would be seen as the second free */
    free(lender);
    check(model);
    return -1;
  }
  memcpy(model->stream + model->in, data, size);
  model->in += size;
  model->lent++;
  check(model);
  return 0;
}

static inline void consume(struct model *model, size_t size) {
  outbox_consume(&pool, &model->outbox, size);
  model->out += min_u64(size, model->in - model->out);
  check(model);
  if (model->in == model->out) {
    holds(model->released == model->lent, "nothing waits: all loans are released");
  }
}

static inline void drop(struct model *model) {
  outbox_release(&pool, &model->outbox);
  model->out = model->in;
  check(model);
  ck_assert_uint_eq(model->released, model->lent);
}

static inline void model_fini(struct model *model) {
  drop(model);
  free(model->stream);
}

#endif
