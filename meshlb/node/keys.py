"""The cluster's secrets as the admin API sees them: orders given, and acknowledgements awaited.

Owns the translation of orders and their refusals, and the wait for every member's word. The rules
are those of `meshlb.cluster.keys`. Spec: protocol/spec/keyring.md, "Orders".
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

import trio

from meshlb.admin.view import AdminError, KeyStep, KeyView
from meshlb.cluster.keys import ClusterKeys, KeyReport
from meshlb.cluster.mesh import Mesh
from meshlb.errors import KeyOrderError
from meshlb.model import ClusterSecret, KeyId, MemberState, NodeName

LIVE: Final = (MemberState.ALIVE, MemberState.SUSPECT)

ACK_S_MAX: Final = 3.0
"""How long an order about the cluster's secrets waits for the word of all live members."""

ACK_POLL_S: Final = 0.01


class KeyOrders:
    """One per node; every verb refuses on a node that stands alone."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def all(self) -> tuple[KeyView, ...]:
        """The cluster's secrets, the one that this node seals with first."""
        keys = self._mesh.keys
        if keys is None:
            return ()
        members = self._names_of(*LIVE, MemberState.DEAD)
        return tuple(
            KeyView(
                id=key_id.hex(),
                sealing=key_id == keys.keyring.key_ids[0],
                members={name: _use_of(keys.report(name), key_id) for name in sorted(members)},
            )
            for key_id in keys.known()
        )

    async def install(self, secret: ClusterSecret) -> KeyStep:
        """Have all members hold `secret`, and wait a little for their word that they do."""
        keys = self._cluster_keys()
        with _orders():
            key_id = keys.install(secret)
        return await self._acknowledged(key_id, lambda report: key_id in report.held)

    async def use(self, key_id: KeyId, *, force: bool) -> KeyStep:
        """Have all members seal with a secret; refused while a live one lacks it."""
        keys = self._cluster_keys()
        with _orders():
            keys.use(key_id, live=self._names_of(*LIVE), force=force)
        return await self._acknowledged(key_id, lambda report: report.sealing == key_id)

    async def remove(self, key_id: KeyId, *, force: bool) -> KeyStep:
        """Have all members forget a secret; refused while a member may still need it."""
        keys = self._cluster_keys()
        with _orders():
            keys.remove(key_id, members=self._names_of(*LIVE, MemberState.DEAD), force=force)
        return await self._acknowledged(key_id, lambda report: key_id not in report.held)

    def _cluster_keys(self) -> ClusterKeys:
        if self._mesh.keys is None:
            raise AdminError(409, "alone", "this node stands alone; it has no cluster's secrets")
        return self._mesh.keys

    async def _acknowledged(
        self, key_id: KeyId, has_followed: Callable[[KeyReport], bool]
    ) -> KeyStep:
        """Who has followed an order, once all live members have or the time is over."""
        keys = self._cluster_keys()

        def lacking(*states: MemberState) -> set[NodeName]:
            return {
                name
                for name in self._names_of(*states)
                if (report := keys.report(name)) is None or not has_followed(report)
            }

        with trio.move_on_after(ACK_S_MAX):
            while lacking(*LIVE):  # noqa: ASYNC110 - words of many peers, one after another
                await trio.sleep(ACK_POLL_S)
        waiting_for, away = lacking(*LIVE), lacking(MemberState.DEAD)
        done = set(self._names_of(*LIVE, MemberState.DEAD)) - waiting_for - away
        return KeyStep(
            id=key_id.hex(),
            acknowledged=tuple(sorted(done)),
            waiting_for=tuple(sorted(waiting_for)),
            away=tuple(sorted(away)),
        )

    def _names_of(self, *states: MemberState) -> list[NodeName]:
        return [member.name for member in self._mesh.members() if member.state in states]


@contextlib.contextmanager
def _orders() -> Iterator[None]:
    """An order that the cluster's state forbids is a conflict; an unknown key is not there."""
    try:
        yield
    except KeyOrderError as error:
        status = 404 if error.code == "unknown_key" else 409
        raise AdminError(status, error.code, str(error)) from error


def _use_of(report: KeyReport | None, key_id: KeyId) -> str:
    if report is None:
        return "unknown"
    if report.sealing == key_id:
        return "sealing"
    return "held" if key_id in report.held else "missing"
