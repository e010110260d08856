/*
 * One member, and what the others believe of it: accusation, refutation, restart, farewell.
 *
 * The merge of reports and the subject's answers in meshlb (core/swim: member, membership) as a
 * model for Spin. See README.md for what is run, and spec/membership.md for the rules (M1, …)
 * that the steps are marked with.
 *
 * What is checked
 *   - what an observer knows only grows, and within one life, an incarnation of a boot, only
 *     from alive over suspect and dead to left (invariant 1);
 *   - nobody but the subject raises its incarnation (invariant 1);
 *   - whatever was said, heard and lost before: once nobody accuses any more, a live subject is
 *     alive, under its present boot, to everybody.
 *
 * The network is the set of all that was ever said. Anybody may hear any of it at any time, any
 * number of times, or never: loss, delay, reordering, duplication and relaying are all in this.
 * At an arbitrary moment calm sets in: what is on its way then is lost, nobody accuses any
 * more, and only what a node does for ever goes on: the subject and each observer talk.
 *
 * Switches: OBSERVERS (1 to 3) ACCUSATIONS (in all) RESTARTS (0 or 1) FAREWELL (the subject may
 * leave, and an operator may forget it); and the faults, each of which Spin must find:
 * ALIVE_OVERRIDES ACCUSER_RAISES SUBJECT_KEEPS NO_ANSWER DEAF_TO_THE_PAST.
 */

#ifndef OBSERVERS
#define OBSERVERS 2
#endif
#ifndef ACCUSATIONS
#define ACCUSATIONS 2
#endif
#ifndef RESTARTS
#define RESTARTS 1
#endif

/* A report is a number whose order is that of M1: incarnation, boot, state. */
#define ALIVE   0
#define SUSPECT 1
#define DEAD    2
#define LEFT    3
#define REPORT(incarnation, boot, state) (8 * (incarnation) + 4 * (boot) + (state))
#define STATE(r)       ((r) % 4)
#define LIFE(r)        ((r) / 4)
#define BOOT(r)        (LIFE(r) % 2)
#define INCARNATION(r) ((r) / 8)
#define REPORTS        64

byte said[REPORTS / 8];
#define SAID(r)   ((said[(r) / 8] >> ((r) % 8)) & 1)
#define SAY(r)    said[(r) / 8] = said[(r) / 8] | (1 << ((r) % 8))

byte own = 255;            /* what the subject says of itself; its state is ALIVE or LEFT */
byte known[OBSERVERS];     /* what each observer knows of it */
byte accusations, restarts;
byte highest;              /* ghost: the highest incarnation that the subject gave itself */
bool up, calm;
byte round;                /* observers that the calm subject has talked to without news */

inline proclaim(report) {  /* the subject says who it is */
  own = report;
  highest = (INCARNATION(own) > highest -> INCARNATION(own) : highest);
  SAY(own)
}

inline tell(report) {      /* an observer says what it knows, or an accusation */
  assert(INCARNATION(report) <= highest);                               /* M2 */
  SAY(report)
}

#ifdef ALIVE_OVERRIDES
#define IS_NEWS(r, o) ((r) > known[o] || (LIFE(r) == LIFE(known[o]) && STATE(r) == ALIVE && \
                       STATE(known[o]) == SUSPECT))
#else
#define IS_NEWS(r, o) ((r) > known[o])                                  /* M1 */
#endif

inline believe(who, what) {
  assert(LIFE(what) >= LIFE(known[who]));
  assert(LIFE(what) > LIFE(known[who]) || STATE(what) > STATE(known[who]));
  known[who] = what
}

inline hear_of_myself(heard) {
  if
#ifdef DEAF_TO_THE_PAST
  :: BOOT(heard) != BOOT(own) -> skip
#endif
#ifndef SUBJECT_KEEPS
  :: heard > own && (BOOT(heard) != BOOT(own) || STATE(heard) != ALIVE) ->
     proclaim(REPORT(INCARNATION(heard) + 1, BOOT(own), ALIVE))             /* M3 */
#endif
  :: else
  fi
}

#define IS_LIVE(o) (STATE(known[o]) == ALIVE || STATE(known[o]) == SUSPECT)

proctype observer(byte o) {
  byte r;
  do
  :: calm -> break
  :: atomic { !calm;                       /* hears of anything that was said */
       select(r : 0 .. REPORTS - 1);
       if
       :: SAID(r) && IS_NEWS(r, o) ->
          if
          :: believe(o, r)
          :: STATE(r) == DEAD && IS_LIVE(o) && IS_NEWS(r - 1, o) -> believe(o, r - 1)   /* M5 */
          :: STATE(r) == DEAD && IS_LIVE(o) && !IS_NEWS(r - 1, o) -> skip               /* M5 */
          fi
       :: else
       fi;
       r = 0 }
  :: atomic { !calm && STATE(known[o]) == ALIVE && accusations < ACCUSATIONS;
       accusations++;                                                   /* P1 */
#ifdef ACCUSER_RAISES
       believe(o, REPORT(INCARNATION(known[o]) + 1, BOOT(known[o]), SUSPECT));
#else
       believe(o, known[o] + SUSPECT);
#endif
       tell(known[o]) }
  :: atomic { !calm && STATE(known[o]) == SUSPECT;
       believe(o, known[o] + 1); tell(known[o]) }                       /* S2 */
#ifdef FAREWELL
  :: atomic { !calm && STATE(known[o]) == DEAD;
       believe(o, known[o] + 1); tell(known[o]) }                       /* forgotten */
#endif
  :: atomic { !calm; tell(known[o]) }                                   /* D1 D3 */
  od
}

/* The subject and an observer exchange packets, and nothing is lost (P2, C1). */
inline talk(with) {
  if
#ifndef NO_ANSWER
  :: STATE(known[with]) != ALIVE || BOOT(known[with]) != BOOT(own) ->         /* S3 */
     hear_of_myself(known[with]);
     if
     :: IS_NEWS(own, with) -> believe(with, own); round = 0
     :: else -> round++
     fi
#endif
  :: else -> round++
  fi
}

proctype subject() {
  byte r;
  do
  :: atomic { !calm && up;                 /* hears of anything that was said of itself */
       select(r : 0 .. REPORTS - 1);
       if
       :: SAID(r) -> hear_of_myself(r)
       :: else
       fi;
       r = 0 }
  :: atomic { !calm && up && restarts < RESTARTS;
       restarts++;                         /* its wall clock may have gone back */
       if
       :: proclaim(REPORT(INCARNATION(own) + 1, 1 - BOOT(own), ALIVE))
       :: proclaim(REPORT(INCARNATION(own), 1 - BOOT(own), ALIVE))
       :: INCARNATION(own) > 0 -> proclaim(REPORT(INCARNATION(own) - 1, 1 - BOOT(own), ALIVE))
       fi }
#ifdef FAREWELL
  :: atomic { !calm && up; SAY(own + LEFT); up = false }
  :: atomic { !calm && !up && restarts < RESTARTS;
       restarts++; up = true;
       proclaim(REPORT(INCARNATION(own), 1 - BOOT(own), ALIVE)) }
#endif
  :: atomic { !calm; calm = true }
  :: calm -> break
  od;
  atomic {
    r = 0;
    do
    :: up && round < OBSERVERS -> talk(r); r = (r + 1) % OBSERVERS
    :: else -> break
    od;
    r = 0;
    do
    :: up && r < OBSERVERS ->
       assert(STATE(known[r]) == ALIVE && BOOT(known[r]) == BOOT(own)); r++
    :: else -> break
    od
  }
}

init {
  byte o;
  atomic {
    up = true;
    if                     /* boot ids are random: the second may be the lesser one */
    :: proclaim(REPORT(1, 0, ALIVE))
    :: proclaim(REPORT(1, 1, ALIVE))
    fi;
    for (o : 0 .. OBSERVERS - 1) {
      known[o] = own
    }
    for (o : 0 .. OBSERVERS - 1) {
      run observer(o)
    }
    run subject()
  }
}
