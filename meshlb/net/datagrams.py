"""Datagrams at the edge: where one was sent to, an answer from there, and a look at a port."""

import errno
import socket
import struct

import trio

from meshlb.errors import UpstreamError
from meshlb.model import Address
from meshlb.net.sockets import OUT_OF_RESOURCES, describe, family_of, is_ip

DATAGRAM_BYTES_MAX = 65_535

_IP_PKTINFO = 8
"""Linux; Python does not name it."""
_IPV4_INFO = struct.Struct("=i4s4s")
_INFO_BYTES = socket.CMSG_SPACE(20)

Ancillary = list[tuple[int, int, bytes]]
"""As `recvmsg` gives it and `sendmsg` takes it."""

Source = tuple[str, int] | tuple[str, int, int, int]
"""An address as the socket module has it."""


def tell_destinations(sock: socket.socket) -> None:
    """Have a socket that is bound to a wildcard say where each datagram was sent to."""
    if sock.family is socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def receive(sock: socket.socket, buffer: bytearray) -> tuple[int, Source, Ancillary]:
    """A datagram into `buffer`: its size, who sent it, and what makes an answer come from there.

    Raises:
        BlockingIOError: there is none.
        OSError: as the kernel says.
    """
    size, ancillary, _, source = sock.recvmsg_into([buffer], _INFO_BYTES)
    return size, source, [_answering(*each) for each in ancillary]


def _answering(level: int, kind: int, value: bytes) -> tuple[int, int, bytes]:
    """Where a datagram was sent to, as the place from which to send."""
    if level == socket.IPPROTO_IP:
        _, local, _ = _IPV4_INFO.unpack(value)
        value = _IPV4_INFO.pack(0, local, bytes(4))
    return level, kind, value


def open_udp(address: Address) -> socket.socket:
    """A non-blocking datagram socket that speaks with `address`, an IP address, alone.

    Raises:
        UpstreamError: status 503 where this machine has run out of something, else 502.
    """
    try:
        sock = socket.socket(family_of(address), socket.SOCK_DGRAM)
    except OSError as error:
        raise _failure(address, error) from error
    try:
        sock.setblocking(False)
        sock.connect((address.host, address.port))
    except OSError as error:
        sock.close()
        raise _failure(address, error) from error
    return sock


async def connect_udp(address: Address) -> socket.socket:
    """The same for an address whose host may be a name; its first address counts.

    Raises:
        UpstreamError: as `open_udp`, also for a name without an address.
    """
    if is_ip(address.host):
        return open_udp(address)
    try:
        found = await trio.socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_DGRAM, proto=socket.IPPROTO_UDP
        )
    except OSError as error:
        raise _failure(address, error) from error
    return open_udp(Address(str(found[0][4][0]), address.port))


async def look_at_port(address: Address, *, timeout_s: float) -> None:
    """Send an empty datagram; return unless somebody says that nobody is there.

    Silence is no failure: few services answer what they do not understand.

    Raises:
        UpstreamError: as `connect_udp`.
    """
    with await connect_udp(address) as sock, trio.move_on_after(timeout_s):
        try:
            sock.send(b"")
            await trio.lowlevel.wait_readable(sock)
            sock.recv(1)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise _failure(address, error) from error


def _failure(address: Address, error: OSError) -> UpstreamError:
    status = 503 if error.errno in OUT_OF_RESOURCES else 502
    return UpstreamError(status, f"{address}: {describe(error)}")
