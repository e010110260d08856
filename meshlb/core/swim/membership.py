"""Membership as one machine: events in, effects out.

    receive(event, now)   what came from the network, the streams, the loop's ticker
    handle_timer(now)     probes, suspicions, relayed pings, contacts, push-pull
    leave, set_synced, forget, set_seeds     what the node and its operator decide

Owns: how probe, suspicion, gossip and view play together, and what this node says of itself.
Must not know: sockets, seals, clocks, the stick table. Spec: protocol/spec/membership.md.
"""

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlb.core.swim.broadcast import SizeOf, size_bound_bytes
from meshlb.core.swim.contact import Contacts
from meshlb.core.swim.events import (
    Contact,
    DatagramReceived,
    Effect,
    Event,
    Lagged,
    Refused,
    StreamClosed,
    StreamOpened,
    StreamReceived,
)
from meshlb.core.swim.exchange import Exchange
from meshlb.core.swim.health import Health
from meshlb.core.swim.isolation import Isolation
from meshlb.core.swim.member import INCARNATION_MAX, Member, Outcome, is_contested
from meshlb.core.swim.outbox import Outbox, ReturnPath
from meshlb.core.swim.probe import Prober
from meshlb.core.swim.relay import Relay
from meshlb.core.swim.report import Reporter
from meshlb.core.swim.suspicion import Suspicions
from meshlb.core.swim.timings import Timings
from meshlb.core.swim.view import Change, Ownership, View
from meshlb.model import Address, BootId, MemberState, NodeName
from meshlb.wire.messages import Ack, MemberUpdate, Message, Nack, Ping, PingRequest, PushPull
from meshlb.wire.refusal import Refusal
from meshlb.wire.versions import OURS, Versions

if TYPE_CHECKING:
    from random import Random


class Membership:
    """One node's part in membership. See the module's docstring for its methods.

    Args:
        name, address, boot_id: this node, where it is reached, and this start of it.
        incarnation: the wall clock in milliseconds at the start, so that it is above that of an
            earlier life; if it is not, because the clock went back, the others say so.
        timings, rng: one of the profiles, and the only source of chance.
        now: monotonic seconds; no timer is due before.
        seeds, has_unresolved: addresses to join by, see `View.expect`; our own is skipped.
        size_of: an upper bound of a message's encoded size in bytes.
    """

    def __init__(
        self,
        *,
        name: NodeName,
        address: Address,
        boot_id: BootId,
        incarnation: int,
        timings: Timings,
        rng: "Random",
        now: float,
        seeds: Iterable[Address] = (),
        has_unresolved: bool = False,
        size_of: SizeOf = size_bound_bytes,
        versions: Versions = OURS,
    ) -> None:
        me = Member.born(name, address, boot_id, incarnation, versions=versions, now=now)
        sequence = itertools.count(1)
        self._name = name
        self._timings = timings
        self._rng = rng
        self._view = View(me)
        self._view.expect(seeds := tuple(seeds), has_unresolved=has_unresolved)
        self._health = Health(lag_ill_s=timings.ping_timeout_s)
        self._outbox = Outbox(self._view, size_of)
        self._reporter = Reporter(self._view, self._outbox)
        self._isolation = Isolation(
            self._view, self._reporter, silence_s=timings.suspicion_s, now=now
        )
        self._suspicions = Suspicions(timings, self._view.live_count)
        self._relay = Relay(outbox=self._outbox, timings=timings, sequence=sequence)
        self._prober = Prober(
            view=self._view,
            outbox=self._outbox,
            health=self._health,
            timings=timings,
            rng=rng,
            sequence=sequence,
            now=now,
        )
        self._contacts = Contacts(seeds, timings, rng)
        self._exchange = Exchange(self._view, self._outbox, timings, rng, now)
        self._has_left = False
        self._contacts.follow(self._view, self._outbox.streams, now)

    # What the node can ask.

    @property
    def me(self) -> Member:
        """This node as the others see it."""
        return self._view.me

    @property
    def ownership(self) -> Ownership:
        """The ownership view that the last `ViewChanged` told of."""
        return self._reporter.ownership

    @property
    def is_whole(self) -> bool:
        """Nobody is dead, and somebody was met at each address to join by."""
        return self._view.is_whole

    @property
    def health_score(self) -> int:
        """0 is well; up to `SCORE_MAX` the slower this node's own network or loop is."""
        return self._health.score

    def members(self) -> tuple[Member, ...]:
        """Every known member in any state, this node first."""
        return self._view.all()

    def refusal(self, *, name: NodeName, boot_id: BootId, address: Address) -> Refusal | None:
        """Why a handshake from such a node must be refused; None where it need not."""
        return self._view.refusal(name, boot_id, address)

    # The machine.

    def receive(self, event: Event, now: float) -> list[Effect]:
        """Take in what happened."""
        if self._has_left:
            return []
        match event:
            case DatagramReceived(sender, source, messages, boot_id):
                self._receive_from(ReturnPath(sender, source), boot_id, messages, now)
            case StreamReceived(sender, messages):
                self._receive_from(ReturnPath(sender, None), None, messages, now)
            case StreamOpened(peer):
                self._outbox.streams[peer] = None
                self._exchange.tell(peer, wants_reply=False)
                self._contacts.follow(self._view, self._outbox.streams, now)
            case StreamClosed(peer):
                self._outbox.streams.pop(peer, None)
                if self._view.get(peer):
                    self._prober.rotation.hasten(peer)
                self._contacts.follow(self._view, self._outbox.streams, now)
            case Lagged(lag_s):
                self._allow_for_lag(since=now - lag_s, now=now)
        return self._outbox.drain()

    def next_deadline(self) -> float | None:
        """When `handle_timer` has something to do; None after `leave`."""
        if self._has_left:
            return None
        return min(
            self._prober.next_deadline(),
            self._suspicions.next_deadline(),
            self._isolation.next_deadline(),
            self._relay.next_deadline(),
            self._contacts.next_deadline(),
            self._exchange.next_deadline(),
        )

    def handle_timer(self, now: float) -> list[Effect]:
        """Do all that is due. Called far too late, it first doubts its own beliefs."""
        if (due_at := self.next_deadline()) is None:
            return []
        self._allow_for_lag(since=due_at, now=now)
        if (failed := self._prober.advance(now)) is not None:
            self._isolation.probe_failed()
            self._accuse(failed, MemberState.SUSPECT, now)
        self._isolation.handle_timer(now)
        given_up, reprieved = self._suspicions.take_expired(now)
        for name in given_up:
            self._accuse(name, MemberState.DEAD, now)
        for name in reprieved:
            self._prober.rotation.hasten(name)
        self._relay.expire(now)
        for address in self._contacts.take_due(now):
            self._outbox.emit(Contact(address))
        self._exchange.handle_timer(now)
        return self._outbox.drain()

    # What the node decides.

    def leave(self, now: float) -> list[Effect]:
        """Leave for good: tell everybody at once; from then on this machine is inert."""
        if self._has_left:
            return []
        peers = [m.name for m in self._view.others(MemberState.ALIVE, MemberState.SUSPECT)]
        update = replace(self.me.update(), state=MemberState.LEFT, reporter=self._name)
        self._apply(update, now)
        self._outbox.announce_last(update, peers)
        self._has_left = True
        return self._outbox.drain()

    def set_synced(self, now: float) -> list[Effect]:
        """This node holds the whole table and may own slots."""
        if not (self._has_left or self.me.synced):
            self._say_of_myself(replace(self.me.update(), synced=True), now)
        return self._outbox.drain()

    def set_seeds(
        self, seeds: Iterable[Address], now: float, *, has_unresolved: bool = False
    ) -> list[Effect]:
        """Join by these addresses from now on, for example after a name was resolved anew."""
        self._contacts.seeds = tuple(seeds)
        self._view.expect(self._contacts.seeds, has_unresolved=has_unresolved)
        self._reporter.review()
        self._contacts.follow(self._view, self._outbox.streams, now)
        return self._outbox.drain()

    def seed_met(self, address: Address) -> None:
        """A dial there found a member or this node; the effects come with the next event's.

        It counts once all peers are known: one that has died before it said a word must go on
        counting as somebody who is not here.
        """
        if all(self._view.get(peer) is not None for peer in self._outbox.streams):
            self._view.meet(address)
            self._reporter.review()

    def forget(self, name: NodeName, now: float) -> list[Effect]:
        """An operator's word that a dead member will not come back: it counts as having left."""
        known = self._view.get(name)
        if known is not None and known.state is MemberState.DEAD and not self._has_left:
            self._accuse(name, MemberState.LEFT, now)
        return self._outbox.drain()

    # What others say.

    def _receive_from(
        self,
        path: ReturnPath,
        boot_id: BootId | None,
        messages: tuple[Message, ...],
        now: float,
    ) -> None:
        if path.peer == self._name:
            if boot_id not in (None, self.me.boot_id):
                self._outbox.emit(Refused(path.peer, Refusal.NAME_TAKEN))
            return
        self._isolation.heard(now)
        if (known := self._view.get(path.peer)) is not None:
            self._note_life(known, boot_id, path)
        for message in messages:
            match message:
                case MemberUpdate():
                    self._hear(message, path, now)
                case Ping(seq, target) if target == self._name:
                    stranger = () if known else (self.me.update(),)
                    self._outbox.answer(path, Ack(seq), *stranger)
                case PingRequest() if known:
                    self._relay.requested(message, path, now)
                case Ack(seq):
                    if not self._prober.acked(seq, path.peer):
                        self._relay.acked(seq, path.peer)
                case Nack(seq):
                    self._prober.nacked(seq, path.peer)
                case PushPull(members, wants_reply):
                    for update in members:
                        self._hear(update, path, now)
                    if wants_reply and path.source is None:
                        self._exchange.tell(path.peer, wants_reply=False)
                case _:
                    """Not ours, or for somebody else."""

    def _note_life(self, known: Member, boot_id: BootId | None, path: ReturnPath) -> None:
        """A packet of `known`, or of another boot of its name, came."""
        same_boot = boot_id is None or boot_id == known.boot_id
        if same_boot:
            self._suspicions.heard_from(known.name)
            self._prober.heard_from(known.name)
        if not same_boot or known.state is not MemberState.ALIVE:
            self._outbox.answer(path, known.update())

    def _hear(self, told: MemberUpdate, path: ReturnPath, now: float) -> None:
        if told.incarnation > INCARNATION_MAX:
            return
        if told.name == self._name:
            self._hear_of_myself(told, path, now)
            return
        known = self._view.get(told.name)
        first_hand = told.name == path.peer
        if known is not None and is_contested(known, told):
            if first_hand:
                self._outbox.emit(Refused(told.name, Refusal.NAME_TAKEN))
                self._outbox.answer(path, known.update())
            return
        told = self._tempered(told, known)
        change = self._apply(told, now)
        if change.after is None:
            if first_hand:
                self._outbox.emit(Refused(told.name, Refusal.CLUSTER_FULL))
        elif change.outcome is Outcome.CONFIRMED:
            if self._suspicions.accuse(told.name, told.reporter, now):
                self._outbox.gossip(told)
        elif change.outcome is Outcome.STALE:
            if first_hand and told.incarnation < change.after.incarnation:
                self._outbox.answer(path, change.after.update())
        elif first_hand and change.outcome in (
            Outcome.JOINED,
            Outcome.RESTARTED,
            Outcome.RETURNED,
        ):
            self._outbox.announce(told)
        elif change.before is not None or told.state is not MemberState.LEFT:
            self._outbox.gossip(told)

    def _tempered(self, told: MemberUpdate, known: Member | None) -> MemberUpdate:
        """Believe that a member is dead only if it was suspected here and silent since.

        Otherwise the verdict is heard as an accusation. So a node that receives nothing cannot
        kill the others by its word, and two halves of a healed partition doubt each other's
        stale verdicts instead of following them.
        """
        if told.state is not MemberState.DEAD or known is None or not known.is_live:
            return told
        if self._suspicions.is_silent(told.name):
            return told
        return replace(told, state=MemberState.SUSPECT)

    def _hear_of_myself(self, told: MemberUpdate, path: ReturnPath, now: float) -> None:
        me = self.me
        earlier_boot = told.boot_id != me.boot_id
        if earlier_boot and told.address != me.address and told.state <= MemberState.SUSPECT:
            self._outbox.emit(Refused(path.peer, Refusal.NAME_TAKEN))
            return
        if not earlier_boot and told.state is MemberState.ALIVE:
            return
        if (told.incarnation, told.boot_id, told.state) > (me.incarnation, me.boot_id, me.state):
            if not earlier_boot:
                self._health.was_accused()
            self._say_of_myself(replace(me.update(), incarnation=told.incarnation), now)
        accuser = self._view.get(told.reporter)
        if accuser is not None and accuser.name not in (path.peer, self._name):
            self._outbox.datagram(accuser.address, accuser.name, self.me.update())
        self._outbox.answer(path, self.me.update())

    # What this node says.

    def _say_of_myself(self, update: MemberUpdate, now: float) -> None:
        """Tell everybody, under an incarnation above that of `update`."""
        raised = replace(update, incarnation=update.incarnation + 1, reporter=self._name)
        self._apply(raised, now)
        self._outbox.announce(raised)

    def _accuse(self, name: NodeName, state: MemberState, now: float) -> None:
        """Say first-hand that a member is in `state`."""
        if (known := self._view.get(name)) is None:
            return
        told = replace(known.update(), state=state, reporter=self._name)
        change = self._apply(told, now)
        if change.outcome.replaces or (
            change.outcome is Outcome.CONFIRMED and self._suspicions.accuse(name, self._name, now)
        ):
            self._outbox.announce(told)

    # What follows from a change.

    def _apply(self, told: MemberUpdate, now: float) -> Change:
        change = self._view.apply(told, now)
        before, after = change.before, change.after
        if after is None or not change.outcome.replaces:
            return change
        if after.state is MemberState.SUSPECT:
            self._suspicions.restart(after.name, after.reporter, now)
            self._prober.rotation.hasten(after.name)
        else:
            self._suspicions.clear(after.name)
        if after.is_live and not (before and before.is_live):
            self._prober.rotation.insert(after.name)
        self._reporter.report(before, after, change.outcome.value)
        self._contacts.follow(self._view, self._outbox.streams, now)
        return change

    def _allow_for_lag(self, *, since: float, now: float) -> None:
        """This node was late from `since` to `now`; nobody else may be blamed for that."""
        lag_s = self._health.credit_lag(since=since, now=now)
        if lag_s >= self._timings.pause_s:
            self._prober.start_over(now)
            self._isolation.start_over(now)
            self._relay.clear()
            for suspect in self._suspicions.start_over(self._name, now):
                self._prober.rotation.hasten(suspect)
        elif lag_s > 0:
            # The extra time is for a fresh answer, once the queues are read.
            grace_s = lag_s + self._timings.ping_timeout_s
            self._prober.postpone(grace_s)
            self._isolation.postpone(grace_s)
            self._suspicions.postpone(grace_s)
