/*
 * hand_off: ring, sleep and wake, the wait for room, and the stop (pool/inbox.h and what acceptor,
 * worker and admit do with it).
 *
 *   clients --backlog--> acceptor --ring--> worker        main --STOP--> worker, then acceptor
 *                        acceptor --LAST--> worker        friend --NOTE--> worker
 *                        worker --room--> acceptor     (a friend is any other thread)
 *
 * Modelled, each access a step of its own: the ring's indices and private copies; the letter lane
 * (a set, pushed by compare-and-swap, taken whole); `sleeping` of worker and acceptor and `wanted`
 * of admit, every write an exchange; the eventfd as an edge that a write sets and a return from
 * the kernel takes; waits that something else ends (a client, a socket event); bursts that a worker
 * drains bounded; a stop at any moment or never, clients that stay away for ever at any moment.
 *
 * The two index stores, plain stores in machine code, go through a store buffer each, as on x86:
 * the other side sees them later, at the latest at the writer's next locked instruction (exchange,
 * compare-and-swap).  All else is sequentially consistent; the orders of C11 are the business of
 * the explorer that runs the C code.
 *
 * Checked where nothing can move any more (process `rest`): everything accepted was taken, nobody
 * is left in the backlog, every letter was taken, after a stop all have ended.  That is the
 * absence of a lost wake-up: a sleeper with something inside would rest.  Assertions: order, no
 * loss, no duplicate, never more than the capacity inside.  With LIVENESS: again and again nothing
 * is waiting, under weak fairness.
 *
 * Mutants, each of which must fail:
 *   NO_RECHECK         the worker sleeps without the second look at the lanes
 *   ANNOUNCED_LATE     it looks at the lanes, and then announces that it sleeps
 *   EDGE_CLEARED       it empties the eventfd before it waits
 *   NO_LETTER_RECHECK  it looks at the ring only
 *   LOOK_SKIPPED       the acceptor looks for a sleeper at the first push of a burst only
 *   PLAIN_LOAD         ... with a plain load in place of the exchange
 *   PLAIN_ROOM         the worker does so when it has made room
 *   NO_ROOM_LOOK       it does not look for an acceptor that waits for room
 *   NO_ROOM_RECHECK    the acceptor waits for room without looking again
 *   PUSH_AFTER_LAST    LAST is sent at the stop, before the backlog is empty
 *   END_AT_STOP        the worker ends at STOP, as soon as its ring is empty
 *   END_UNLOOKED       the worker ends at LAST without looking at the ring after it took LAST
 */
#ifndef CAPACITY
#define CAPACITY 2
#endif
#ifndef GUESTS
#define GUESTS 3 /* clients that come at most */
#endif
#ifndef BURST
#define BURST 2 /* connections accepted before the acceptor looks at its letters again */
#endif
#ifndef SPURIOUS
#define SPURIOUS 1 /* how often something else ends the worker's wait: a socket, a timer */
#endif
#define TURN 2 /* guests taken in one turn of the worker */

/* Flags; ROOM is admit's `wanted`: the acceptor waits for room.  Its wake is the acceptor's. */
#define WORKER 0
#define ACCEPTOR 1
#define ROOM 2
#define OWNER(flag) (flag == WORKER -> WORKER : ACCEPTOR)

#define NOTE 1
#define STOP 2
#define LAST 4

byte slots[CAPACITY];
/* As the acceptor has stored it, as others see it; likewise head of the worker. */
byte tail, tail_memory;
byte head, head_memory;
byte letters[2];
bit sleeping[3], edge[2];

byte backlog;          /* clients that wait for accept */
bool closed;           /* the listener is shut: no further client */
byte pushed, taken;    /* ghosts, like all below */
bool stop_asked, worker_ended, acceptor_ended;

/* exchange(&sleeping[whose], value) by whoever stores ${own}, which becomes visible first. */
inline exchange(whose, value, was, memory, own) {
  d_step { memory = own; was = sleeping[whose]; sleeping[whose] = value }
}

/* Look for a sleeper and wake it: the exchange, then the write to the eventfd. */
inline look(whose, was, memory, own) {
  exchange(whose, 0, was, memory, own);
  if
  :: was == 1 -> edge[OWNER(whose)] = 1; was = 0
  :: else
  fi
}

/* The same as it must not be: a load that overtakes the store before it. */
inline look_plainly(whose) {
  if
  :: sleeping[whose] == 1 -> edge[OWNER(whose)] = 1
  :: else
  fi
}

inline send(whose, letter, was, memory, own) {
  d_step { memory = own; letters[whose] = letters[whose] | letter };
  look(whose, was, memory, own)
}

/* Store buffers empty themselves at any time, one store after the other. */
active proctype buffers() {
end:
  do
  :: d_step { tail_memory != tail -> tail_memory++ }
  :: d_step { head_memory != head -> head_memory++ }
  od
}

active proctype clients() {
  do
  :: atomic { backlog + pushed < GUESTS && !closed -> backlog++ }
  :: break /* nobody comes any more */
  od
}

#ifdef STOPS
active proctype main_thread() {
  bit was;
  byte nothing;
  if
  :: send(WORKER, STOP, was, nothing, nothing);
     send(ACCEPTOR, STOP, was, nothing, nothing);
     stop_asked = true
  :: true
  fi
}
#endif

#ifdef FRIEND
active proctype friend() {
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
#ifdef PUSH_AFTER_LAST
  bool said_last;
#endif
turn:
  skip;
  d_step {
    stop = stop || (letters[ACCEPTOR] & STOP) != 0;
    letters[ACCEPTOR] = 0; was = 0; burst = 0; head_seen = 0
  };
#ifdef PUSH_AFTER_LAST
  if
  :: stop && !said_last -> said_last = true; send(WORKER, LAST, was, tail_memory, tail)
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
       look_plainly(WORKER)
#else
#ifdef LOOK_SKIPPED
       if
       :: burst == 1 -> look(WORKER, was, tail_memory, tail)
       :: else
       fi
#else
       look(WORKER, was, tail_memory, tail)
#endif
#endif
  :: atomic { burst < BURST && backlog == 0 && stop -> closed = true }; goto last
  :: burst < BURST && backlog == 0 && !stop -> break
  od;
  exchange(ACCEPTOR, 1, was, tail_memory, tail);
  if
  :: letters[ACCEPTOR] == 0 ->
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
       :: letters[ACCEPTOR] == 0 -> atomic { edge[ACCEPTOR] == 1 -> edge[ACCEPTOR] = 0 }
       :: else
       fi;
       exchange(ACCEPTOR, 0, was, tail_memory, tail)
  :: else
  fi;
  exchange(ROOM, 0, was, tail_memory, tail);
  goto turn;

last:
#ifndef PUSH_AFTER_LAST
  send(WORKER, LAST, was, tail_memory, tail);
#endif
  acceptor_ended = true
}

active proctype worker() {
  bit was;
  byte tail_seen, count;
  bool last;
  byte spurious;
turn:
  skip;
#ifdef END_UNLOOKED
  tail_seen = tail_memory;
  if
  :: letters[WORKER] & LAST && head == tail_seen -> goto ended
  :: else
  fi;
#endif
  d_step {
#ifdef END_AT_STOP
    last = last || (letters[WORKER] & (STOP | LAST)) != 0;
#else
    last = last || (letters[WORKER] & LAST) != 0;
#endif
    letters[WORKER] = 0; was = 0; count = 0
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
       look_plainly(ROOM)
#else
#ifndef NO_ROOM_LOOK
       look(ROOM, was, head_memory, head)
#else
       skip
#endif
#endif
  :: count == 0 && last -> goto ended
  :: count == 0 && !last
  fi;
  if
  :: last -> goto turn /* nothing will wake it any more */
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
  :: head != tail_seen -> goto rouse
  :: else
  fi;
#ifndef NO_LETTER_RECHECK
  if
  :: letters[WORKER] != 0 -> goto rouse
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
rouse:
  exchange(WORKER, 0, was, head_memory, head);
  goto turn;

ended:
  worker_ended = true
}

#ifdef LIVENESS
ltl served { []<> (taken == pushed && backlog == 0) }
#else
/* Nothing moves any more: nobody may be waiting for anything. */
active proctype rest() {
end:
  timeout ->
    assert(taken == pushed);
    assert(backlog == 0);
    assert(worker_ended || letters[WORKER] == 0);
    assert(letters[ACCEPTOR] == 0);
    assert(!stop_asked || (acceptor_ended && worker_ended))
}
#endif
