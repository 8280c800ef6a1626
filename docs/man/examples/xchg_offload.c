/* Answer a line with the size of the file that it names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xchg.h>

struct query {
  long long size;
  char path[];
};

static void look(void *argument) {
  struct query *query = argument;
  struct stat facts;
  query->size = -1;
  if (stat(query->path, &facts) == 0) {
    query->size = (long long)facts.st_size;
  }
}

static void answer(struct xchg_conn *conn, void *argument) {
  struct query *query = argument;
  char text[32];
  if (conn != NULL) {
    int length = snprintf(text, sizeof(text), "%lld\n", query->size);
    xchg_send(conn, text, (size_t)length);
  }
  free(query);
}

void on_message(struct xchg_conn *conn,
                const struct xchg_message *line) {
  size_t size = sizeof(struct query) + line->size + 1;
  struct query *query = calloc(1, size);
  if (query == NULL) {
    xchg_abort(conn);
    return;
  }
  memcpy(query->path, line->data, line->size);
  if (xchg_offload(conn, look, answer, query) == -1) {
    free(query);
    xchg_send(conn, "busy\n", 5);
  }
}
