/*
 * outbox: see outbox.h.
 *
 * The cargos are a ring that `last` enters at its end, so that both ends are one step away and an
 * outbox costs a connection two pointers.  What belongs to the whole ring, its total, stands in the
 * last cargo and moves on when another is put behind it: a connection without loans pays nothing.
 *
 *   order of bytes = bytes, then for each cargo from last->next to last: loan, behind
 *   last->total    = sum over all cargos of loan.size + buf_size(behind)
 *   loan.size      > 0 in every cargo: a loan that is over has left the ring
 *   bytes, behind  = NULL where no byte waits, as every buf
 *
 * A loan is released after its cargo is out of the ring and back in the slab, so that whatever the
 * release function does, it finds the books in order.
 */
#include "net/outbox.h"

#include <assert.h>

static_assert(sizeof(struct cargo) == 64, "a loan costs a cache line: a group's send takes many");

int outbox_pool_init(struct outbox_pool *pool, struct buf_pool *bufs, uint32_t cargos_max) {
  pool->bufs = bufs;
  return slab_init(&pool->cargos, sizeof(struct cargo), cargos_max);
}

void outbox_pool_fini(struct outbox_pool *pool) { slab_fini(&pool->cargos); }

void outbox_pool_trim(struct outbox_pool *pool) { slab_trim(&pool->cargos); }

int outbox_append_behind(struct outbox_pool *pool, struct outbox *outbox, const void *data,
                         size_t size) {
  struct cargo *last = outbox->last;
  if (buf_append(pool->bufs, &last->behind, data, size) == -1) {
    return -1;
  }
  last->total += size;
  return 0;
}

/* Tell the lender that his bytes are his again. */
static void give_back(const struct loan *loan) {
  if (loan->release != NULL) {
    loan->release(loan->argument);
  }
}

int outbox_lend(struct outbox_pool *pool, struct outbox *outbox, const struct loan *loan) {
  if (loan->size == 0) {
    give_back(loan);
    return 0;
  }
  uint32_t slot;
  struct cargo *cargo = slab_alloc(&pool->cargos, &slot);
  if (cargo == NULL) {
    return -1;
  }
  *cargo =
      (struct cargo){.next = cargo, .loan = *loan, .total = loan->size, .count = 1, .slot = slot};
  struct cargo *last = outbox->last;
  if (last != NULL) {
    cargo->next = last->next;
    cargo->total += last->total;
    cargo->count += last->count;
    last->next = cargo;
  }
  outbox->last = cargo;
  return 0;
}

static struct iovec part_of(const void *data, size_t size) {
  /* iovec has no const because it serves reading too. */
  return (struct iovec){.iov_base = (void *)data, .iov_len = size};
}

int outbox_parts(const struct outbox *outbox, struct iovec *parts, int max) {
  int count = 0;
  if (outbox->bytes != NULL && count < max) {
    parts[count++] = part_of(buf_data(outbox->bytes), buf_size(outbox->bytes));
  }
  const struct cargo *cargo = outbox->last == NULL ? NULL : outbox->last->next;
  while (cargo != NULL && count < max) {
    parts[count++] = part_of(cargo->loan.data, cargo->loan.size);
    if (cargo->behind != NULL && count < max) {
      parts[count++] = part_of(buf_data(cargo->behind), buf_size(cargo->behind));
    }
    cargo = cargo == outbox->last ? NULL : cargo->next;
  }
  return count;
}

/* Take the first cargo, nothing being before it, out of the ring: what is behind it comes first. */
static void unload(struct outbox_pool *pool, struct outbox *outbox) {
  assert(outbox->bytes == NULL);
  struct cargo *last = outbox->last, *first = last->next;
  struct loan loan = first->loan;
  last->total -= loan.size + buf_size(first->behind);
  last->count--;
  outbox->bytes = first->behind;
  if (first == last) {
    assert(last->total == 0);
    outbox->last = NULL;
  } else {
    last->next = first->next;
  }
  slab_free(&pool->cargos, first->slot);
  give_back(&loan);
}

/* Drop up to ${size} bytes of the buf that comes first. Return: how many. */
static size_t consume_bytes(struct outbox_pool *pool, struct outbox *outbox, size_t size) {
  size_t taken = min_u64(size, buf_size(outbox->bytes));
  buf_consume(pool->bufs, &outbox->bytes, taken);
  return taken;
}

void outbox_consume_lent(struct outbox_pool *pool, struct outbox *outbox, size_t size) {
  size -= consume_bytes(pool, outbox, size);
  while (size > 0 && outbox->last != NULL) {
    struct loan *loan = &outbox->last->next->loan;
    if (size < loan->size) {
      loan->data = (const uint8_t *)loan->data + size;
      loan->size -= size;
      outbox->last->total -= size;
      return;
    }
    size -= loan->size;
    unload(pool, outbox);
    size -= consume_bytes(pool, outbox, size);
  }
}

void outbox_release(struct outbox_pool *pool, struct outbox *outbox) {
  buf_release(pool->bufs, &outbox->bytes);
  while (outbox->last != NULL) {
    unload(pool, outbox);
    buf_release(pool->bufs, &outbox->bytes);
  }
}
