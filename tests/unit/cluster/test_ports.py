import socket

import pytest

from meshlb.cluster.ports import open_ports
from meshlb.errors import ListenError
from meshlb.model import Address
from tests.peers.harness.ports import free_port


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_udp_and_tcp_are_bound_to_one_port(host: str) -> None:
    datagrams, listener, address = open_ports(Address(host, 0))
    with datagrams:
        assert datagrams.getsockname()[:2] == (host, address.port)
        assert listener.socket.getsockname()[:2] == (host, address.port)
    await listener.aclose()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_a_port_in_use_is_named_and_nothing_is_left_open(kind: int) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        port = free_port()  # One that no client is given.
        taken.bind(("127.0.0.1", port))
        with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{port}: Address already in use"):
            open_ports(Address("127.0.0.1", port))
    datagrams, listener, _ = open_ports(Address("127.0.0.1", port))
    datagrams.close()
    await listener.aclose()
