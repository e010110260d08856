"""The messages that members exchange, as frozen values; `codec` turns them into bytes.

Field types are the schema: `codec` reads the annotations, and a test compares them with
`protocol/messages.toml`. Times are durations, never clock readings.

Spec: protocol/spec/messages.md.
"""

import enum
from typing import NewType

from meshlb.model import (
    Address,
    BackendName,
    BackendState,
    BootId,
    KeySource,
    MemberState,
    NodeName,
    PoolName,
    SessionKey,
    value,
)
from meshlb.wire.broadcast_words import Broadcast, BroadcastAck
from meshlb.wire.challenge import Challenge, ChallengeAnswer
from meshlb.wire.key_words import KeyringState
from meshlb.wire.runs import Hash64, TableRun


@value
class MemberUpdate:
    """What `reporter` says of one member; merged by (boot_id, incarnation, state)."""

    name: NodeName
    address: Address
    boot_id: BootId
    incarnation: int
    state: MemberState
    synced: bool
    """The member holds the whole table and may own slots."""
    reporter: NodeName
    version_min: int = 0
    """What the member speaks, see protocol/spec/versions.md; 0 and 0 where the teller does not
    know."""
    version_max: int = 0
    features: int = 0


@value
class Ping:
    """Are you `target`? Answered by an Ack with the same `seq`. Datagram or stream."""

    seq: int
    target: NodeName


@value
class PingRequest:
    """Please ping `target` at `address` for me, and pass its Ack on or send a Nack."""

    seq: int
    target: NodeName
    address: Address


@value
class Ack:
    """The answer to a Ping or to a successful PingRequest."""

    seq: int


@value
class Nack:
    """The answer to a PingRequest whose target was silent: the helper itself is alive."""

    seq: int


@value
class PushPull:
    """The sender's whole view; answered in kind where `wants_reply` is set. Stream only."""

    members: tuple[MemberUpdate, ...]
    wants_reply: bool


class Rank(enum.IntEnum):
    """How firmly a pin was made; the higher rank wins a merge."""

    PROVISIONAL = 0
    MINORITY = 1
    QUORATE = 2


@value
class PinRecord:
    """A pin with its key, as it travels. An empty backend is a tombstone."""

    key: SessionKey
    pool: PoolName
    backend: BackendName
    by: KeySource
    epoch: int
    rank: Rank
    stamp_ms: int
    """Orders pins; drawn by the node that made this one from its hybrid logical clock. Never
    read as a time by the merge; shown to people as the wall-clock time of the pin."""
    claimer: NodeName
    """The node whose client asked for the pin."""
    expires_in_ms: int
    """What remains of its idle lifetime when the message is sent."""
    ends_in_ms: int
    """What remains of its absolute lifetime (`max_age`), at least 1; 0 where it has none."""


@value
class Claim:
    """Asks the home of `key` for its pin; `backend` is what the claimer proposes.

    `moved_from` names the backend that the claimer found unusable, pinned under
    `moved_from_epoch`; it is empty for a first claim.
    """

    request: int
    key: SessionKey
    pool: PoolName
    backend: BackendName
    by: KeySource
    ttl_ms: int
    max_age_ms: int
    """Bounds the pin's lifetime whatever its use; 0 where nothing does."""
    moved_from: BackendName
    moved_from_epoch: int
    hedged: bool
    """Sent to the backup because the home was silent."""


class Verdict(enum.IntEnum):
    """The answer to a Claim or a Replicate."""

    DONE = 0
    EXISTS = 1
    """There is a live pin already; it comes with the answer."""
    FENCED = 2
    """The answerer believes that another member is home."""
    NOT_READY = 3
    """The answerer's hand-off is not complete; ask again."""


@value
class ClaimAnswer:
    """The home's answer; `pin` is present for DONE and EXISTS."""

    request: int
    verdict: Verdict
    pin: PinRecord | None


@value
class Replicate:
    """The home asks the backup to hold `pin` before the home confirms it."""

    request: int
    view_id: int
    pin: PinRecord


@value
class ReplicateAnswer:
    """The backup's answer; for EXISTS, `pin` is the one that wins."""

    request: int
    verdict: Verdict
    pin: PinRecord | None


@value
class Delta:
    """What the sender's replication log holds after `after_seq`, up to and including `upto_seq`.

    What a later entry supersedes is left out. Who has not merged all up to `after_seq` pulls.
    """

    boot_id: BootId
    after_seq: int
    upto_seq: int
    pins: tuple[PinRecord, ...]


@value
class DeltaAck:
    """All entries of your log up to and including `seq` are merged here.

    Also the first message about pins on a new stream: go on after `seq`. Of another `boot_id`
    than yours, or 0: this peer has nothing of your log yet.
    """

    boot_id: BootId
    seq: int


@value
class PullRequest:
    """Asks for the whole table, in PullChunks; with `packed`, in TableRuns if it may be."""

    request: int
    packed: bool = False


@value
class PullChunk:
    """A part of the table; the last one has `last` set."""

    request: int
    pins: tuple[PinRecord, ...]
    last: bool


@value
class ViewMark:
    """The sender's ownership view is `view_id`, and all that it confirmed before went ahead."""

    view_id: int


BucketNumber = NewType("BucketNumber", int)
"""The first 12 bits of the keys of one bucket, 0 to 4,095."""


@value
class Position:
    """How far the sender has merged the log of `origin`."""

    origin: NodeName
    boot_id: BootId
    seq: int


@value
class Digest:
    """Where the sender's log ends, what it has merged of others' logs, and its table in a number.

    All of its log up to `seq` went ahead on this stream. `positions` has those that are new since
    the last Digest on it.
    """

    boot_id: BootId
    seq: int
    table: int | None
    """The XOR of the hashes of all records; None until the sender has read its disk."""
    positions: tuple[Position, ...]


@value
class BucketHashes:
    """Compare your table with mine: the hashes of all 4,096 buckets, in order."""

    request: int
    hashes: tuple[Hash64, ...]


@value
class BucketsDiffering:
    """Buckets that differ, with the hashes of the answerer's live records in them."""

    request: int
    buckets: tuple[BucketNumber, ...]
    hashes: tuple[Hash64, ...]
    last: bool


@value
class KeyHash:
    """One live record, in short."""

    key: SessionKey
    hash: Hash64


@value
class BucketKeys:
    """All live records of the asker whose keys are from `first` to `final`."""

    request: int
    first: SessionKey
    final: SessionKey
    keys: tuple[KeyHash, ...]
    last: bool
    """Nothing more is to be compared."""


@value
class BucketPins:
    """What differs in the range of a BucketKeys: the answerer's pins, and the keys it lacks."""

    request: int
    pins: tuple[PinRecord, ...]
    wanted: tuple[SessionKey, ...]
    last: bool
    """The range of the BucketKeys is done."""


@value
class BackendOverride:
    """An operator's word on a backend, cluster-wide; the greatest (stamp_ms, by) wins."""

    pool: PoolName
    backend: BackendName
    state: BackendState
    stamp_ms: int
    by: NodeName


TYPE_IDS: dict[int, type] = {
    1: Ping,
    2: PingRequest,
    3: Ack,
    4: Nack,
    5: MemberUpdate,
    6: PushPull,
    7: Challenge,
    8: ChallengeAnswer,
    16: Claim,
    17: ClaimAnswer,
    18: Replicate,
    19: ReplicateAnswer,
    20: Delta,
    21: DeltaAck,
    22: PullRequest,
    23: PullChunk,
    24: ViewMark,
    25: BackendOverride,
    26: KeyringState,
    27: TableRun,
    32: Digest,
    33: BucketHashes,
    34: BucketsDiffering,
    35: BucketKeys,
    36: BucketPins,
    40: Broadcast,
    41: BroadcastAck,
}
"""The number that opens each message on the wire."""

Message = (
    Ping
    | PingRequest
    | Ack
    | Nack
    | MemberUpdate
    | PushPull
    | Challenge
    | ChallengeAnswer
    | Claim
    | ClaimAnswer
    | Replicate
    | ReplicateAnswer
    | Delta
    | DeltaAck
    | PullRequest
    | PullChunk
    | TableRun
    | ViewMark
    | BackendOverride
    | KeyringState
    | Digest
    | BucketHashes
    | BucketsDiffering
    | BucketKeys
    | BucketPins
    | Broadcast
    | BroadcastAck
)

DATAGRAM_ONLY: frozenset[type] = frozenset({PingRequest, Nack, Challenge, ChallengeAnswer})

DATAGRAM_MESSAGES: frozenset[type] = DATAGRAM_ONLY | {Ping, Ack, MemberUpdate}
"""What may travel in a datagram."""

STREAM_MESSAGES: frozenset[type] = frozenset(TYPE_IDS.values()) - DATAGRAM_ONLY
"""What may travel on a stream."""
