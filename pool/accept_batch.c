/* accept_batch: see accept_batch.h. */
#include "pool/accept_batch.h"

#include "core/base.h"

#define PATIENCE_MIN 8
#define PATIENCE_MAX 1024

void accept_batch_init(struct accept_batch *batch) {
  *batch = (struct accept_batch){.size = 1, .patience = PATIENCE_MIN};
}

void accept_batch_adapt(struct accept_batch *batch, uint32_t found) {
  if (found < batch->size) {
    if (batch->probing) {
      batch->patience = (uint32_t)min_u64(batch->patience * 2, PATIENCE_MAX);
    }
    batch->size = found > 0 ? found : 1;
    batch->full = 0;
    batch->probing = false;
    return;
  }
  if (batch->probing) {
    batch->patience = PATIENCE_MIN;
    batch->probing = false;
  }
  if (++batch->full >= batch->patience) {
    batch->probing = batch->size < ACCEPT_BATCH_MAX;
    batch->size = (uint32_t)min_u64(batch->size * 2, ACCEPT_BATCH_MAX);
    batch->full = 0;
  }
}
