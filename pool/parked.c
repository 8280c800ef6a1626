/* parked: see parked.h. */
#include "pool/parked.h"

#include "core/sys.h"

void parked_send(struct parked *parked, struct inbox *inbox, struct wake *wake, bool gone) {
  if (atom_load_acquire_u32(&parked->over) == 0) {
    return;
  }
  parked->task = (struct task){.kind = TASK_SETTLE};
  parked->wake = wake;
  parked->gone = gone;
  atom_store_relaxed_u32(&parked->over, 0); /* the inbox publishes it */
  inbox_push_mpsc(inbox, &parked->task);
}

bool parked_over(const struct parked *parked, const struct inbox *inbox) {
  return atom_load_acquire_u32(&parked->over) != 0 || /* pairs with parked_run */
         atom_load_relaxed_u32(&inbox->owner_ended) != 0;
}

void parked_return(const struct conn_owned *owned, struct admission *admission, atom_u32 *live) {
  sys_close(owned->fd);
  admission_release(admission, owned->ip_slot);
  atom_sub_release_u32(live, 1);
}

void parked_run(struct parked *parked, struct conn_ctx *ctx, struct admission *admission,
                atom_u32 *live) {
  struct wake *wake = parked->wake;
  const struct slab *slab = ctx->reactor->slab;
  conn_unsuspend(ctx); /* first: it registers what is not parked */
  for (uint32_t slot = 0; (slot = slab_next(slab, slot)) != SLAB_NONE; slot++) {
    struct xchg_conn *conn = conn_of(slab_at(slab, slot));
    if ((conn->state & CONN_PARKED) == 0) {
      continue;
    }
    if (parked->gone) {
      const struct conn_owned owned = conn_gone(conn);
      parked_return(&owned, admission, live);
    } else {
      conn_resume(conn);
    }
  }
  atom_store_release_u32(&parked->over, 1); /* pairs with parked_over */
  wake_signal(wake);
}
