"""Idle clients and tunnels on their way from one process to another.

Owns what of a connection travels, and in which order: it is taken out of the reactor, sent, and
let go once the other process has it; if that never says so, it goes on here. A client moves between
its requests, with what it has sent of the next one; a tunnel with what was read of it and not yet
passed on, so no byte is lost, and none overtakes another. What is encrypted cannot move: its keys
are in this process. Must not know how parcels are sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import FileIO
from itertools import islice
from socket import socket
from typing import Any, Final, TypeAlias

import trio

from meshlb.config.schema import BackendSettings
from meshlb.core.proxy_protocol import Ends
from meshlb.model import Address, BackendName, PoolName, SessionKey
from meshlb.proxy.backend import Backend
from meshlb.proxy.carried import Carried, Seat
from meshlb.proxy.client import Client
from meshlb.proxy.plane import DataPlane
from meshlb.proxy.relays import Left
from meshlb.proxy.stream import Stream
from meshlb.proxy.tunnel import Lease, Tunnel

MOVES_PER_PARCEL_MAX: Final = 100
"""Two descriptors each, of the 253 that the kernel sends at a time."""

DECIDE_POLL_S: Final = 0.005

Facts: TypeAlias = dict[str, Any]


async def pause(plane: DataPlane, *, timeout_s: float) -> None:
    """Begin nothing: nobody is let in, and no request is taken up; what runs goes on.

    Returns once nobody waits for a decision any more; who does after `timeout_s` is cut off.
    """
    for listener in plane.listeners:
        listener.park()
    with trio.move_on_after(timeout_s):
        while _deciding(plane):  # noqa: ASYNC110 - each ends in a way of its own
            await trio.sleep(DECIDE_POLL_S)
    for client in _deciding(plane):
        client.cut()


def _deciding(plane: DataPlane) -> list[Stream]:
    clients = [client for frontend in plane.frontends for client in frontend.clients]
    return [client for client in clients if client.is_deciding]


def stand_aside(plane: DataPlane, *, heirs: int) -> tuple[list[Facts], list[FileIO]]:
    """Take tunnels out of the kernel's hands, as far as it lets go of them at once.

    Returns:
        For `keep` of each of the other processes: what it has to go on with for its tunnels.
    """
    left = plane.tunnels.relays.stand_aside(heirs=heirs)
    facts = [
        {
            "name": one.name,
            "pairs_max": one.pairs_max,
            "is_shared": one.is_shared,
            "files": len(one.files),
        }
        for one in left
    ]
    return facts, [file for one in left for file in one.files]


def keep(plane: DataPlane, all_facts: Sequence[Facts], files: Sequence[FileIO]) -> None:
    """Go on with the relays that another process has left; its tunnels come next.

    Raises:
        BpfError: this process cannot, and so cannot have the tunnels.
    """
    left = iter(files)
    for facts in all_facts:
        taken = list(islice(left, facts["files"]))
        plane.tunnels.relays.adopt(
            Left(facts["name"], facts["pairs_max"], facts["is_shared"], taken)
        )


def resume(plane: DataPlane) -> None:
    """Go on as before `pause` and `stand_aside`."""
    plane.tunnels.relays.go_on()
    for listener in plane.listeners:
        listener.unpark()


@dataclass(slots=True)
class Load:
    """What travels in one parcel. It is out of the reactor until `left` or `put_back` is called."""

    facts: list[Facts] = field(default_factory=list)
    sockets: list[socket] = field(default_factory=list)
    _moving: list[Client | Tunnel] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there is anything in it."""
        return bool(self._moving)

    def left(self) -> None:
        """The other process has it all."""
        for moving in self._moving:
            moving.abandon()

    def put_back(self) -> None:
        """The other process has none of it: go on here."""
        for moving in self._moving:
            moving.attach()

    def add_client(self, client: Client, listener: str) -> None:
        """A client between its requests."""
        client.detach()
        self.facts.append(
            {
                "listener": listener,
                "client": client.client.decode(),
                "ends": _packed(client.ends),
                "begun": client.begun,
            }
        )
        self.sockets.append(client.plain_sock)
        self._moving.append(client)

    def add_tunnel(self, tunnel: Tunnel, pool: PoolName) -> None:
        """A tunnel, in whatever state."""
        tunnel.detach()
        lease = tunnel.lease
        ends = tunnel.downstream.carried(), tunnel.upstream.carried()
        self.facts.append(
            {
                "listener": lease.host.name,
                "pool": pool,
                "backend": lease.backend.name,
                "address": [lease.backend.address.host, lease.backend.address.port],
                "key": lease.key,
                "ttl_s": lease.ttl_s,
                "renew_every_s": lease.renew_every_s,
                "idle_s": lease.idle_s,
                "is_websocket": lease.is_websocket,
                "tunnel": [
                    [end.backlog, end.ended, end.shut, end.silent_s, _packed_seat(end.seat)]
                    for end in ends
                ],
            }
        )
        self.sockets += [end.sock for end in ends]
        self._moving.append(tunnel)


def next_load(plane: DataPlane) -> Load:
    """Take out what can move now, or a part of it."""
    load = Load()
    for frontend in plane.frontends:
        for client in frontend.clients:
            if len(load.facts) == MOVES_PER_PARCEL_MAX:
                return load
            if isinstance(client, Client) and client.may_move:
                load.add_client(client, frontend.name)
    pools = {b: pool.name for pool in plane.pools.values() for b in pool.backends.values()}
    for tunnel in plane.tunnels:
        if len(load.facts) == MOVES_PER_PARCEL_MAX:
            break
        if tunnel.may_move:
            load.add_tunnel(tunnel, pools.get(tunnel.lease.backend, PoolName("")))
    return load


def send_away(plane: DataPlane) -> None:
    """Disconnect idle clients that cannot move: they connect anew, to the other process."""
    for frontend in plane.frontends:
        for client in frontend.clients:
            if isinstance(client, Client) and client.is_between_requests and not client.may_move:
                client.close()


def is_empty(plane: DataPlane) -> bool:
    """Whether nobody is left."""
    return not count(plane)


def count(plane: DataPlane) -> int:
    """How many clients and tunnels are left."""
    return len(plane.tunnels) + sum(len(frontend.clients) for frontend in plane.frontends)


def unpack(plane: DataPlane, all_facts: Sequence[Facts], sockets: Sequence[socket]) -> None:
    """Go on with what another process has sent; it owns nothing of it any more."""
    left = iter(sockets)
    for facts in all_facts:
        if "tunnel" in facts:
            _adopt_tunnel(plane, facts, next(left), next(left))
        else:
            _adopt_client(plane, facts, next(left))


def _adopt_client(plane: DataPlane, facts: Facts, sock: socket) -> None:
    for frontend in plane.frontends:
        if frontend.name == facts["listener"] and frontend.settings.protocol == "http":
            frontend.adopt(sock, facts["client"], _unpacked(facts["ends"]), facts["begun"])
            return
    sock.close()  # Its listener is not configured any more.


def _adopt_tunnel(plane: DataPlane, facts: Facts, downstream: socket, upstream: socket) -> None:
    by_name = {frontend.name: frontend for frontend in reversed(plane.frontends)}
    frontend = by_name.get(facts["listener"]) or next(iter(by_name.values()), None)
    if frontend is None:
        downstream.close()
        upstream.close()
        return
    lease = Lease(
        _backend(plane, facts),
        key=None if facts["key"] is None else SessionKey(facts["key"]),
        ttl_s=facts["ttl_s"],
        renew_every_s=facts["renew_every_s"],
        idle_s=facts["idle_s"],
        is_websocket=facts["is_websocket"],
        host=frontend,
    )
    down, up = map(_carried, (downstream, upstream), facts["tunnel"])
    frontend.adopt_tunnel(lease, down, up)


def _backend(plane: DataPlane, facts: Facts) -> Backend:
    """The one that is configured, or one that counts for itself: it is configured no longer."""
    pool = plane.pools.get(facts["pool"])
    known = None if pool is None else pool.backends.get(facts["backend"])
    address = Address(*facts["address"])
    if known is not None and known.address == address:
        return known
    retired = Backend(
        BackendSettings.model_validate(
            {"name": BackendName(facts["backend"]), "address": str(address)}
        )
    )
    retired.retire()
    return retired


def _carried(sock: socket, told: Sequence[Any]) -> Carried:
    backlog, ended, shut, silent_s, seat = told
    return Carried(sock, backlog, ended, shut, silent_s, None if seat is None else Seat(*seat))


def _packed_seat(seat: Seat | None) -> list[Any] | None:
    return None if seat is None else [seat.relay, seat.place, seat.passed_bytes]


def _packed(ends: Ends | None) -> list[list[Any]] | None:
    if ends is None:
        return None
    return [[place.host, place.port] for place in (ends.source, ends.destination)]


def _unpacked(packed: Sequence[Sequence[Any]] | None) -> Ends | None:
    return None if packed is None else Ends(*(Address(*place) for place in packed))
