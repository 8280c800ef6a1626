/*
 * held: a stage with one connection that its handler holds, for tests of what waits meanwhile.
 */
#ifndef TESTS_UNIT_HELD_H
#define TESTS_UNIT_HELD_H

#include "tests/unit/stage.h"

/* One connection whose messages pause it; their answers are posted. */
struct held {
  struct stage stage;
  int fd;
  uint64_t id;
};

static inline void answer(struct stage *stage, struct xchg_conn *conn) {
  (void)stage;
  ck_assert_int_eq(stage_lend(conn, "answer", 6), 0);
  ck_assert_int_eq(xchg_resume(conn), 0);
}

static inline void held_init(struct held *held) {
  stage_init(&held->stage);
  held->stage.rig.reply = RIG_SILENT;
  held->stage.acts[AT_MESSAGE] = stage_pause;
}

static inline void held_start(struct held *held, bool single) {
  stage_start(&held->stage, single);
  held->fd = stage_connect(&held->stage, &held->id);
}

static inline void held_put(struct held *held, const void *data, size_t size, bool ends) {
  ck_assert_int_eq(send(held->fd, data, size, 0), (ssize_t)size);
  if (ends) {
    ck_assert_int_eq(shutdown(held->fd, SHUT_WR), 0);
  }
  rig_settle(&held->stage.rig);
}

#define PUT(held, text) held_put(held, text, sizeof(text) - 1, false)
#define PUT_AND_END(held, text) held_put(held, text, sizeof(text) - 1, true)

static inline void answer_once(struct held *held) {
  stage_post(&held->stage, held->id, answer);
  RIG_GET(&held->stage.rig, held->fd, "answer");
}

static inline void got(const struct held *held, const char *want) {
  ck_assert_uint_eq(held->stage.rig.got_size, strlen(want));
  if (want[0] != 0) {
    ck_assert_mem_eq(held->stage.rig.got, want, strlen(want));
  }
}

static inline void held_fini(struct held *held, enum xchg_reason why) {
  rig_over(&held->stage.rig, why);
  close(held->fd);
  stage_fini(&held->stage);
}

static inline void stop(struct held *held) {
  struct rig *rig = &held->stage.rig;
  rig->host.stop_ns = rig->reactor.now_ns;
  conn_stop(&conn_find(&rig->host, held->id)->source);
  rig_settle(rig);
}

#endif
