"""Sockets at the edge: bind, accept, connect; operating-system errors become ours here."""

import contextlib
import errno
import os
import socket
import struct

import trio

from meshlb.errors import ListenError, UpstreamError
from meshlb.model import Address

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""For `SO_LINGER`: `close` sends a reset, and the other end sees a broken transfer, not an end."""

BACKLOG_CONNECTIONS = 4096
"""Connections that the kernel may hold for us; it caps this at net.core.somaxconn."""


OUT_OF_RESOURCES = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
)
"""This machine has no descriptors, memory or ports left: nobody else is to blame."""


def family_of(address: Address) -> socket.AddressFamily:
    """The address family of an address whose host is an IP address."""
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


def is_ip(host: str) -> bool:
    """Whether `host` is an address rather than a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return True
    return False


def address_of(sock: socket.socket) -> Address:
    """Where an Internet socket is bound."""
    host, port = sock.getsockname()[:2]
    return Address(host, port)


def bind_tcp(address: Address) -> socket.socket:
    """A non-blocking stream socket that is bound and does not listen yet; the caller owns it.

    Until `listen` is called on it, connections are refused.

    Raises:
        ListenError: the address cannot be bound; the message says why.
    """
    return _bind(address, socket.SOCK_STREAM)


def bind_udp(address: Address) -> socket.socket:
    """A non-blocking datagram socket bound to `address`; the caller owns it.

    Raises:
        ListenError: the address cannot be bound; the message says why.
    """
    return _bind(address, socket.SOCK_DGRAM)


def _bind(address: Address, kind: socket.SocketKind) -> socket.socket:
    try:
        sock = socket.socket(family_of(address), kind)
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {describe(error)}") from error
    try:
        sock.setblocking(False)
        if kind is socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address.host, address.port))
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on {address}: {describe(error)}") from error
    return sock


def describe(error: OSError) -> str:
    """The reason of an `OSError` in a few words, without numbers."""
    if error.errno == errno.EADDRINUSE:
        return "the address is in use"
    if error.errno is not None:
        return os.strerror(error.errno).lower()
    return str(error)


def ends_of(fd: int) -> tuple[Address, Address]:
    """The peer's address and our own, of a TCP connection.

    Raises:
        OSError: it is connected no longer.
    """
    with socket.socket(fileno=os.dup(fd)) as sock:
        return Address(*sock.getpeername()[:2]), Address(*sock.getsockname()[:2])


def accept(listening: socket.socket, family: socket.AddressFamily) -> tuple[socket.socket, str]:
    """The next client of a socket of `family`: its connection, non-blocking, and its address.

    `socket.accept` asks the listening socket for its family and kind by way of enums, which takes
    longer than the system call.

    Raises:
        OSError: nobody waits, or has gone already.
    """
    fd, peer = listening._accept()  # type: ignore[attr-defined]  # what `accept` itself calls
    sock = socket.socket(family, socket.SOCK_STREAM, 0, fd)
    sock.setblocking(False)
    return sock, peer[0]


def no_delay(sock: socket.socket) -> None:
    """Send small writes at once; a socket that is gone already is left alone.

    What a listening socket is told holds for all that are accepted there.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def ends_with_reset(sock: socket.socket) -> bool:
    """Whether `close` will send a reset."""
    size = len(RESET_ON_CLOSE)
    try:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, size) == RESET_ON_CLOSE
    except OSError:
        return True


async def connect_tcp(address: Address, *, timeout_s: float, first: bytes = b"") -> socket.socket:
    """A connected, non-blocking stream socket to a backend; the caller owns it.

    A host name is resolved anew each time, and its addresses are tried in the resolver's order.

    Args:
        address: of the backend.
        timeout_s: for all of it.
        first: sent before anything else; short enough for any send buffer.

    Raises:
        UpstreamError: status 504 after `timeout_s`, 503 where this machine has run out of
            something and the backend is not to blame, 502 for every other failure.
    """
    failure = UpstreamError(502, f"{address}: the name has no address")
    try:
        with trio.fail_after(timeout_s):
            for family, target in await _resolve(address):
                try:
                    return await _connect(family, target, first)
                except OSError as error:
                    failure = _failure(address, error)
                    failure.__cause__ = error
    except trio.TooSlowError:
        raise UpstreamError(504, f"{address} did not answer within {timeout_s:g} s") from None
    except OSError as error:
        raise _failure(address, error) from error
    raise failure


def _failure(address: Address, error: OSError) -> UpstreamError:
    status = 503 if error.errno in OUT_OF_RESOURCES else 502
    return UpstreamError(status, f"{address}: {describe(error)}")


_Target = tuple[socket.AddressFamily, tuple[str, int]]


async def _resolve(address: Address) -> list[_Target]:
    """Where to connect to; an IP address costs no look-up."""
    if is_ip(address.host):
        return [(family_of(address), (address.host, address.port))]
    found = await trio.socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )
    return [(family, (str(target[0]), int(target[1]))) for family, _, _, _, target in found]


async def _connect(
    family: socket.AddressFamily, target: tuple[str, int], first: bytes
) -> socket.socket:
    with trio.socket.socket(family, socket.SOCK_STREAM) as connecting:
        await connecting.connect(target)
        while first:
            first = first[await connecting.send(first) :]
        connected = socket.socket(fileno=connecting.detach())
    connected.setblocking(False)
    no_delay(connected)
    return connected
