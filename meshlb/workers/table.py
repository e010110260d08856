"""The stick table of a worker: it reads the member's store by itself and asks for the rest.

Owns the claims that wait for an answer, and what the member has said beyond its store. Implements
`meshlb.core.sticky.table.StickTable`. Must not know sockets: it puts messages, and is told answers.

What keeps it as good as the member's own table:

- The member commits before it answers, so whatever a worker was told is in the store by then, and
  the next look-up of every worker sees it.
- A pin that the member routes by and does not keep, an override, is followed here for `TOLD_S`;
  then the member is asked again.
- While the member cannot write its store it is asked about every key.
- A worker's own new pins are in its clients' cookies before they are in the store.
"""

import itertools
from collections.abc import Callable
from typing import Final, Protocol

from meshlb.core.sticky.lifetime import fresh, touched
from meshlb.core.sticky.merge import same_pin
from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.errors import NoQuorumError, WorkerError
from meshlb.model import NodeName, SessionKey
from meshlb.net.calling_back import answer_of
from meshlb.wire.messages import Rank
from meshlb.workers.messages import Answer, Claim, Message, Plant, Touch, pack_proposal, unpack_pin
from meshlb.workers.tally import WorkerTally

CLAIMS_WAITING_MAX: Final = 65_536
"""Claims without an answer yet; one more is refused, and its client gets 503."""

TOLD_S: Final = 5.0
"""How long an override is followed without asking again."""

TOLD_KEYS_MAX: Final = 16_384
"""Overrides that are remembered; with one more all are forgotten."""

TOUCHED_KEYS_MAX: Final = 16_384
"""Uses that are told once only; with one more, told keys may be told again."""

TOUCH_AGAIN_S: Final = 1.0
"""A use that the member was told of is in its store by then."""

WORDS_WAITING_BYTES_MAX: Final = 256 << 10
"""While so much waits for the member, it is told of claims alone: of what comes again otherwise,
a pin with its cookie and a use with the next one, it would only learn late, and of claims too."""

OnDone = Callable[[Pin | NoQuorumError], None]


class Reader(Protocol):
    """The store, see `meshlb.store.reading.PinReader`."""

    def get(self, key: SessionKey) -> Pin | None:
        """The record of `key`, whatever it is."""
        ...


class WorkerTable:
    """One per worker."""

    def __init__(
        self,
        reader: Reader,
        put: Callable[[Message], None],
        *,
        waiting_bytes: Callable[[], int],
        now: Callable[[], float],
        is_degraded: Callable[[], bool],
        is_strict: bool,
        tally: WorkerTally,
    ) -> None:
        """Wire.

        Args:
            reader: of the member's store.
            put: sends a message to the member, or raises `WorkerError`.
            waiting_bytes: what was put and has not been sent yet.
            now: table time.
            is_degraded: whether the member cannot write its store.
            is_strict: see `StickTable`.
            tally: told of what was refused or dropped.
        """
        self._reader = reader
        self._put = put
        self._waiting_bytes = waiting_bytes
        self._now = now
        self._is_degraded = is_degraded
        self._tally = tally
        self._tokens = itertools.count()
        self._waiting: dict[int, tuple[SessionKey, OnDone]] = {}
        self._told: dict[SessionKey, tuple[Pin, Pin | None, float]] = {}
        self._touched: dict[SessionKey, float] = {}
        self.is_strict = is_strict

    def look_up(self, key: SessionKey, now: float) -> Pin | None:
        """The pin of `key` that lives at `now`, without a word to the member."""
        if self._is_degraded():
            return None
        pin = self._reader.get(key)
        if self._told and (told := self._told.get(key)) is not None:
            override, stored, until = told
            if now < until and pin == stored:
                return override
            del self._told[key]
        if pin is None or pin.expires_at <= now or not pin.backend:
            return None
        if self.is_strict and pin.rank is Rank.PROVISIONAL:
            return None
        return pin

    def claim_soon(self, proposal: Proposal, on_done: OnDone) -> None:
        """Has the member agree with the cluster, and gives the pin to `on_done`."""
        if len(self._waiting) >= CLAIMS_WAITING_MAX:
            self._tally.claims_refused += 1
            on_done(NoQuorumError("too many sessions begin at once"))
            return
        token = next(self._tokens)
        try:
            self._put(Claim(token, pack_proposal(proposal)))
        except WorkerError as error:
            self._tally.claims_refused += 1
            on_done(NoQuorumError(str(error)))
        else:
            self._waiting[token] = (proposal.key, on_done)

    async def claim(self, proposal: Proposal) -> Pin:
        """The same for a task."""
        return await answer_of(lambda take: self.claim_soon(proposal, take))

    def answered(self, answer: Answer) -> None:
        """The member has answered a claim."""
        key, on_done = self._waiting.pop(answer.token)
        if answer.pin is None:
            on_done(NoQuorumError(answer.reason))
            return
        pin = unpack_pin(answer.pin)
        self._note_override(key, pin)
        on_done(pin)

    def _note_override(self, key: SessionKey, pin: Pin) -> None:
        """What the member says and does not keep would be asked for with each request."""
        if self._is_degraded():
            return
        stored = self._reader.get(key)
        if stored is not None and same_pin(stored, pin):
            return
        if len(self._told) >= TOLD_KEYS_MAX:
            self._told.clear()
        self._told[key] = (pin, stored, min(pin.expires_at, self._now() + TOLD_S))

    def plant(self, proposal: Proposal, *, epoch: int | None = None) -> Pin:
        """Pins a key that nobody can be claiming; the member keeps it and tells the others."""
        assert epoch is not None or not self.is_strict
        now = self._now()
        known = self._reader.get(proposal.key)
        if known is not None and known.expires_at > now and known.epoch >= (epoch or 0):
            return known
        self._tell(Plant(pack_proposal(proposal), epoch))
        expires_at, ends_at = fresh(proposal, now)
        # Who made it and how firmly is for the member to say; here it is only followed.
        return Pin(
            proposal.pool,
            proposal.backend,
            proposal.by,
            epoch or 0,
            Rank.PROVISIONAL,
            0,
            NodeName(""),
            expires_at,
            ends_at,
        )

    def touch(self, key: SessionKey, pin: Pin, ttl_s: float) -> None:
        """Notes that `pin` was used now, once until that can be read in the store."""
        now = self._now()
        if touched(pin, ttl_s, now) is None or now < self._touched.get(key, 0.0):
            return
        if len(self._touched) >= TOUCHED_KEYS_MAX:
            self._touched.clear()
        self._touched[key] = now + TOUCH_AGAIN_S
        self._tell(Touch(key, pin.backend, pin.epoch, ttl_s))

    def _tell(self, message: Message) -> None:
        """What is lost here comes again: a pin with its cookie, a use with the next one."""
        if self._waiting_bytes() > WORDS_WAITING_BYTES_MAX:
            self._tally.words_dropped += 1
            return
        try:
            self._put(message)
        except WorkerError:
            self._tally.words_dropped += 1
