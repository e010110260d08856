/*
 * One key: its home, its backup, and the views of its nodes while members come and go.
 *
 * The claim machine of meshlb (core/sticky: home, backup, held, recent, barrier) as a model for
 * Spin. Each step of the loop below is one event at one node, so every interleaving of events
 * is tried, with every delay of every stream. See README.md for what is run, and spec/pins.md
 * for the rules (A1, B2, …) that the steps are marked with.
 *
 * What is checked
 *   - agreement: all agreed pins of the key that enter any table, in one epoch, name one
 *     backend (invariant 4); hence a deposed home confirms nothing else (invariant 7);
 *   - survival: where nothing can happen any more, home and backup have the pin that was
 *     confirmed (invariant 5), whoever crashed or left; with EVERYWHERE all nodes have it.
 *   - no claim is stuck: then, too, nothing is being made any more.
 *
 * What is left out
 *   - All claimers. A claim for either of two backends may come to a home at any time and be
 *     given up at any time, which covers hedges, repeats, time-outs and lost answers. A held
 *     pin may be let go at any time, which covers hedged claims and the home's silence.
 *   - Epochs, lifetimes, tombstones, minority pins. NONE stands for no pin, and as well for the
 *     pin of an earlier epoch that the claims reject: both are made in the same way.
 *   - Gaps in a log and pulls: a stream brings every word from the beginning.
 *   - Broken streams: a word may be late for ever, but only a crash loses one. Reconnecting
 *     voids a mark (B4), which can only make a home wait.
 *   - The backup's objection by a provisional pin, which the home either takes up, as it might a
 *     claim for that backend, or has heard of when it proposes again (A6).
 *
 * Nodes are numbered in the rendezvous order of the key: of the owners, the lowest number is
 * home and the next one backup (O2). Which of them joins, crashes, leaves or is taken for dead
 * without reason is chosen by -D: with all choices, all orders are covered.
 *
 * Switches: N (nodes, 3 or 4) CAP (words in a stream) TRIES (proposals by each home)
 * JOINER CRASHER LEAVER SUSPECT (a node each) PROVISIONAL (homes without agreement tell
 * provisional pins) EVERYWHERE; and the faults, each of which Spin must find:
 * NO_CHECK NO_ACK NO_BARRIER FORGET_HELD FORGET_RECENT FORGET_PROPOSAL PROVISIONAL_OBJECTS
 * LATE_WORDS_STAY LEAVE_AT_ONCE.
 */

#ifndef N
#define N 3
#endif
#ifndef CAP
#define CAP 7
#endif
#ifndef TRIES
#define TRIES 2
#endif

#define NOBODY 7
#ifndef JOINER
#define JOINER NOBODY
#endif
#ifndef CRASHER
#define CRASHER NOBODY
#endif
#ifndef LEAVER
#define LEAVER NOBODY
#endif
#ifndef SUSPECT
#define SUSPECT NOBODY
#endif

/* Sets of nodes are masks; a view's id (V2) is the mask of its owners. */
#define ONE(i)     (1 << (i))
#define HAS(v, i)  (((v) >> (i)) & 1)
#define FIRST(v)   (((v) & 1) -> 0 : (((v) & 2) -> 1 : (((v) & 4) -> 2 : (((v) & 8) -> 3 : NOBODY))))
#define COUNT(v)   (((v) & 1) + (((v) >> 1) & 1) + (((v) >> 2) & 1) + (((v) >> 3) & 1))
#define HOME(v)    FIRST(v)                      /* O2 */
#define BACKUP(v)  FIRST((v) & ((v) - 1))        /* O2 */
#define IS_HOLDER(i) (HOME(owners[i]) == i || BACKUP(owners[i]) == i)
#define EVERYBODY  (ONE(N) - 1)
#define QUORATE(i) (2 * COUNT(owners[i]) > COUNT(counted[i]))   /* V3 */

/* Who may ever be home: the barrier of nobody else matters, so nobody else is sent marks. */
#define DEPARTURES ((JOINER < N) + (CRASHER < N) + (LEAVER < N) + (SUSPECT < N))
#define MAY_BE_HOME(i) ((i) <= DEPARTURES)

/* Pins: a backend's number is its provisional pin, FIRM of it the agreed one. The merge keeps the
 * greater (J1): agreed over provisional, and of two provisional ones that of backend 2. */
#define NONE       0
#define FIRM(b)    ((b) + 2)
#define AGREED(p)  ((p) > 2)
#define BACKEND(p) (((p) + 1) % 2 + 1)

/* Words: a byte each. */
#define MARK   0      /* + view */
#define DELTA  16     /* + pin */
#define ASK    32     /* + 8 * backend + request: Replicate */
#define DONE   64     /* + request: ReplicateAnswer … */
#define EXISTS 72     /* + 8 * pin + request */
#define FENCED 128    /* + request */

chan stream[N * N] = [CAP] of { byte };
#define STREAM(i, k) stream[(i) * N + (k)]

bool up[N];
byte owners[N];           /* the ownership view of each node */
byte counted[N];          /* members that have not left, for the quorum */
byte table[N];
byte held[N];             /* acknowledged as backup, not yet told by the home */
byte held_for[N];
byte stage[N];            /* of the making: */
#define IDLE     0
#define WAITING  1
#define PROPOSED 2
byte wanted[N];           /* the backend of the making */
byte request[N];
byte tried[N];            /* the backend last proposed, until it is known what became of it */
byte tried_after[N];      /* the requests above this number proposed it, */
byte unanswered[N];       /* so many of them are not answered, */
bool may_be_held[N];      /* and a backup holds it, or has named it */
byte marks[N * N];        /* the last view that each peer has marked */
byte told[N];             /* recent: who has told this node of the key */
byte doubt[N * N];        /* 0: never doubted, 1: taken for dead, 2: taken back */
bool joined, crashed, farewell, leaving, begun;
byte decided;             /* ghost: the backend of the agreed pins */
bool confirmed;           /* ghost: a claimer was told so */

hidden byte n, i, word, pin, number, known, changed, fenced;

#define MARKED(i, k) (!HAS(owners[i], k) || (i) == (k) || marks[(i) * N + (k)] == owners[i])
#ifdef NO_BARRIER
#define COMPLETE(i) true
#elif N > 3
#define COMPLETE(i) (MARKED(i, 0) && MARKED(i, 1) && MARKED(i, 2) && MARKED(i, 3))
#else
#define COMPLETE(i) (MARKED(i, 0) && MARKED(i, 1) && MARKED(i, 2))
#endif
#ifdef LEAVE_AT_ONCE
#define RETIRED(i) false
#else
#define RETIRED(i) (farewell && (i) == LEAVER)                          /* W1 */
#endif
#define MAY_MAKE(i) (HOME(owners[i]) == i && QUORATE(i) && COMPLETE(i) && !RETIRED(i) && \
                     request[i] < TRIES)                                /* A2 B2 */

/* A step may send three words on each stream; a node whose streams are full waits. */
#define FREE(i, k) ((i) == (k) || !up[k] || len(STREAM(i, k)) + 3 <= CAP)
#if N > 3
#define READY(i) (up[i] && FREE(i, 0) && FREE(i, 1) && FREE(i, 2) && FREE(i, 3))
#else
#define READY(i) (up[i] && FREE(i, 0) && FREE(i, 1) && FREE(i, 2))
#endif

inline send(from, to, what) {
  if
  :: up[to] -> STREAM(from, to)!what
  :: else
  fi
}

inline tell(from, what) {
  for (i : 0 .. N - 1) {
    if
    :: i != from && (what >= DELTA || MAY_BE_HOME(i)) -> send(from, i, what)
    :: else
    fi
  }
}

inline rest(at) {         /* nothing is being made here */
  stage[at] = IDLE;
  wanted[at] = 0
}

inline forget_trial(at) {
  tried[at] = 0;
  tried_after[at] = 0;
  unanswered[at] = 0;
  may_be_held[at] = false
}

inline lose_trial(at) {   /* all backups that were asked have refused it */
  if
  :: tried[at] && unanswered[at] == 0 && !may_be_held[at] -> forget_trial(at)
  :: else
  fi
}

inline try(at, backend) {
  if
  :: tried[at] != backend ->
     tried[at] = backend;
     tried_after[at] = request[at];
     unanswered[at] = 0;
     may_be_held[at] = false
  :: else
  fi
}

inline merge(at, new) {   /* J1; `changed` says whether the table did */
  changed = (new > table[at]);
  if
  :: changed ->
     if
     :: AGREED(new) ->
        assert(decided == 0 || decided == BACKEND(new));
        decided = BACKEND(new)
     :: else
     fi;
     table[at] = new
  :: else
  fi;
  if
  :: AGREED(table[at]) ->
     forget_trial(at);                                                  /* A9 */
     if
     :: stage[at] == WAITING -> rest(at)
     :: else
     fi
  :: else
  fi
}

inline announce(at, new) {
  merge(at, new);
  if
  :: changed -> printf("node %d tells of pin %d\n", at, new); tell(at, DELTA + new)
  :: else
  fi;
  changed = false
}

inline let_go(at) {       /* B6, B7: what is held counts from now on */
  pin = held[at];
  held[at] = 0;
  held_for[at] = 0;
  announce(at, pin);
  pin = 0
}

/* The view of `at` has changed: owners, or who is counted. */
inline enter(at) {
  printf("node %d enters view %d of %d\n", at, owners[at], counted[at]);
#ifdef FORGET_HELD
  held[at] = 0;
  held_for[at] = 0;
#else
  if
  :: held[at] -> let_go(at)                                             /* B6 */
  :: else
  fi;
#endif
#ifndef FORGET_RECENT
  if
  :: (told[at] & ~owners[at]) && table[at] -> tell(at, DELTA + table[at])   /* B8 */
  :: else
  fi;
#endif
  told[at] = told[at] & owners[at];
  tell(at, MARK + owners[at]);                                          /* B1 */
  if
  :: stage[at] && (HOME(owners[at]) != at || AGREED(table[at])) -> rest(at)
  :: stage[at] && HOME(owners[at]) == at && !AGREED(table[at]) -> stage[at] = WAITING   /* A8 */
  :: else
  fi
}

inline confirm(at) {      /* A5 */
  printf("node %d CONFIRMS backend %d\n", at, wanted[at]);
  confirmed = true;
  pin = FIRM(wanted[at]);
  rest(at);
  announce(at, pin);
  pin = 0
}

inline propose(at) {      /* A3; `wanted` is what the claim proposes */
  if
  :: table[at] -> wanted[at] = BACKEND(table[at])                       /* F4 */
  :: else
  fi;
#ifndef FORGET_PROPOSAL
  if
  :: tried[at] -> wanted[at] = tried[at]                                /* A9 */
  :: else
  fi;
#endif
  try(at, wanted[at]);
  number = BACKUP(owners[at]);
  if
  :: number == NOBODY -> confirm(at)
  :: else ->
     printf("node %d proposes backend %d to node %d\n", at, wanted[at], number);
     stage[at] = PROPOSED;
     request[at] = request[at] + 1;
     unanswered[at] = unanswered[at] + 1;
     send(at, number, ASK + 8 * wanted[at] + request[at]);
#ifdef NO_ACK
     confirm(at)
#endif
  fi;
  number = 0
}

inline give_up(at) {      /* F1: its claimers are served without agreement */
  printf("node %d gives up\n", at);
  pin = wanted[at];
  rest(at);
#ifdef PROVISIONAL
  if
  :: table[at] == NONE && tried[at] -> pin = tried[at]; announce(at, pin)   /* F3 */
  :: table[at] == NONE && !tried[at] -> announce(at, pin)
  :: else
  fi;
#endif
  pin = 0
}

#define FENCES(from, at) \
    (HOME(owners[at]) != from || BACKUP(owners[at]) != at || RETIRED(at))
#ifdef PROVISIONAL_OBJECTS
#define CONTRADICTS(known, backend) \
    (AGREED(known) && BACKEND(known) != (backend) || !AGREED(known) && (known) > (backend))
#else
#define CONTRADICTS(known, backend) (AGREED(known) && BACKEND(known) != (backend))
#endif

inline object(at, backend) {   /* `known`: what contradicts that backend here, if anything does */
  known = NONE;
  if
  :: CONTRADICTS(table[at], backend) -> known = table[at]
  :: !CONTRADICTS(table[at], backend) && CONTRADICTS(held[at], backend) -> known = held[at]
  :: else
  fi;
#ifndef FORGET_PROPOSAL
  if
  :: known == NONE && tried[at] && tried[at] != backend -> known = tried[at]
  :: else                                                               /* A9 */
  fi
#endif
}

inline asked(from, at) {  /* A4: the backup's check */
  pin = (word - ASK) / 8;
  number = (word - ASK) % 8;
  printf("node %d is asked to hold %d by node %d\n", at, pin, from);
#ifdef NO_CHECK
  known = NONE;
  fenced = false;
#else
  object(at, pin);
  fenced = FENCES(from, at);
#endif
  if
  :: fenced -> send(at, from, FENCED + number); known = NONE
  :: !fenced && known -> send(at, from, EXISTS + 8 * known + number)
  :: else -> send(at, from, DONE + number); known = FIRM(pin)
  fi;
  if
  :: AGREED(known) && known != table[at] -> held[at] = known; held_for[at] = from
  :: else
  fi;
  fenced = false;
  known = NONE;
  pin = 0;
  number = 0
}

#ifdef PROVISIONAL_OBJECTS
#define ADOPTS(at) true
#else
#define ADOPTS(at) (tried[at] == 0)
#endif

inline answered(from, at) {
  number = word % 8;
  if
  :: tried[at] && number > tried_after[at] ->                           /* A9 */
     unanswered[at] = unanswered[at] - 1;
     may_be_held[at] = may_be_held[at] || word < EXISTS
  :: else
  fi;
  if
  :: stage[at] == PROPOSED && number == request[at] && from == BACKUP(owners[at]) ->
     if
     :: word < EXISTS -> confirm(at)                                    /* A5 */
     :: word >= EXISTS && word < FENCED ->                              /* A6 */
        stage[at] = WAITING;
        pin = (word - EXISTS) / 8;
        lose_trial(at);
        if
        :: AGREED(pin) -> announce(at, pin)
        :: !AGREED(pin) && ADOPTS(at) -> try(at, pin); may_be_held[at] = true   /* A6 */
        :: else
        fi;
        pin = 0
     :: word >= FENCED -> stage[at] = WAITING                           /* A7 */
     fi;
     if
     :: stage[at] == WAITING && AGREED(table[at]) -> rest(at)
     :: else
     fi
  :: else                                                               /* A8 */
  fi;
  lose_trial(at);
  number = 0
}

inline told_of(from, at) {
  pin = word - DELTA;
  printf("node %d hears from node %d of pin %d\n", at, from, pin);
  if
  :: held[at] && held_for[at] == from && AGREED(pin) -> held[at] = 0; held_for[at] = 0   /* B5 */
  :: else
  fi;
#ifndef LATE_WORDS_STAY
  if
  :: !HAS(owners[at], from) || RETIRED(at) -> announce(at, pin)         /* B9 W1 */
  :: else -> merge(at, pin); told[at] = told[at] | ONE(from)
  fi;
#else
  merge(at, pin);
  told[at] = told[at] | ONE(from);
#endif
  changed = false;
  pin = 0
}

inline receive(from, at) {
  STREAM(from, at)?word;
  if
  :: word < DELTA -> marks[at * N + from] = word                        /* B3 */
  :: word >= DELTA && word < ASK -> told_of(from, at)
  :: word >= ASK && word < DONE -> asked(from, at)
  :: word >= DONE -> answered(from, at)
  fi;
  word = 0
}

inline drain(from, to) {
  do
  :: len(STREAM(from, to)) > 0 -> STREAM(from, to)?_
  :: else -> break
  od
}

inline stop(at) {         /* the process is gone, and with it all that was sent to it */
  up[at] = false;
  for (i : 0 .. N - 1) {
    drain(i, at)
  }
  rest(at);
  table[at] = NONE;
  held[at] = 0;
  held_for[at] = 0;
  forget_trial(at);
  request[at] = 0;
  told[at] = 0;
  owners[at] = 0;
  counted[at] = 0
}

/* What a node may do by itself. The backends are alike, so the first claim is for number 1. */
#define ACTS(i) \
  :: d_step { READY(i) && stage[i] == IDLE && MAY_MAKE(i) && !AGREED(table[i]); \
       wanted[i] = 1; begun = true; propose(i) }                        /* A1 */ \
  :: d_step { READY(i) && stage[i] == IDLE && MAY_MAKE(i) && !AGREED(table[i]) && begun; \
       wanted[i] = 2; propose(i) } \
  :: d_step { READY(i) && stage[i] == WAITING && MAY_MAKE(i); propose(i) } \
  :: d_step { READY(i) && stage[i] != IDLE; give_up(i) } \
  :: d_step { READY(i) && held[i]; printf("node %d lets go of %d\n", i, held[i]); let_go(i) } \
  PINS_ALONE(i)

#ifdef PROVISIONAL   /* F2: a claimer that nobody has answered */
#define PINS_ALONE(i) \
  :: d_step { READY(i) && stage[i] == IDLE && table[i] == NONE; begun = true; announce(i, 1) } \
  :: d_step { READY(i) && stage[i] == IDLE && table[i] == NONE && begun; announce(i, 2) }
#else
#define PINS_ALONE(i)
#endif

/* What a node hears, and what it learns of another one. */
#define LEARNS(k, i) \
  :: d_step { READY(k) && len(STREAM(i, k)) > 0; receive(i, k) } \
  :: d_step { READY(k) && i == JOINER && joined && !HAS(counted[k], i); \
       owners[k] = owners[k] | ONE(i); counted[k] = counted[k] | ONE(i); enter(k) } \
  :: d_step { READY(k) && i == CRASHER && crashed && HAS(owners[k], i); \
       owners[k] = owners[k] & ~ONE(i); enter(k) } \
  :: d_step { up[k] && i == CRASHER && crashed && len(STREAM(i, k)) > 0; drain(i, k); skip } \
  :: d_step { READY(k) && i == LEAVER && leaving && HAS(counted[k], i); \
       owners[k] = owners[k] & ~ONE(i); counted[k] = counted[k] & ~ONE(i); enter(k) } \
  :: d_step { READY(k) && (i == SUSPECT || k == SUSPECT) && HAS(owners[k], i) && \
       doubt[k * N + i] == 0; \
       doubt[k * N + i] = 1; owners[k] = owners[k] & ~ONE(i); enter(k) } \
  :: d_step { READY(k) && doubt[k * N + i] == 1 && HAS(counted[k], i) && !HAS(owners[k], i); \
       doubt[k * N + i] = 2; owners[k] = owners[k] | ONE(i); enter(k) }

/* Before it says that it leaves, a node lets go of what it holds and tells again what it was
 * told lately, and all peers have read its log (W1). */
#if N > 3
#define IS_READ(i) (len(STREAM(i, 0)) + len(STREAM(i, 1)) + len(STREAM(i, 2)) + len(STREAM(i, 3)) == 0)
#else
#define IS_READ(i) (len(STREAM(i, 0)) + len(STREAM(i, 1)) + len(STREAM(i, 2)) == 0)
#endif

init {
  d_step {
    for (n : 0 .. N - 1) {
      up[n] = true;
      owners[n] = EVERYBODY & ~(JOINER < N -> ONE(JOINER) : 0);
      counted[n] = owners[n]
    }
    for (n : 0 .. N * N - 1) {
      marks[n] = owners[0]
    }
    n = 0
  }
  do
  ACTS(0)
  ACTS(1)
  ACTS(2)
  LEARNS(0, 1)
  LEARNS(0, 2)
  LEARNS(1, 0)
  LEARNS(1, 2)
  LEARNS(2, 0)
  LEARNS(2, 1)
#if N > 3
  ACTS(3)
  LEARNS(0, 3)
  LEARNS(1, 3)
  LEARNS(2, 3)
  LEARNS(3, 0)
  LEARNS(3, 1)
  LEARNS(3, 2)
#endif
#if JOINER < N
  :: d_step { !joined && READY(JOINER);
       joined = true;
       owners[JOINER] = owners[JOINER] | ONE(JOINER);
       counted[JOINER] = counted[JOINER] | ONE(JOINER);
       enter(JOINER) }
#endif
#if CRASHER < N
  :: d_step { !crashed; printf("node %d crashes\n", CRASHER); crashed = true; stop(CRASHER) }
#endif
#if LEAVER < N
  :: d_step { !farewell && READY(LEAVER);
       farewell = true;
#ifndef LEAVE_AT_ONCE
       rest(LEAVER);
       if
       :: held[LEAVER] -> let_go(LEAVER)
       :: else
       fi;
       if
       :: told[LEAVER] && table[LEAVER] -> tell(LEAVER, DELTA + table[LEAVER])
       :: else
       fi;
#endif
       skip }
  :: d_step { farewell && !leaving && IS_READ(LEAVER) && tried[LEAVER] == 0;
       printf("node %d leaves\n", LEAVER); leaving = true }
  :: d_step { leaving && up[LEAVER]; printf("node %d is gone\n", LEAVER); stop(LEAVER) }
#endif
  :: else -> break
  od;
  skip;  /* Nothing can happen any more; unless streams are full, which is a bound of the model. */
  d_step {
    pin = 0;
    for (n : 0 .. N * N - 1) {
      pin = pin + len(stream[n])
    }
    for (n : 0 .. N - 1) {
      if
      :: pin == 0 && up[n] && (n != JOINER || joined) ->
         assert(stage[n] == IDLE || !QUORATE(n) || request[n] == TRIES);
#ifdef EVERYWHERE
         assert(!confirmed || AGREED(table[n]))
#else
         assert(!confirmed || AGREED(table[n]) || !IS_HOLDER(n))
#endif
      :: else
      fi
    }
  }
}
