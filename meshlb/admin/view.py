"""The values that the admin API hands out.

Owns the shape of every answer: the fields here are the fields of the JSON. It must not know how a
node comes by them. Contract: "Admin API".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshlb.errors import MeshlbError
from meshlb.model import BackendState


class AdminError(MeshlbError):
    """The client of the admin API asked for what is not there or not possible; nothing changed.

    `status` is the HTTP status, `code` a constant word for programs; `faults` lists what is wrong
    where that may be several things.
    """

    def __init__(
        self, status: int, code: str, message: str, *, faults: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.faults = faults


def unknown_pool(name: str) -> AdminError:
    """There is no pool of that name."""
    return AdminError(404, "unknown_pool", f"there is no pool {name!r}")


def unknown_member(name: str) -> AdminError:
    """The view has no dead member of that name, and no other."""
    return AdminError(404, "unknown_member", f"there is no member {name!r}")


def unknown_backend(pool: str, name: str) -> AdminError:
    """The pool has no backend of that name."""
    return AdminError(404, "unknown_backend", f"the pool {pool!r} has no backend {name!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncView:
    """How this node's table and that of a peer compared the last time."""

    age_s: float
    """How long ago that was."""
    differing_keys: int
    """They have been mended since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptView:
    """Who has acknowledged an order that went to all members; each sorted by name."""

    acknowledged: tuple[str, ...]
    waiting_for: tuple[str, ...]
    """Live members that have not within the time that the node waits."""
    gone: tuple[str, ...]
    """Members that died or left before they could."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveView:
    """A pin that moved when a partition healed."""

    key: str
    """The hash of the session key, in hexadecimal."""
    pool: str
    moved_from: str
    moved_to: str
    """Empty: unpinned on the other side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealView:
    """The end of a partition, as this node saw it."""

    at: str
    """ISO 8601, UTC."""
    members: tuple[str, ...]
    """Those that came back."""
    over: bool
    """Nothing more is counted."""
    pins_moved: int
    moves: tuple[MoveView, ...]
    """At most 1,000 of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreView:
    """Whether the stick table reaches the disk."""

    written: bool = True
    reason: str = ""
    """Why it is not written; empty where it is."""
    waiting: int = 0
    """Records that are in memory alone; lost if the node stops."""
    forgotten: int = 0
    """Records dropped since the start because too many waited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigView:
    """The configuration that the node goes by."""

    loaded_at: str = ""
    """ISO 8601, UTC."""
    failed_at: str | None = None
    """When a reload has failed since."""
    faults: tuple[str, ...] = ()
    """Why; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadView:
    """What a reload has changed."""

    changes: tuple[str, ...]
    """A line for each difference between the two files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRelayView:
    """Whether the kernel carries the bytes of tunnels by itself."""

    active: bool = False
    reason: str = ""
    """Why not; empty where it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """A process that serves clients."""

    number: int
    pid: int | None
    """None while none is there: one has ended and another one is about to start."""
    accepting: bool
    connections: int
    """Clients that it serves, tunnels apart."""
    tunnels: int
    restarts: int
    """How often it was replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeOrder:
    """A new process of this node is there, and takes over."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeView:
    """The last upgrade that has failed in this process."""

    failed_at: str | None = None
    """ISO 8601, UTC."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusView:
    """This node at a glance."""

    node: str
    version: str
    pid: int
    cluster: str | None
    """The cluster's name; None for a node that stands alone."""
    uptime_s: float
    members: Mapping[str, int]
    """How many members are `alive`, `suspect`, `dead`, `left`, this node included."""
    pins: int
    in_sync: bool
    ready: bool
    reason: str
    """Why the node is not ready; empty where it is."""
    quorate: bool
    protocol: int | None
    """The version that all live members speak; None where they have none in common."""
    listeners: Mapping[str, str]
    """The address that each listener is bound to."""
    sync: Mapping[str, SyncView] = field(default_factory=dict)
    """By peer; one that this node has no stream to, or was never compared with, is missing."""
    store: StoreView = StoreView()
    workers: tuple[WorkerView, ...] = ()
    """The processes that serve clients; none where the node is one process."""
    config: ConfigView = ConfigView()
    upgrade: UpgradeView = UpgradeView()
    kernel_relay: KernelRelayView = KernelRelayView()
    compiled: bool = False
    """The program was compiled ahead of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberView:
    """A member as this node's view knows it."""

    name: str
    address: str
    state: str
    """`alive`, `suspect`, `dead` or `left`."""
    incarnation: int
    boot_id: str
    """16 hexadecimal digits: JSON's numbers are too short."""
    synced: bool
    """The member itself says that it holds the whole table."""
    is_self: bool
    for_s: float
    """How long this node has known it in this state."""
    protocol: tuple[int, int] | None = None
    """The lowest and the highest version that it speaks; None where nobody has said so, as with
    members of version 1."""
    features: tuple[str, ...] = ()
    """Those of them that this node knows too."""
    sync: SyncView | None = None
    """As of when its table and this node's were compared; None for this node itself, where there
    is no stream, or where they were not compared yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView:
    """The latest word of an operator on a backend."""

    state: BackendState
    """`up` leaves it to the health checks."""
    by: str
    """The node at which it was said."""
    at: str
    """ISO 8601, UTC, by that node's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendView:
    """A backend as this node sees it."""

    name: str
    address: str
    state: BackendState
    weight: int
    connections: int
    """Exchanges and tunnels of this node that use it now."""
    connections_elsewhere: int
    """Those of the other nodes, as they have told within about a second."""
    pins: int
    """Live pins in this node's replica."""
    reason: str
    """What the last probe found; empty while all is well."""
    order: OrderView | None = None
    """None where no operator has spoken of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """A pool and its backends, in the order of the configuration."""

    name: str
    balance: str
    backends: tuple[BackendView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PinView:
    """A live pin of this node's replica."""

    key: str
    """The hash of the session key, in hexadecimal: the key itself is kept nowhere."""
    pool: str
    backend: str
    by: str
    epoch: int
    rank: str
    """`quorate`, `minority` or `provisional`."""
    made_by: str
    made_at: str
    """ISO 8601, UTC."""
    expires_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PinChange:
    """A step in the life of a pin, as this node saw it."""

    at: str
    """ISO 8601, UTC."""
    what: str
    """One line for people, such as `moved from s1 to s2 by lb-3: s1 is down`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a session key goes where it goes."""

    key: str
    pool: str
    backend: str
    by: str
    made_by: str
    made_at: str
    epoch: int
    """How often the pin was moved."""
    rank: str
    expires_in_s: float
    home: str
    """The member that decides about the key; empty for a node that stands alone."""
    backup: str
    backend_state: str
    history: tuple[PinChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyView:
    """One of the cluster's secrets, by its id; the secret itself is never shown."""

    id: str
    """8 hexadecimal digits."""
    sealing: bool
    """This node seals with it."""
    members: Mapping[str, str]
    """What each member that has not left does with it: `sealing`, `held`, `missing`, or
    `unknown` where it has said nothing since this node started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStep:
    """A step of a rotation, and who has acknowledged it."""

    id: str
    acknowledged: tuple[str, ...]
    waiting_for: tuple[str, ...]
    """Live members that have not acknowledged within the time that the node waits."""
    away: tuple[str, ...]
    """Dead members that have not; they catch up when they return."""
