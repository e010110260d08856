import socket

import trio.socket
from structlog.testing import capture_logs

from meshlb.cluster.discovery import SEEDS_MAX, resolve
from meshlb.config.kinds import DnsSeed
from meshlb.model import Address

ONE, TWO = Address("10.0.0.1", 7946), Address("10.0.0.2", 7946)


class Resolver(trio.abc.HostnameResolver):
    """Knows one name."""

    async def getaddrinfo(  # type: ignore[override] # what it is asked besides does not matter
        self, host: bytes, port: int, *rest: int
    ) -> list[object]:
        if host != b"mesh.internal":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        stream = socket.SOCK_STREAM
        return [(socket.AF_INET, stream, 6, "", (address.host, port)) for address in (ONE, TWO)]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise AssertionError("nobody asks for names")


async def test_all_addresses_of_a_name_are_seeds_each_once() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver())
    assert await resolve([TWO, DnsSeed("mesh.internal", 7946)]) == (TWO, ONE)


async def test_a_name_that_does_not_resolve_is_logged_and_left_out() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver())
    with capture_logs() as lines:
        assert await resolve([DnsSeed("nowhere.internal", 7946), ONE]) == (ONE,)
    assert [line["name"] for line in lines] == ["nowhere.internal"]


async def test_seeds_are_bounded() -> None:
    many = [Address("10.0.0.1", port) for port in range(SEEDS_MAX + 1)]
    assert len(await resolve(many)) == SEEDS_MAX
