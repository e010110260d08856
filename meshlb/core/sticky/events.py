"""What the claim machine is told and what it asks for, as values.

Owns the events and effects of `claims.ClaimMachine`. Must not know how they are carried.

Two promises of the carrier hold the agreement up:

* *Write, commit, then send*: the store is committed before any effect of a batch of events
  leaves the process.
* *One order*: what `Send` and `Stored` ask for reaches a peer in the order in which they were
  emitted. In particular a `ViewMark` travels behind every log entry of an earlier `Stored`.

Spec: protocol/spec/pins.md, "Claims".
"""

from meshlb.core.sticky.pin import ClaimOutcome, Pin, Proposal
from meshlb.model import BootId, NodeName, SessionKey, value
from meshlb.wire.messages import (
    BucketPins,
    Claim,
    ClaimAnswer,
    Delta,
    PullChunk,
    Replicate,
    ReplicateAnswer,
    ViewMark,
)

PeerWord = (
    Claim | ClaimAnswer | Replicate | ReplicateAnswer | ViewMark | Delta | PullChunk | BucketPins
)
"""The messages that the claim machine reads; merging what they bring is its work too."""


@value
class ClaimStarted:
    """This node wants a pin; `token`, chosen by the caller, comes back in `ClaimDone`."""

    token: int
    proposal: Proposal


@value
class PeerMessages:
    """What an authenticated stream has brought, in its order."""

    sender: NodeName
    messages: tuple[PeerWord, ...]


@value
class ViewChanged:
    """The members that may own slots, sorted; see `meshlb.core.swim`.

    `view_id` names the set of owners and their boots; `quorate`: they are a majority.
    """

    owners: tuple[NodeName, ...]
    view_id: int
    quorate: bool


@value
class PeerConnected:
    """A new stream with `peer` is up; nothing that went before on another one counts.

    `is_apart`: this node may hold what `peer` has never heard of, until `TablesMet`.
    """

    peer: NodeName
    boot_id: BootId
    is_apart: bool = False


@value
class PeerFed:
    """All of our log that `peer` lacked when its stream came up is queued on that stream."""

    peer: NodeName


@value
class TablesMet:
    """All that this node's table held when its stream with `peer` came up, `peer` holds as well."""

    peer: NodeName


@value
class PeerLost:
    """There is no stream with `peer` any more; what was sent last may not have arrived."""

    peer: NodeName


@value
class SuspectsChanged:
    """These members may be dead, and no others: nobody waits for them for long."""

    suspects: frozenset[NodeName]


Event = (
    ClaimStarted
    | PeerMessages
    | ViewChanged
    | PeerConnected
    | PeerFed
    | TablesMet
    | PeerLost
    | SuspectsChanged
)


@value
class Send:
    """Queue `message` on the stream to `peer`; drop it where there is none."""

    peer: NodeName
    message: PeerWord


@value
class Stored:
    """Append the pin to this node's replication log, and so send it to every peer.

    It is in the store already.
    """

    key: SessionKey
    pin: Pin


@value
class ClaimDone:
    """The claim of `token` has ended with `pin`."""

    token: int
    pin: Pin
    outcome: ClaimOutcome


Effect = Send | Stored | ClaimDone
