"""What the admin API needs of a node: one Protocol. Contract: "Admin API"."""

from typing import Protocol

from meshlb.admin.metrics import Meters
from meshlb.admin.view import (
    Explanation,
    HealView,
    KeyStep,
    KeyView,
    MemberView,
    PinView,
    PoolView,
    ReceiptView,
    ReloadView,
    StatusView,
    UpgradeOrder,
)
from meshlb.model import BackendName, BackendState, ClusterSecret, KeyId, PoolName


class NodeView(Protocol):
    """A node as its admin API sees it. Reading is local and changes nothing.

    What names a pool or backend that does not exist raises `AdminError` (see `unknown_pool`,
    `unknown_backend`).
    """

    def status(self) -> StatusView:
        """The node at a glance."""
        ...

    def ready(self) -> tuple[bool, str]:
        """Whether listeners accept and the table is in sync; if not, the reason."""
        ...

    def members(self) -> tuple[MemberView, ...]:
        """All members in the view, by name; a node that stands alone has itself."""
        ...

    def heals(self) -> tuple[HealView, ...]:
        """The latest ends of partitions, the oldest first, and which pins moved then."""
        ...

    def pools(self) -> tuple[PoolView, ...]:
        """All pools, in the order of the configuration."""
        ...

    async def pins(
        self, pool: PoolName | None, backend: BackendName | None, limit: int
    ) -> tuple[PinView, ...]:
        """At most `limit` live pins, of one pool or backend where one is named."""
        ...

    def explain(self, pool: PoolName, key: str) -> Explanation | None:
        """The pin of `key`, which is what a client sends; None where there is none."""
        ...

    def meters(self) -> Meters:
        """The counters as they stand."""
        ...

    async def unpin(self, pool: PoolName, key: str) -> bool:
        """Forgets the pin of `key` cluster-wide; False where there was none."""
        ...

    async def set_backend_state(
        self, pool: PoolName, backend: BackendName, state: BackendState
    ) -> ReceiptView:
        """Puts a backend to `UP` (health decides), `DRAINING` or `MAINTENANCE`, cluster-wide.

        Waits a little for the word of all members that they have taken it in.
        """
        ...

    def keys(self) -> tuple[KeyView, ...]:
        """The cluster's secrets, the one that this node seals with first; none if it is alone."""
        ...

    async def install_key(self, secret: ClusterSecret) -> KeyStep:
        """Has all members hold `secret`; waits a little for their word that they do."""
        ...

    async def use_key(self, key_id: KeyId, *, force: bool) -> KeyStep:
        """Has all members seal with a secret; refused while a live one lacks it."""
        ...

    async def remove_key(self, key_id: KeyId, *, force: bool) -> KeyStep:
        """Has all members forget a secret; refused while a member may still need it."""
        ...

    async def forget(self, member: str) -> None:
        """Counts a dead member as having left, cluster-wide: it will not come back.

        Raises:
            AdminError: there is no such member, or it is not dead.
        """
        ...

    async def reload(self) -> ReloadView:
        """Reads the configuration file again and goes by it, keeping every connection.

        Raises:
            AdminError: with each fault of the file; nothing has changed.
        """
        ...

    async def upgrade(self) -> UpgradeOrder:
        """Has a new process take over, with every connection; returns once it could.

        Raises:
            AdminError: it cannot, and nothing has changed.
        """
        ...

    async def leave(self) -> None:
        """Begins what SIGTERM begins: drain, leave the cluster, exit. Returns at once."""
        ...
