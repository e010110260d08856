"""The links of a simulated member: dialling, greeting and batching over simulated streams.

Owns: what `meshlb.cluster.links` and `link` do with sockets, for the parts of a member that decide
(`Agent`, `Turns`). Which of two links stays is decided by the real `loser`. The handshake is its
messages in order, without its secrets. Must not know: what the messages on a link mean.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from meshlb.cluster.link import OUTBOX_BYTES_LOW, OUTBOX_BYTES_MAX, CloseReason
from meshlb.cluster.links import CONNECT_S, HANDSHAKE_S, loser
from meshlb.model import Address, NodeName
from meshlb.wire.codec import decode, encode_message, join
from meshlb.wire.handshake import Identity
from meshlb.wire.messages import Message
from meshlb.wire.refusal import Refusal
from meshlb.wire.versions import Dialect, Versions
from tests.sim.mesh.pipes import End, Pipes
from tests.sim.mesh.tongues import Frame, Tongue

BYTES_PER_MESSAGE = 4_096
"""What a message counts for in an outbox; large, so that limits are met."""

FRAME_MESSAGES_MAX = 64


@dataclass(frozen=True)
class Step:
    """A message of the handshake."""

    kind: str
    identity: Identity | None = None
    refusal: Refusal | None = None
    versions: Versions | None = None


class Owner(Protocol):
    """The process that links belong to."""

    me: Identity
    agent: Any
    tongue: Tongue

    def act(self, call: Callable[[], None]) -> None:
        """Call it in the process: later if that stands still, never if it is gone."""
        ...

    def now(self) -> float: ...

    def touch_off(self, what: str) -> None:
        """A point at which the process may be killed."""
        ...

    def let_out(self, messages: tuple[Message, ...]) -> None:
        """These messages leave."""
        ...

    def overhear(self, peer: NodeName, messages: tuple[Message, ...]) -> None:
        """These messages have come."""
        ...

    def note_link(self, peer: NodeName) -> None:
        """A new link is used from now on."""
        ...


class SimLink:
    """As `meshlb.cluster.link.Link`."""

    def __init__(
        self, owner: Owner, end: End, peer: Identity, dialled: Address | None, dialect: Dialect
    ) -> None:
        self.peer = peer
        self.dialect = dialect
        self.dialled = dialled
        self.opened_at = owner.now()
        self.close_reason: CloseReason | None = None
        self.end = end
        self._owner = owner
        self._outbox: list[Message | bytes] = []
        self.on_closed: Callable[[], None] = lambda: None

    @property
    def name(self) -> NodeName:
        return self.peer.name

    @property
    def is_open(self) -> bool:
        return self.close_reason is None

    @property
    def outbox_bytes(self) -> int:
        return BYTES_PER_MESSAGE * (len(self._outbox) + len(self.end.other.waiting))

    @property
    def is_low(self) -> bool:
        return self.is_open and self.outbox_bytes < OUTBOX_BYTES_LOW

    def takes(self, kind: type[Message]) -> bool:
        return kind in self.dialect.kinds

    def tell(self, *messages: Message, is_coded: bool = True) -> None:
        for message in messages:
            if self.takes(type(message)):
                self.send(encode_message(message) if is_coded else message)

    def send(self, encoded: Message | bytes) -> None:
        if not self.is_open:
            return
        if self.outbox_bytes >= OUTBOX_BYTES_MAX:
            self.close("outbox-full")
        else:
            self._outbox.append(encoded)

    def flush(self) -> None:
        while self._outbox and self.is_open:
            batch, self._outbox = (
                self._outbox[:FRAME_MESSAGES_MAX],
                self._outbox[FRAME_MESSAGES_MAX:],
            )
            messages = tuple(
                decode(join([message]))[0] if isinstance(message, bytes) else message
                for message in batch
            )
            self._owner.touch_off("send")
            self._owner.let_out(messages)
            self.end.send(self._owner.tongue.out(messages))

    def close(self, reason: CloseReason) -> None:
        if self.close_reason is None:
            self.close_reason = reason
            self._outbox.clear()
            self.end.close()
            self.on_closed()


class SimStreams:
    """As `meshlb.cluster.streams.LinkStreams`."""

    def __init__(self, owner: Owner, *, is_coded: bool) -> None:
        """`is_coded`: put every message through the codec."""
        self.links: SimLinks | None = None
        self._owner = owner
        self._is_coded = is_coded
        self._said: dict[SimLink, list[Message]] = {}
        self._said_at = 0.0

    @property
    def delay_s(self) -> float:
        """For how long the first of what is said has waited to be let out."""
        return self._owner.now() - self._said_at if self._said else 0.0

    def send(self, peer: NodeName, message: Message) -> None:
        if self.links is not None and (link := self.links.to(peer)) is not None:
            if not self._said:
                self._said_at = self._owner.now()
            self._said.setdefault(link, []).append(message)

    def takes_more(self, peer: NodeName) -> bool:
        link = self.links.to(peer) if self.links is not None else None
        return link is not None and link.is_low

    def peers(self) -> Iterable[NodeName]:
        return [link.name for link in self.links.all()] if self.links is not None else ()

    def flush(self) -> None:
        said, self._said = self._said, {}
        for link, messages in said.items():
            link.tell(*messages, is_coded=self._is_coded)
            link.flush()


class SimLinks:
    """As `meshlb.cluster.links.Links`."""

    def __init__(
        self, owner: Owner, pipes: Pipes, listening: Callable[[Address], "SimLinks | bool | None"]
    ) -> None:
        """`listening`: whose links are at an address; True: a host without a node, False: none."""
        self._owner = owner
        self._pipes = pipes
        self._listening = listening
        self._by_name: dict[NodeName, SimLink] = {}
        self._dialling: dict[Address, int] = {}
        self._attempts = itertools.count(1)
        self._ends: dict[End, None] = {}

    def to(self, name: NodeName) -> SimLink | None:
        return self._by_name.get(name)

    def all(self) -> tuple[SimLink, ...]:
        return tuple(self._by_name.values())

    def close(self, name: NodeName, reason: CloseReason) -> None:
        if (link := self._by_name.get(name)) is not None:
            link.close(reason)

    def die(self, *, is_power_lost: bool) -> None:
        """The process is gone; its kernel closes what is open, unless that is gone too."""
        for end in self._ends:
            end.vanish() if is_power_lost else end.close()

    # Dialling ----------------------------------------------------------------------------

    def dial(self, address: Address) -> None:
        """Try to open a link to whoever is there; `dial_failed` or `link_opened` follows."""
        if address in self._dialling:
            return
        attempt = self._dialling[address] = next(self._attempts)
        world, air, me = self._pipes.world, self._pipes.air, self._owner.me.name
        there = self._listening(address)
        if isinstance(there, SimLinks):
            host = there._owner.me.name
            if air.passes(me, host) and air.passes(host, me):
                there_s = air.segment_delay(me, host)
                world.at(world.now + there_s, lambda: self._reached(address, attempt, there))
        elif there:  # the host says that nobody listens
            world.at(world.now + 0.001, lambda: self._fail(address, attempt, None))
        wait_s = HANDSHAKE_S if isinstance(there, SimLinks) else CONNECT_S
        world.at(world.now + wait_s, lambda: self._fail(address, attempt, None))

    def _fail(self, address: Address, attempt: int, refusal: Refusal | None) -> None:
        def failed() -> None:
            if self._dialling.get(address) == attempt:
                del self._dialling[address]
                self._owner.agent.dial_failed(address, refusal)

        self._owner.act(failed)

    def _reached(self, address: Address, attempt: int, there: "SimLinks") -> None:
        """The kernels have connected."""
        if self._dialling.get(address) != attempt:
            return
        here = End(self._owner.me.name, lambda step: None, lambda is_silence: None)
        beyond = End(there._owner.me.name, lambda step: None, lambda is_silence: None)
        here.on_frame = lambda step: self._owner.act(
            lambda: self._hear(here, step, lambda: self._greet(address, attempt, here, step))
        )
        here.on_close = lambda is_silence: self._fail(address, attempt, None)
        beyond.on_frame = lambda step: there._owner.act(
            lambda: there._hear(beyond, step, lambda: there._answer(beyond, step))
        )
        self._pipes.connect(here, beyond)
        self._ends[here] = None
        there._ends[beyond] = None
        world = self._pipes.world
        world.at(world.now + HANDSHAKE_S, lambda: self._give_up(here))
        world.at(world.now + HANDSHAKE_S, lambda: there._give_up(beyond))
        here.send(Step("hello", self._owner.me, versions=self._owner.tongue.versions))

    def _give_up(self, end: End) -> None:
        """Close an end whose handshake has come to nothing."""
        if not any(link.end is end for link in self._by_name.values()):
            end.close()
            self._ends.pop(end, None)

    def _hear(self, end: End, said: Any, greet: Callable[[], None]) -> None:
        """Of the handshake, or what followed it at once while this process stood still."""
        if isinstance(said, Step):
            greet()
        else:
            for link in [link for link in self._by_name.values() if link.end is end]:
                self._deliver(link, said)

    def _greet(self, address: Address, attempt: int, end: End, step: Step) -> None:
        """The side that dialled."""
        if self._dialling.get(address) != attempt:
            end.close()
            return
        if step.kind == "welcome":
            assert step.identity is not None
            refusal = self._wanted(step.identity)
            if refusal is None:
                end.send(Step("confirm", self._owner.me, versions=self._owner.tongue.versions))
                return
            end.send(Step("refuse", refusal=refusal))
            end.close()
            self._fail(address, attempt, refusal)
        elif step.kind == "refuse":
            end.close()
            self._fail(address, attempt, step.refusal)
        else:
            assert step.identity is not None
            del self._dialling[address]
            self._run_link(end, step, dialled=address)

    def _answer(self, end: End, step: Step) -> None:
        """The side that was dialled."""
        if step.kind == "hello":
            end.send(Step("welcome", self._owner.me))
        elif step.kind == "refuse":
            end.close()
        else:
            assert step.identity is not None
            refusal = self._admit(step.identity)
            if refusal is not None:
                end.send(Step("refuse", refusal=refusal))
                return
            end.send(Step("accept", self._owner.me, versions=self._owner.tongue.versions))
            self._run_link(end, step, dialled=None)

    def _admit(self, peer: Identity) -> Refusal | None:
        refusal: Refusal | None = self._owner.agent.admit(peer)
        return refusal

    def _wanted(self, peer: Identity) -> Refusal | None:
        if peer.boot_id == self._owner.me.boot_id:
            return Refusal.SELF
        current = self._by_name.get(peer.name)
        if current is not None and current.is_open and current.peer.boot_id == peer.boot_id:
            return Refusal.LINKED
        return self._admit(peer)

    # Open --------------------------------------------------------------------------------

    def _run_link(self, end: End, step: Step, *, dialled: Address | None) -> None:
        assert step.identity is not None
        assert step.versions is not None
        dialect = self._owner.tongue.versions.common(step.versions)
        assert dialect is not None
        link = SimLink(self._owner, end, step.identity, dialled, dialect)
        current = self._by_name.get(link.name)
        if current is not None:
            ended = loser(current, link, me=self._owner.me.name)  # type: ignore[arg-type]  # alike
            ended.close("replaced")
            if ended is link:  # type: ignore[comparison-overlap]  # alike
                return
        self._by_name[link.name] = link
        act = self._owner.act
        end.on_frame = lambda frame: act(lambda: self._deliver(link, frame))
        end.on_close = lambda is_silence: act(
            lambda: link.close("silent" if is_silence else "hung-up")
        )
        link.on_closed = lambda: self._pipes.world.at(
            self._pipes.world.now, lambda: act(lambda: self._finish(link))
        )
        self._owner.note_link(link.name)
        self._owner.agent.link_opened(link)

    def _deliver(self, link: SimLink, frame: Frame) -> None:
        if link.is_open and self._by_name.get(link.name) is link:
            messages = self._owner.tongue.into(frame)
            self._owner.overhear(link.name, messages)
            self._owner.agent.deliver(link, messages)

    def _finish(self, link: SimLink) -> None:
        self._ends.pop(link.end, None)
        if self._by_name.get(link.name) is link:
            del self._by_name[link.name]
            self._owner.agent.link_closed(link)
