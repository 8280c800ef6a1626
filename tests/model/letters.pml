/*
 * letters: lane two of pool/inbox.h: an intrusive list that any thread pushes to with
 * compare-and-swap and that the owner takes whole, turned round; and the sleep behind it.
 *
 *   sender: letter filled; newest loaded; next stored; compare-and-swap; exchange(&sleeping, 0)
 *   owner:  exchange(&newest, none); the list walked and turned round; letters dealt with;
 *           exchange(&sleeping, 1); looked at once more; waits; exchange(&sleeping, 0)
 *
 * Modelled, each access a step of its own, with two senders of two letters each, which are filled
 * and sent again as soon as they have been dealt with (the memory of a letter that was freed comes
 * back at the same address: a compare-and-swap may succeed though the list was taken between).
 *
 * Checked: the letters of each sender come in order, none lost, none twice, none half filled; at
 * rest all were dealt with.  With LIVENESS: again and again nothing is on its way.
 *
 * Abstracted: memory is sequentially consistent; the orders are the explorer's business.
 *
 * Mutants, each of which must fail:
 *   PLAIN_PUSH    a load and a store in place of the compare-and-swap
 *   PLAIN_TAKE    a load and a store in place of the exchange
 *   NEXT_LATE     the letter is linked after it can be seen
 *   FILLED_LATE   ... and filled
 *   NOT_TURNED    the list is dealt with as it lies, newest first
 *   NEXT_AFTER    the next one is looked up after a letter was given back
 *   NO_RECHECK    the owner sleeps without the second look
 *   LOOK_FIRST    the sender looks for a sleeper before it has pushed
 */
#define SENDERS 2
#define OWN 2 /* letters of a sender */
#ifndef SENDS
#define SENDS 3 /* letters that each sends */
#endif
#define LETTERS (SENDERS * OWN)
#define NONE LETTERS

byte next[LETTERS];
byte filled[LETTERS]; /* sequence number + 1; 0 = the sender's, to be filled */
byte newest = NONE;
bit sleeping, edge;
byte sent, dealt; /* ghosts */

inline look(was) {
  d_step { was = sleeping; sleeping = 0 };
  if
  :: was == 1 -> edge = 1; was = 0
  :: else
  fi
}

proctype sender(byte self) {
  byte count, seen, letter;
  bit was;
  do
  :: count == SENDS -> break
  :: count < SENDS ->
       letter = self * OWN + count % OWN;
       filled[letter] == 0; /* dealt with, if it was sent before */
#ifndef FILLED_LATE
       filled[letter] = count + 1;
#endif
#ifdef LOOK_FIRST
       look(was);
#endif
       seen = newest;
       do
       :: skip;
#ifndef NEXT_LATE
          next[letter] = seen;
#endif
#ifdef PLAIN_PUSH
          if
          :: newest == seen -> newest = letter; break
          :: else -> seen = newest
          fi
#else
          if
          :: atomic { newest == seen -> newest = letter }; break
          :: atomic { newest != seen -> seen = newest }
          fi
#endif
       od;
#ifdef NEXT_LATE
       next[letter] = seen;
#endif
#ifdef FILLED_LATE
       filled[letter] = count + 1;
#endif
       atomic { sent++; count++; letter = 0; seen = 0 };
#ifndef LOOK_FIRST
       look(was)
#else
       skip
#endif
  od
}

proctype owner() {
  byte list, letter, turned, dealt_with[SENDERS];
  bit was;
turn:
  turned = NONE;
  if
  :: newest == NONE -> goto doze
  :: else
  fi;
#ifdef PLAIN_TAKE
  list = newest;
  newest = NONE;
#else
  d_step { list = newest; newest = NONE };
#endif
#ifdef NOT_TURNED
  turned = list;
#else
  do
  :: list == NONE -> break
  :: list != NONE ->
       letter = next[list];
       next[list] = turned;
       d_step { turned = list; list = letter }
  od;
#endif
  do
  :: turned == NONE -> break
  :: turned != NONE ->
#ifndef NEXT_AFTER
       letter = next[turned];
#endif
       d_step {
         assert(filled[turned] == dealt_with[turned / OWN] + 1);
         dealt_with[turned / OWN]++;
         dealt++;
         filled[turned] = 0
       };
#ifdef NEXT_AFTER
       letter = next[turned];
#endif
       turned = letter
  od;
  atomic { letter = 0; list = 0 };

doze:
  skip;
  d_step { was = sleeping; sleeping = 1 };
#ifndef NO_RECHECK
  if
  :: newest != NONE -> goto rouse
  :: else
  fi;
#endif
end_wait:
  atomic { edge == 1 -> edge = 0 };
rouse:
  skip;
  d_step { was = sleeping; sleeping = 0; was = 0 };
  goto turn
}

init {
  atomic { run owner(); run sender(0); run sender(1) }
}

#ifdef LIVENESS
ltl dealt_with_all { []<> (sent == dealt) }
#else
/* Nothing moves any more. */
active proctype rest() {
end:
  timeout -> assert(sent == SENDERS * SENDS && dealt == sent)
}
#endif
