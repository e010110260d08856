"""The tables `[[listener]]`: where clients come in."""

from typing import Annotated, Final, Literal

from pydantic import Field

from meshlb.config.kinds import (
    Choice,
    CidrBlock,
    Duration,
    Flag,
    IpPort,
    Network,
    Size,
    Whole,
)
from meshlb.config.schema.table import LABEL, Table
from meshlb.config.schema.tls import SniSettings, TlsSettings
from meshlb.model import Address, PoolName

CONNECTIONS_MAX: Final = 1_000_000


class TimeoutSettings(Table):
    """How long a listener waits for its clients."""

    head_s: Annotated[float, Duration("100ms", "10m")] = Field(default=10.0, alias="head")
    """From the first byte of a request until its head is complete; then 408. Short, for it is
    what a slow-loris attack stretches."""

    idle_s: Annotated[float, Duration("100ms", "1d")] = Field(default=60.0, alias="idle")
    """Cuts whatever makes no progress: a silent keep-alive connection, a stalled upload, an
    unread download."""

    tunnel_idle_s: Annotated[float, Duration("1s", "7d")] = Field(
        default=3_600.0, alias="tunnel_idle"
    )
    """Cuts a tunnel, such as a WebSocket, that is silent in both directions. Longer than the
    application's own pings."""


class ListenerSettings(Table):
    """A bound, client-facing socket. There may be several."""

    name: Annotated[str, LABEL]
    """Names the listener in logs and metrics; unique."""

    bind: Annotated[Address, IpPort(0)]
    """Where clients connect. Port 0 takes a free one."""

    protocol: Annotated[Literal["http", "tcp", "udp"], Choice(("http", "tcp", "udp"))] = "http"
    """What is spoken: HTTP/1.1 with WebSockets, plain bytes, or datagrams. With `"udp"` the
    datagrams of one source address and port are a flow, which ends when it has been silent for
    `timeouts.idle`; `max_connections` is how many there are at a time, and the one that has sent
    nothing for the longest makes room for a newcomer. Sources of datagrams can be forged: let a
    packet filter keep such away, above all where clients are pinned by `source-ip`."""

    pool: Annotated[PoolName, LABEL]
    """The pool that answers."""

    tls: TlsSettings | None = None
    """The certificates to show. Left out: plain text."""

    sni: tuple[SniSettings, ...] = ()
    """Pools by the server name that a client of TLS asks for, which is passed through."""

    proxy_protocol: Annotated[bool, Flag()] = False
    """Expect a PROXY protocol header, version 1 or 2, in front of every connection: the client is
    whom it names, for stickiness and `X-Forwarded-For`. A connection without one is closed; one
    that names nobody (`LOCAL`, `UNKNOWN`) counts as its own. Whoever can connect can name anybody,
    so open such a listener to the proxies in front of it alone."""

    trusted_proxies: tuple[Annotated[Network, CidrBlock()], ...] = ()
    """Who may say in `X-Forwarded-*` for whom a request is made. From anybody else these fields
    are dropped. List the proxies in front of this one, never a whole network of clients."""

    timeouts: TimeoutSettings = TimeoutSettings()
    """How long to wait for clients."""

    max_head_bytes: Annotated[int, Size("1KiB", "1MiB")] = Field(default=32 << 10, alias="max_head")
    """The largest request head; a larger one gets 431."""

    max_connections: Annotated[int, Whole(1, CONNECTIONS_MAX)] = 10_000
    """Clients served at a time; further ones wait in the kernel's queue."""
