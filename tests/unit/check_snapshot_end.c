/*
 * check_snapshot_end: walks that are refused, workers that are late or end, and an asker that
 * leaves, in every order.
 */
#include "tests/fixtures/snapshot_fixture.h"

static void expect_refusal(struct xchg_server *server, const char *text, int error) {
  const struct snapshot_query query = query_of(text);
  errno = 0;
  ck_assert_ptr_null(snapshot_start(server, &query, conn_at(0), on_ready));
  ck_assert_int_eq(errno, error);
}

START_TEST(test_refusals) {
  expect_refusal(&data, "worker=3", EINVAL);
  workers = 0; /* another model */
  expect_refusal(&data, "", ENOTSUP);
  workers = WORKERS;
  struct snapshot *snapshot = start_text("");
  expect_refusal(&data, "", EBUSY);
  for (uint32_t i = 0; i < WORKERS; i++) {
    run_worker(i, VISIT_BATCH);
    expect_refusal(&data, "", EBUSY);
  }
  ck_assert(run_asker()); /* finishes it */
  struct snapshot *other = start_text("worker=1");
  snapshot_free(snapshot);
  ck_assert_ptr_eq(data.walk, other);
  run_worker(1, VISIT_BATCH);
  snapshot_free(other); /* before the post arrives */
  ck_assert(run_asker());
  ck_assert_uint_eq(readies, 0);
}
END_TEST

/*
 * A worker that does not answer in time is missing, with all that it has seen, and gets no second
 * visit.  Once it has answered it takes part again.
 */
START_TEST(test_a_missing_worker) {
  struct snapshot *snapshot = start_text("n=1000");
  struct task *late = inbox_take_all(&inboxes[1]);
  ck_assert(!run_slice(1, late, 3));
  run_worker(0, VISIT_BATCH);
  run_worker(2, VISIT_BATCH);
  snapshot_finish(snapshot); /* the asker's timer */
  snapshot_finish(snapshot);
  ck_assert(!snapshot_is_missing(snapshot, 0));
  ck_assert(snapshot_is_missing(snapshot, 1));
  ck_assert(!snapshot_is_missing(snapshot, 2));
  ck_assert_uint_eq(snapshot_seen(snapshot), 2 * CLIENTS);
  char text[256];
  (void)snapshot_json(snapshot, text, sizeof(text));
  ck_assert_ptr_nonnull(memmem(text, sizeof(text), "\"missing\":[1]", 13));
  if (_i == 0) { /* the asker leaves before the answer comes */
    snapshot_free(snapshot);
    snapshot = NULL;
  }
  for (int again = 0; again < 2; again++) {
    struct snapshot *next = start_text("");
    run_worker(0, VISIT_BATCH);
    run_worker(2, VISIT_BATCH);
    ck_assert_ptr_null(inbox_take_all(&inboxes[1]));
    ck_assert(run_asker()); /* all that were asked have answered */
    ck_assert(snapshot_is_missing(next, 1));
    snapshot_free(next);
  }
  while (!run_slice(1, late, 3)) {
  }
  ck_assert_int_eq(run_asker(), _i == 1);
  ck_assert_uint_eq(readies, 1); /* of the walk in between: this one was finished */
  snapshot_free(snapshot);
  struct snapshot *last = start_text("");
  for (uint32_t i = 0; i < WORKERS; i++) {
    run_worker(i, VISIT_BATCH);
  }
  ck_assert(run_asker());
  ck_assert_uint_eq(snapshot_seen(last), WORKERS * CLIENTS);
  ck_assert(!snapshot_is_missing(last, 1));
  snapshot_free(last);
}
END_TEST

/* Workers that have ended before have no connections. If all have, the answer is empty. */
START_TEST(test_workers_that_have_ended) {
  for (uint32_t ended = 1; ended <= WORKERS; ended++) {
    atom_store_relaxed_u32(&inboxes[ended - 1].owner_ended, 1);
    struct snapshot *snapshot = start_text("");
    for (uint32_t i = ended; i < WORKERS; i++) {
      run_worker(i, VISIT_BATCH);
    }
    ck_assert(run_asker());
    ck_assert_uint_eq(snapshot_seen(snapshot), (WORKERS - ended) * CLIENTS);
    ck_assert(!snapshot_is_missing(snapshot, 0));
    snapshot_free(snapshot);
  }
}
END_TEST

/* The asker has closed when the post arrives. */
START_TEST(test_the_asker_has_closed) {
  struct snapshot *snapshot = start_text("");
  for (uint32_t i = 0; i < WORKERS; i++) {
    run_worker(i, VISIT_BATCH);
  }
  close(fds[0]);
  fixture_settle(); /* its on_close would do this: */
  snapshot_free(snapshot);
  uint32_t budget = 1;
  struct task *task = inbox_take_all(&inboxes[WORKERS]);
  if (_i == 0) {
    ck_assert(task_run(&fixture.ctx, &inboxes[WORKERS], task, &budget));
  } else {
    task_discard(task); /* the asker's server ends */
  }
  ck_assert_uint_eq(readies, 0);
  fds[0] = client_connect_id(&ids[0]);
}
END_TEST

/*
 * Every order of: the asker leaves, and each worker answers in two slices, is discarded after none
 * or one slice.  Each memory is freed once (the sanitizers and valgrind look), and a post is sent
 * only to an asker that was there when the last worker ended.
 */
START_TEST(test_every_order_of_the_ends) {
  enum { KINDS = 3 };
  for (uint32_t order = 0; order < 24 * KINDS * KINDS * KINDS; order++) {
    uint32_t rest = order % 24, kinds = order / 24, places[WORKERS + 1] = {0, 1, 2, 3};
    for (uint32_t i = WORKERS; i > 0; i--) { /* the permutation of this number */
      uint32_t j = rest % (i + 1), swap = places[i];
      rest /= i + 1;
      places[i] = places[j];
      places[j] = swap;
    }
    struct snapshot *snapshot = start_text("n=5");
    bool there = true;
    for (int at = 0; at <= WORKERS; at++) {
      uint32_t who = places[at], kind = kinds / (who == 0 ? 1 : who == 1 ? 3 : 9) % KINDS;
      if (who == WORKERS) {
        snapshot_free(snapshot);
        there = false;
        continue;
      }
      struct task *task = inbox_take_all(&inboxes[who]);
      bool done = kind != 0 && run_slice(who, task, CLIENTS / 2);
      ck_assert(!done);
      if (kind == 2) {
        ck_assert(run_slice(who, task, VISIT_BATCH));
      } else {
        task_discard(task);
        atom_store_relaxed_u32(&inboxes[who].visits, 0); /* it has ended with its inbox */
      }
      bool last = at == WORKERS || (at == WORKERS - 1 && places[WORKERS] == WORKERS);
      ck_assert_int_eq(run_asker(), last && there);
      ck_assert_uint_eq(readies, last && there);
      for (uint32_t i = 0; i < WORKERS && last && there; i++) {
        uint32_t its = kinds / (i == 0 ? 1 : i == 1 ? 3 : 9) % KINDS;
        ck_assert_int_eq(snapshot_is_missing(snapshot, i), its != 2);
      }
    }
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_refusals, 1},
      {test_a_missing_worker, 2},
      {test_workers_that_have_ended, 1},
      {test_the_asker_has_closed, 2},
      {test_every_order_of_the_ends, 1},
  };
  return run_suite_fixture("snapshot_end", tests, count_of(tests), snapshot_fixture_init,
                           snapshot_fixture_fini);
}
