"""The keys of session tickets, made by every node for itself from the cluster's secrets.

A client that comes back to another node shows a ticket which that node can open, though nothing
was told between the two. Keys change with the time: a ticket is sealed under the key of the
present period and opens for as long as its session may be resumed. Owns which keys there are
when; must not know how a ticket is sealed.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from meshlb.wire.seal import derive

PERIOD_S: Final = 3_600
"""How long one key seals."""

LIFETIME_S: Final = 2 * PERIOD_S
"""How long a session may be resumed; clients are told."""

PERIODS_BEHIND: Final = LIFETIME_S // PERIOD_S + 1
PERIODS_AHEAD: Final = 1
"""Keys of other periods that open: as long as a session lasts, and for clocks that differ."""

NAME_BYTES: Final = 16
CIPHER_KEY_BYTES: Final = 32
MAC_KEY_BYTES: Final = 32
_KEY: Final = struct.Struct(f"{NAME_BYTES}s{CIPHER_KEY_BYTES}s{MAC_KEY_BYTES}s")


@dataclass(frozen=True, slots=True)
class TicketKey:
    """A key of one period under one secret.

    Attributes:
        name: stands in the clear before each ticket; tells nothing but equality.
        cipher: for AES-256-CBC.
        mac: for HMAC-SHA256.
    """

    name: bytes
    cipher: bytes = field(repr=False)
    mac: bytes = field(repr=False)


class TicketKeys:
    """The keys of one listener."""

    def __init__(self, secrets: Sequence[bytes], *, purpose: bytes) -> None:
        """Make the keys of a listener.

        Args:
            secrets: at least one. The first seals, all open.
            purpose: says whose tickets these are: what one listener has checked of a client
                (its certificate, say) must not count at another one.
        """
        self._secrets = tuple(secrets)
        self._purpose = purpose
        self._period = -1
        self._keys: dict[bytes, TicketKey] = {}
        self._sealing = TicketKey(b"", b"", b"")

    def use(self, secrets: Sequence[bytes]) -> None:
        """Seal and open with other secrets from now on; see `__init__`."""
        self._secrets = tuple(secrets)
        self._period = -1

    def sealing(self, now: float) -> TicketKey:
        """What seals at `now`, in seconds of wall-clock time."""
        self._catch_up(now)
        return self._sealing

    def opening(self, name: bytes, now: float) -> TicketKey | None:
        """The key called `name`, if it may still open."""
        self._catch_up(now)
        return self._keys.get(name)

    def _catch_up(self, now: float) -> None:
        period = int(now) // PERIOD_S
        if period == self._period:
            return
        self._period = period
        self._sealing = self._key(self._secrets[0], period)
        self._keys = {
            key.name: key
            for secret in self._secrets
            for each in range(period - PERIODS_BEHIND, period + PERIODS_AHEAD + 1)
            for key in (self._key(secret, each),)
        }

    def _key(self, secret: bytes, period: int) -> TicketKey:
        purpose = b"meshlb tls ticket %d %b" % (period, self._purpose)
        parts = _KEY.unpack(derive(secret, salt=b"", purpose=purpose, size_bytes=_KEY.size))
        return TicketKey(*parts)
