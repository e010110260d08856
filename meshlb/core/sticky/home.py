"""The home's role: one pin per key, confirmed once the backup holds it too.

Owns the pins that are being made here, and the claims that wait for them. Also answers hedged
claims, where this node is the backup and the home is silent. Must not know whose client asks.

What a claim meets:

    a live pin that it accepts ──────────────────────────────────────▶ EXISTS
    nothing, a rejected pin or a provisional one
      │ barrier incomplete ──▶ parked ── barrier complete ──▶ (again)
      ▼
    proposed to the backup ── DONE ──▶ stored, announced, DONE to the first, EXISTS to others
      │  ╲── EXISTS: the backup's pin is heeded ──▶ (again; as after FENCED if nothing changes)
      │   ╲─ FENCED, NOT_READY ── RETRY_S ──▶ proposed
      │ silence
      ▼
    answered without agreement (`fallback`), and agreed on later

A pin enters the table of the home only after the backup's answer, so nobody is routed by it
before. When the view changes, every waiting claim starts anew. What this node proposed as the
home of an older view may be held there, so it is remembered (`tried`) and proposed again.

Spec: protocol/spec/pins.md, "Claims".
"""

from dataclasses import replace

from meshlb.core.sticky.choosing import chosen, existing, is_last
from meshlb.core.sticky.events import Effect, Send, Stored
from meshlb.core.sticky.fallback import Fallback
from meshlb.core.sticky.makings import Making, Makings, Waiter
from meshlb.core.sticky.merge import same_pin
from meshlb.core.sticky.pin import (
    Pin,
    is_acceptable,
    pin_from_record,
    record_from_pin,
)
from meshlb.core.sticky.proposals import proposal_from_claim
from meshlb.core.sticky.replica import Replica
from meshlb.core.sticky.stamps import StampClock
from meshlb.core.sticky.standing import RETRY_S, ClaimCounters, Standing
from meshlb.core.sticky.tried import Tried
from meshlb.model import NodeName, SessionKey
from meshlb.wire.messages import (
    Claim,
    ClaimAnswer,
    PinRecord,
    Rank,
    Replicate,
    ReplicateAnswer,
    Verdict,
)

MAKING_TIMEOUT_S = 0.8
"""After this long a claim is answered without agreement; before its claimer gives up, so that
all claimers of a key get the same word."""

WAITERS_MAX = 16_384
"""Claims that wait here at a time; one beyond is answered NOT_READY."""


class Home:
    """The makings of this node."""

    def __init__(
        self,
        standing: Standing,
        replica: Replica,
        fallback: Fallback,
        tried: Tried,
        stamps: StampClock,
        counters: ClaimCounters,
    ) -> None:
        self._standing = standing
        self._replica = replica
        self._fallback = fallback
        self._tried = tried
        self._stamps = stamps
        self._counters = counters
        self._makings = Makings()

    def __len__(self) -> int:
        """Claims that wait here now."""
        return self._makings.waiting

    def claimed(self, sender: NodeName, claim: Claim, now: float, out: list[Effect]) -> None:
        """A claim has arrived, perhaps not for the first time."""
        making = self._makings.get(claim.key)
        if making is not None and (sender, claim.request) in making.waiters:
            return
        waiter = Waiter(sender, claim.request, proposal_from_claim(claim), claim.hedged)
        if not self._may_wait(waiter, now, out):
            return
        if making is None:
            self._decide(claim.key, [waiter], now, now + MAKING_TIMEOUT_S, out)
        elif now >= making.silent_at:
            self._serve_alone(claim.key, [waiter], now, out)
        else:
            self._makings.join(making, waiter)

    def _may_wait(self, waiter: Waiter, now: float, out: list[Effect]) -> bool:
        """Refuse a claim for which this node is no holder, or has no room."""
        home, backup = self._standing.holders(waiter.proposal.key)
        mine = self._standing.name
        if home != mine and not (backup == mine and waiter.is_hedged):
            self._counters.fenced += 1
            self._answer(waiter, Verdict.FENCED, None, now, out)
            return False
        if self._makings.waiting >= WAITERS_MAX:
            self._counters.overflowed += 1
            self._answer(waiter, Verdict.NOT_READY, None, now, out)
            return False
        return True

    def _decide(
        self,
        key: SessionKey,
        waiters: list[Waiter],
        now: float,
        deadline: float,
        out: list[Effect],
        *,
        refused: Pin | None = None,
    ) -> None:
        """Answer whom the table can answer, have a pin made for others; not `refused` at once."""
        known = self._replica.record(key, now)
        unanswered = []
        for waiter in waiters:
            pin = existing(known, waiter.proposal, self._standing, now)
            if pin is None:
                unanswered.append(waiter)
                continue
            if pin is not known:  # it lingered, and lives again
                known = pin
                self._store(key, pin, now, out)
            self._answer(waiter, Verdict.EXISTS, pin, now, out)
        if not unanswered:
            return
        home, backup = self._standing.holders(key)
        is_home = home == self._standing.name
        # The home may only be slow, and then its word comes as a delta: `learned`.
        is_elsewhere = home is not None and not is_home and self._standing.is_linked(home)
        if is_elsewhere or not self._standing.barrier.is_complete:
            self._makings.begin(key, unanswered, deadline)
        elif not is_home or is_last(self._replica.stored(key), unanswered[0].proposal, now):
            self._serve_alone(key, unanswered, now, out)
        else:
            pin = self._chosen(key, known, unanswered[0], now)
            if backup is None:
                self._confirm(key, pin, unanswered, now, deadline, out)
            else:
                making = self._makings.begin(key, unanswered, deadline)
                if refused is None or not same_pin(pin, refused):
                    self._propose(making, pin, backup, now, out)
                else:
                    self._prepare(making, pin, backup, now)
                    self._makings.look_at(making, min(now + RETRY_S, deadline))

    def _chosen(self, key: SessionKey, known: Pin | None, waiter: Waiter, now: float) -> Pin:
        return chosen(
            known,
            self._tried.get(key, now),
            waiter.proposal,
            waiter.sender,
            self._standing,
            stamp_ms=self._stamps.draw(now),
            now=now,
        )

    # Makings -----------------------------------------------------------------------------

    def _propose(
        self, making: Making, pin: Pin, backup: NodeName, now: float, out: list[Effect]
    ) -> None:
        self._prepare(making, pin, backup, now)
        self._replicate(making, now, out)

    def _prepare(self, making: Making, pin: Pin, backup: NodeName, now: float) -> None:
        making.pin = pin
        making.backup = backup
        making.silent_at = making.deadline
        if not self._standing.is_linked(backup):
            making.silent_at = min(making.deadline, now + self._standing.patience_s(backup))
        # A backup with a stream that is only slow may be answering hedged claims meanwhile: to
        # answer without it would give two backends to one key.
        self._makings.look_at(making, making.silent_at)

    def _replicate(self, making: Making, now: float, out: list[Effect]) -> None:
        assert making.pin is not None
        assert making.backup is not None
        if not self._standing.is_linked(making.backup):
            return  # with the next stream: `peer_fed`
        self._makings.asked(making, self._standing.next_request())
        life = self._standing.life(making.backup)
        self._tried.ask(making.key, making.pin, making.request, life, now)
        record = record_from_pin(making.key, making.pin, now=now)
        out.append(Send(making.backup, Replicate(making.request, self._standing.view_id, record)))

    def replicated(
        self, sender: NodeName, answer: ReplicateAnswer, now: float, out: list[Effect]
    ) -> None:
        """The backup has answered."""
        self._tried.answered(answer.request, answer.verdict)
        making = self._makings.by_request(answer.request)
        if making is None or sender != making.backup or making.pin is None:
            return
        key = making.key
        if answer.verdict is Verdict.DONE:
            waiters = self._makings.end(making)
            self._confirm(key, making.pin, waiters, now, making.deadline, out)
        elif answer.verdict is Verdict.EXISTS and answer.pin is not None:
            waiters = self._makings.end(making)
            self._heed(key, answer.pin, now, out)
            self._decide(key, waiters, now, making.deadline, out, refused=making.pin)
        else:
            # The backup lives, so the views will agree soon: worth the wait.
            if now < making.silent_at:
                making.silent_at = making.deadline
            self._makings.look_at(making, min(now + RETRY_S, making.deadline))

    def _heed(self, key: SessionKey, record: PinRecord, now: float, out: list[Effect]) -> None:
        """The backup knows another pin: take it over, or have it agreed on."""
        if record.key != key or not is_acceptable(record):
            return
        if record.rank is not Rank.PROVISIONAL:
            merged = self._replica.merge_record(record, now)
            if merged is not None:
                out.append(Stored(key, merged))
        if record.rank < self._standing.rank:
            pin = replace(pin_from_record(record, now=now), rank=self._standing.rank)
            self._tried.heed(key, pin, now)

    def _confirm(
        self,
        key: SessionKey,
        pin: Pin,
        waiters: list[Waiter],
        now: float,
        deadline: float,
        out: list[Effect],
    ) -> None:
        """Home and backup agree: tell everybody."""
        self._tried.settle(key)
        self._store(key, pin, now, out)
        if (winner := self._replica.stored(key)) is None or not same_pin(winner, pin):
            # A better one has come by another way, or nothing can follow what there is.
            self._replica.drop_override(key)
        elif waiters:
            self._answer(waiters.pop(0), Verdict.DONE, winner, now, out)
        if waiters:
            self._decide(key, waiters, now, deadline, out)

    def _serve_alone(
        self, key: SessionKey, waiters: list[Waiter], now: float, out: list[Effect]
    ) -> None:
        for waiter in waiters:
            known = self._replica.record(key, now)
            proposal, tried = waiter.proposal, self._tried.get(key, now)
            if tried is not None and not proposal.rejects(tried):
                proposal = replace(proposal, backend=tried.backend)
            pin = self._fallback.pin_alone(proposal, waiter.sender, now, out)
            is_known = known is not None and same_pin(known, pin)
            verdict = Verdict.EXISTS if is_known else Verdict.DONE
            self._answer(waiter, verdict, pin, now, out)

    # What else happens -------------------------------------------------------------------

    def learned(self, key: SessionKey, now: float, out: list[Effect]) -> None:
        """The table has changed at `key`: claims parked for it may have their answer."""
        making = self._makings.get(key)
        if making is not None and making.pin is None:
            self._decide(key, self._makings.end(making), now, making.deadline, out)

    def view_changed(self, now: float, out: list[Effect]) -> None:
        """Start every waiting claim anew under the new view."""
        self._start_anew(self._makings.all(), now, out)

    def barrier_completed(self, now: float, out: list[Effect]) -> None:
        """Start the parked claims anew."""
        parked = [making for making in self._makings.all() if making.pin is None]
        self._start_anew(parked, now, out)

    def _start_anew(self, makings: list[Making], now: float, out: list[Effect]) -> None:
        for making in makings:
            waiters = self._makings.end(making)
            admitted = [waiter for waiter in waiters if self._may_wait(waiter, now, out)]
            if admitted:
                self._decide(making.key, admitted, now, making.deadline, out)

    def peer_lost(self, peer: NodeName, now: float) -> None:
        """Do not wait long for the answers of `peer`."""
        for making in self._makings.all():
            is_hedged = making.pin is None and self._standing.holders(making.key)[0] == peer
            if making.backup == peer or is_hedged:
                making.silent_at = min(making.silent_at, now + self._standing.patience_s(peer))
                self._makings.hasten(making, making.silent_at)

    def peer_fed(self, peer: NodeName, now: float, out: list[Effect]) -> None:
        """What went to `peer` on an earlier stream may be lost, or never went: propose again."""
        mine = [m for m in self._makings.all() if m.backup == peer and m.pin is not None]
        self._start_anew([making for making in mine if not making.request], now, out)
        for making in mine:
            if making.request:
                self._replicate(making, now, out)

    def next_deadline(self) -> float | None:
        """When `handle_timer` has something to do."""
        return self._makings.next_deadline()

    def handle_timer(self, now: float, out: list[Effect]) -> None:
        """Propose again, or answer without agreement, as is due."""
        while (making := self._makings.pop_due(now)) is not None:
            if now >= making.deadline:
                self._serve_alone(making.key, self._makings.end(making), now, out)
            elif now >= making.silent_at:
                self._makings.look_at(making, making.deadline)
                self._serve_alone(making.key, self._makings.release(making), now, out)
            else:
                self._makings.look_at(making, making.silent_at)
                self._replicate(making, now, out)

    # Words -------------------------------------------------------------------------------

    def _store(self, key: SessionKey, pin: Pin, now: float, out: list[Effect]) -> None:
        merged = self._replica.merge(key, pin, now)
        if merged is not None:
            out.append(Stored(key, merged))

    def _answer(
        self, waiter: Waiter, verdict: Verdict, pin: Pin | None, now: float, out: list[Effect]
    ) -> None:
        record = None if pin is None else record_from_pin(waiter.proposal.key, pin, now=now)
        out.append(Send(waiter.sender, ClaimAnswer(waiter.request, verdict, record)))
