/*
 * check_mail: what letters do to a worker's connections: calls, made once, and publications, sent
 * to the members of a group in slices; what becomes of those whom nobody deals with; and a real
 * worker with more mail than a turn takes.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/unit/stage.h"

#define GROUP UINT64_C(0xfeedfacecafe)
enum { MEMBERS = 20 };

/* ---- a group of clients ---- */

struct club {
  struct stage stage;
  int fds[MEMBERS];
  uint64_t ids[MEMBERS];
  enum xchg_slow slow;
};

static void join(struct stage *stage, struct xchg_conn *conn) {
  const struct club *club = container_of(stage, struct club, stage);
  ck_assert_int_eq(xchg_join(conn, GROUP, club->slow), 0);
}

static void club_start(struct club *club, enum xchg_slow slow) {
  stage_quiet(&club->stage);
  club->slow = slow;
  club->stage.acts[AT_OPEN] = join;
  stage_start(&club->stage, false);
  for (int i = 0; i < MEMBERS; i++) {
    club->fds[i] = stage_connect(&club->stage, &club->ids[i]);
  }
  rig_settle(&club->stage.rig);
}

static struct xchg_conn *member(const struct club *club, int i) {
  return conn_find((struct conn_host *)(uintptr_t)&club->stage.rig.host, club->ids[i]);
}

static uint64_t published(const struct club *club) {
  return atom_load_relaxed_u64(&club->stage.rig.stats.published);
}

static uint64_t skipped(const struct club *club) {
  return atom_load_relaxed_u64(&club->stage.rig.stats.skipped);
}

static void club_fini(struct club *club) {
  for (int i = 0; i < MEMBERS; i++) {
    close(club->fds[i]);
  }
  RIG_UNTIL(&club->stage.rig, club->stage.rig.slab.used == 0);
  stage_fini(&club->stage);
}

#define PUBLISH(club, text, slice) \
  stage_publish(&(club)->stage, GROUP, text, sizeof(text) - 1, slice)

/* Slices of every size reach everybody once, in order. */
START_TEST(test_publish) {
  struct club club;
  club_start(&club, XCHG_SLOW_SKIP);
  for (uint32_t slice = 1; slice <= MEMBERS + 1; slice++) {
    PUBLISH(&club, "one", slice);
    PUBLISH(&club, "two", slice);
    for (int i = 0; i < MEMBERS; i++) {
      RIG_GET(&club.stage.rig, club.fds[i], "onetwo");
    }
  }
  stage_publish(&club.stage, GROUP + 1, "x", 1, STAGE_BUDGET); /* to nobody */
  for (int i = 0; i < MEMBERS; i++) {
    rig_get_nothing(&club.stage.rig, club.fds[i]);
  }
  ck_assert_uint_eq(published(&club), 2 * MEMBERS * (MEMBERS + 1));
  ck_assert_uint_eq(skipped(&club), 0);
  club_fini(&club);
}
END_TEST

/*
 * Nothing, published, is nothing; and so much that each has a loan of it for a while is one copy.
 */
START_TEST(test_publish_sizes) {
  static char much[300000], got[300000];
  struct club club;
  club_start(&club, XCHG_SLOW_SKIP);
  PUBLISH(&club, "", 3);
  for (int i = 0; i < MEMBERS; i++) {
    rig_get_nothing(&club.stage.rig, club.fds[i]);
  }
  memset(much, 'm', sizeof(much));
  stage_publish(&club.stage, GROUP, much, sizeof(much), 3);
  memset(much, 'x', sizeof(much)); /* it was copied */
  rig_settle(&club.stage.rig);
  ck_assert_uint_lt(club.stage.rig.host.bufs.bytes, sizeof(much)); /* but not for each */
  for (int i = 0; i < MEMBERS; i++) {
    ck_assert_uint_eq(rig_get(&club.stage.rig, club.fds[i], got, sizeof(got)), sizeof(got));
    ck_assert(rig_all(got, sizeof(got), 'm'));
  }
  club_fini(&club);
}
END_TEST

/* No connection has ever joined anything, or none is left. */
START_TEST(test_publish_to_nobody) {
  struct stage stage;
  stage_quiet(&stage);
  stage_start(&stage, false);
  stage_publish(&stage, GROUP, "x", 1, 1);
  int fd = rig_connect(&stage.rig);
  stage_publish(&stage, GROUP, "x", 1, 1);
  ck_assert_int_eq(xchg_join(rig_conn(&stage.rig), GROUP, XCHG_SLOW_SKIP), 0);
  close(fd);
  rig_over(&stage.rig, XCHG_FINISHED);
  stage_publish(&stage, GROUP, "x", 1, 1);
  ck_assert_uint_eq(atom_load_relaxed_u64(&stage.rig.stats.published), 0);
  stage_fini(&stage);
}
END_TEST

/* ---- slow members ---- */

/*
 * Whose queue is over the mark misses it, and goes on, or is closed; a full one within it is not.
 */
START_TEST(test_slow_member) {
  static char queue[1000000];
  bool drops = _i == 1;
  struct club club;
  club_start(&club, drops ? XCHG_SLOW_DROP : XCHG_SLOW_SKIP);
  struct xchg_conn *slow = member(&club, 3), *full = member(&club, 4);
  ck_assert_int_eq(xchg_send(slow, queue, club.stage.rig.config.max_pending_bytes), 0);
  ck_assert_int_eq(xchg_send(full, queue, club.stage.rig.config.max_pending_bytes - 1), 0);
  PUBLISH(&club, "news", STAGE_BUDGET);
  ck_assert_uint_eq(skipped(&club), 1);
  ck_assert_uint_eq(published(&club), MEMBERS - 1);
  rig_settle(&club.stage.rig);
  for (int i = 0; i < MEMBERS; i++) {
    if (i != 3 && i != 4) {
      RIG_GET(&club.stage.rig, club.fds[i], "news");
    }
  }
  struct rig *rig = &club.stage.rig;
  size_t size = rig->config.max_pending_bytes;
  ck_assert_uint_eq(rig_get(rig, club.fds[4], queue, size + 3), size + 3);
  ck_assert_mem_eq(queue + size - 1, "news", 4);
  if (drops) {
    ck_assert_uint_eq(rig->closes, 1);
    ck_assert_uint_eq(rig_ended(rig, XCHG_WRITE), 1);
  } else {
    ck_assert_uint_eq(rig_get(rig, club.fds[3], queue, size), size);
    PUBLISH(&club, "more", STAGE_BUDGET); /* it has caught up */
    RIG_GET(rig, club.fds[3], "more");
  }
  club_fini(&club);
}
END_TEST

/* The policy is each member's own, and what it said last. */
START_TEST(test_policy_is_replaced) {
  static const char queue[300000];
  struct club club;
  club_start(&club, XCHG_SLOW_DROP);
  struct xchg_conn *conn = member(&club, 7);
  ck_assert_int_eq(xchg_join(conn, GROUP, XCHG_SLOW_SKIP), 0);
  ck_assert_int_eq(xchg_send(conn, queue, sizeof(queue)), 0);
  PUBLISH(&club, "news", STAGE_BUDGET);
  rig_settle(&club.stage.rig);
  ck_assert_uint_eq(club.stage.rig.closes, 0);
  ck_assert_uint_eq(skipped(&club), 1);
  ck_assert_int_eq(xchg_join(conn, GROUP, XCHG_SLOW_DROP), 0);
  ck_assert_int_eq(xchg_send(conn, queue, sizeof(queue)), 0);
  PUBLISH(&club, "news", STAGE_BUDGET);
  PUBLISH(&club, "news", STAGE_BUDGET); /* it is dropped once */
  rig_settle(&club.stage.rig);
  ck_assert_uint_eq(rig_ended(&club.stage.rig, XCHG_WRITE), 1);
  ck_assert_uint_eq(skipped(&club), 2);
  club_fini(&club);
}
END_TEST

/* Who is on its way out gets nothing, and is not counted as slow. */
START_TEST(test_members_that_end) {
  struct club club;
  club_start(&club, XCHG_SLOW_DROP);
  ck_assert_int_eq(xchg_finish(member(&club, 0)), 0);
  ck_assert_int_eq(xchg_abort(member(&club, 1)), 0);
  ck_assert_int_eq(xchg_leave(member(&club, 2), GROUP), 0);
  PUBLISH(&club, "news", STAGE_BUDGET);
  ck_assert_uint_eq(published(&club), MEMBERS - 3);
  ck_assert_uint_eq(skipped(&club), 0);
  rig_settle(&club.stage.rig);
  rig_get_end(&club.stage.rig, club.fds[0]);
  rig_get_end(&club.stage.rig, club.fds[1]);
  rig_get_nothing(&club.stage.rig, club.fds[2]);
  for (int i = 3; i < MEMBERS; i++) {
    RIG_GET(&club.stage.rig, club.fds[i], "news");
  }
  ck_assert_uint_eq(rig_ended(&club.stage.rig, XCHG_FINISHED), 1);
  ck_assert_uint_eq(rig_ended(&club.stage.rig, XCHG_ERROR), 1);
  club_fini(&club);
}
END_TEST

/* Between two slices members leave, end, join: each of the rest gets it, once. */
START_TEST(test_between_slices) {
  struct club club;
  club_start(&club, XCHG_SLOW_SKIP);
  struct rig *rig = &club.stage.rig;
  struct issue *issue = issue_create(GROUP, "news", 4, 1);
  ck_assert_ptr_nonnull(issue);
  struct letter *letter = issue_letter(issue, 0);
  issue_release(issue);
  atom_add_relaxed_u32(&club.stage.inbox.mail, 1);
  uint32_t budget = 5;
  ck_assert(!mail_deal(&rig->host, &club.stage.inbox, letter, &budget));
  ck_assert_uint_eq(budget, 0);
  ck_assert_uint_eq(published(&club), 5);
  bool leaves[MEMBERS] = {false}, closed[MEMBERS] = {false}, had[MEMBERS] = {false};
  for (int i = 0; i < MEMBERS; i++) {
    had[i] = xchg_pending(member(&club, i)) > 0;
    leaves[i] = i % 3 == _i;
    closed[i] = i % 3 == (_i + 1) % 3;
  }
  rig_settle(rig);
  for (int i = 0; i < MEMBERS; i++) {
    if (leaves[i]) {
      ck_assert_int_eq(xchg_leave(member(&club, i), GROUP), 0);
      if (i % 2 == 0) { /* joined again: not visited again */
        ck_assert_int_eq(xchg_join(member(&club, i), GROUP, XCHG_SLOW_SKIP), 0);
      }
    } else if (closed[i]) {
      ck_assert_int_eq(shutdown(club.fds[i], SHUT_WR), 0);
    }
  }
  rig_settle(rig);
  stage_deal(&club.stage, letter, 2);
  atom_sub_release_u32(&club.stage.inbox.mail, 1); /* stage_deal has counted it once more */
  rig_settle(rig);
  for (int i = 0; i < MEMBERS; i++) {
    if (had[i] || !(leaves[i] || closed[i])) {
      RIG_GET(rig, club.fds[i], "news");
    }
    if (!closed[i]) {
      rig_get_nothing(rig, club.fds[i]);
    }
  }
  club_fini(&club);
}
END_TEST

/* Who has as many loans as may be gets a copy: nobody else's are touched, nobody is closed. */
START_TEST(test_more_loans_than_a_share) {
  struct club club;
  club_start(&club, XCHG_SLOW_SKIP);
  struct rig *rig = &club.stage.rig;
  for (uint32_t i = 0; i < CONN_SHARES; i++) {
    rig_holds(xchg_send_ref(member(&club, 0), "x", 1, NULL, NULL) == 0, "there is room");
  }
  PUBLISH(&club, "news", STAGE_BUDGET);
  ck_assert_uint_eq(published(&club), MEMBERS);
  ck_assert_uint_eq(outbox_loans(&member(&club, 0)->out), CONN_SHARES);
  ck_assert_uint_eq(xchg_pending(member(&club, 0)), CONN_SHARES + 4);
  rig_settle(rig);
  ck_assert_uint_eq(rig_ended(rig, XCHG_MEMORY), 0);
  club_fini(&club);
}
END_TEST

/* A connection whose handler has paused it is sent to all the same. */
START_TEST(test_paused_members) {
  struct club club;
  club_start(&club, XCHG_SLOW_SKIP);
  for (int i = 0; i < MEMBERS; i++) {
    ck_assert_int_eq(xchg_pause(member(&club, i)), 0);
  }
  PUBLISH(&club, "news", 3);
  for (int i = 0; i < MEMBERS; i++) {
    RIG_GET(&club.stage.rig, club.fds[i], "news");
    ck_assert_int_eq(xchg_resume(member(&club, i)), 0);
  }
  club_fini(&club);
}
END_TEST

/* One connection in many groups gets of each, and leaves all with its end. */
START_TEST(test_many_groups) {
  struct club club;
  club_start(&club, XCHG_SLOW_SKIP);
  struct xchg_conn *conn = member(&club, 5);
  const uint64_t groups[] = {0, 1, UINT64_MAX, GROUP ^ 1};
  for (size_t i = 0; i < count_of(groups); i++) {
    ck_assert_int_eq(xchg_join(conn, groups[i], XCHG_SLOW_SKIP), 0);
    stage_publish(&club.stage, groups[i], (const char[]){(char)('a' + i)}, 1, 1);
  }
  RIG_GET(&club.stage.rig, club.fds[5], "abcd");
  ck_assert_int_eq(xchg_leave(conn, groups[1]), 0);
  stage_publish(&club.stage, groups[1], "x", 1, 1);
  stage_publish(&club.stage, groups[2], "y", 1, 1);
  RIG_GET(&club.stage.rig, club.fds[5], "y");
  club_fini(&club); /* which checks that no membership is left */
}
END_TEST

/* ---- calls ---- */

static void send_call(struct stage *stage, struct xchg_conn *conn) {
  char digit = (char)('0' + (*(int *)stage->script)++ % 10);
  ck_assert_int_eq(xchg_send(conn, &digit, 1), 0);
}

/* Each costs one of the budget and comes once, in order; to nobody with NULL. */
START_TEST(test_calls) {
  int number = 0;
  uint32_t gone = 0;
  struct stage stage;
  stage_quiet(&stage);
  stage.script = &number;
  stage_start(&stage, _i == 1);
  uint64_t id;
  int fd = stage_connect(&stage, &id);
  for (int i = 0; i < 10; i++) {
    uint32_t budget = 3;
    atom_add_relaxed_u32(&stage.inbox.mail, 1);
    struct call *call = stage_call(&stage, id, send_call, NULL);
    ck_assert(mail_deal(&stage.rig.host, &stage.inbox, &call->letter, &budget));
    ck_assert_uint_eq(budget, 2);
    ck_assert_int_eq(number, i + 1); /* at once */
  }
  RIG_GET(&stage.rig, fd, "0123456789");
  stage_deal(&stage, &stage_call(&stage, 0, send_call, &gone)->letter, 1);
  close(fd);
  rig_over(&stage.rig, XCHG_FINISHED);
  stage_deal(&stage, &stage_call(&stage, id, send_call, &gone)->letter, 1);
  fd = rig_connect(&stage.rig); /* in its slot */
  stage_deal(&stage, &stage_call(&stage, id, send_call, &gone)->letter, 1);
  ck_assert_uint_eq(gone, 3);
  ck_assert_uint_eq(atom_load_relaxed_u64(&stage.rig.stats.posts), 13);
  close(fd);
  RIG_UNTIL(&stage.rig, stage.rig.slab.used == 0);
  stage_fini(&stage);
}
END_TEST

/* To one that ends but is not gone: it is there, and takes nothing any more. */
static void refused(struct stage *stage, struct xchg_conn *conn) {
  (*(int *)stage->script)++;
  ck_assert_int_eq(xchg_send(conn, "x", 1), -1);
  ck_assert_int_eq(errno, EPIPE);
  ck_assert_int_eq(xchg_pause(conn), 0);
  ck_assert_int_eq(xchg_finish(conn), 0);
}

START_TEST(test_call_to_one_that_ends) {
  int calls = 0;
  uint32_t gone = 0;
  struct stage stage;
  stage_quiet(&stage);
  stage.rig.greeting = "unread";
  stage.script = &calls;
  stage_start(&stage, _i == 1);
  uint64_t id;
  int fd = stage_connect(&stage, &id);
  stage_post(&stage, id, stage_finish); /* drains: the greeting was not read */
  stage_deal(&stage, &stage_call(&stage, id, refused, &gone)->letter, 1);
  rig_settle(&stage.rig);
  ck_assert_int_eq(calls, 1);
  stage_deal(&stage, &stage_call(&stage, id, stage_abort, &gone)->letter, 1);
  stage_deal(&stage, &stage_call(&stage, id, refused, &gone)->letter, 1);
  ck_assert_int_eq(calls, 2); /* the turn that closes it comes */
  rig_over(&stage.rig, XCHG_ERROR);
  stage_deal(&stage, &stage_call(&stage, id, refused, &gone)->letter, 1);
  ck_assert_uint_eq(gone, 1);
  close(fd);
  stage_fini(&stage);
}
END_TEST

/* ---- what nobody deals with ---- */

START_TEST(test_discard) {
  uint32_t gone = 0;
  struct stage stage;
  stage_quiet(&stage);
  mail_discard(&stage_call(&stage, 1, send_call, &gone)->letter);
  struct call *offloaded = stage_call(&stage, 1, send_call, &gone);
  offloaded->offloaded = true;
  mail_discard(&offloaded->letter);
  ck_assert_uint_eq(gone, 2);
  /* In every order the last share frees it: whoever looks for leaks would find one. */
  for (int first = 0; first < 4; first++) {
    struct issue *issue = issue_create(GROUP, "news", 4, 3);
    ck_assert_ptr_nonnull(issue);
    struct letter *letters[3];
    for (uint32_t i = 0; i < 3; i++) {
      letters[i] = issue_letter(issue, i);
    }
    for (int i = 0; i < 4; i++) {
      int which = (first + i) % 4;
      if (which == 3) {
        issue_release(issue);
      } else {
        mail_discard(letters[which]);
      }
    }
  }
  issue_release(issue_create(GROUP, NULL, 0, 0));
}
END_TEST

START_TEST(test_full) {
  struct inbox inbox;
  ck_assert_int_eq(inbox_open(&inbox, 2), 0);
  ck_assert(!mail_full(&inbox));
  atom_store_relaxed_u32(&inbox.mail, MAIL_MAX - 1);
  ck_assert(!mail_full(&inbox));
  uint32_t gone = 0;
  struct stage stage;
  stage_quiet(&stage);
  struct call *call = stage_call(&stage, 1, send_call, &gone);
  mail_send(&inbox, &call->letter);
  ck_assert(mail_full(&inbox));
  ck_assert_ptr_eq(inbox_take(&inbox), &call->letter);
  ck_assert_ptr_null(inbox_take(&inbox));
  mail_discard(&call->letter);
  inbox_close(&inbox);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_publish, 1},
      {test_publish_sizes, 1},
      {test_publish_to_nobody, 1},
      {test_slow_member, 2},
      {test_policy_is_replaced, 1},
      {test_members_that_end, 1},
      {test_between_slices, 3},
      {test_more_loans_than_a_share, 1},
      {test_paused_members, 1},
      {test_many_groups, 1},
      {test_calls, 2},
      {test_call_to_one_that_ends, 2},
      {test_discard, 1},
      {test_full, 1},
  };
  return run_suite("mail", tests, count_of(tests));
}
