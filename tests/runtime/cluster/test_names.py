"""Joining by a name, while the name does not resolve and once it does; and by IPv6 addresses."""

import socket

import pytest
import trio

from meshlb.cluster import joining
from meshlb.config.kinds import DnsSeed
from meshlb.model import Address
from meshlb.wire.messages import Rank
from tests.runtime.cluster.kit import FREE, Node, cluster, key_of, owners, proposal, until


class Resolver(trio.abc.HostnameResolver):
    """Knows one address for every name, once it knows any."""

    def __init__(self) -> None:
        self.host = ""
        self.asked = 0
        trio.socket.set_custom_hostname_resolver(self)

    async def getaddrinfo(  # type: ignore[override] # what it is asked besides does not matter
        self, host: bytes, port: int, *rest: int
    ) -> list[object]:
        self.asked += 1
        if not self.host:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.host, port))]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise AssertionError("nobody asks for names")


async def test_a_node_that_joins_by_name_pulls_the_table_before_it_is_in_sync(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joining, "DISCOVERY_S_MAX", 120.0)  # It does not give up and begin alone.
    resolver = Resolver()
    async with cluster("a") as (nodes, nursery):
        (a,) = nodes
        for number in range(30):
            a.mesh.table.plant(proposal(key_of(number), "s1"))
        late = Node("b", join=[DnsSeed("mesh.internal", a.address.port)], bind=FREE)
        await nursery.start(late.run)
        await until(lambda: resolver.asked >= 2)
        assert not late.is_synced
        assert late.mesh.readiness()[1] == "looking for members"
        assert not late.mesh.is_quorate, "nobody was met, and somebody may be there"
        resolver.host = a.address.host
        await until(lambda: late.is_synced)
        assert len(late.store.pins) == 30
        assert late.mesh.is_quorate


async def test_a_node_whose_name_to_join_by_never_resolves_starts_alone_and_is_no_majority() -> (
    None
):
    resolver = Resolver()
    async with trio.open_nursery() as nursery:
        alone = Node("b", join=[DnsSeed("mesh.internal", 7946)])
        await nursery.start(alone.run)
        await until(lambda: alone.is_synced)
        assert not alone.mesh.is_quorate
        pin = await alone.mesh.table.claim(proposal(key_of(1), "s1"))
        assert pin.backend == "s1", "clients are served"
        resolver.host = alone.address.host
        nursery.cancel_scope.cancel()


async def test_a_cluster_on_ipv6_addresses_agrees() -> None:
    loopback = Address("::1", 0)
    async with trio.open_nursery() as nursery:
        first = Node("a", bind=loopback)
        await nursery.start(first.run)
        second = Node("b", bind=loopback, join=[first.address])
        await nursery.start(second.run)
        await until(lambda: second.is_synced and first.sees_alive("a", "b"))
        await until(lambda: all(owners(node) == 2 for node in (first, second)))
        pins = [await node.mesh.table.claim(proposal(key_of(7), "s1")) for node in (first, second)]
        assert [pin.rank for pin in pins] == [Rank.QUORATE] * 2
        await until(lambda: first.mesh.counters.datagrams_received > 0)
        nursery.cancel_scope.cancel()
