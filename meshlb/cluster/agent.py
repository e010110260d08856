"""A node's part in the mesh: membership over datagrams and links, and what follows from it.

Owns what a node does about what `Membership` asks for, the links that should exist, and joining.
Pins are the business of `Turns`, operators' words of `Words`: this module only tells them who is
there and hands them the words of peers.

Nothing here waits or reads a clock: `drive` calls it, or the simulator. Must not know the proxy.

Spec: protocol/spec/membership.md, replication.md.
"""

import math
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from meshlb.cluster.acquaintance import Acquaintance
from meshlb.cluster.broadcasts import Broadcasts, Receipt
from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.datagrams import DatagramPort
from meshlb.cluster.dials import Dials
from meshlb.cluster.hearing import SignsOfLife, sort
from meshlb.cluster.keys import ClusterKeys
from meshlb.cluster.link import Link
from meshlb.cluster.links import Links
from meshlb.cluster.overrides import Overrides
from meshlb.cluster.refusals import RefusalLog
from meshlb.cluster.renewal import Renewal
from meshlb.cluster.search import Search
from meshlb.cluster.syncing import Syncing
from meshlb.cluster.turns import Turns
from meshlb.cluster.words import Words
from meshlb.core.sticky import events as pins
from meshlb.core.swim import events as swim
from meshlb.core.swim.member import Member
from meshlb.core.swim.membership import Membership
from meshlb.model import Address, BootId, MemberState, NodeName
from meshlb.wire.broadcast_words import Broadcast, BroadcastAck, Payload, Topic
from meshlb.wire.challenge import Challenge
from meshlb.wire.handshake import Identity
from meshlb.wire.key_words import KeyringState
from meshlb.wire.messages import BackendOverride, Message, PushPull
from meshlb.wire.refusal import Refusal
from meshlb.wire.versions import Feature

LAG_TOLD_S: Final = 0.01
"""Lag below this is the ordinary jitter of an event loop."""

_log = structlog.get_logger("meshlb.cluster")


class Agent:
    """One per node that has a cluster. Implements `meshlb.cluster.links.LinkEvents`."""

    def __init__(
        self,
        me: Identity,
        *,
        membership: Membership,
        turns: Turns,
        port: DatagramPort,
        overrides: Overrides,
        on_override: Callable[[BackendOverride], None],
        counters: MeshCounters,
        refusals: RefusalLog,
        seeds: Iterable[Address],
        unresolved: int = 0,
        now: Callable[[], float],
        keys: ClusterKeys | None = None,
    ) -> None:
        """Wire.

        `seeds` and so many `unresolved` names: what to join by; `now` reads monotonic seconds;
        `keys` is None where the secrets never change, as in the
        simulator.
        """
        self._me = me
        self._membership = membership
        self._turns = turns
        self._port = port
        self.broadcasts = Broadcasts(
            lambda peer, message: self._send(peer, [message]), self._is_deaf_to_broadcasts
        )
        self._words = Words(
            overrides, broadcasts=self.broadcasts, on_news=on_override, tell_all=self.tell
        )
        self._counters = counters
        self._refusals = refusals
        self._search = Search(me.address, seeds, unresolved=unresolved)
        self._now = now
        self._keys = keys
        self._syncing = Syncing(
            membership=membership,
            turns=turns,
            search=self._search,
            started_at=now(),
            on_synced=self._synced,
        )
        self._acquaintance = Acquaintance(turns)
        self._links: Links | None = None
        self._on_hurry: Callable[[], None] = lambda: None
        self._sleeps_until = -math.inf
        self._dead: dict[NodeName, BootId] = {}
        """Members taken for dead, and which of their lives that was."""
        self._suspects: frozenset[NodeName] = frozenset()
        self._dials = Dials(me.name)
        self._signs = SignsOfLife()
        self._renewal = None if keys is None else Renewal(me.name, keys)
        self._is_leaving = False

    @property
    def reason(self) -> str:
        """What this node lacks to be in sync; empty once it is, and until it leaves."""
        return "leaving" if self._is_leaving else self._syncing.reason

    @property
    def links(self) -> Links:
        """The streams; set by `begin`."""
        assert self._links is not None
        return self._links

    # What drives it ----------------------------------------------------------------------

    def begin(self, links: Links, on_hurry: Callable[[], None]) -> None:
        """Take part from now on; `on_hurry`: `next_deadline` is earlier than when last asked."""
        self._links, self._on_hurry = links, on_hurry
        self._turns.on_pulled = self._consider
        if self._keys is not None:
            self._keys.begin(self._keys_changed)

    def next_deadline(self) -> float:
        """When `handle_timer` has something to do; infinity for never."""
        due = self._membership.next_deadline()
        self._sleeps_until = math.inf if due is None else due
        return self._sleeps_until

    def handle_timer(self) -> None:
        """Do what is due."""
        now = self._now()
        due = self._membership.next_deadline()
        if due is not None and due <= now:
            self._perform(self._membership.handle_timer(now))

    def lagged(self, lag_s: float) -> None:
        """This process was late by `lag_s`: others must not be blamed for that."""
        self._counters.loop_lag_s = lag_s
        self._counters.loop_lag_s_max = max(self._counters.loop_lag_s_max, lag_s)
        if lag_s > LAG_TOLD_S:
            self._receive(swim.Lagged(lag_s))

    def upkeep(self) -> None:
        """Look for links that are missing; called a few times a second."""
        now = self._now()
        for member in self._membership.members():
            if member.is_live:
                self._ensure_link(member, now)
        if self._renewal is not None:
            self._renewal.step(self.links, now)
        self._consider()

    def set_seeds(self, addresses: Iterable[Address], *, unresolved: int) -> None:
        """Join by these from now on, and by `unresolved` names once they resolve."""
        seeds, now = tuple(addresses), self._now()
        self._search.extend(seeds, unresolved=unresolved)
        self._perform(self._membership.set_seeds(seeds, now, has_unresolved=unresolved > 0))
        self._consider()

    # Membership --------------------------------------------------------------------------

    def _receive(self, event: swim.Event) -> None:
        self._perform(self._membership.receive(event, self._now()))

    def _perform(self, effects: list[swim.Effect]) -> None:
        for effect in effects:
            match effect:
                case swim.SendDatagram(to, _, messages):
                    self._port.send(to, messages)
                case swim.SendStream(peer, messages):
                    self._send(peer, messages)
                case swim.MemberChanged(member, previous_state, reason):
                    self._member_changed(member, previous_state, reason)
                case swim.ViewChanged(owners, view_id, quorate):
                    self._turns.receive(pins.ViewChanged(owners, view_id, quorate))
                case swim.Contact(address):
                    self.links.dial(address)
                case swim.Refused(peer, reason):
                    self._contested(peer, reason)
        due = self._membership.next_deadline()
        if due is not None and due < self._sleeps_until:
            self._on_hurry()

    def _send(self, peer: NodeName, messages: Iterable[Message]) -> None:
        if (link := self.links.to(peer)) is not None:
            link.tell(*messages)
            link.flush()

    def _member_changed(
        self, member: Member, previous_state: MemberState | None, reason: str
    ) -> None:
        if member.name == self._me.name:
            return
        if reason != "updated":
            _log.info(
                "member changed",
                member=member.name,
                address=str(member.address),
                state=member.state.name.lower(),
                previous=previous_state.name.lower() if previous_state is not None else None,
                reason=reason,
                reporter=member.reporter,
            )
        if member.state is MemberState.DEAD:
            self._dead[member.name] = member.boot_id
            self._acquaintance.given_up(member.name)
        elif member.is_live and self._dead.pop(member.name, None) == member.boot_id:
            self._turns.returned(member.name)
        self._doubt(member)
        if member.is_live:
            if member.versions is not None and member.versions.takes(Challenge):
                self._port.introduce(member.name, member.boot_id)
            self._ensure_link(member, self._now())
        else:
            self._dials.done(member.name)
            self.broadcasts.gone(member.name)
            self.links.close(member.name, "gone")

    def _doubt(self, member: Member) -> None:
        """Let claims know whom not to wait for."""
        others = self._suspects - {member.name}
        suspects = others | {member.name} if member.state is MemberState.SUSPECT else others
        if suspects != self._suspects:
            self._suspects = suspects
            self._turns.receive(pins.SuspectsChanged(suspects))

    def _ensure_link(self, member: Member, now: float) -> None:
        """Dial a live member that there is no link to."""
        if self.links.to(member.name) is not None:
            self._dials.done(member.name)
        elif member.name != self._me.name and self._dials.is_due(member.name, now):
            self.links.dial(member.address)

    def _contested(self, peer: NodeName, reason: Refusal) -> None:
        """Two nodes have one name, or there are too many; `peer` is one of them or told of it."""
        link = self.links.to(peer)
        if link is None:
            return
        if self.admit(link.peer) is not None or reason is Refusal.CLUSTER_FULL:
            now = self._now()
            self._refusals.refused(link.peer.address, reason, peer, now=now)
            link.close("refused")
        else:
            self._refusals.refused_by(link.peer.address, reason)

    # Datagrams and links -----------------------------------------------------------------

    def datagram(
        self, sender: NodeName, boot_id: BootId, source: Address, messages: tuple[Message, ...]
    ) -> None:
        """Hear an authentic datagram."""
        self._receive(swim.DatagramReceived(sender, source, messages, boot_id))

    def admit(self, peer: Identity) -> Refusal | None:
        """Why a proven peer may not have a link; None to let it in."""
        return self._membership.refusal(name=peer.name, boot_id=peer.boot_id, address=peer.address)

    def link_opened(self, link: Link) -> None:
        """Say who we are, what we know of members and overrides, and where our logs meet."""
        self._search.tried(link.dialled, link.peer.address)
        self._syncing.welcomed()
        self._port.introduce(link.name, link.peer.boot_id)
        if not link.takes(Challenge):
            self._port.trust(link.name, link.peer.boot_id)
        # First of all: no mark of an earlier stream may count in a view that follows from this.
        self._acquaintance.opened(link.name, link.peer.boot_id, am_synced=self._is_synced())
        self._receive(swim.StreamOpened(link.name))
        if self._keys is not None:
            link.tell(self._keys.state())
        self._words.greet(link)
        self.broadcasts.linked(link.name)
        link.flush()
        self._consider()

    def link_closed(self, link: Link) -> None:
        """Everything on its way on that link may be lost."""
        _log.info("link closed", peer=link.name, reason=link.close_reason)
        are_synced = self._is_synced() and self._is_synced(link.peer)
        self._acquaintance.closed(link.name, link.peer.boot_id, are_synced=are_synced)
        self._signs.forget(link.name)
        self._receive(swim.StreamClosed(link.name))
        self._consider()

    def outbox_low(self) -> None:
        """A pull may go on."""
        self._turns.wake()

    def dial_failed(self, address: Address, refusal: Refusal | None) -> None:
        """Nobody is there, or somebody who does not want us."""
        self._search.tried(address)
        if refusal in (Refusal.SELF, Refusal.LINKED):
            self._membership.seed_met(address)
        elif refusal is not None:
            self._syncing.refused(address, refusal)
        self._consider()

    def deliver(self, link: Link, messages: tuple[Message, ...]) -> None:
        """Hear a frame."""
        if self.links.to(link.name) is not link or not link.is_open:
            return
        heard = sort(messages)
        if heard.swim or self._signs.is_news(link.name, self._now()):
            self._acquaintance.heard(link.name, heard.swim)
            self._receive(swim.StreamReceived(link.name, heard.swim))
            if link.dialled is not None and any(isinstance(word, PushPull) for word in heard.swim):
                self._membership.seed_met(link.dialled)  # not before it counts as a member
        if heard.orders:
            self._hear_orders(link, heard.orders)
        if heard.pins:
            self._turns.hear(link.name, heard.pins)
            self._consider()

    def _hear_orders(self, link: Link, messages: Iterable[Message]) -> None:
        self._words.hear(link.name, messages)
        for message in messages:
            if isinstance(message, Broadcast | BroadcastAck):
                self.broadcasts.hear(link.name, link.peer.boot_id, message)
            elif isinstance(message, KeyringState) and self._keys is not None:
                self._keys.hear(link.name, message)

    # Being in sync -----------------------------------------------------------------------

    def _consider(self) -> None:
        if not self._syncing.is_settled:
            self._syncing.consider({link.name for link in self.links.all()}, self._now())

    def _is_synced(self, peer: Identity | None = None) -> bool:
        """Whether this node is in sync, or this life of a peer, for all that is known here."""
        boot_id = (peer or self._me).boot_id
        members = self._membership.members()
        return any(m.synced and m.is_live for m in members if m.boot_id == boot_id)

    def _synced(self, now: float) -> None:
        if self._keys is not None:
            self._keys.serve()
        self._turns.catching_up.synced()
        self._perform(self._membership.set_synced(now))

    # Secrets -----------------------------------------------------------------------------

    def _keys_changed(self) -> None:
        """Seal and open with what is held now, and tell everybody."""
        assert self._keys is not None
        self._port.use(self._keys.keyring)
        self.links.use(self._keys.keyring)
        self.tell(self._keys.state())

    # What the operator says --------------------------------------------------------------

    async def tell_state(self, word: BackendOverride, *, timeout_s: float) -> Receipt:
        """Send an override to everybody; who has taken it in."""
        return await self._words.tell(word, self._others, timeout_s=timeout_s)

    async def broadcast(self, topic: Topic, payload: Payload, *, timeout_s: float) -> Receipt:
        """Tell all live members, and wait for their acknowledgements."""
        return await self.broadcasts.tell(topic, payload, self._others, timeout_s=timeout_s)

    def _is_deaf_to_broadcasts(self, peer: NodeName) -> bool:
        link = self.links.to(peer)
        return link is not None and not link.dialect.has(Feature.BROADCAST)

    def _others(self) -> list[NodeName]:
        members = self._membership.members()
        return [m.name for m in members if m.is_live and m.name != self._me.name]

    def tell(self, word: Message, but: NodeName | None = None) -> None:
        """Send it on all streams but that to `but`, and do not wait for anybody's word."""
        for link in self.links.all():
            if link.name != but:
                link.tell(word)
                link.flush()

    def forget(self, name: NodeName) -> None:
        """The dead member `name` does not come back: nobody counts it any more."""
        self._perform(self._membership.forget(name, self._now()))

    def leave(self) -> None:
        """Tell everybody that this node leaves for good; it takes no part from then on."""
        self._is_leaving = True
        self._perform(self._membership.leave(self._now()))
