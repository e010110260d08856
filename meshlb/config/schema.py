"""The configuration as frozen, typed settings: every option, its meaning, range and default.

Owns the shape of the file. What an option's value may be is its kind's word (see `kinds`); what
several options say together is checked in `checks`; nothing here opens a file or a socket. The
docstring under a field is its chapter in `docs/configuration.md`: what it does, how to choose.
Contract: "Configuration (TOML)".
"""

import socket
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from meshlb.config.kinds import (
    Choice,
    CidrBlock,
    DnsSeed,
    Duration,
    FilePath,
    Flag,
    HostPort,
    IpPort,
    IpPortOrUnix,
    Network,
    Secret,
    SeedAddress,
    Size,
    Text,
    UnixPath,
    Whole,
    Workers,
)
from meshlb.model import Address, BackendName, KeySource, NodeName, PoolName

ADMIN_ADDRESS: Final = Address("127.0.0.1", 7900)
WEIGHT_MAX: Final = 1_000
CONNECTIONS_MAX: Final = 1_000_000

LABEL = Text(
    r"[A-Za-z0-9._-]{1,63}", "1 to 63 characters, each a letter, a digit, or one of `.`, `_`, `-`"
)
_REQUEST_PATH = Text(
    r"/[!-~]{0,1023}", "a path that begins with `/`, printable ASCII without spaces"
)
_STICKY_NAME = Text(
    r"[!-~]{1,128}|\{[!-~]{1,256}\}[!-~]{1,128}",
    "1 to 128 printable ASCII characters without spaces",
)


class Table(BaseModel):
    """A table of the file. Frozen; a key it does not know is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class NodeSettings(Table):
    """This process: its name, what it keeps on disk, how it stops."""

    name: Annotated[NodeName, LABEL] = Field(
        default_factory=lambda: NodeName(socket.gethostname()),
        json_schema_extra={"shown": "the host name"},
    )
    """The stable name of the node, unique among the members of its cluster. A node that comes
    back under its name takes its place again; a second live node of that name is refused."""

    data_dir: Annotated[Path, FilePath()] | None = None
    """Where pins are kept, so that they survive a restart, also of all nodes at once. The
    directory is created. Left out: pins live in a temporary directory and end with the process;
    the other nodes still hold them."""

    on_unusable_store: Annotated[Literal["stop", "empty"], Choice(("stop", "empty"))] = "stop"
    """What to do when the pins in `data_dir` are damaged, or another cluster's. `"stop"`: end with
    an error that says what to do. `"empty"`: put the files aside, under names that end with
    `.unusable`, say so in the log, and start without pins; the other nodes still hold them, so
    choose this where there are some."""

    workers: Annotated[int | Literal["auto"], Workers(0, 256)] = 0
    """Proxy processes. 0: everything in one process, right for tests and small nodes. `"auto"`:
    one a core."""

    shutdown_timeout_s: Annotated[float, Duration("0s", "1h")] = Field(
        default=10.0, alias="shutdown_timeout"
    )
    """After SIGTERM the node drains, leaves the cluster and exits with 0 within this time, idle
    clients or not. Longer lets slow downloads end; the supervisor's own patience must be
    longer still."""


class ClusterTlsSettings(Table):
    """Certificates for the streams between members, on both sides."""

    cert: Annotated[Path, FilePath()]
    """This node's certificate and whatever lies between it and the authority, PEM. Made for both
    roles: with an extended key usage it needs `serverAuth` and `clientAuth`."""

    key: Annotated[Path, FilePath()]
    """Its private key, PEM, without a passphrase."""

    ca: Annotated[Path, FilePath()]
    """The authorities whose certificates members show, PEM. One that serves this cluster alone:
    whatever it signs can be a member, given the secret."""

    verify_names: Annotated[bool, Flag()] = True
    """A member's certificate must have its node name as a DNS name (SAN), so that a node cannot
    pass for another one. `false` believes every certificate of the authority."""


class ClusterSettings(Table):
    """The mesh. Left out as a whole: the node stands alone."""

    name: Annotated[str, LABEL]
    """The cluster's name. A node that says another name is refused, also with the right secret:
    it keeps a staging tier out of production."""

    bind: Annotated[Address, IpPort()]
    """Where members reach this node, by UDP and TCP. All traffic is authenticated and
    encrypted."""

    advertise: Annotated[Address, IpPort()] | None = Field(
        default=None, json_schema_extra={"shown": "as `bind`"}
    )
    """The address that the other members are told. Needed where `bind` is a wildcard or behind
    address translation."""

    join: tuple[Annotated[Address | DnsSeed, SeedAddress()], ...] = ()
    """Where to look for members at the start and whenever some are missing: addresses, or names
    all of whose addresses are tried. One live member is enough; the node's own address may be
    among them, so that all nodes can share one list."""

    secrets: tuple[Annotated[bytes, Secret()], ...] = Field(default=(), repr=False)
    """The cluster's secrets, at most 8. The first seals, all open: to rotate, append the new one
    on every node, then move it to the front on every node, then remove the old one. `meshlb keys`
    does the same while the nodes run, and what it has said outranks this list. Either this or
    `secrets_file`."""

    secrets_file: Annotated[Path, FilePath()] | None = None
    """A file with one secret a line; empty lines and lines that begin with `#` are skipped.
    Either this or `secrets`; better, since it can be readable by the node alone."""

    tls: ClusterTlsSettings | None = None
    """Streams between members run over TLS 1.3, with a certificate on each side; all members have
    it or none. The secrets are needed all the same: they seal datagrams and cookies, and a stream
    needs both. Files are read at the start. Once a certificate has expired open streams stay, and
    no new ones begin."""

    mode: Annotated[Literal["available", "strict"], Choice(("available", "strict"))] = "available"
    """What the smaller part of a split cluster does with new sessions. `"available"`: pins them
    for the time being; after the heal the greater part's pins win. `"strict"`: refuses them with
    503. Nor does a session begin anywhere then before two nodes have agreed on it, which costs the
    first request of a client a round trip between them."""

    profile: Annotated[Literal["lan", "wan", "local"], Choice(("lan", "wan", "local"))] = "lan"
    """The set of timings: `"local"` for one machine, `"lan"` for one site, `"wan"` for several.
    Slower networks need more patience before a silent member counts as dead."""

    @property
    def advertised(self) -> Address:
        """The address that the other members are told."""
        return self.advertise or self.bind


class AdminSettings(Table):
    """The admin API, the metrics and the dashboard."""

    bind: Annotated[Address | UnixPath, IpPortOrUnix(0)] = ADMIN_ADDRESS
    """Where the admin API listens. Port 0 takes a free one."""

    token_file: Annotated[Path, FilePath()] | None = None
    """A file whose content is the token that clients must send as `Authorization: Bearer TOKEN`.
    Required for any `bind` that is neither loopback nor a Unix socket."""


class TlsSettings(Table):
    """A certificate to show to clients."""

    cert: Annotated[Path, FilePath()]
    """The certificate chain, PEM."""

    key: Annotated[Path, FilePath()]
    """The private key, PEM."""


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
    """What is spoken: HTTP/1.1 with WebSockets, or plain bytes."""

    pool: Annotated[PoolName, LABEL]
    """The pool that answers."""

    tls: TlsSettings | None = None
    """The certificate to show. Left out: plain text."""

    proxy_protocol: Annotated[bool, Flag()] = False
    """Expect a PROXY protocol header, version 1 or 2, in front of every connection."""

    trusted_proxies: tuple[Annotated[Network, CidrBlock()], ...] = ()
    """Who may say in `X-Forwarded-*` for whom a request is made. From anybody else these fields
    are dropped. List the proxies in front of this one, never a whole network of clients."""

    timeouts: TimeoutSettings = TimeoutSettings()
    """How long to wait for clients."""

    max_head_bytes: Annotated[int, Size("1KiB", "1MiB")] = Field(default=32 << 10, alias="max_head")
    """The largest request head; a larger one gets 431."""

    max_connections: Annotated[int, Whole(1, CONNECTIONS_MAX)] = 10_000
    """Clients served at a time; further ones wait in the kernel's queue."""


class StickySettings(Table):
    """A way to know a returning client. Tried in order; the first that yields a key decides."""

    by: Annotated[KeySource, Choice(tuple(KeySource), KeySource)]
    """Where the session key is read: meshlb's own sealed cookie, the application's cookie, the
    client's address, a header, a query parameter, a path parameter, or a SOAP header element."""

    name: Annotated[str, _STICKY_NAME] | None = Field(
        default=None, json_schema_extra={"shown": "`MESHLB` for `cookie`, else none"}
    )
    """The name of the cookie, header or parameter (`jsessionid` for `;jsessionid=`); for `soap`
    the element as `{namespace}local`. Required for all but `cookie` and `source-ip`; `source-ip`
    has none."""

    ttl_s: Annotated[float, Duration("1s", "7d")] = Field(default=1_200.0, alias="ttl")
    """How long a pin outlives its last use. At least as long as the application keeps an idle
    session."""

    max_age_s: Annotated[float, Duration("1s", "365d")] | None = Field(
        default=None, alias="max_age"
    )
    """How long a pin lives at most, used or not; not below `ttl`. Left out: for as long as it is
    used."""

    @property
    def key_name(self) -> str:
        """The name to look for; empty for a source that has none."""
        return self.name or ("MESHLB" if self.by is KeySource.COOKIE else "")


class HealthSettings(Table):
    """How each node finds out whether a backend works."""

    path: Annotated[str, _REQUEST_PATH] | None = Field(
        default=None, json_schema_extra={"shown": "a TCP connect"}
    )
    """What to GET; any answer from 200 to 399 is good. Choose a page that fails when the
    application cannot serve. Left out: a connection that is accepted is good."""

    interval_s: Annotated[float, Duration("50ms", "10m")] = Field(default=2.0, alias="interval")
    """From one probe to the next, for each node and backend."""

    timeout_s: Annotated[float, Duration("10ms", "1m")] = Field(default=1.0, alias="timeout")
    """A probe without an answer for so long has failed."""

    rise: Annotated[int, Whole(1, 100)] = 2
    """Good probes in a row that bring a backend up."""

    fall: Annotated[int, Whole(1, 100)] = 3
    """Failed probes in a row that take a backend down, and let its pins move. `interval` × `fall`
    is about what a dead backend costs; too eager, and a hiccup moves every session."""


class BackendSettings(Table):
    """One origin server of a pool."""

    name: Annotated[BackendName, LABEL]
    """The stable name; pins refer to it. Unique in its pool. A new address under the old name
    keeps the pins."""

    address: Annotated[Address, HostPort()]
    """Where it listens. A host name is looked up anew for every connection."""

    weight: Annotated[int, Whole(1, WEIGHT_MAX)] = 1
    """Its share of the new sessions, relative to the other backends of the pool."""


class PoolSettings(Table):
    """Backends that serve the same application, and how to choose one."""

    balance: Annotated[
        Literal["round-robin", "least-connections", "rendezvous"],
        Choice(("round-robin", "least-connections", "rendezvous")),
    ] = "round-robin"
    """Who gets a new session, by weight: `"round-robin"` in turn; `"least-connections"` the
    idlest; `"rendezvous"` by a hash of the session key, so that even nodes that cannot reach
    each other choose alike."""

    connect_timeout_s: Annotated[float, Duration("10ms", "1m")] = Field(
        default=5.0, alias="connect_timeout"
    )
    """For a connection to a backend; then another backend is tried."""

    response_timeout_s: Annotated[float, Duration("10ms", "1h")] = Field(
        default=60.0, alias="response_timeout"
    )
    """From a complete request until the head of the backend's response; then 504."""

    sticky: tuple[StickySettings, ...] = ()
    """How clients are known again, in order. Left out: plain balancing."""

    health: HealthSettings = HealthSettings()
    """How backends are probed."""

    backends: tuple[BackendSettings, ...] = Field(default=(), alias="backend")
    """The backends; at least one."""


Pools = Annotated[
    Mapping[Annotated[PoolName, LABEL], PoolSettings], AfterValidator(MappingProxyType)
]


class Settings(Table):
    """The whole file."""

    node: NodeSettings = Field(default_factory=NodeSettings)
    cluster: ClusterSettings | None = None
    admin: AdminSettings = AdminSettings()
    listeners: tuple[ListenerSettings, ...] = Field(default=(), alias="listener")
    pools: Pools = Field(default_factory=lambda: MappingProxyType({}), alias="pool")
