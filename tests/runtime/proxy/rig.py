"""A data plane in this process, in front of real sockets, with a stick table that is a dict."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio

from meshlb.config.loader import load
from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.model import Address, NodeName, PoolName, SessionKey
from meshlb.proxy.plane import DataPlane
from meshlb.wire.messages import Rank


class DictTable:
    """A stick table of one node: whoever claims first wins, and moves are always granted."""

    def __init__(self) -> None:
        self.pins: dict[SessionKey, Pin] = {}
        self.claims: list[Proposal] = []
        self.touched: list[SessionKey] = []

    def look_up(self, key: SessionKey) -> Pin | None:
        pin = self.pins.get(key)
        return pin if pin is not None and pin.is_live(time.time()) else None

    async def claim(self, proposal: Proposal) -> Pin:
        await trio.lowlevel.checkpoint()
        self.claims.append(proposal)
        pin = self.look_up(proposal.key)
        if pin is None or (proposal.moved_from and pin.epoch <= proposal.moved_from_epoch):
            epoch = proposal.moved_from_epoch + 1 if proposal.moved_from else 0
            pin = self._pin(proposal, epoch)
            self.pins[proposal.key] = pin
        return pin

    def plant(self, proposal: Proposal, *, epoch: int = 0) -> Pin:
        return self.pins.setdefault(proposal.key, self._pin(proposal, epoch))

    def touch(self, key: SessionKey, pin: Pin, ttl_s: float) -> None:
        self.touched.append(key)
        self.pins[key] = replace(pin, expires_at=time.time() + ttl_s)

    def _pin(self, proposal: Proposal, epoch: int) -> Pin:
        now = time.time()
        return Pin(
            proposal.pool,
            proposal.backend,
            proposal.by,
            epoch,
            Rank.QUORATE,
            int(now * 1_000),
            NodeName("n1"),
            now + proposal.ttl_s,
        )


class Rig:
    """A running data plane; `address` is its first listener's."""

    def __init__(self, plane: DataPlane, table: DictTable) -> None:
        self.plane = plane
        self.table = table

    @property
    def address(self) -> Address:
        return next(iter(self.plane.addresses.values()))

    def backend(self, name: str, pool: str = "app"):
        return self.plane.pools[PoolName(pool)].backends[name]

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(self.address.host, self.address.port)


@asynccontextmanager
async def running(
    directory: Path,
    backends: dict[str, int],
    *,
    listener: str = "",
    pool: str = "",
    sticky: str = "",
    protocol: str = "http",
) -> AsyncIterator[Rig]:
    """A data plane on a free port in front of `backends` (name → port on loopback)."""
    lines = [
        f'[[listener]]\nname = "web"\nbind = "127.0.0.1:0"\nprotocol = "{protocol}"\npool = "app"',
        listener,
        "[pool.app]",
        pool,
        sticky,
    ]
    for name, port in backends.items():
        lines.append(f'[[pool.app.backend]]\nname = "{name}"\naddress = "127.0.0.1:{port}"')
    path = directory / "rig.toml"
    path.write_text("\n".join(lines))
    table = DictTable()
    plane = DataPlane(
        load(path),
        table,
        table_now=time.time,
        cookie_secrets=(b"c" * 32,),
        key_secret=b"k" * 32,
    )
    may_listen = trio.Event()
    may_listen.set()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await plane.run(may_listen=may_listen, task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        await plane.accepting.wait()
        with trio.fail_after(30):
            yield Rig(plane, table)
        nursery.cancel_scope.cancel()
