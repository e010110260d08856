"""Ids and small values that every layer shares; it imports nothing of meshlb but errors."""

import enum
from dataclasses import dataclass
from typing import NewType, Self, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """A frozen dataclass for what is made by the million: the type checker alone keeps it frozen.

    A dataclass that is frozen at run time takes five times as long to make.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


NodeName = NewType("NodeName", str)
"""The stable name of a node, 1 to 63 bytes of `[A-Za-z0-9._-]`."""

BootId = NewType("BootId", int)
"""64 random bits, drawn once per start of a node."""

PoolName = NewType("PoolName", str)
BackendName = NewType("BackendName", str)

SessionKey = NewType("SessionKey", bytes)
"""16 bytes: the keyed BLAKE2b hash of (pool, kind of key, name, value). Never the value itself."""

SESSION_KEY_BYTES = 16

KeyId = NewType("KeyId", bytes)
"""4 bytes that name a cluster secret without telling it."""

ClusterSecret = NewType("ClusterSecret", bytes)
"""32 random bytes that all members share. Never logged, shown or sent unsealed."""

HashKey = NewType("HashKey", bytes)
"""32 bytes that key the hash of session keys; the same on all nodes."""

KEY_ID_BYTES = 4
CLUSTER_SECRET_BYTES = 32
HASH_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """An IP address (v4 or v6, as text, without brackets) and a port (0 to 65535)."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `host:port` or `[v6]:port`.

        Raises:
            ValueError: with a message that says what is allowed.
        """
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{text!r}: an IPv6 address goes in brackets, like [::1]:8080")
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{text!r}: expected host:port with a port from 0 to 65535")
        return cls(host, int(port))

    def __str__(self) -> str:
        """`host:port`, with brackets around a v6 host; the inverse of `parse`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class MemberState(enum.IntEnum):
    """What the view thinks of a member; the order decides between equal incarnations."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class BackendState(enum.StrEnum):
    """What routing may do with a backend; never to be mixed with `MemberState`."""

    UP = "up"
    DOWN = "down"
    DRAINING = "draining"
    """Keeps its pinned sessions and gets no new ones."""
    MAINTENANCE = "maintenance"
    """Gets nothing; its pins move when they are next used."""


class KeySource(enum.StrEnum):
    """Where a session key is read from: the `by` of the configuration."""

    COOKIE = "cookie"
    APP_COOKIE = "app-cookie"
    SOURCE_IP = "source-ip"
    HEADER = "header"
    QUERY = "query"
    PATH = "path"
    SOAP = "soap"
