/* acceptor_order: see acceptor_order.h. */
#include "pool/acceptor_order.h"

/* The acceptor does not touch ${order} afterwards. */
static void end(struct acceptor_order *order) {
  struct wake *wake = order->wake;
  atom_store_release_u32(&order->answered, 1); /* pairs with acceptor_order_answered */
  wake_signal(wake);
}

static void hold(struct acceptor_order *order, struct acceptor *acceptor) {
  acceptor_hold(acceptor);
  end(order);
}

/* It resumes later in this turn. */
static void release(struct acceptor_order *order, struct acceptor *acceptor) {
  acceptor->held = false;
  end(order);
}

/* It resumes later in this turn, with the listeners that are left, and ends as after a stop. */
static void leave(struct acceptor_order *order, struct acceptor *acceptor) {
  acceptor_hold(acceptor);
  acceptor->stop_ns = acceptor->reactor.now_ns;
  for (uint32_t i = 0; i < acceptor->setup.listeners_count; i++) {
    struct listener *listener = &acceptor->setup.listeners[i];
    if ((order->taken >> i & 1) != 0) {
      listener_abandon(listener);
    } else if (listener->fd != -1) {
      listener_stop(listener);
    }
  }
  acceptor->held = false;
  end(order);
}

static void adopt(struct acceptor_order *order, struct acceptor *acceptor) {
  struct conn_batch *batch = order->batch;
  acceptor->room = (uint32_t)sub_sat_u64(acceptor->room, order->count);
  for (uint32_t i = 0; batch != NULL && i < batch->count; i++) {
    struct conn_record *record = &batch->items[i].record;
    if (batch->items[i].wanted) {
      record->owned.ip_slot =
          admission_adopt(acceptor->setup.admission, &record->addr, record->proxied);
    }
  }
  end(order);
}

void acceptor_order_init(struct acceptor_order *order, struct wake *wake) {
  *order = (struct acceptor_order){.wake = wake, .what = ACCEPTOR_RELEASE};
  atom_store_relaxed_u32(&order->answered, 1);
}

void acceptor_order_send(struct acceptor_order *order, struct acceptor *acceptor,
                         enum acceptor_what what) {
  static void (*const runs[])(struct acceptor_order *, struct acceptor *) = {hold, release, leave,
                                                                             adopt};
  order->run = runs[what];
  order->what = what;
  order->task = (struct task){.kind = TASK_ORDER};
  atom_store_relaxed_u32(&order->answered, 0); /* the inbox publishes it */
  inbox_push_mpsc(&acceptor->inbox, &order->task);
}

bool acceptor_order_reach(struct acceptor_order *order, enum acceptor_what what) {
  if (order->acceptor != NULL && order->what != what && acceptor_order_answered(order)) {
    acceptor_order_send(order, order->acceptor, what);
  }
  return order->acceptor == NULL || (order->what == what && acceptor_order_answered(order));
}
