"""The claimer's role: ask the home, hedge to the backup, and serve the client in any case.

Owns the claims of this node's own clients: one attempt per key, however many clients wait for
it. Must not know how a home decides.

    asked ── a pin ─────────────────────────▶ done
      │ ╲─── FENCED, NOT_READY ── RETRY_S ──▶ asked
      │ silence for PATIENCE_S, PATIENCE_DOUBTED_S
      ▼
    hedged ─ a pin ─────────────────────────▶ done
      │ silence for REPEAT_S ───────────────▶ asked

and from either, after CLAIM_TIMEOUT_S, done on this node's own word (`fallback`). A provisional
pin is claimed again in the background, without a client, until home and backup agree on it.

Spec: protocol/spec/pins.md, "Claims".
"""

import dataclasses
import enum
from collections.abc import Collection

from meshlb.core.sticky.alarms import Alarms
from meshlb.core.sticky.events import ClaimDone, Effect, Send
from meshlb.core.sticky.fallback import Fallback
from meshlb.core.sticky.pin import (
    ClaimOutcome,
    Pin,
    Proposal,
    pin_from_record,
)
from meshlb.core.sticky.proposals import claim_from_proposal, proposal_from_pin
from meshlb.core.sticky.replica import Replica
from meshlb.core.sticky.standing import RETRY_S, ClaimCounters, Standing
from meshlb.model import NodeName, SessionKey
from meshlb.wire.messages import Claim, ClaimAnswer, Rank, Verdict

CLAIM_TIMEOUT_S = 1.0
"""After this long the client is served without agreement."""

REPEAT_S = 0.25
"""When to begin anew with the home after the backup was asked too."""

ATTEMPTS_MAX = 16_384
"""Keys being claimed at a time; a claim beyond is answered without agreement at once."""

WAITING_PER_KEY_MAX = 1_024
"""Clients that wait for one key; those beyond likewise."""


class _Step(enum.Enum):
    """What the alarm of an attempt does next."""

    ASK = enum.auto()
    HEDGE = enum.auto()


@dataclasses.dataclass(slots=True)
class _Attempt:
    request: int
    proposal: Proposal
    waiting: list[tuple[int, Proposal]]
    """Tokens; the first one's proposal is what is claimed. Empty: claimed in the background."""
    deadline: float
    home: NodeName | None = None
    step: _Step = _Step.ASK

    def claim(self, *, is_hedged: bool) -> Claim:
        """What to send to the home, or to the backup."""
        return claim_from_proposal(self.proposal, request=self.request, is_hedged=is_hedged)


class Claimer:
    """All attempts of this node."""

    def __init__(
        self, standing: Standing, replica: Replica, fallback: Fallback, counters: ClaimCounters
    ) -> None:
        self._standing = standing
        self._replica = replica
        self._fallback = fallback
        self._counters = counters
        self._attempts: dict[SessionKey, _Attempt] = {}
        self._keys: dict[int, SessionKey] = {}
        self._alarms = Alarms()

    def __len__(self) -> int:
        """Keys being claimed now."""
        return len(self._attempts)

    def start(self, token: int, proposal: Proposal, now: float, out: list[Effect]) -> None:
        """A client of this node needs a pin for `proposal.key`."""
        known = self._replica.record(proposal.key, now)
        if known is not None and known.expires_at > now:
            if known.is_tombstone:
                proposal = _past(proposal, known)
            elif not proposal.rejects(known):
                out.append(ClaimDone(token, known, _outcome(known, ClaimOutcome.HIT)))
                return
            else:
                self._replica.drop_override(proposal.key)
        attempt = self._attempts.get(proposal.key)
        if attempt is None and len(self._attempts) < ATTEMPTS_MAX:
            self._open(proposal, [(token, proposal)], now, out)
        elif attempt is not None and len(attempt.waiting) < WAITING_PER_KEY_MAX:
            attempt.waiting.append((token, proposal))
        else:
            self._counters.overflowed += 1
            self._serve_alone(proposal, [(token, proposal)], now, out)

    def _open(
        self,
        proposal: Proposal,
        waiting: list[tuple[int, Proposal]],
        now: float,
        out: list[Effect],
    ) -> None:
        attempt = _Attempt(self._standing.next_request(), proposal, waiting, now + CLAIM_TIMEOUT_S)
        self._attempts[proposal.key] = attempt
        self._keys[attempt.request] = proposal.key
        self._ask(attempt, now, out)

    def _ask(self, attempt: _Attempt, now: float, out: list[Effect]) -> None:
        home, backup = self._standing.holders(attempt.proposal.key)
        attempt.home = home
        attempt.step = _Step.ASK
        wait_s = CLAIM_TIMEOUT_S  # without owners: until the view has some
        if home is not None:
            out.append(Send(home, attempt.claim(is_hedged=False)))
            wait_s = REPEAT_S
            if backup is not None:
                attempt.step = _Step.HEDGE
                wait_s = self._standing.patience_s(home)
        self._alarms.set(attempt.proposal.key, min(now + wait_s, attempt.deadline))

    def _hedge(self, attempt: _Attempt, now: float, out: list[Effect]) -> None:
        _, backup = self._standing.holders(attempt.proposal.key)
        if backup is not None:
            self._counters.hedged += 1
            out.append(Send(backup, attempt.claim(is_hedged=True)))
        attempt.step = _Step.ASK
        self._alarms.set(attempt.proposal.key, min(now + REPEAT_S, attempt.deadline))

    # What happens to an attempt ----------------------------------------------------------

    def answered(self, answer: ClaimAnswer, now: float, out: list[Effect]) -> None:
        """The home or the backup has answered."""
        key = self._keys.get(answer.request)
        if key is None:
            return  # an answer to what is done already
        attempt = self._attempts[key]
        if answer.pin is None or answer.pin.key != key:
            attempt.step = _Step.ASK
            self._alarms.hasten(key, now + RETRY_S)
            return
        pin = pin_from_record(answer.pin, now=now)
        if pin.rank > Rank.PROVISIONAL:
            self._replica.merge_told(key, pin, now)
        elif _is_move(attempt.proposal):
            # An override of the answerer, and not for the table. A provisional pin that is for
            # the table comes as the answerer's delta.
            pin = self._replica.override(key, pin, now)
        self._finish(attempt, pin, now, out, is_made=answer.verdict is Verdict.DONE)

    def learned(self, key: SessionKey, now: float, out: list[Effect]) -> None:
        """The table has changed at `key`: perhaps there is nothing left to claim."""
        attempt = self._attempts.get(key)
        if attempt is None:
            return
        pin = self._replica.look_up(key, now)
        if pin is None or pin.rank < self._standing.rank or attempt.proposal.rejects(pin):
            return
        self._finish(attempt, pin, now, out, is_made=False)

    def view_changed(self, now: float, out: list[Effect]) -> None:
        """Ask the new homes."""
        for attempt in list(self._attempts.values()):
            if self._standing.holders(attempt.proposal.key)[0] != attempt.home:
                self._ask(attempt, now, out)

    def doubt(self, peers: Collection[NodeName], now: float) -> None:
        """Do not wait long for the answers of `peers`."""
        for key, attempt in self._attempts.items():
            home = attempt.home
            if home is not None and home in peers and attempt.step is _Step.HEDGE:
                self._alarms.hasten(key, now + self._standing.patience_s(home))

    def peer_fed(self, peer: NodeName, now: float, out: list[Effect]) -> None:
        """What went to `peer` on an earlier stream may be lost: ask again."""
        for attempt in list(self._attempts.values()):
            if attempt.home == peer:
                self._ask(attempt, now, out)

    def next_deadline(self) -> float | None:
        """When `handle_timer` has something to do."""
        return self._alarms.next()

    def handle_timer(self, now: float, out: list[Effect]) -> None:
        """Hedge, ask again or give up, as is due; claim provisional pins again."""
        while (key := self._alarms.pop_due(now)) is not None:
            attempt = self._attempts[key]
            if now >= attempt.deadline:
                self._forget(attempt)
                self._serve_alone(attempt.proposal, attempt.waiting, now, out)
            elif attempt.step is _Step.HEDGE:
                self._hedge(attempt, now, out)
            else:
                self._ask(attempt, now, out)
        for key, pin in self._fallback.due(now):
            if key not in self._attempts and len(self._attempts) < ATTEMPTS_MAX:
                self._open(proposal_from_pin(key, pin, now=now), [], now, out)

    # How an attempt ends -----------------------------------------------------------------

    def _forget(self, attempt: _Attempt) -> None:
        del self._attempts[attempt.proposal.key]
        del self._keys[attempt.request]
        self._alarms.clear(attempt.proposal.key)

    def _finish(
        self, attempt: _Attempt, pin: Pin, now: float, out: list[Effect], *, is_made: bool
    ) -> None:
        self._forget(attempt)
        discontent: list[tuple[int, Proposal]] = []
        for place, (token, proposal) in enumerate(attempt.waiting):
            if pin.is_tombstone or proposal.rejects(pin):
                discontent.append((token, proposal))
                continue
            outcome = ClaimOutcome.HIT
            if is_made and place == 0:
                outcome = ClaimOutcome.MOVED if proposal.moved_from else ClaimOutcome.NEW
            out.append(ClaimDone(token, pin, _outcome(pin, outcome)))
        if not discontent:
            return
        if pin.is_tombstone or attempt.proposal.rejects(pin):
            # The home insists on it, being in a minority, where nothing moves.
            self._serve_alone(discontent[0][1], discontent, now, out)
            return
        for token, proposal in discontent:
            self.start(token, proposal, now, out)

    def _serve_alone(
        self,
        proposal: Proposal,
        waiting: list[tuple[int, Proposal]],
        now: float,
        out: list[Effect],
    ) -> None:
        if not waiting:
            return  # the pin stays provisional, and is claimed again later
        pin = self._fallback.pin_alone(proposal, self._standing.name, now, out)
        for token, _ in waiting:
            out.append(ClaimDone(token, pin, _outcome(pin, ClaimOutcome.HIT)))


def _is_move(proposal: Proposal) -> bool:
    return bool(proposal.moved_from) or proposal.moved_from_epoch > 0


def _past(proposal: Proposal, stone: Pin) -> Proposal:
    """The proposal of a pin that is to follow a tombstone."""
    if proposal.moved_from_epoch > stone.epoch:
        return proposal
    return dataclasses.replace(proposal, moved_from=stone.backend, moved_from_epoch=stone.epoch)


def _outcome(pin: Pin, outcome: ClaimOutcome) -> ClaimOutcome:
    return ClaimOutcome.PROVISIONAL if pin.rank is Rank.PROVISIONAL else outcome
