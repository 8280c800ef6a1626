/*
 * hand_off: the protocol of pool/inbox.h and its use by acceptor, worker and admission: ring, sleep
 * and wake, the wait for room, the stop.
 *
 *   clients --backlog--> acceptor --ring--> worker           main --DRAIN--> worker, then acceptor
 *                        acceptor --NO_MORE_CONNS--> worker  other sender --NOTE--> worker
 *                        worker --room--> acceptor
 *
 * Each access is a step of its own:
 *   - the indices of the ring and each side's copy of the other's index
 *   - the task list: a set, pushed by compare-and-swap, taken whole
 *   - the sleep flags of worker and acceptor and the room flag; every write is an exchange
 *   - the eventfd: an edge that a write sets and a return from the kernel takes
 *   - waits that something else ends: a client, a socket event
 *   - a stop at any moment or never; clients that stop coming at any moment
 *
 * The two index stores are plain stores in machine code, so each goes through a store buffer, as on
 * x86.  The other side sees them at the latest at the writer's next exchange or compare-and-swap.
 * All other memory is sequentially consistent.  tests/explore checks the orders of C11.
 *
 * Process `rest` checks the state in which no process can move: every accepted connection was
 * taken, the backlog is empty, every task was taken, and after a stop all have ended.  A lost
 * wake-up would leave something there.  Assertions check order, loss, duplicates and the capacity.
 * LIVENESS checks, under weak fairness, that nothing waits forever.
 *
 * Mutants, each of which must fail:
 *   NO_RECHECK           the worker sleeps without the second check of ring and tasks
 *   ANNOUNCED_LATE       the worker checks first and then announces that it sleeps
 *   EDGE_CLEARED         the worker clears the eventfd before it waits
 *   NO_TASK_RECHECK      the second check covers the ring only
 *   WAKE_SKIPPED         the acceptor wakes the worker at the first push of a burst only
 *   PLAIN_LOAD           the acceptor reads the sleep flag with a plain load, not an exchange
 *   PLAIN_ROOM           the worker reads the room flag that way
 *   NO_ROOM_WAKE         the worker does not wake an acceptor that waits for room
 *   NO_ROOM_RECHECK      the acceptor waits for room without a second check
 *   NO_MORE_CONNS_EARLY  NO_MORE_CONNS is sent at the stop, before the backlog is empty
 *   END_AT_DRAIN         the worker ends after DRAIN as soon as its ring is empty
 *   END_UNCHECKED        the worker ends at NO_MORE_CONNS without another check of the ring
 */
#ifndef CAPACITY
#define CAPACITY 2
#endif
#ifndef CONNS
#define CONNS 3 /* most clients */
#endif
#ifndef BURST
#define BURST 2 /* connections accepted before the acceptor takes its tasks again */
#endif
#ifndef SPURIOUS
#define SPURIOUS 1 /* how often a socket or a timer ends the worker's wait */
#endif
#define TURN 2 /* connections taken in one turn of the worker */

/* Flags.  ROOM: the acceptor waits for room; the wake is the acceptor's. */
#define WORKER 0
#define ACCEPTOR 1
#define ROOM 2
#define OWNER(flag) (flag == WORKER -> WORKER : ACCEPTOR)

#define NOTE 1
#define DRAIN 2
#define NO_MORE_CONNS 4

byte slots[CAPACITY];
/* tail as the acceptor stored it and as others see it; likewise head of the worker. */
byte tail, tail_memory;
byte head, head_memory;
byte tasks[2];
bit sleeping[3], edge[2];

byte backlog;          /* clients that wait for accept */
bool closed;           /* the listener is shut: no further client */
byte pushed, taken;    /* for the checks only, like all below */
bool stop_asked, worker_ended, acceptor_ended;

/* exchange(&sleeping[whose], value); the caller's store of ${own} becomes visible first. */
inline exchange(whose, value, was, memory, own) {
  d_step { memory = own; was = sleeping[whose]; sleeping[whose] = value }
}

/* Wake a sleeper: the exchange, then the write to the eventfd. */
inline wake(whose, was, memory, own) {
  exchange(whose, 0, was, memory, own);
  if
  :: was == 1 -> edge[OWNER(whose)] = 1; was = 0
  :: else
  fi
}

/* The mutant: a load that overtakes the store before it. */
inline wake_plain_load(whose) {
  if
  :: sleeping[whose] == 1 -> edge[OWNER(whose)] = 1
  :: else
  fi
}

inline send(whose, task, was, memory, own) {
  d_step { memory = own; tasks[whose] = tasks[whose] | task };
  wake(whose, was, memory, own)
}

/* Store buffers drain at any time, one store after the other. */
active proctype store_buffers() {
end:
  do
  :: d_step { tail_memory != tail -> tail_memory++ }
  :: d_step { head_memory != head -> head_memory++ }
  od
}

active proctype clients() {
  do
  :: atomic { backlog + pushed < CONNS && !closed -> backlog++ }
  :: break /* no further client */
  od
}

#ifdef STOPS
active proctype main_thread() {
  bit was;
  byte nothing;
  if
  :: send(WORKER, DRAIN, was, nothing, nothing);
     send(ACCEPTOR, DRAIN, was, nothing, nothing);
     stop_asked = true
  :: true
  fi
}
#endif

#ifdef OTHER_SENDER
active proctype other_sender() {
  bit was;
  byte nothing;
  if
  :: send(WORKER, NOTE, was, nothing, nothing)
  :: true
  fi
}
#endif

active proctype acceptor() {
  bit was;
  byte head_seen, burst;
  bool stop;
#ifdef NO_MORE_CONNS_EARLY
  bool sent_no_more_conns;
#endif
turn:
  skip;
  d_step {
    stop = stop || (tasks[ACCEPTOR] & DRAIN) != 0;
    tasks[ACCEPTOR] = 0; was = 0; burst = 0; head_seen = 0
  };
#ifdef NO_MORE_CONNS_EARLY
  if
  :: stop && !sent_no_more_conns ->
       sent_no_more_conns = true;
       send(WORKER, NO_MORE_CONNS, was, tail_memory, tail)
  :: else
  fi;
#endif
  do
  :: burst == BURST -> goto turn
  :: burst < BURST && backlog > 0 ->
       head_seen = head_memory;
       if
       :: tail - head_seen == CAPACITY -> goto wait_for_room
       :: else
       fi;
       d_step {
         backlog--; pushed++; slots[tail % CAPACITY] = pushed; tail++;
         assert(tail - head <= CAPACITY)
       };
       burst++;
#ifdef PLAIN_LOAD
       wake_plain_load(WORKER)
#else
#ifdef WAKE_SKIPPED
       if
       :: burst == 1 -> wake(WORKER, was, tail_memory, tail)
       :: else
       fi
#else
       wake(WORKER, was, tail_memory, tail)
#endif
#endif
  :: atomic { burst < BURST && backlog == 0 && stop -> closed = true }; goto no_more_conns
  :: burst < BURST && backlog == 0 && !stop -> break
  od;
  exchange(ACCEPTOR, 1, was, tail_memory, tail);
  if
  :: tasks[ACCEPTOR] == 0 ->
end_wait_for_clients:
       if
       :: atomic { edge[ACCEPTOR] == 1 -> edge[ACCEPTOR] = 0 }
       :: backlog > 0
       fi
  :: else
  fi;
  exchange(ACCEPTOR, 0, was, tail_memory, tail);
  goto turn;

wait_for_room:
  exchange(ROOM, 1, was, tail_memory, tail);
#ifndef NO_ROOM_RECHECK
  head_seen = head_memory;
#endif
  if
  :: tail - head_seen == CAPACITY ->
       exchange(ACCEPTOR, 1, was, tail_memory, tail);
       if
       :: tasks[ACCEPTOR] == 0 -> atomic { edge[ACCEPTOR] == 1 -> edge[ACCEPTOR] = 0 }
       :: else
       fi;
       exchange(ACCEPTOR, 0, was, tail_memory, tail)
  :: else
  fi;
  exchange(ROOM, 0, was, tail_memory, tail);
  goto turn;

no_more_conns:
#ifndef NO_MORE_CONNS_EARLY
  send(WORKER, NO_MORE_CONNS, was, tail_memory, tail);
#endif
  acceptor_ended = true
}

active proctype worker() {
  bit was;
  byte tail_seen, count;
  bool no_more_conns;
  byte spurious;
turn:
  skip;
#ifdef END_UNCHECKED
  tail_seen = tail_memory;
  if
  :: tasks[WORKER] & NO_MORE_CONNS && head == tail_seen -> goto ended
  :: else
  fi;
#endif
  d_step {
#ifdef END_AT_DRAIN
    no_more_conns = no_more_conns || (tasks[WORKER] & (DRAIN | NO_MORE_CONNS)) != 0;
#else
    no_more_conns = no_more_conns || (tasks[WORKER] & NO_MORE_CONNS) != 0;
#endif
    tasks[WORKER] = 0; was = 0; count = 0
  };
  do
  :: count == TURN -> break
  :: count < TURN && head == tail_seen ->
       tail_seen = tail_memory;
       if
       :: head == tail_seen -> break
       :: else
       fi
  :: count < TURN && head != tail_seen ->
       d_step {
         assert(slots[head % CAPACITY] == taken + 1); taken++; slots[head % CAPACITY] = 0; head++
       };
       count++
  od;
  if
  :: count > 0 ->
#ifdef PLAIN_ROOM
       wake_plain_load(ROOM)
#else
#ifndef NO_ROOM_WAKE
       wake(ROOM, was, head_memory, head)
#else
       skip
#endif
#endif
  :: count == 0 && no_more_conns -> goto ended
  :: count == 0 && !no_more_conns
  fi;
  if
  :: no_more_conns -> goto turn /* no further wake will come */
  :: else
  fi;
#ifndef ANNOUNCED_LATE
  exchange(WORKER, 1, was, head_memory, head);
#endif
#ifndef NO_RECHECK
  if
  :: head == tail_seen -> tail_seen = tail_memory
  :: else
  fi;
  if
  :: head != tail_seen -> goto finish_wait
  :: else
  fi;
#ifndef NO_TASK_RECHECK
  if
  :: tasks[WORKER] != 0 -> goto finish_wait
  :: else
  fi;
#endif
#endif
#ifdef ANNOUNCED_LATE
  exchange(WORKER, 1, was, head_memory, head);
#endif
#ifdef EDGE_CLEARED
  edge[WORKER] = 0;
#endif
end_wait:
  if
  :: atomic { edge[WORKER] == 1 -> edge[WORKER] = 0 }
  :: d_step { spurious < SPURIOUS -> spurious++ }
  fi;
finish_wait:
  exchange(WORKER, 0, was, head_memory, head);
  goto turn;

ended:
  worker_ended = true
}

#ifdef LIVENESS
ltl served { []<> (taken == pushed && backlog == 0) }
#else
/* No process can move: nothing may be waiting. */
active proctype rest() {
end:
  timeout ->
    assert(taken == pushed);
    assert(backlog == 0);
    assert(worker_ended || tasks[WORKER] == 0);
    assert(tasks[ACCEPTOR] == 0);
    assert(!stop_asked || (acceptor_ended && worker_ended))
}
#endif
