/* Ask another thread of the program, and answer when its reply arrives. */
#include <stdlib.h>
#include <xchg.h>

struct answer {
  size_t size;
  char text[64];
};

/* Answers by xchg_post. */
void ask(uint64_t id, const void *question, size_t size);

void on_answer(struct xchg_conn *conn, void *argument) {
  struct answer *answer = argument;
  if (conn != NULL) {
    xchg_send(conn, answer->text, answer->size);
    xchg_resume(conn);
  }
  free(answer);
}

void on_message(struct xchg_conn *conn,
                const struct xchg_message *message) {
  xchg_pause(conn);
  ask(xchg_id(conn), message->data, message->size);
}
