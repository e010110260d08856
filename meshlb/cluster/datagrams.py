"""The UDP port of a member: seals what goes out, opens what comes in, counts the rest.

Owns the socket. Any bytes from anybody may arrive here; those that do not open, or are no
messages, change nothing but a counter. Nothing waits: what the kernel does not take at once is
lost, as the network may lose it too.

Spec: protocol/spec/sealing.md, "Datagrams".
"""

import socket
from collections.abc import Callable
from typing import Final

import trio

from meshlb.cluster.counters import MeshCounters
from meshlb.errors import WireError
from meshlb.model import Address, BootId, NodeName
from meshlb.wire.codec import decode, encode_message, join
from meshlb.wire.limits import DATAGRAM_BYTES_MAX, DATAGRAM_PLAIN_BYTES_MAX
from meshlb.wire.messages import DATAGRAM_MESSAGES, Message
from meshlb.wire.seal import DatagramError, DatagramOpener, DatagramSealer, Keyring

BURST_MAX: Final = 64
"""Datagrams read before other tasks get their turn."""

RECEIVE_BUFFER_BYTES: Final = 1 << 20
"""Asked of the kernel, so that a burst outlasts a busy moment of the event loop."""

_ARRAY_HEADER_BYTES_MAX: Final = 3

Arrived = Callable[[NodeName, BootId, Address, tuple[Message, ...]], None]
"""Takes the sender, its boot, where the datagram came from, and its messages."""


class DatagramPort:
    """A bound UDP socket; closed when `run` ends."""

    def __init__(
        self,
        bound: socket.socket,
        *,
        sealer: DatagramSealer,
        opener: DatagramOpener,
        counters: MeshCounters,
    ) -> None:
        """`bound`: a bound UDP socket; it is the port's from now on."""
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._socket = bound
        self._sealer = sealer
        self._opener = opener
        self._counters = counters

    def introduce(self, name: NodeName, boot_id: BootId) -> None:
        """Accept what this start of a member sends."""
        self._opener.introduce(name, boot_id)

    def use(self, keyring: Keyring) -> None:
        """Seal with the first secret of `keyring` from now on, and open with all of them."""
        self._sealer.use(keyring)
        self._opener.use(keyring)

    def send(self, to: Address, messages: tuple[Message, ...]) -> None:
        """Send `messages`, in as many datagrams as they need."""
        batch: list[bytes] = []
        room = DATAGRAM_PLAIN_BYTES_MAX - _ARRAY_HEADER_BYTES_MAX
        for encoded in map(encode_message, messages):
            if batch and len(encoded) > room:
                self._send_batch(to, batch)
                batch, room = [], DATAGRAM_PLAIN_BYTES_MAX - _ARRAY_HEADER_BYTES_MAX
            batch.append(encoded)
            room -= len(encoded)
        self._send_batch(to, batch)

    def _send_batch(self, to: Address, batch: list[bytes]) -> None:
        datagram = self._sealer.seal(join(batch))
        try:
            self._socket.sendto(datagram, (to.host, to.port))
        except OSError:  # full, unreachable, or an earlier datagram's ICMP error
            self._counters.datagrams_unsent += 1
        else:
            self._counters.datagrams_sent += 1

    async def run(self, arrived: Arrived) -> None:
        """Receive until cancelled, then close the socket."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._socket)
                for _ in range(BURST_MAX):
                    if not self._receive(arrived):
                        break
        finally:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def _receive(self, arrived: Arrived) -> bool:
        """Take one datagram; False where there is none."""
        try:
            datagram, source = self._socket.recvfrom(DATAGRAM_BYTES_MAX + 1)
        except BlockingIOError:
            return False
        except OSError:  # an ICMP error that belongs to something we sent
            return True
        try:
            opened = self._opener.open(datagram)
            messages = decode(opened.plain)
        except DatagramError as error:
            self._counters.datagrams_refused[error.reason] += 1
            return True
        except WireError:
            self._counters.datagrams_refused["messages"] += 1
            return True
        if not DATAGRAM_MESSAGES.issuperset(map(type, messages)):
            self._counters.datagrams_refused["messages"] += 1
            return True
        self._counters.datagrams_received += 1
        arrived(opened.sender, opened.boot_id, Address(source[0], source[1]), messages)
        return True
