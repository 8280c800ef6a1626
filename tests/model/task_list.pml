/*
 * task_list: the task list of pool/inbox.h, an intrusive list that any thread pushes to with
 * compare-and-swap and that its owner takes whole and reverses; and the sleep of the owner.
 *
 *   sender: task filled; newest loaded; next stored; compare-and-swap; exchange(&sleeping, 0)
 *   owner:  exchange(&newest, none); list reversed; tasks run; exchange(&sleeping, 1);
 *           second check; wait; exchange(&sleeping, 0)
 *
 * Each access is a step of its own.  Two senders with two tasks each fill and send a task again as
 * soon as it was run.  This is memory that malloc returns at the same address: a compare-and-swap
 * may succeed although the list was taken in between.
 *
 * Checked: the tasks of each sender arrive in order, complete, none lost, none twice; at rest all
 * were run.  LIVENESS: the list is empty again and again.
 *
 * Memory is sequentially consistent.  tests/explore checks the orders of C11.
 *
 * Mutants, each of which must fail:
 *   PLAIN_PUSH    a load and a store instead of the compare-and-swap
 *   PLAIN_TAKE    a load and a store instead of the exchange
 *   NEXT_LATE     the task is linked after it becomes visible
 *   FILLED_LATE   the task is filled after it becomes visible
 *   NOT_REVERSED  the tasks run newest first
 *   NEXT_AFTER    the owner reads the next pointer after it has returned the task
 *   NO_RECHECK    the owner sleeps without the second check
 *   WAKE_FIRST    the sender wakes the owner before it pushes
 */
#define SENDERS 2
#define OWN 2 /* tasks of one sender */
#ifndef SENDS
#define SENDS 3 /* sends of each sender */
#endif
#define TASKS (SENDERS * OWN)
#define NONE TASKS

byte next[TASKS];
byte filled[TASKS]; /* sequence number + 1; 0 = owned by the sender */
byte newest = NONE;
bit sleeping, edge;
byte sent, done; /* for the checks only */

inline wake(was) {
  d_step { was = sleeping; sleeping = 0 };
  if
  :: was == 1 -> edge = 1; was = 0
  :: else
  fi
}

proctype sender(byte self) {
  byte count, seen, task;
  bit was;
  do
  :: count == SENDS -> break
  :: count < SENDS ->
       task = self * OWN + count % OWN;
       filled[task] == 0; /* wait until it was run */
#ifndef FILLED_LATE
       filled[task] = count + 1;
#endif
#ifdef WAKE_FIRST
       wake(was);
#endif
       seen = newest;
       do
       :: skip;
#ifndef NEXT_LATE
          next[task] = seen;
#endif
#ifdef PLAIN_PUSH
          if
          :: newest == seen -> newest = task; break
          :: else -> seen = newest
          fi
#else
          if
          :: atomic { newest == seen -> newest = task }; break
          :: atomic { newest != seen -> seen = newest }
          fi
#endif
       od;
#ifdef NEXT_LATE
       next[task] = seen;
#endif
#ifdef FILLED_LATE
       filled[task] = count + 1;
#endif
       atomic { sent++; count++; task = 0; seen = 0 };
#ifndef WAKE_FIRST
       wake(was)
#else
       skip
#endif
  od
}

proctype owner() {
  byte list, task, reversed, done_of[SENDERS];
  bit was;
turn:
  reversed = NONE;
  if
  :: newest == NONE -> goto prepare_wait
  :: else
  fi;
#ifdef PLAIN_TAKE
  list = newest;
  newest = NONE;
#else
  d_step { list = newest; newest = NONE };
#endif
#ifdef NOT_REVERSED
  reversed = list;
#else
  do
  :: list == NONE -> break
  :: list != NONE ->
       task = next[list];
       next[list] = reversed;
       d_step { reversed = list; list = task }
  od;
#endif
  do
  :: reversed == NONE -> break
  :: reversed != NONE ->
#ifndef NEXT_AFTER
       task = next[reversed];
#endif
       d_step {
         assert(filled[reversed] == done_of[reversed / OWN] + 1);
         done_of[reversed / OWN]++;
         done++;
         filled[reversed] = 0
       };
#ifdef NEXT_AFTER
       task = next[reversed];
#endif
       reversed = task
  od;
  atomic { task = 0; list = 0 };

prepare_wait:
  skip;
  d_step { was = sleeping; sleeping = 1 };
#ifndef NO_RECHECK
  if
  :: newest != NONE -> goto finish_wait
  :: else
  fi;
#endif
end_wait:
  atomic { edge == 1 -> edge = 0 };
finish_wait:
  skip;
  d_step { was = sleeping; sleeping = 0; was = 0 };
  goto turn
}

init {
  atomic { run owner(); run sender(0); run sender(1) }
}

#ifdef LIVENESS
ltl all_done { []<> (sent == done) }
#else
/* No process can move. */
active proctype rest() {
end:
  timeout -> assert(sent == SENDERS * SENDS && done == sent)
}
#endif
