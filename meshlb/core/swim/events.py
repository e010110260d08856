"""What membership is told and what it asks for, as values.

Owns: the events and effects of `Membership`. Must not know: how they are carried.
Spec: protocol/spec/membership.md.
"""

from dataclasses import dataclass

from meshlb.core.swim.member import Member
from meshlb.model import Address, BootId, MemberState, NodeName
from meshlb.wire.messages import Message
from meshlb.wire.refusal import Refusal


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """An authenticated datagram. `sender` and `boot_id` are what its seal vouches for.

    Give it also without messages of membership: any packet from a member is a sign of life.
    `boot_id` None means that the carrier does not know it; it then counts as the known one.
    """

    sender: NodeName
    source: Address
    messages: tuple[Message, ...]
    boot_id: BootId | None = None


@dataclass(frozen=True, slots=True)
class StreamReceived:
    """Messages of an authenticated stream; empty where they were none of membership's."""

    sender: NodeName
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """A stream to `peer` is ready, whoever dialled it. Both ends get this event.

    A second one without a `StreamClosed` between means that the stream was replaced.
    """

    peer: NodeName


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """There is no stream to `peer` any more; a hint to look at it, no proof of death."""

    peer: NodeName


@dataclass(frozen=True, slots=True)
class Lagged:
    """The event loop ran `lag_s` late until now; what others sent may still lie in a queue."""

    lag_s: float


Event = DatagramReceived | StreamReceived | StreamOpened | StreamClosed | Lagged


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Seal `messages` for `peer` and send them to `to`; the loss of them is expected."""

    to: Address
    peer: NodeName
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class SendStream:
    """Send `messages` on the open stream to `peer`; drop them if it closed meanwhile."""

    peer: NodeName
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """The view holds `member` now; `previous_state` is None for one never seen before.

    `reason` is the value of an `Outcome`: joined, restarted, returned, updated, suspected,
    refuted, died or left. The carrier keeps a stream to every ALIVE and SUSPECT member.
    """

    member: Member
    previous_state: MemberState | None
    reason: str


@dataclass(frozen=True, slots=True)
class ViewChanged:
    """Who may own slots: ALIVE or SUSPECT members that are synced, sorted by name.

    `view_id` is a 64-bit hash of their names and boot ids, `quorate` whether the members that
    are not dead outnumber the dead ones (those that left do not count).
    """

    owners: tuple[NodeName, ...]
    view_id: int
    quorate: bool


@dataclass(frozen=True, slots=True)
class Contact:
    """Dial this address, a seed or a dead member; repeated for ever with backoff."""

    address: Address


@dataclass(frozen=True, slots=True)
class Refused:
    """`peer` was refused, or told us that we are: NAME_TAKEN or CLUSTER_FULL."""

    peer: NodeName
    reason: Refusal


Effect = SendDatagram | SendStream | MemberChanged | ViewChanged | Contact | Refused
