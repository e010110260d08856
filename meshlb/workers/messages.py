"""What a member and its workers say to each other, and its bytes.

Owns the messages and their encoding. Both ends are of one program and one version, so there is no
negotiation; but a worker reads what strangers send, so what comes from one is checked field by
field, and never unpickled. Settings go the other way, and only that way, as a pickle.

A batch is an array of messages; a message is an array of its number and its fields.
"""

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgpack

from meshlb.config.schema import Settings
from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.errors import WorkerError
from meshlb.model import (
    SESSION_KEY_BYTES,
    BackendName,
    BackendState,
    KeySource,
    NodeName,
    PoolName,
    SessionKey,
)
from meshlb.wire.messages import Rank
from meshlb.workers.board import BackendId

# From the member -----------------------------------------------------------------------------


class Setup(NamedTuple):
    """All that a worker needs; the descriptors of the board and of the listeners come with it."""

    number: int
    """Of this worker, from 1; its row on the board."""
    workers: int
    settings: bytes
    """See `pack_settings`."""
    places: list[list[Any]]
    """See `pack_places`."""
    listeners: list[str]
    """Whose sockets they are, in their order, behind the board."""
    directory: str
    """Where the store is."""
    clock_ahead_s: float
    """By how much table time is ahead of the monotonic clock."""
    is_strict: bool
    cookie_secrets: list[bytes]
    key_secret: bytes


class Answer(NamedTuple):
    """The end of a claim."""

    token: int
    pin: list[Any] | None
    """None: refused, for `reason`."""
    reason: str


class States(NamedTuple):
    """Backends whose state has changed: pool, name, healthy, ordered state."""

    serial: int
    """What the worker says in its `Seen`."""
    backends: list[list[Any]]


class Secrets(NamedTuple):
    """Seal, open and hash with other secrets from now on."""

    cookie_secrets: list[bytes]
    key_secret: bytes


class Open(NamedTuple):
    """Let clients in."""


class Drain(NamedTuple):
    """Accept nobody new, and end once all clients have gone, or after `timeout_s`."""

    timeout_s: float


class Pause(NamedTuple):
    """Begin nothing: another process of this node is about to take over.

    `Obeyed` comes once nobody waits for a decision, or after `timeout_s`; the store is not read
    from then on.
    """

    timeout_s: float


class Give(NamedTuple):
    """Give every connection to other processes, within `timeout_s`; then comes `Obeyed`."""

    lines: int
    """So many sockets come with it, each the end of a line to one of them; see `proxy.moving`."""
    timeout_s: float


class Resume(NamedTuple):
    """No other process has taken over: go on after `Pause` with who is left."""

    directory: str
    """Where the store is."""
    clock_ahead_s: float
    """By how much table time is ahead of the monotonic clock."""


class Take(NamedTuple):
    """Go on with the connections of another process; the end of a line to it comes with this."""


class Change(NamedTuple):
    """Serve by other settings; the listeners' sockets come with it."""

    serial: int
    settings: bytes
    places: list[list[Any]]
    listeners: list[str]
    backends: list[list[Any]]
    """The state of all backends, as in `States`."""


# From a worker -------------------------------------------------------------------------------


class Loaded(NamedTuple):
    """It has loaded the program, and knows nothing yet."""


class Ready(NamedTuple):
    """It is set up, and waits for `Open`."""


class Accepting(NamedTuple):
    """It lets clients in."""


class Claim(NamedTuple):
    """A claim; `Answer` comes with the same token."""

    token: int
    proposal: list[Any]


class Plant(NamedTuple):
    """A pin that nobody can be claiming."""

    proposal: list[Any]
    epoch: int | None


class Touch(NamedTuple):
    """A pin was used."""

    key: bytes
    backend: str
    epoch: int
    ttl_s: float


class Doubt(NamedTuple):
    """A connect to a backend has failed."""

    pool: str
    backend: str


class Seen(NamedTuple):
    """It goes by the states or settings of that number from now on."""

    serial: int


class Obeyed(NamedTuple):
    """It has done as `Pause` or `Give` say."""

    fault: str
    """What has gone wrong; empty: nothing."""


class Tally(NamedTuple):
    """What it has counted since its start; see `meshlb.workers.tally`."""

    counts: list[Any]


Message = (
    Setup
    | Answer
    | States
    | Secrets
    | Open
    | Drain
    | Pause
    | Give
    | Resume
    | Take
    | Change
    | Loaded
    | Ready
    | Accepting
    | Claim
    | Plant
    | Touch
    | Doubt
    | Seen
    | Obeyed
    | Tally
)

_KINDS: Final[tuple[Callable[..., Message], ...]] = (
    Setup,
    Answer,
    States,
    Secrets,
    Open,
    Drain,
    Pause,
    Give,
    Resume,
    Take,
    Change,
    Loaded,
    Ready,
    Accepting,
    Claim,
    Plant,
    Touch,
    Doubt,
    Seen,
    Obeyed,
    Tally,
)
_NUMBERS: Final[Mapping[Any, int]] = {kind: number for number, kind in enumerate(_KINDS)}


def encode(message: Message) -> bytes:
    """One message of a batch."""
    encoded: bytes = msgpack.packb((_NUMBERS[type(message)], *message))
    return encoded


def decode(batch: bytes) -> list[Message]:
    """The messages of a batch.

    Raises:
        WorkerError: it is not one.
    """
    try:
        unpacker = msgpack.Unpacker(max_buffer_size=len(batch), strict_map_key=True)
        unpacker.feed(batch)
        return [_KINDS[number](*fields) for number, *fields in unpacker]
    except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
        raise WorkerError(f"a message is not as it should be: {error}") from error


# Values --------------------------------------------------------------------------------------


def pack_settings(settings: Settings) -> bytes:
    """What a data plane needs of the configuration."""
    return pickle.dumps((settings.node, settings.listeners, dict(settings.pools)))


def unpack_settings(packed: bytes) -> Settings:
    """From the member, and from nobody else."""
    node, listeners, pools = pickle.loads(packed)
    return Settings.model_construct(node=node, listeners=listeners, pools=pools)


def pack_places(places: Mapping[BackendId, int]) -> list[list[Any]]:
    """The places of backends on the board."""
    return [[pool, backend, place] for (pool, backend), place in places.items()]


def unpack_places(packed: Iterable[Sequence[Any]]) -> dict[BackendId, int]:
    """The inverse."""
    return {(PoolName(pool), BackendName(name)): place for pool, name, place in packed}


def pack_pin(pin: Pin) -> list[Any]:
    """A pin; its times are table time, which is one clock on one machine."""
    return [
        pin.pool,
        pin.backend,
        pin.by.value,
        pin.epoch,
        pin.rank.value,
        pin.stamp_ms,
        pin.claimer,
        pin.expires_at,
        pin.ends_at,
    ]


def unpack_pin(packed: Sequence[Any]) -> Pin:
    """The inverse."""
    pool, backend, by, epoch, rank, stamp_ms, claimer, expires_at, ends_at = packed
    return Pin(
        PoolName(pool),
        BackendName(backend),
        KeySource(by),
        epoch,
        Rank(rank),
        stamp_ms,
        NodeName(claimer),
        expires_at,
        ends_at,
    )


def pack_proposal(proposal: Proposal) -> list[Any]:
    """A proposal."""
    return [
        proposal.key,
        proposal.pool,
        proposal.backend,
        proposal.by.value,
        proposal.ttl_s,
        proposal.max_age_s,
        proposal.moved_from,
        proposal.moved_from_epoch,
    ]


def unpack_proposal(packed: Sequence[Any]) -> Proposal:
    """The inverse.

    Raises:
        WorkerError: it is none that a worker of this version makes.
    """
    try:
        key, pool, backend, by, ttl_s, max_age_s, moved_from, moved_from_epoch = packed
        return Proposal(
            session_key(key),
            PoolName(_text(pool)),
            BackendName(_text(backend)),
            KeySource(by),
            float(ttl_s),
            None if max_age_s is None else float(max_age_s),
            BackendName(_text(moved_from)),
            _whole(moved_from_epoch),
        )
    except (ValueError, TypeError) as error:
        raise WorkerError(f"a proposal is not as it should be: {error}") from error


def session_key(key: object) -> SessionKey:
    """A key, if it is one.

    Raises:
        WorkerError: it is not.
    """
    if type(key) is not bytes or len(key) != SESSION_KEY_BYTES:
        raise WorkerError("a session key is not as it should be")
    return SessionKey(key)


def backend_state(packed: Sequence[Any]) -> tuple[BackendId, bool, BackendState]:
    """A backend of `States`: which one, whether it is well, and what was ordered."""
    pool, name, healthy, ordered = packed
    return (PoolName(pool), BackendName(name)), healthy, BackendState(ordered)


def _text(value: object) -> str:
    if type(value) is not str:
        raise ValueError("a name is no text")
    return value


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a number is no whole number")
    return value
