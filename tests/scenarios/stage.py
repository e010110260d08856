"""Member a of the scenarios of claims: it is told a step, and what follows is read off."""

from collections.abc import Iterable
from typing import Any

from meshlb.core.sticky.claims import ClaimMachine
from meshlb.core.sticky.events import (
    ClaimDone,
    ClaimStarted,
    Effect,
    Event,
    PeerConnected,
    PeerFed,
    PeerLost,
    PeerMessages,
    PeerWord,
    Send,
    Stored,
    SuspectsChanged,
    TablesMet,
    ViewChanged,
)
from meshlb.model import BackendName, BootId, KeySource, NodeName, PoolName
from meshlb.wire.messages import (
    Claim,
    ClaimAnswer,
    Delta,
    PinRecord,
    PullChunk,
    Rank,
    Replicate,
    ReplicateAnswer,
    Verdict,
    ViewMark,
)
from tests.fakes.pins import NOW, TTL_S, DictStore, a_proposal
from tests.scenarios.forms import Fields, key_of, record

ME = NodeName("a")
PEERS = ("b", "c", "d")
NOW_MS = round(NOW * 1_000)


class Stage:
    """The machine, the time, and what has happened since the last look."""

    def __init__(self, scenario: Fields, keys: dict[str, str]) -> None:
        self.key = key_of(keys[scenario["key"]])
        self.now = NOW
        self.machine = ClaimMachine(ME, DictStore())
        self.effects: list[Effect] = []
        self._view_id = 0
        for peer in PEERS:
            self._open(peer)
        owners = scenario.get("owners", ["a", "b", "c"])
        self._enter(owners, quorate=True)
        self._mark(name for name in owners if name not in (ME, *scenario.get("unmarked", ())))
        if "knows" in scenario:
            pins = tuple(record(fields, self.key) for fields in scenario["knows"])
            self._hear("d", PullChunk(1, pins, last=True))

    def tell(self, step: Fields) -> None:
        """Do what a step says."""
        self.effects = []
        if "says" in step:
            self._hear(step["from"], self._message(dict(step["says"])))
        elif "marks" in step:
            self._mark(step["marks"])
        elif "claim" in step:
            self._tell(ClaimStarted(1, a_proposal(self.key, **step["claim"])))
        elif "view" in step:
            self._enter(step["view"], quorate=step.get("quorate", True))
        elif "stream" in step:
            self._open(step["stream"])
        elif "strange" in step:
            self._open(step["strange"], is_apart=True)
        elif "met" in step:
            self._tell(TablesMet(NodeName(step["met"])))
        elif "leaves" in step:
            self.effects += self.machine.leave(self.now)
        elif "suspects" in step:
            self._tell(SuspectsChanged(frozenset(map(NodeName, step["suspects"]))))
        elif "broken" in step:
            self._tell(PeerLost(NodeName(step["broken"])))
        else:
            self._wait(step["wait_ms"] / 1_000)

    # What a step does --------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        self.effects += self.machine.receive(event, self.now)

    def _hear(self, peer: str, message: PeerWord) -> None:
        self._tell(PeerMessages(NodeName(peer), (message,)))

    def _open(self, peer: str, *, is_apart: bool = False) -> None:
        self._tell(PeerConnected(NodeName(peer), BootId(1), is_apart))
        self._tell(PeerFed(NodeName(peer)))

    def _enter(self, owners: Iterable[str], *, quorate: bool) -> None:
        self._view_id += 1
        self._tell(ViewChanged(tuple(map(NodeName, owners)), self._view_id, quorate))

    def _mark(self, peers: Iterable[str]) -> None:
        for peer in peers:
            self._hear(peer, ViewMark(self._view_id))

    def _wait(self, seconds: float) -> None:
        until = self.now + seconds
        # The sum of a time and a delay is not always what adding up in milliseconds gives.
        while (at := self.machine.next_deadline()) is not None and at <= until + 1e-6:
            self.now = max(self.now, at)
            self.effects += self.machine.handle_timer(self.now)
        self.now = max(self.now, until)

    def _record(self, fields: Fields) -> PinRecord:
        fields = dict(fields)
        key = key_of(fields.pop("key")) if "key" in fields else self.key
        if "stamp_ahead_ms" in fields:
            fields["stamp_ms"] = NOW_MS + fields.pop("stamp_ahead_ms")
        return record(fields, key)

    def _message(self, said: Fields) -> PeerWord:
        pin = self._record(said["pin"]) if "pin" in said else None
        request = said.get("request", 1)
        match said["message"]:
            case "Claim":
                return self._claim(request, said)
            case "ClaimAnswer":
                return ClaimAnswer(request, Verdict[said["verdict"]], pin)
            case "ReplicateAnswer":
                return ReplicateAnswer(request, Verdict[said["verdict"]], pin)
            case "ViewMark":
                return ViewMark(said["view_id"])
        assert pin is not None
        if said["message"] == "Delta":
            return Delta(BootId(7), 0, 1, (pin,))
        return Replicate(request, self._view_id, pin)

    def _claim(self, request: int, said: Fields) -> Claim:
        return Claim(
            request,
            self.key,
            PoolName("app"),
            BackendName(said["backend"]),
            KeySource.HEADER,
            said.get("ttl_ms", round(TTL_S * 1_000)),
            0,
            BackendName(said.get("moved_from", "")),
            said.get("moved_from_epoch", 0),
            said.get("hedged", False),
        )

    # What has happened -------------------------------------------------------------------

    def seen(self, what: str) -> Any:
        """One of the outcomes that a scenario may name."""
        match what:
            case "sends":
                return [(each.peer, each.message) for each in self._sent() if not _is_mark(each)]
            case "tells":
                return [each.pin for each in self.effects if isinstance(each, Stored)]
            case "serves":
                (done,) = [each for each in self.effects if isinstance(each, ClaimDone)]
                return done.pin.backend
            case "routed":
                pin = self.machine.replica.look_up(self.key, self.now)
                return pin.backend if pin is not None else ""
            case "order":
                return [_order(each) for each in self.effects if _is_in_order(each)]
        raise AssertionError(f"no scenario can ask for {what}")

    def _sent(self) -> list[Send]:
        return [effect for effect in self.effects if isinstance(effect, Send)]


def _is_mark(effect: Send) -> bool:
    return isinstance(effect.message, ViewMark)


def _is_in_order(effect: Effect) -> bool:
    return isinstance(effect, Stored) or (isinstance(effect, Send) and _is_mark(effect))


def _order(effect: Effect) -> str:
    if isinstance(effect, Stored):
        return f"log {effect.pin.backend}"
    assert isinstance(effect, Send)
    return f"mark {effect.peer}"


def agrees(value: Any, expected: Fields) -> bool:
    """Whether a message or a pin is what the scenario says, where it says something."""
    return all(_agrees(value, name, wanted) for name, wanted in expected.items())


def _agrees(value: Any, name: str, wanted: Any) -> bool:
    if name == "message":
        return type(value).__name__ == wanted
    if name == "stamp_ahead_ms":
        return bool(value.stamp_ms == NOW_MS + wanted)
    found = getattr(value, name)
    if isinstance(wanted, dict):
        return found is not None and agrees(found, wanted)
    if isinstance(found, Rank | Verdict):
        return found.name == wanted
    return bool(found == wanted)
