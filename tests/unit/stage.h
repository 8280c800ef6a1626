/*
 * stage: a rig whose handler acts: in each of its callbacks, and in calls that are posted, it does
 * what the test says; for tests of what core/xchg.h lets a handler ask for.
 *
 * Posted calls and publications go through pool/mail, as a worker deals with them between turns.
 */
#ifndef TESTS_UNIT_STAGE_H
#define TESTS_UNIT_STAGE_H

#include "net/conn_call.h"
#include "pool/mail.h"
#include "tests/unit/rig.h"

#define STAGE_BUDGET 1024 /* of a slice of mail, as a worker's */

struct stage;

/* What the test does in a callback of ${conn}. */
typedef void act_fn(struct stage *stage, struct xchg_conn *conn);

enum place { AT_OPEN, AT_MESSAGE, AT_DRAIN, AT_TIMER, AT_CLOSE, PLACES };

struct stage {
  struct rig rig;          /* first */
  struct inbox inbox;      /* where its mail is counted */
  act_fn *acts[PLACES];    /* NULL = nothing */
  uint32_t count[PLACES];  /* how often each callback was called */
  void *script;            /* the test's own; borrows */
  uint32_t lent, released; /* stage_lend's loans, and how many of them are back */
  uint32_t kept, back;     /* ... without those that came back from the call itself */
  bool lending, copied;    /* that call is under way; it has given back */
  bool closed_first;       /* the last release came after an on_close */
};

static inline struct stage *stage_of(const struct xchg_conn *conn) {
  return container_of(rig_of(conn), struct stage, rig);
}

/* ---- the handler ---- */

static inline void stage_act(struct xchg_conn *conn, enum place place) {
  struct stage *stage = stage_of(conn);
  stage->count[place]++;
  if (stage->acts[place] != NULL) {
    stage->acts[place](stage, conn);
  }
}

static inline void stage_on_open(struct xchg_conn *conn) {
  rig_on_open(conn);
  stage_act(conn, AT_OPEN);
}

static inline void stage_on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  rig_on_message(conn, message);
  stage_act(conn, AT_MESSAGE);
}

static inline void stage_on_drain(struct xchg_conn *conn) {
  rig_holds(xchg_pending(conn) == 0, "on_drain where the kernel has taken everything");
  stage_act(conn, AT_DRAIN);
}

static inline void stage_on_timer(struct xchg_conn *conn) { stage_act(conn, AT_TIMER); }

static inline void stage_on_close(struct xchg_conn *conn, enum xchg_reason reason) {
  rig_on_close(conn, reason);
  stage_act(conn, AT_CLOSE);
}

/* ---- beginning and end ---- */

static inline void stage_init(struct stage *stage) {
  memset(stage, 0, sizeof(*stage));
  rig_init(&stage->rig);
  stage->rig.handler.on_open = stage_on_open;
  stage->rig.handler.on_message = stage_on_message;
  stage->rig.handler.on_drain = stage_on_drain;
  stage->rig.handler.on_timer = stage_on_timer;
  stage->rig.handler.on_close = stage_on_close;
}

/* The same with a handler that answers nothing by itself and does not heed the mark. */
static inline void stage_quiet(struct stage *stage) {
  stage_init(stage);
  stage->rig.reply = RIG_SILENT;
  stage->rig.long_bytes = (size_t)64 << 20;
}

static inline void stage_start(struct stage *stage, bool single) {
  rig_start(&stage->rig, single);
  ck_assert_int_eq(inbox_open(&stage->inbox, 2), 0);
}

/* Nothing is left: no loan, no membership, no mail. */
static inline void stage_fini(struct stage *stage) {
  struct rig *rig = &stage->rig;
  ck_assert_uint_eq(rig->opens, rig->closes);
  ck_assert_uint_eq(rig->host.outs.cargos.used, 0);
  ck_assert_uint_eq(rig->host.groups.members.used, 0);
  ck_assert_uint_eq(rig->host.groups.groups.used, 0);
  ck_assert_uint_eq(stage->lent, stage->released);
  ck_assert_ptr_null(rig->host.current);
  ck_assert_uint_eq(atom_load_relaxed_u32(&stage->inbox.mail), 0);
  inbox_close(&stage->inbox);
  rig_fini(rig);
}

/* ---- loans ---- */

struct stage_loan {
  struct stage *stage;
  uint32_t number; /* loans come back in the order in which they were made */
  uint32_t closes; /* connections that had ended when it was made */
  uint8_t bytes[];
};

static inline void stage_take_back(void *argument) {
  struct stage_loan *loan = argument;
  struct stage *stage = loan->stage;
  stage->copied = stage->lending; /* beyond CONN_SHARES, and of 0 bytes: at once */
  rig_holds(stage->copied || loan->number == stage->back++, "loans come back in order");
  stage->released++;
  loan->stage->closed_first = loan->stage->rig.closes > loan->closes;
  free(loan); /* whoever still reads it is seen by the sanitizers */
}

/*
 * Lend a copy of ${size} bytes to ${conn}, one at a time of the stage's connections.
 * Return: what xchg_send_ref says.
 */
static inline int stage_lend(struct xchg_conn *conn, const void *data, size_t size) {
  struct stage *stage = stage_of(conn);
  struct stage_loan *loan = malloc(sizeof(*loan) + size);
  ck_assert_ptr_nonnull(loan);
  *loan = (struct stage_loan){.stage = stage, .number = stage->kept, .closes = stage->rig.closes};
  memcpy(loan->bytes, data, size);
  stage->lent++;
  stage->lending = true;
  stage->copied = false;
  int result = xchg_send_ref(conn, loan->bytes, size, stage_take_back, loan);
  stage->lending = false;
  stage->kept += result == 0 && !stage->copied;
  if (result == -1) {
    stage->lent--;
    free(loan);
  }
  return result;
}

/* ---- mail ---- */

/* Deal with ${letter} to its end, slice by slice, with turns between them. */
static inline void stage_deal(struct stage *stage, struct letter *letter, uint32_t slice) {
  atom_add_relaxed_u32(&stage->inbox.mail, 1);
  for (;;) {
    uint32_t budget = slice;
    if (mail_deal(&stage->rig.host, &stage->inbox, letter, &budget)) {
      return;
    }
    rig_holds(budget == 0, "a slice ends where its budget is used up");
    rig_turn(&stage->rig, 0);
  }
}

/* A posted call, on its way. */
struct stage_post {
  struct stage *stage;
  act_fn *act;
  uint32_t *gone; /* counts the calls that found nobody; NULL = there must be somebody */
};

static inline void stage_called(struct xchg_conn *conn, void *argument) {
  struct stage_post *post = argument;
  if (conn == NULL) {
    ck_assert_ptr_nonnull(post->gone);
    (*post->gone)++;
  } else {
    ck_assert_ptr_eq(stage_of(conn), post->stage);
    post->act(post->stage, conn);
  }
  free(post);
}

/* Let ${act} be called for the connection ${id}; ${gone} counts where that has ended. */
static inline struct call *stage_call(struct stage *stage, uint64_t id, act_fn *act,
                                      uint32_t *gone) {
  struct stage_post *post = malloc(sizeof(*post));
  ck_assert_ptr_nonnull(post);
  *post = (struct stage_post){.stage = stage, .act = act, .gone = gone};
  struct call *call = call_create(id, stage_called, post);
  ck_assert_ptr_nonnull(call);
  return call;
}

/* Post ${act} to ${id}, who lives, and see it done. */
static inline void stage_post(struct stage *stage, uint64_t id, act_fn *act) {
  stage_deal(stage, &stage_call(stage, id, act, NULL)->letter, STAGE_BUDGET);
  rig_settle(&stage->rig);
}

/* Publish ${size} bytes to ${group}, in slices of ${slice} members. */
static inline void stage_publish(struct stage *stage, uint64_t group, const void *data, size_t size,
                                 uint32_t slice) { /* house-ok: a publication's three and how */
  struct issue *issue = issue_create(group, data, size, 1);
  ck_assert_ptr_nonnull(issue);
  struct letter *letter = issue_letter(issue, 0);
  issue_release(issue); /* the letter's share keeps it */
  stage_deal(stage, letter, slice);
}

/* ---- connections ---- */

/* The connection that was opened last. */
static inline struct xchg_conn *stage_newest(const struct stage *stage) {
  struct xchg_conn *newest = NULL;
  for (uint32_t slot = 0; (slot = slab_next(&stage->rig.slab, slot)) != SLAB_NONE; slot++) {
    struct source *source = slab_at(&stage->rig.slab, slot);
    if (source->generation == stage->rig.reactor.generation) {
      newest = conn_of(source);
    }
  }
  ck_assert_ptr_nonnull(newest);
  return newest;
}

/* Connect over UNIX sockets; the client's end is returned, what posts call it in ${*id}. */
static inline int stage_connect(struct stage *stage, uint64_t *id) {
  int fd = rig_connect(&stage->rig);
  *id = xchg_id(stage_newest(stage));
  return fd;
}

/* Wishes that most tests have. */
static inline void stage_pause(struct stage *stage, struct xchg_conn *conn) {
  (void)stage;
  ck_assert_int_eq(xchg_pause(conn), 0);
}

static inline void stage_resume(struct stage *stage, struct xchg_conn *conn) {
  (void)stage;
  ck_assert_int_eq(xchg_resume(conn), 0);
}

static inline void stage_finish(struct stage *stage, struct xchg_conn *conn) {
  (void)stage;
  ck_assert_int_eq(xchg_finish(conn), 0);
}

static inline void stage_abort(struct stage *stage, struct xchg_conn *conn) {
  (void)stage;
  ck_assert_int_eq(xchg_abort(conn), 0);
}

#endif
