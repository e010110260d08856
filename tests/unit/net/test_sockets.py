"""Sockets at the edge: what is bound, where a connection goes, whose fault a failure is."""

import errno
import socket
from contextlib import closing

import pytest
import trio

from meshlb.errors import ListenError, UpstreamError
from meshlb.model import Address
from meshlb.net import sockets
from tests.descriptors import descriptors_left

LOOPBACK = ["127.0.0.1", "::1"]


class Names(trio.abc.HostnameResolver):
    """A resolver that knows what it is told; it answers with addresses in the given order."""

    def __init__(self, *hosts: str) -> None:
        self._hosts = hosts

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # noqa: A002 - the interface's
        if not self._hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (sockets.family_of(Address(each, port)), type, proto, "", (each, port))
            for each in self._hosts
        ]

    async def getnameinfo(self, sockaddr, flags):
        raise AssertionError("nobody asks for names of addresses")


async def connected(host: str, port: int) -> tuple[socket.socket, ...]:
    return (await sockets.connect_tcp(Address(host, port), timeout_s=2),)


@pytest.mark.parametrize("host", LOOPBACK)
async def test_a_bound_address_refuses_connections_until_it_listens(host):
    with closing(sockets.bind_tcp(Address(host, 0))) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(UpstreamError, match="refused") as caught:
            await connected(host, port)
        assert caught.value.status == 502
        listening.listen()
        (sock,) = await connected(host, port)
        with closing(sock):
            assert sock.getpeername()[:2] == (host, port)
            assert not sock.getblocking()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("host", LOOPBACK)
def test_who_is_accepted_is_ready_for_the_reactor(host):
    with closing(sockets.bind_tcp(Address(host, 0))) as listening:
        sockets.no_delay(listening)
        listening.listen()
        with closing(socket.create_connection(listening.getsockname()[:2])) as client:
            sock, peer = sockets.accept(listening, listening.family)
            with closing(sock):
                assert peer == host
                assert (sock.family, sock.type) == (listening.family, socket.SOCK_STREAM)
                assert sock.getpeername() == client.getsockname()
                assert not sock.getblocking()
                assert not sock.get_inheritable()
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        with pytest.raises(BlockingIOError):
            sockets.accept(listening, listening.family)


@pytest.mark.parametrize("bind", [sockets.bind_tcp, sockets.bind_udp])
def test_an_address_in_use_is_named_in_the_error(bind):
    with closing(bind(Address("127.0.0.1", 0))) as first:
        if first.type == socket.SOCK_STREAM:
            first.listen()
        port = first.getsockname()[1]
        with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{port}: the address is in use"):
            bind(Address("127.0.0.1", port))


def test_an_address_of_another_machine_cannot_be_bound():
    with pytest.raises(ListenError, match=r"192\.0\.2\.1:0: cannot assign"):
        sockets.bind_tcp(Address("192.0.2.1", 0))


def test_a_v6_wildcard_leaves_the_v4_port_to_others():
    with closing(sockets.bind_tcp(Address("::", 0))) as v6:
        port = v6.getsockname()[1]
        sockets.bind_tcp(Address("0.0.0.0", port)).close()


def test_a_bound_port_can_be_bound_again_right_after_it_was_used():
    with closing(sockets.bind_tcp(Address("127.0.0.1", 0))) as listening:
        listening.listen()
        address = Address(*listening.getsockname()[:2])
        with closing(socket.create_connection((address.host, address.port))):
            accepted, _ = socket.socket.accept(listening)
            accepted.close()
    sockets.bind_tcp(address).close()


async def test_a_silent_address_is_given_up_after_the_time_out():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [trio.socket.socket() for _ in range(3)]
        with trio.move_on_after(0.1):
            for filler in fillers:
                await filler.connect(("127.0.0.1", port))
        with pytest.raises(UpstreamError, match="did not answer within") as caught:
            await sockets.connect_tcp(Address("127.0.0.1", port), timeout_s=0.1)
        assert caught.value.status == 504
        for filler in fillers:
            filler.close()


async def test_all_addresses_of_a_name_are_tried_in_their_order():
    with closing(sockets.bind_tcp(Address("127.0.0.1", 0))) as listening:
        listening.listen()
        port = listening.getsockname()[1]
        trio.socket.set_custom_hostname_resolver(Names("::1", "127.0.0.1"))
        try:
            (sock,) = await connected("backend.example", port)
        finally:
            trio.socket.set_custom_hostname_resolver(None)
        with closing(sock):
            assert sock.getpeername() == ("127.0.0.1", port)


async def test_a_name_without_an_address_is_the_backends_fault():
    trio.socket.set_custom_hostname_resolver(Names())
    try:
        with pytest.raises(UpstreamError, match=r"backend\.example:80") as caught:
            await connected("backend.example", 80)
    finally:
        trio.socket.set_custom_hostname_resolver(None)
    assert caught.value.status == 502


async def test_a_lack_of_descriptors_is_nobodys_fault_but_ours():
    with descriptors_left(0), pytest.raises(UpstreamError, match="too many") as caught:
        await connected("127.0.0.1", 80)
    assert caught.value.status == 503


def test_a_lack_of_descriptors_keeps_from_listening():
    with descriptors_left(0), pytest.raises(ListenError, match="too many open files"):
        sockets.bind_tcp(Address("127.0.0.1", 0))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", False), ("1.2.3", False), ("", False)],
)
def test_addresses_are_told_from_names(text, expected):
    assert sockets.is_ip(text) is expected


def test_errors_are_described_without_numbers():
    assert sockets.describe(OSError(errno.EADDRINUSE, "x")) == "the address is in use"
    assert sockets.describe(OSError(errno.ECONNREFUSED, "x")) == "connection refused"
    assert sockets.describe(OSError("plain")) == "plain"


def test_a_socket_that_is_gone_is_left_alone():
    sock = socket.socket()
    sock.close()
    sockets.no_delay(sock)
