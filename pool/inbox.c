/* inbox: see inbox.h, and sleep_flag.h for the protocol. */
#include "pool/inbox.h"

int inbox_open(struct inbox *inbox, uint32_t capacity) {
  *inbox = (struct inbox){.wake = {.fd = -1}};
  if (ring_open(&inbox->ring, capacity) == -1) {
    return -1;
  }
  if (wake_open(&inbox->wake) == -1) {
    ring_close(&inbox->ring);
    return -1;
  }
  return 0;
}

void inbox_close(struct inbox *inbox) {
  ring_close(&inbox->ring);
  wake_close(&inbox->wake);
}

int inbox_wake(struct inbox *inbox) {
  if (!sleep_flag_clear(&inbox->sleeping)) {
    return 0;
  }
  wake_signal(&inbox->wake);
  return 1;
}

int inbox_push_spsc(struct inbox *inbox, const struct accepted_conn *accepted) {
  if (ring_push_spsc(&inbox->ring, accepted) == -1) {
    return -1;
  }
  return inbox_wake(inbox);
}

void inbox_push_mpsc(struct inbox *inbox, struct task *task) {
  void *newest = atom_load_relaxed_ptr(&inbox->tasks);
  do {
    task->next = newest;
  } while (!atom_cas_release_ptr(&inbox->tasks, &newest, task)); /* pairs with inbox_take_all */
  (void)inbox_wake(inbox); /* only a connection's push counts the wakes */
}

struct task *inbox_take_list(struct inbox *inbox) {
  struct task *newest = atom_exchange_acquire_ptr(&inbox->tasks, NULL);
  struct task *oldest = NULL;
  while (newest != NULL) {
    struct task *next = newest->next;
    newest->next = oldest;
    oldest = newest;
    newest = next;
  }
  return oldest;
}
