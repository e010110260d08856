"""All streams of a node to other members: accepted, dialled, at most one to each.

Owns the listening side, dialling, the limits on unfinished handshakes, and which of two links to
one member stays. Must not know membership or pins: it asks whom to admit, tells what opened and
closed, and hands on what arrives.

Spec: protocol/spec/handshake.md.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

import trio

from meshlb.cluster.channel import Channel, Greeted
from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.greeting import READ_BYTES
from meshlb.cluster.link import CloseReason, Link
from meshlb.cluster.refusals import RefusalLog
from meshlb.cluster.socket_link import SocketLink
from meshlb.cluster.stream_link import StreamLink
from meshlb.errors import WireError
from meshlb.model import Address, NodeName
from meshlb.net.mutual_tls import MutualTls
from meshlb.net.reactor import Reactor
from meshlb.wire.handshake import (
    EPHEMERAL_BYTES,
    Established,
    Identity,
    Initiator,
    RefusedByPeer,
    RefusedPeer,
    Responder,
)
from meshlb.wire.messages import Message
from meshlb.wire.refusal import Refusal
from meshlb.wire.seal import ClusterLabel, Keyring

HALF_OPEN_MAX: Final = 64
"""Unfinished handshakes of those who connected to us. One more crowds out the oldest: an honest
handshake takes milliseconds, so the oldest is a stalled one."""

DIALS_MAX: Final = 64
"""Dials under way; a contact beyond that is dropped, and comes again by itself."""

LINKS_MAX: Final = 1_024
"""Established links; more than a cluster may have members."""

CONNECT_S: Final = 3.0
HANDSHAKE_S: Final = 5.0
"""How long a handshake may take. Two links that opened closer together than this may be the two
halves of one race, see `loser`."""

FAREWELL_S: Final = 1.0
"""How long a refused peer gets to read why."""


class LinkEvents(Protocol):
    """Whom `Links` asks and tells."""

    def admit(self, peer: Identity) -> Refusal | None:
        """Why a proven peer may not have a link; None to let it in."""
        ...

    def link_opened(self, link: Link) -> None:
        """`link` is the one to use for its peer from now on."""
        ...

    def link_closed(self, link: Link) -> None:
        """There is no link to that peer any more."""
        ...

    def outbox_low(self) -> None:
        """Some link's outbox takes more of what can wait."""
        ...

    def dial_failed(self, address: Address, refusal: Refusal | None) -> None:
        """A dial has opened no link; `refusal` says why where one side refused the other."""
        ...

    def deliver(self, link: Link, messages: tuple[Message, ...]) -> None:
        """Takes a frame's messages."""
        ...


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who this node is, and what proves it."""

    me: Identity
    keyring: Keyring
    label: ClusterLabel


class Links:
    """One per node."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        reactor: Reactor,
        events: LinkEvents,
        counters: MeshCounters,
        refusals: RefusalLog,
        draw: Callable[[int], bytes],
        tls: MutualTls | None = None,
    ) -> None:
        """`draw` gives so many random bytes, fit for keys; without `tls` streams are plain."""
        self._reactor = reactor
        self._credentials = credentials
        self._events = events
        self._counters = counters
        self._refusals = refusals
        self._draw = draw
        self._channel = Channel(tls)
        self._by_name: dict[NodeName, Link] = {}
        self._half_open: dict[trio.CancelScope, None] = {}
        self._dialling: set[Address] = set()
        self._renewing: dict[Address, Link] = {}
        self._nursery: trio.Nursery | None = None

    async def run(
        self,
        listeners: Iterable[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept and dial until cancelled; then all links are closed."""
        async with trio.open_nursery() as self._nursery:
            serve = partial(
                trio.serve_listeners,
                self._accepted,
                list(listeners),
                handler_nursery=self._nursery,
            )
            self._nursery.start_soon(serve)
            task_status.started()

    def use(self, keyring: Keyring) -> None:
        """Prove with `keyring` from now on; what is open stays open."""
        self._credentials = replace(self._credentials, keyring=keyring)

    def show(self, tls: MutualTls | None) -> None:
        """Show and believe other certificates from now on; what is open stays open."""
        self._channel = Channel(tls)

    def to(self, name: NodeName) -> Link | None:
        """The open link to a member, or None."""
        return self._by_name.get(name)

    def all(self) -> tuple[Link, ...]:
        """The open links, one for each linked member."""
        return tuple(self._by_name.values())

    def close(self, name: NodeName, reason: CloseReason) -> None:
        """End the link to a member, if there is one."""
        if (link := self._by_name.get(name)) is not None:
            link.close(reason)

    def dial(self, address: Address) -> None:
        """Try once, in the background, to open a link to whoever is at `address`."""
        if self._nursery is None or address in self._dialling or len(self._dialling) >= DIALS_MAX:
            return
        self._dialling.add(address)
        self._nursery.start_soon(self._dial, address)

    def renew(self, link: Link) -> None:
        """Try once to put a new link, under the secret in use now, in the place of `link`."""
        self._renewing[link.peer.address] = link
        self.dial(link.peer.address)

    # Opening -----------------------------------------------------------------------------

    async def _dial(self, address: Address) -> None:
        greeted: Greeted | None = None
        try:
            if (raw := await self._connect(address)) is not None:
                greeted = await self._greet(raw)
        finally:
            self._dialling.discard(address)
            self._renewing.pop(address, None)
        match greeted:
            case (stream, Established() as established):
                self._refusals.admitted_by(address)
                await self._run_link(stream, established, dialled=address)
            case (_, RefusedByPeer(reason) | RefusedPeer(reason) as refused):
                detail = refused.detail if isinstance(refused, RefusedPeer) else ""
                self._refusals.refused_by(address, reason, detail)
                self._events.dial_failed(address, reason)
            case None:
                self._events.dial_failed(address, None)

    async def _connect(self, address: Address) -> trio.SocketStream | None:
        stream: trio.SocketStream | None = None
        with self._failures_counted(), trio.fail_after(CONNECT_S):
            stream = await trio.open_tcp_stream(address.host, address.port)
        return stream

    async def _greet(self, raw: trio.SocketStream) -> Greeted | None:
        """The handshake; a connection on which it establishes nothing is closed."""
        greeted: Greeted | None = None
        try:
            with self._failures_counted(), trio.fail_after(HANDSHAKE_S):
                greeted = await self._channel.greet(raw, self._initiator(), self._wanted)
        finally:
            if greeted is None or not isinstance(greeted[1], Established):
                await trio.aclose_forcefully(raw)
        return greeted

    def _wanted(self, peer: Identity) -> Refusal | None:
        """An address may lead to a member that there is a link to already."""
        current = self._by_name.get(peer.name)
        if (
            current is not None
            and current.is_open
            and current.peer.boot_id == peer.boot_id
            and current not in self._renewing.values()
        ):
            return Refusal.LINKED
        return self._events.admit(peer)

    async def _accepted(self, raw: trio.SocketStream) -> None:
        greeted: Greeted | None = None
        try:
            with self._half_opened(), self._failures_counted(), trio.fail_after(HANDSHAKE_S):
                greeted = await self._answer(raw)
        finally:
            if greeted is None or not isinstance(greeted[1], Established):
                await trio.aclose_forcefully(raw)
        match greeted:
            case (stream, Established() as established):
                await self._run_link(stream, established, dialled=None)

    async def _answer(self, raw: trio.SocketStream) -> Greeted:
        stream, greeting = await self._channel.answer(raw, self._responder(), self._admitted)
        if isinstance(greeting, RefusedPeer):
            self._refusals.refused(
                _source(raw),
                greeting.reason,
                greeting.claimed_name,
                now=trio.current_time(),
                detail=greeting.detail,
            )
            # A close with unread bytes would be a reset, which can overtake the refusal.
            with trio.move_on_after(FAREWELL_S):
                await raw.send_eof()
                while await raw.receive_some(READ_BYTES):
                    pass
        return stream, greeting

    def _admitted(self, peer: Identity) -> Refusal | None:
        """Where there is no room it takes a proven member to be told so."""
        if len(self._by_name) >= LINKS_MAX and peer.name not in self._by_name:
            return Refusal.TOO_MANY
        return self._events.admit(peer)

    def _initiator(self) -> Initiator:
        who = self._credentials
        ephemeral = self._draw(EPHEMERAL_BYTES)
        return Initiator(who.me, keyring=who.keyring, label=who.label, ephemeral=ephemeral)

    def _responder(self) -> Responder:
        who = self._credentials
        ephemeral = self._draw(EPHEMERAL_BYTES)
        return Responder(who.me, keyring=who.keyring, label=who.label, ephemeral=ephemeral)

    @contextmanager
    def _half_opened(self) -> Iterator[None]:
        """Counts an unfinished handshake for as long as it lasts, and ends the oldest of many."""
        if len(self._half_open) >= HALF_OPEN_MAX:
            oldest = next(iter(self._half_open))
            del self._half_open[oldest]
            self._counters.handshakes_failed["crowded-out"] += 1
            oldest.cancel()
        with trio.CancelScope() as scope:
            self._half_open[scope] = None
            try:
                yield
            finally:
                self._half_open.pop(scope, None)

    @contextmanager
    def _failures_counted(self) -> Iterator[None]:
        """A connection that comes to nothing is an everyday thing, and no failure of the node."""
        try:
            yield
        except trio.TooSlowError:
            self._counters.handshakes_failed["timeout"] += 1
        except WireError:
            self._counters.handshakes_failed["not-meshlb"] += 1
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self._counters.handshakes_failed["broken"] += 1

    # Open --------------------------------------------------------------------------------

    async def _run_link(
        self, stream: trio.abc.Stream, established: Established, *, dialled: Address | None
    ) -> None:
        if established.key_id not in self._credentials.keyring.key_ids:
            await trio.aclose_forcefully(stream)  # removed while the handshake went on
            return
        link = self._link(stream, established, dialled)
        current = self._by_name.get(link.name)
        if current is not None:
            ended = loser(current, link, me=self._credentials.me.name)
            ended.close("replaced")
            if ended is link:
                await trio.aclose_forcefully(stream)
                return
        self._by_name[link.name] = link
        self._counters.links_opened += 1
        self._events.link_opened(link)
        try:
            await link.run(self._events.deliver)
        finally:
            self._counters.links_closed[link.close_reason or "shutdown"] += 1
            if self._by_name.get(link.name) is link:
                del self._by_name[link.name]
                self._events.link_closed(link)

    def _link(
        self, stream: trio.abc.Stream, established: Established, dialled: Address | None
    ) -> Link:
        make: Callable[..., Link] = StreamLink
        if isinstance(stream, trio.SocketStream):
            make = partial(SocketLink, reactor=self._reactor)
        return make(
            stream,
            established,
            dialled=dialled,
            now=trio.current_time(),
            on_low=self._events.outbox_low,
            on_unknown=self._count_unknown,
        )

    def _count_unknown(self, type_id: int) -> None:
        self._counters.messages_unknown += 1


def loser(current: Link, new: Link, *, me: NodeName) -> Link:
    """Which of two links from `me` to one member ends; the member comes to the same conclusion.

    Both may have dialled at the same time: then the one that the lower name dialled stays.
    Otherwise whoever dialled had no link any more, so the current one is dead.
    """
    is_race = (
        current.peer.boot_id == new.peer.boot_id
        and (current.dialled is None) != (new.dialled is None)
        and new.opened_at - current.opened_at <= HANDSHAKE_S
    )
    if not is_race:
        return current
    is_ours_to_dial = me < new.name
    return current if (new.dialled is not None) == is_ours_to_dial else new


def _source(stream: trio.SocketStream) -> Address:
    """Where a connection came from; it may be gone already."""
    try:
        host, port = stream.socket.getpeername()[:2]
    except OSError:
        return Address("0.0.0.0", 0)
    return Address(host, port)
