"""Opens the cluster port: UDP and TCP at one address.

Owns binding and its errors. What happens on the sockets is `datagrams` and `links`.
"""

import socket
from collections.abc import Sequence
from typing import Final

import trio

from meshlb.errors import ListenError
from meshlb.model import Address

BACKLOG: Final = 256
PORT_ATTEMPTS_MAX: Final = 16
"""With port 0, TCP's free port may be taken for UDP: then another one is tried."""


def open_ports(
    bind: Address, bound: Sequence[socket.socket] = ()
) -> tuple[socket.socket, trio.SocketListener, Address]:
    """A UDP socket and a TCP listener, both bound to `bind`, and their address.

    Args:
        bind: port 0 takes a free one.
        bound: the two, where `bind_ports` has been called already; used up.

    Raises:
        ListenError: when the address cannot be bound; nothing is left open.
    """
    datagrams, stream = bound or bind_ports(bind)
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(stream))
    return datagrams, listener, Address(bind.host, stream.getsockname()[1])


def bind_ports(bind: Address) -> tuple[socket.socket, socket.socket]:
    """A UDP socket and a TCP socket that listens, both bound to `bind`.

    Raises:
        ListenError: when the address cannot be bound; nothing is left open.
    """
    for attempt in range(1, PORT_ATTEMPTS_MAX + 1):
        try:
            return _bind(bind)
        except OSError as error:
            if bind.port or attempt == PORT_ATTEMPTS_MAX:
                reason = error.strerror or str(error)
                raise ListenError(f"cannot bind the cluster address {bind}: {reason}") from error
    raise AssertionError("unreachable")


def _bind(bind: Address) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    stream = socket.socket(family, socket.SOCK_STREAM)
    try:
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        try:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                for bound in (stream, datagrams):
                    bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            stream.bind((bind.host, bind.port))
            datagrams.bind((bind.host, stream.getsockname()[1]))
            stream.listen(BACKLOG)
            stream.setblocking(False)
        except OSError:
            datagrams.close()
            raise
    except OSError:
        stream.close()
        raise
    return datagrams, stream
