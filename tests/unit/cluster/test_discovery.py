import socket

import pytest
import trio.socket
import trio.testing
from structlog.testing import capture_logs

from meshlb.cluster.discovery import (
    RESOLVE_AGAIN_S,
    RESOLVE_EVERY_S,
    RESOLVE_S,
    SEEDS_MAX,
    Discovery,
    Seeds,
)
from meshlb.config.kinds import DnsSeed
from meshlb.model import Address

ONE, TWO = Address("10.0.0.1", 7946), Address("10.0.0.2", 7946)
SIX = Address("fd00::1", 7946)
MESH, OTHER = DnsSeed("mesh.internal", 7946), DnsSeed("other.internal", 7946)


class Resolver(trio.abc.HostnameResolver):
    """Knows what it is told."""

    def __init__(self, **known: list[Address]) -> None:
        self.known = known
        self.is_silent = False
        trio.socket.set_custom_hostname_resolver(self)

    async def getaddrinfo(  # type: ignore[override] # what it is asked besides does not matter
        self, host: bytes, port: int, family: int = 0, *rest: int
    ) -> list[object]:
        if self.is_silent:
            await trio.sleep_forever()
        addresses = self.known.get(host.decode().partition(".")[0])
        if addresses is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (kind, socket.SOCK_STREAM, 6, "", (address.host, port))
            for address in addresses
            if (kind := socket.AF_INET6 if ":" in address.host else socket.AF_INET) == family
        ]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise AssertionError("nobody asks for names")


def discovery(*join: Address | DnsSeed, family: socket.AddressFamily = socket.AF_INET) -> Discovery:
    return Discovery(join, family=family)


async def test_all_addresses_of_a_name_are_seeds_each_once() -> None:
    Resolver(mesh=[ONE, TWO])
    found = discovery(TWO, MESH)
    assert found.seeds() == Seeds((TWO,), unresolved=1)
    assert await found.look() == Seeds((TWO, ONE), unresolved=0)


async def test_a_name_that_does_not_resolve_is_logged_once_and_left_out_until_it_does() -> None:
    resolver = Resolver()
    found = discovery(MESH, ONE)
    with capture_logs() as lines:
        for _ in range(3):
            seeds = await found.look()
            assert seeds == Seeds((ONE,), unresolved=1)
            assert seeds.next_look_s == RESOLVE_AGAIN_S
        resolver.known["mesh"] = [TWO]
        assert await found.look() == Seeds((TWO, ONE), unresolved=0)
    assert [(line["log_level"], line["name"]) for line in lines] == [
        ("warning", "mesh.internal"),
        ("info", "mesh.internal"),
    ]


async def test_a_name_that_resolves_no_more_keeps_the_addresses_that_it_had() -> None:
    resolver = Resolver(mesh=[ONE, TWO])
    found = discovery(MESH)
    await found.look()
    del resolver.known["mesh"]
    seeds = await found.look()
    assert seeds == Seeds((ONE, TWO), unresolved=0)
    assert seeds.next_look_s == RESOLVE_EVERY_S


async def test_a_name_follows_its_answers() -> None:
    resolver = Resolver(mesh=[ONE])
    found = discovery(MESH)
    await found.look()
    resolver.known["mesh"] = [TWO]
    assert (await found.look()).addresses == (TWO,)


@pytest.mark.parametrize(("family", "expected"), [(socket.AF_INET, ONE), (socket.AF_INET6, SIX)])
async def test_of_a_name_with_addresses_of_both_families_those_of_this_nodes_count(
    family: socket.AddressFamily, expected: Address
) -> None:
    Resolver(mesh=[ONE, SIX])
    assert (await discovery(MESH, family=family).look()).addresses == (expected,)


async def test_a_silent_resolver_delays_no_other_name_and_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    resolver = Resolver(mesh=[ONE], other=[TWO])
    found = discovery(MESH, OTHER)
    resolver.is_silent = True
    began = trio.current_time()
    assert (await found.look()).unresolved == 2
    assert trio.current_time() == began + RESOLVE_S


async def test_seeds_are_bounded() -> None:
    many = [Address("10.0.0.1", port) for port in range(SEEDS_MAX + 1)]
    assert len(discovery(*many).seeds().addresses) == SEEDS_MAX


async def test_addresses_need_no_resolving() -> None:
    found = discovery(ONE, SIX)
    assert not found.has_names
    assert discovery(ONE, MESH).has_names
    assert found.seeds() == Seeds((ONE, SIX), unresolved=0)


async def test_other_places_are_looked_at_at_once_and_what_is_known_of_a_name_stays(
    autojump_clock: trio.testing.MockClock,
) -> None:
    Resolver(mesh=[ONE], other=[TWO])
    found, told = discovery(MESH), list[Seeds]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.run, told.append)
        await trio.sleep(RESOLVE_EVERY_S / 2)
        assert told == [Seeds((ONE,), unresolved=0)]
        found.use([MESH, OTHER])
        assert found.seeds() == Seeds((ONE,), unresolved=1)
        await trio.sleep(RESOLVE_EVERY_S / 2)
        assert told[-1] == Seeds((ONE, TWO), unresolved=0)
        found.use([TWO])
        await trio.sleep(RESOLVE_EVERY_S * 10)
        assert len(told) == 2
        assert found.seeds() == Seeds((TWO,), unresolved=0)
        found.use([OTHER])
        await trio.sleep(RESOLVE_EVERY_S * 2.5)
        assert told[2:] == [Seeds((TWO,), unresolved=0)] * 3
        nursery.cancel_scope.cancel()
