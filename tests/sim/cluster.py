"""A simulated cluster of `Membership` machines: the part that sockets and the agent play.

Owns: addresses, streams between members, the account of bytes, the record of changes.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from meshlb.core.swim import (
    LAN,
    Contact,
    DatagramReceived,
    Effect,
    MemberChanged,
    Membership,
    Refused,
    SendDatagram,
    SendStream,
    StreamClosed,
    StreamOpened,
    StreamReceived,
    Timings,
    ViewChanged,
)
from meshlb.core.swim.broadcast import size_bound_bytes
from meshlb.core.swim.member import LIVE
from meshlb.model import Address, BootId, MemberState, NodeName
from tests.sim.network import Network, Weather
from tests.sim.simulation import Simulation

SEAL_BYTES = 100
"""What sealing and the UDP and IP headers, or those of a frame on TCP, add to the messages."""

DIAL_AGAIN_S = 1.0

CLOCK_AT_START_MS = 1_700_000_000_000


@dataclass
class Record:
    """What happened, for the trial to judge."""

    changes: list[tuple[float, NodeName, MemberChanged]] = field(default_factory=list)
    refusals: list[tuple[NodeName, Refused]] = field(default_factory=list)
    views: dict[NodeName, ViewChanged] = field(default_factory=dict)
    sent_bytes: Counter[NodeName] = field(default_factory=Counter)
    false_deaths: list[tuple[float, NodeName, NodeName]] = field(default_factory=list)
    """(when, who said so, of whom) for members that were running."""


class Cluster:
    """Members n000, n001, …; each has the first two as seeds."""

    def __init__(self, seed: int, weather: Weather | None = None, timings: Timings = LAN) -> None:
        self.sim = Simulation(seed, self._perform)
        self.network = Network(weather or Weather(), self.sim.rng)
        self.record = Record()
        self.members: dict[NodeName, Membership] = {}
        self._timings = timings
        self._by_address: dict[Address, NodeName] = {}
        self._links: dict[tuple[NodeName, NodeName], None] = {}
        self._dialling: set[tuple[NodeName, NodeName]] = set()
        self._cut_off: set[NodeName] = set()
        """Members that were down or behind a partition a moment ago."""

    # What a trial does.

    def start(self, index: int, address: Address | None = None) -> NodeName:
        """Start a member, or start it again with a new boot id."""
        name = name_of(index)
        address = address or Address("10.0.0.1", index)
        self._by_address[address] = name
        self.members[name] = Membership(
            name=name,
            address=address,
            boot_id=BootId(self.sim.rng.getrandbits(64)),
            incarnation=CLOCK_AT_START_MS + int(self.sim.now * 1000),
            timings=self._timings,
            rng=Random(self.sim.rng.getrandbits(64)),
            now=self.sim.now,
            seeds=[Address("10.0.0.1", 0), Address("10.0.0.1", 1)],
        )
        self._cut_off.discard(name)
        self.sim.start(name, self.members[name])
        return name

    def start_all(self, count: int) -> None:
        """Start `count` members and run until each knows all."""
        for index in range(count):
            begin = partial(self.start, index)
            self.sim.at(self.sim.now + self.sim.rng.random() / 2, begin)
        assert self.sim.run(60.0, self.knows_all(count)), "the cluster did not form"

    def crash(self, name: NodeName, *, hang: bool) -> None:
        """Stop a member. `hang`: its machine lost power, so no stream of it is closed."""
        self.sim.crash(name)
        self._cut_off.add(name)
        for one, other in list(self._links):
            if name in (one, other):
                del self._links[one, other]
                if not hang:
                    peer = other if one == name else one
                    self._deliver_stream(name, peer, StreamClosed(name))

    def leave(self, name: NodeName) -> None:
        """Let a member leave; what it sends last still goes out."""
        self.sim.act(name, self.members[name].leave(self.sim.now))
        self._cut_off.add(name)
        self.sim.at(self.sim.now + 0.1, lambda: self.sim.crash(name))

    def part(self, *islands: list[NodeName]) -> None:
        """Cut the network between islands, and with it the streams that cross."""
        self.network.part(*islands)
        self._cut_off.update(name for island in islands for name in island)
        for one, other in list(self._links):
            if not self.network.reaches(one, other):
                del self._links[one, other]
                self.sim.deliver(one, StreamClosed(other), 0.0)
                self.sim.deliver(other, StreamClosed(one), 0.0)
                self._dial_later(one, other)

    def deafen(self, name: NodeName) -> None:
        """Let a member send and not receive; its streams stay open and carry nothing to it."""
        self.network.deafen(name)
        self._cut_off.add(name)

    def heal(self) -> None:
        """Undo `part`."""
        self.network.heal()

    # What a trial waits for.

    def knows_all(self, count: int) -> Callable[[], bool]:
        """Whether all `count` members run and each holds all others for alive."""

        def holds() -> bool:
            running = self.sim.running()
            return len(running) == count and all(
                sum(m.state is MemberState.ALIVE for m in self.members[name].members()) == count
                for name in running
            )

        return holds

    def all_hold(self, subject: NodeName, *states: MemberState) -> Callable[[], bool]:
        """Whether every other running member holds `subject` to be in one of `states`."""

        def holds() -> bool:
            return all(
                any(m.name == subject and m.state in states for m in self.members[name].members())
                for name in self.sim.running()
                if name != subject
            )

        return holds

    # What sockets and the agent do.

    def _perform(self, name: NodeName, effect: Effect) -> None:
        match effect:
            case SendDatagram(to, _, messages):
                self._account(name, messages)
                target = self._by_address.get(to)
                if target is None:
                    return
                me = self.members[name].me
                event = DatagramReceived(name, me.address, messages, me.boot_id)
                for delay_s in self.network.datagram_delays(name, target):
                    self.sim.deliver(target, event, delay_s)
            case SendStream(peer, messages):
                self._account(name, messages)
                if _pair(name, peer) in self._links:
                    self._deliver_stream(name, peer, StreamReceived(name, messages))
            case Contact(address):
                if (target := self._by_address.get(address)) is not None:
                    self._dial(name, target)
            case MemberChanged(member):
                self._note(name, effect)
                if member.state in LIVE:
                    self._dial(name, member.name)
            case ViewChanged():
                self.record.views[name] = effect
            case Refused():
                self.record.refusals.append((name, effect))

    def _account(self, name: NodeName, messages: tuple[object, ...]) -> None:
        size = sum(map(size_bound_bytes, messages))
        self.record.sent_bytes[name] += SEAL_BYTES + size

    def _note(self, name: NodeName, change: MemberChanged) -> None:
        self.record.changes.append((self.sim.now, name, change))
        subject = change.member.name
        if change.member.state is MemberState.DEAD and not {subject, name} & self._cut_off:
            self.record.false_deaths.append((self.sim.now, name, subject))

    def _deliver_stream(self, sender: NodeName, receiver: NodeName, event: object) -> None:
        delay_s = self.network.stream_delay(sender, receiver, self.sim.now)
        self.sim.deliver(receiver, event, delay_s)

    def _dial(self, name: NodeName, target: NodeName) -> None:
        pair = _pair(name, target)
        if name == target or pair in self._links or pair in self._dialling:
            return
        self._dialling.add(pair)
        there = self.network.stream_delay(name, target, self.sim.now)
        back = self.network.stream_delay(target, name, self.sim.now)
        waited_s = min(there + back, DIAL_AGAIN_S)
        self.sim.at(self.sim.now + waited_s, lambda: self._link(name, target))

    def _link(self, name: NodeName, target: NodeName) -> None:
        pair = _pair(name, target)
        self._dialling.discard(pair)
        both_run = self.sim.is_running(name) and self.sim.is_running(target)
        reach = self.network.reaches(name, target) and self.network.reaches(target, name)
        if not both_run or not reach or self._is_refused(name, target):
            self._dial_later(name, target)
            return
        self._links[pair] = None
        self.sim.deliver(name, StreamOpened(target), 0.0)
        self.sim.deliver(target, StreamOpened(name), 0.0)

    def _dial_later(self, name: NodeName, target: NodeName) -> None:
        """As the agent does: keep trying while the member is held to be live."""

        def again() -> None:
            known = {m.name: m for m in self.members[name].members()}.get(target)
            if self.sim.is_running(name) and known and known.is_live:
                self._dial(name, target)

        self.sim.at(self.sim.now + DIAL_AGAIN_S, again)

    def _is_refused(self, name: NodeName, target: NodeName) -> bool:
        me = self.members[name].me
        judge = self.members[target]
        reason = judge.refusal(name=me.name, boot_id=me.boot_id, address=me.address)
        return reason is not None


def name_of(index: int) -> NodeName:
    """The name of the member with that index."""
    return NodeName(f"n{index:03}")


def _pair(one: NodeName, other: NodeName) -> tuple[NodeName, NodeName]:
    return (one, other) if one < other else (other, one)
