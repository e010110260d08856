"""The UDP port of a member: seals what goes out, opens what comes in, counts the rest.

Owns the socket. Any bytes from anybody may arrive here; those that do not open, or are no
messages, change nothing but a counter. Nor does what an introduced peer has sealed, until it has
answered a challenge: it may be a recording from before this node started. Nothing waits: what the
kernel does not take at once is lost, as the network may lose it too.

Spec: protocol/spec/sealing.md, "Datagrams".
"""

import secrets
import socket
from collections.abc import Callable
from typing import Final

import trio

from meshlb.cluster.counters import MeshCounters
from meshlb.errors import WireError
from meshlb.model import Address, BootId, NodeName
from meshlb.wire.challenge import Challenge, ChallengeAnswer
from meshlb.wire.codec import decode, encode, encode_message, join
from meshlb.wire.limits import DATAGRAM_BYTES_MAX, DATAGRAM_PLAIN_BYTES_MAX, REPLAY_SENDERS_MAX
from meshlb.wire.messages import DATAGRAM_MESSAGES, Message
from meshlb.wire.seal import DatagramError, DatagramOpener, DatagramSealer, Keyring, Opened

BURST_MAX: Final = 64
"""Datagrams read before other tasks get their turn."""

RECEIVE_BUFFER_BYTES: Final = 1 << 20
"""Asked of the kernel, so that a burst outlasts a busy moment of the event loop."""

NONCE_BYTES: Final = 8
"""Of a challenge; drawn anew for each start of each peer."""

CHALLENGES: Final[frozenset[type]] = frozenset({Challenge, ChallengeAnswer})
"""Travel alone: they are about the datagram, not about members."""

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
        draw: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Take over `bound`, a bound UDP socket; `draw` gives so many random bytes."""
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._socket = bound
        self._sealer = sealer
        self._opener = opener
        self._counters = counters
        self._draw = draw
        self._nonces: dict[tuple[NodeName, BootId], int] = {}
        self._latest: dict[Address, bytes] = {}

    def introduce(self, name: NodeName, boot_id: BootId) -> None:
        """Accept what this start of a member sends, once it has answered a challenge."""
        self._opener.introduce(name, boot_id)

    def trust(self, name: NodeName, boot_id: BootId) -> None:
        """Accept what it sends unchallenged: its version knows no challenge."""
        self._opener.introduce(name, boot_id)
        self._opener.prove(name, boot_id, counter=0)

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
        plain = join(batch)
        if to not in self._latest and len(self._latest) >= REPLAY_SENDERS_MAX:
            del self._latest[next(iter(self._latest))]
        self._latest[to] = plain
        self._send_plain(to, plain)

    def _send_plain(self, to: Address, plain: bytes) -> None:
        try:
            self._socket.sendto(self._sealer.seal(plain), (to.host, to.port))
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
            messages = decode(opened.plain, self._count_unknown)
        except DatagramError as error:
            self._counters.datagrams_refused[error.reason] += 1
            return True
        except WireError:
            self._counters.datagrams_refused["messages"] += 1
            return True
        kinds = set(map(type, messages))
        if not kinds <= DATAGRAM_MESSAGES or (kinds & CHALLENGES and len(messages) > 1):
            self._counters.datagrams_refused["messages"] += 1
            return True
        self._heard(opened, Address(source[0], source[1]), messages, arrived)
        return True

    def _count_unknown(self, type_id: int) -> None:
        self._counters.messages_unknown += 1

    def _heard(
        self, opened: Opened, source: Address, messages: tuple[Message, ...], arrived: Arrived
    ) -> None:
        """Act on an authentic datagram, which may be a recording unless it is proven."""
        match messages:
            case (Challenge(nonce),):
                # Played again, it gets the answer to a nonce that nobody waits for any more.
                self._counters.datagrams_received += 1
                self._send_plain(source, encode([ChallengeAnswer(nonce)]))
                self._repeat(source)
            case (ChallengeAnswer(nonce),) if self._is_awaited(opened, nonce):
                self._counters.datagrams_received += 1
                self._opener.prove(opened.sender, opened.boot_id, counter=opened.counter)
            case (ChallengeAnswer(),) if opened.is_proven:
                self._counters.datagrams_received += 1  # to a second one, sent before the first
            case _ if opened.is_proven:
                self._counters.datagrams_received += 1
                arrived(opened.sender, opened.boot_id, source, messages)
            case _:
                self._counters.datagrams_refused["unproven"] += 1
                self._challenge(opened, source)

    def _challenge(self, opened: Opened, source: Address) -> None:
        """Ask for proof: one datagram for one, so that nobody is flooded by way of this node."""
        who = (opened.sender, opened.boot_id)
        if who not in self._nonces:
            if len(self._nonces) >= REPLAY_SENDERS_MAX:
                del self._nonces[next(iter(self._nonces))]
            self._nonces[who] = int.from_bytes(self._draw(NONCE_BYTES), "big")
        self._send_plain(source, encode([Challenge(self._nonces[who])]))

    def _repeat(self, to: Address) -> None:
        """What went there last was dropped for want of proof; once, and then never again."""
        if (plain := self._latest.pop(to, None)) is not None:
            self._send_plain(to, plain)

    def _is_awaited(self, opened: Opened, nonce: int) -> bool:
        """Whether this is the answer to a challenge; it counts once."""
        who = (opened.sender, opened.boot_id)
        if self._nonces.get(who) != nonce:
            return False
        del self._nonces[who]
        return True
